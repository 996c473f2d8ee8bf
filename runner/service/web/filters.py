"""Filters of the items of an evaluation, by status and by content, one page at a time.

The status of an item is known without reading it. Its content is not: then items are read one after the other, for at most two
seconds, and the page says which item was reached.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from runner import jsontext
from runner.service.rows import numbers_in
from runner.service.standing import Standings, items_of
from runner.service.store import Record
from runner.storage.item_states import ItemStates
from runner.structs import Struct

__all__ = ["Found", "Wanted", "look_up", "table_view"]

ON_A_PAGE = 100
_LONGEST_S = 2.0
_READ_AT_ONCE = 100
#: How many columns of a row are shown, and how many characters of each.
_COLUMNS, _LONGEST_CELL = 3, 200


class Wanted(Struct, frozen=True):
    """A filter, from the query of a URL. An empty text means any."""

    status: str = ""
    alias: str = ""
    #: The type of the error.
    kind: str = ""
    #: The result, as text.
    value: str = ""
    #: A text that the row, a result or an error contains, in upper or lower case.
    text: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Wanted:
        """Read a filter from the query of a URL."""
        return cls(**{name: query.get(name, "")[:1000] for name in cls.__struct_fields__})

    @property
    def query(self) -> str:
        """The filter as part of the query of a URL: empty, or it begins with `&`."""
        said = {name: value for name in self.__struct_fields__ if (value := getattr(self, name))}
        return f"&{urlencode(said)}" if said else ""

    @property
    def needs_reading(self) -> bool:
        """Whether items must be read to apply the filter."""
        return any((self.alias, self.kind, self.value, self.text))

    def mask(self, states: ItemStates) -> bytes | None:
        """Return a byte for each item, 1 if it has the wanted status; None if every status is wanted."""
        if self.status == "failed":
            return states.failed
        if self.status == "passed":
            return states.successful
        if self.status == "pending":
            return bytes(not (failed or done) for failed, done in zip(states.failed, states.successful, strict=True))
        return None

    def fits(self, item: Mapping[str, Any]) -> bool:
        """Return whether the content of an item matches."""
        statuses, errors, data = item["task_result_statuses"] or {}, item["task_errors"] or {}, item["data"]
        aliases = [self.alias] if self.alias else list(statuses)
        if self.alias and self.status and not _stands(statuses.get(self.alias, "pending"), self.status):
            return False
        if self.kind and not any(errors.get(alias, {}).get("type") == self.kind for alias in aliases):
            return False
        if self.value and not any(alias in data and jsontext.as_text(data[alias]) == self.value for alias in aliases):
            return False
        return not self.text or self.text.lower() in jsontext.encode_str([data, errors]).lower()


_MEANS = {"failed": {"errored"}, "passed": {"completed", "skipped"}, "pending": {"pending"}}


def _stands(status: str, wanted: str) -> bool:
    return status in _MEANS.get(wanted, {status})


class Found(Struct, frozen=True):
    """A page of items."""

    items: Sequence[dict[str, Any]]
    #: The row after which, or before which, the next page of the search begins; None at the end.
    more: int | None
    #: The row at which the time was over; None if it was not.
    stopped_at: int | None


def look_up(
    standings: Standings, record: Record, wanted: Wanted, start: int, *, forward: bool = True, most: int = ON_A_PAGE
) -> Found:
    """Return the wanted items after a row, or before it. Raises StorageError, OSError."""
    until, found, last = time.monotonic() + _LONGEST_S, list[dict[str, Any]](), start
    with standings.of(record) as standing:
        mask = wanted.mask(standing.states())
    numbers = numbers_in(mask, record.rows, start, forward=forward)
    while batch := list(islice(numbers, _READ_AT_ONCE)):
        with standings.of(record) as standing:
            for number, item in zip(batch, items_of(standing, batch), strict=True):
                if wanted.needs_reading and not wanted.fits(item):
                    last = number
                    continue
                if len(found) == most:
                    return Found(found if forward else found[::-1], last, None)
                found.append(item)
                last = number
        if time.monotonic() > until:
            return Found(found if forward else found[::-1], last, last)
    return Found(found if forward else found[::-1], None, None)


def table_view(record: Record, found: Found, *, forward: bool, is_first: bool) -> dict[str, Any]:
    """Return the values of a table of items, and the rows at which the previous and the next page begin."""
    aliases = [task["alias"] for task in record.tasks]
    columns = list(dict.fromkeys(name for item in found.items for name in item["data"] if name not in aliases))[:_COLUMNS]
    rows = [
        {
            "number": int(item["id"].rpartition(".")[2]),
            "cells": [_short(item["data"].get(name)) for name in columns],
            "results": [_result(item, alias) for alias in aliases],
        }
        for item in found.items
    ]
    ends = (rows[0]["number"], rows[-1]["number"]) if rows else (None, None)
    later = found.more if forward else ends[1]
    earlier = (None if is_first else ends[0]) if forward else found.more
    return {
        "columns": columns,
        "aliases": aliases,
        "rows": rows,
        "later": later,
        "earlier": earlier,
        "stopped_at": found.stopped_at,
    }


def _short(value: Any) -> str:
    text = "" if value is None else jsontext.as_text(value)
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…"


def _result(item: dict[str, Any], alias: str) -> tuple[str, str]:
    status = (item["task_result_statuses"] or {}).get(alias, "pending")
    error = (item["task_errors"] or {}).get(alias)
    return status, _short(item["data"].get(alias) if error is None else f"{error['type']}: {error['message']}")
