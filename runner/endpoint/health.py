"""The endpoint's health: trouble that is the whole run's is never charged to single rows."""

from __future__ import annotations

from runner.errors import AttemptError, RunStopped

__all__ = ["Health"]

#: So many fatal answers before the first success end the run: one could be a row's own fault, three are the config's.
_FATAL_ANSWERS = 3
_HOLD_S = 0.2


class Health:
    """What all attempts together say about the endpoint."""

    def __init__(self, *, has_succeeded: bool = False) -> None:
        """`has_succeeded` is true for a run that is resumed with results already there."""
        self._has_succeeded = has_succeeded
        self._fatal_answers = 0

    def succeeded(self) -> None:
        """Note an answer."""
        self._has_succeeded = True

    def failed(self, error: AttemptError) -> float | None:
        """Note a failed attempt; return seconds to hold the row without charging it, or None to treat it as its own fault.

        Raises RunStopped when the run cannot go on.
        """
        if error.stops_run == "always":
            raise RunStopped(error.failure.message)
        if error.stops_run is None or self._has_succeeded:
            return None
        self._fatal_answers += 1
        if self._fatal_answers >= _FATAL_ANSWERS:
            raise RunStopped(f"nothing succeeded, and the endpoint refuses: {error.failure.message}")
        return _HOLD_S
