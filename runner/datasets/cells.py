"""Cells of CSV files that are not text: only the config names their types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from runner import jsontext
from runner.datasets.rows import BadRow

__all__ = ["TYPES", "typed"]

_SHOWN = 60
_INTEGER = re.compile(r"([+-]?[0-9]++)(?:\.0*+)?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]++\.?+[0-9]*+|\.[0-9]++)(?:e[+-]?[0-9]++)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _int(text: str) -> int:
    """Read a whole number; `1.0` is one too, because pandas writes it so if the column has gaps."""
    found = _INTEGER.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return int(found[1])


def _float(text: str) -> float | None:
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(text)
    return jsontext.finite(text)


def _bool(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError(text)
    return _BOOLEANS[text.lower()]


def _json(text: str) -> Any:
    return jsontext.decode_strict_utf8(text.encode())


#: The function that reads a cell, by the name of the type in the config. Raises ValueError.
TYPES: Mapping[str, Callable[[str], Any]] = {"int": _int, "float": _float, "bool": _bool, "json": _json}
_MEANING = {"int": "a whole number", "float": "a number", "bool": "true, false, 1 or 0", "json": "JSON"}


def typed(row: dict[str, Any], types: Mapping[str, str]) -> dict[str, Any] | BadRow:
    """Return a row of texts with the cells of typed columns read as values; an empty cell is null."""
    for column, name in types.items():
        text = row[column].strip()
        try:
            row[column] = TYPES[name](text) if text else None
        except ValueError:  # a JsonError is one
            shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
            return BadRow(f"column `{column}`: {shown!r} is not {_MEANING[name]} (dataset.types: {name})")
    return row
