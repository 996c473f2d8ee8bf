"""Pages by cursor: what stands behind an id, or just before one, in the order of the query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from runner.service.refusals import Refusal, invalid, mistake
from runner.structs import Struct

__all__ = ["Query", "is_true", "page", "page_of", "texts"]

_T = TypeVar("_T")
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}
MOST, MOST_ITEMS = 1000, 10_000


class Query(Struct, frozen=True):
    """Which page is asked for."""

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
        if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= most):
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


def is_true(query: Mapping[str, str], name: str) -> bool:
    """Read a boolean. Raises Refusal."""
    value = query.get(name, "false").lower()
    if value not in _TRUE | _FALSE:
        raise invalid(mistake(("query", name), "Input should be a valid boolean", "bool_parsing"))
    return value in _TRUE


def texts(query: Any, name: str) -> list[str]:
    """Return a list that may be repeated or have commas in it."""
    given = [*query.getall(name, []), *query.getall(f"{name}[]", [])]
    return [one for value in given for one in value.split(",") if one]


def page(items: Sequence[Any], total: int, limit: int, *, has_more: bool) -> dict[str, Any]:
    """Return the object of a page."""
    return {"object": "list", "items": list(items), "total": total, "has_more": has_more, "limit": limit}


def cursor_missing(name: str, value: str) -> Refusal:
    """Return the 422 of an id that the query does not find."""
    return invalid(mistake(("query", name), f"{value!r:.100} is none of what the query finds"))


def page_of(found: Sequence[_T], query: Query, id_of: Callable[[_T], str]) -> tuple[Sequence[_T], bool]:
    """Return a page of what was found and sorted, and whether there is more in its direction. Raises Refusal."""
    ids = [id_of(one) for one in found]
    if query.before is not None:
        if query.before not in ids:
            raise cursor_missing("ending_before", query.before)
        end = ids.index(query.before)
        start = max(0, end - query.limit)
        return found[start:end], start > 0
    start = 0
    if query.after is not None:
        if query.after not in ids:
            raise cursor_missing("starting_after", query.after)
        start = ids.index(query.after) + 1
    return found[start : start + query.limit], start + query.limit < len(found)
