"""Pages by cursor: the objects after an id, or just before it, in the order of the query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from runner.service.refusals import Refusal, invalid, mistake
from runner.structs import Struct

__all__ = ["Query", "page", "page_of", "sorted_page_of", "texts", "with_archived"]

_T = TypeVar("_T")
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}
MOST, MOST_ITEMS = 1000, 10_000
_MOST_DIGITS = 9


class Query(Struct, frozen=True):
    """The page that a query asks for."""

    limit: int
    sort_by: str
    descending: bool
    after: str | None
    before: str | None

    @classmethod
    def of(cls, query: Mapping[str, str], *, most: int = MOST, keys: Sequence[str] = ("created_at", "name", "id")) -> Query:
        """Read the parameters. Raises Refusal."""
        wrong = []
        limit, sort_by, order = query.get("limit", "100"), query.get("sort_by", "created_at"), query.get("sort_order", "asc")
        if not (limit.isascii() and limit.isdecimal() and len(limit) <= _MOST_DIGITS and 1 <= int(limit) <= most):
            wrong.append(mistake(("query", "limit"), f"Input should be a number from 1 to {most}", "int_range"))
        if sort_by not in keys:
            wrong.append(mistake(("query", "sort_by"), f"Input should be one of {', '.join(keys)}", "literal_error"))
        if order not in {"asc", "desc"}:
            wrong.append(mistake(("query", "sort_order"), "Input should be 'asc' or 'desc'", "literal_error"))
        after, before = query.get("starting_after"), query.get("ending_before")
        if after and before:
            wrong.append(mistake(("query", "ending_before"), "starting_after and ending_before exclude each other"))
        if wrong:
            raise invalid(*wrong)
        return cls(int(limit), sort_by, order == "desc", after or None, before or None)

    @property
    def missing(self) -> Refusal:
        """The 422 for a cursor that is not among the results."""
        name = "starting_after" if self.after else "ending_before"
        return invalid(mistake(("query", name), f"{self.after or self.before!r:.100} is not among the results of the query"))


def with_archived(query: Mapping[str, str]) -> bool:
    """Return whether a query asks for archived objects too. Raises Refusal."""
    value = query.get("include_archived", "false").lower()
    if value not in _TRUE | _FALSE:
        raise invalid(mistake(("query", "include_archived"), "Input should be a valid boolean", "bool_parsing"))
    return value in _TRUE


def texts(query: Any, name: str) -> list[str]:
    """Return a list of a query, which repeats the name or separates values by commas."""
    given = [*query.getall(name, []), *query.getall(f"{name}[]", [])]
    return [one for value in given for one in value.split(",") if one]


def page(items: Sequence[Any], total: int, limit: int, *, has_more: bool) -> dict[str, Any]:
    """Return the object of a page."""
    return {"object": "list", "items": list(items), "total": total, "has_more": has_more, "limit": limit}


def sorted_page_of(found: list[Any], query: Query) -> tuple[Sequence[Any], bool]:
    """Sort objects as the query says, and return a page of them as `page_of` does."""
    found.sort(key=lambda one: (getattr(one, query.sort_by), one.id), reverse=query.descending)
    return page_of(found, query, lambda one: one.id)


def page_of(found: Sequence[_T], query: Query, id_of: Callable[[_T], str]) -> tuple[Sequence[_T], bool]:
    """Return a page of sorted objects, and whether there are more in its direction. Raises Refusal."""
    start, cursor = 0, query.after or query.before
    if cursor is not None:
        at = next((number for number, one in enumerate(found) if id_of(one) == cursor), None)
        if at is None:
            raise query.missing
        if query.before is not None:
            start = max(0, at - query.limit)
            return found[start:at], start > 0
        start = at + 1
    return found[start : start + query.limit], start + query.limit < len(found)
