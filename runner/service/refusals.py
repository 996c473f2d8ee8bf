"""Refusals: error answers with FastAPI's `{"detail": …}`, which Scale's client understands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.keypaths import KeyPath

__all__ = ["Mistake", "Mistakes", "Refusal", "conflict", "going_down", "invalid", "mistake", "not_found", "not_served"]

Mistake = dict[str, Any]
#: Without this header Scale's client sends a request three times, even if a retry cannot help.
_NO_RETRY = {"x-should-retry": "false"}
#: How many mistakes of one body are reported.
_MOST = 100


class Refusal(Exception):  # noqa: N818  it is an answer, not a failure
    """The refusal of a request, with its HTTP status."""

    def __init__(self, status: int, detail: object, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.detail, self.headers = status, detail, dict(headers or {})
        super().__init__(str(detail))


def mistake(place: KeyPath, message: str, kind: str = "value_error") -> Mistake:
    """Return one of the mistakes of a 422. `place` is its path, which begins with `body`, `query` or `header`."""
    return {"loc": list(place), "msg": message, "type": kind}


def invalid(*mistakes: Mistake) -> Refusal:
    """Return a 422 with the mistakes, the first hundred at most."""
    return Refusal(422, list(mistakes[:_MOST]))


class Mistakes(list[Mistake]):
    """The mistakes of a body, collected up to a hundred."""

    def note(self, *wrong: Mistake) -> None:
        """Add mistakes. Raises Refusal once there are a hundred."""
        self.extend(wrong)
        if len(self) >= _MOST:
            self.refuse()

    def refuse(self) -> None:
        """Raise Refusal if there are any."""
        if self:
            raise invalid(*self)


def not_found(what: str = "Not Found") -> Refusal:
    """Return a 404."""
    return Refusal(404, what)


def not_served(what: str, served: Sequence[str]) -> Refusal:
    """Return a 501, which the client does not retry."""
    return Refusal(501, f"{what} is not served here; this service serves: {', '.join(served)}", _NO_RETRY)


def going_down() -> Refusal:
    """Return the 503 of a service that is stopping."""
    return Refusal(503, "the service is going down", {"Retry-After": "5"})


def conflict(what: str) -> Refusal:
    """Return a 409, which the client does not retry."""
    return Refusal(409, what, _NO_RETRY)
