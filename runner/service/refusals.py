"""How the service says no: FastAPI's `{"detail": …}`, as Scale's client knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.keypaths import KeyPath

__all__ = ["Mistake", "Mistakes", "Refusal", "conflict", "going_down", "invalid", "mistake", "not_found", "not_served"]

Mistake = dict[str, Any]
#: Without it the client sends what cannot be helped three times.
_NO_RETRY = {"x-should-retry": "false"}
#: So many mistakes of one body are said.
_MOST = 100


class Refusal(Exception):  # noqa: N818  it is an answer
    """A request is refused."""

    def __init__(self, status: int, detail: object, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.detail, self.headers = status, detail, dict(headers or {})
        super().__init__(str(detail))


def mistake(place: KeyPath, message: str, kind: str = "value_error") -> Mistake:
    """Return one of the mistakes of a 422; its place begins with `body` or `query`."""
    return {"loc": list(place), "msg": message, "type": kind}


def invalid(*mistakes: Mistake) -> Refusal:
    """Return a 422 with all mistakes, or the first hundred."""
    return Refusal(422, list(mistakes[:_MOST]))


class Mistakes(list[Mistake]):
    """What is wrong with a body, gathered until it is enough."""

    def note(self, *wrong: Mistake) -> None:
        """Add mistakes. Raises Refusal once there are enough of them."""
        self.extend(wrong)
        if len(self) >= _MOST:
            self.refuse()

    def refuse(self) -> None:
        """Raise Refusal where there is any."""
        if self:
            raise invalid(*self)


def not_found(what: str = "Not Found") -> Refusal:
    """Return a 404."""
    return Refusal(404, what)


def not_served(what: str, served: Sequence[str]) -> Refusal:
    """Return a 501, which no retry helps."""
    return Refusal(501, f"{what} is not served here; served are: {', '.join(served)}", _NO_RETRY)


def going_down() -> Refusal:
    """Return the 503 of a service that ends."""
    return Refusal(503, "the service is going down", {"Retry-After": "5"})


def conflict(what: str) -> Refusal:
    """Return a 409, which no retry helps."""
    return Refusal(409, what, _NO_RETRY)
