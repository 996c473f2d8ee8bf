"""The table of a page that a script shows: the columns of its rows, and the texts of some of them, packed as Base64."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from runner.structs import Struct

__all__ = ["MOST_LETTERS", "Table", "packed", "packed_table"]

#: The most characters of packed texts in a page.
MOST_LETTERS = 2_000_000

#: The gzip level. Higher levels take three times as long, and save two percent.
_LEVEL = 6


class Table(Struct, frozen=True):
    """The packed data of a table."""

    #: How many rows it has, and how many of them with their texts.
    rows: int
    with_texts: int
    columns: str
    blocks: Sequence[str]


def packed_table(
    rows: Sequence[int],
    columns: Mapping[str, Any],
    *,
    wanted: Sequence[int],
    texts_of: Callable[[int], Any],
    in_a_block: int,
    most: float = MOST_LETTERS,
) -> Table:
    """Pack the columns of rows, and the texts of those that are `wanted`, the first ones as long as there is room.

    The browser unpacks a block of texts when it needs one of its rows.
    """
    blocks = list(_blocks_of(map(texts_of, wanted), in_a_block, most))
    places = {row: divmod(at, in_a_block) for at, row in enumerate(wanted[: len(blocks) * in_a_block])}
    of_texts = {
        "block": [places.get(row, (-1, 0))[0] for row in rows],
        "place": [places.get(row, (-1, 0))[1] for row in rows],
    }
    return Table(len(rows), len(places), packed({**columns, **of_texts}), blocks)


def packed(value: Any) -> str:
    """Return a value as Base64 of gzip of its JSON; the same value always gives the same text."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), _LEVEL, mtime=0)).decode()


def _blocks_of(values: Iterable[Any], in_a_block: int, most: float) -> Iterator[str]:
    """Yield values packed, so many in a block, until there is no more room for a block."""
    waiting, letters = iter(values), 0
    while block := list(islice(waiting, in_a_block)):
        text = packed(block)
        letters += len(text)
        if letters > most:
            return
        yield text
