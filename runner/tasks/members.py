"""The members of lists and objects in rows: nulls for missing keys, lists within lists, objects as JSON text.

A Parquet file gives every object of a column the same keys, with nulls for the keys that an object lacks. The API rejects most
of these nulls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runner import jsontext
from runner.errors import RowError
from runner.keypaths import KeyPath, dotted
from runner.types import ErrorType

__all__ = ["spliced", "without_nulls"]

#: Keys whose values are data: a null in them means something.
_DATA = frozenset({"arguments", "const", "default", "enum", "examples"})
#: The keys among them that may be null themselves.
_NULLABLE = frozenset({"const", "default"})
#: Keys of a JSON schema whose members are names, not keywords of the schema.
_NAMING = frozenset({"properties", "patternProperties", "dependentSchemas", "definitions", "$defs"})


def without_nulls(value: Any, *, names: bool = False) -> Any:
    """Return a value without the nulls of missing keys; `names` means that its keys are names, not keywords."""
    if isinstance(value, list):
        return [without_nulls(member) for member in value if member is not None]
    if not isinstance(value, dict):
        return value
    kept: dict[Any, Any] = {}
    for key, member in value.items():
        if member is None:
            if key in _NULLABLE and not names:
                kept[key] = None
        elif type(member) is str or (key in _DATA and not names):
            kept[key] = member
        else:
            kept[key] = without_nulls(member, names=key in _NAMING and not names)
    return kept


def spliced(values: Sequence[Any], place: KeyPath) -> Iterator[tuple[KeyPath, dict[Any, Any]]]:
    """Yield each object of a list with its path, also from nested lists and JSON text. Raises RowError (template)."""
    for index, value in enumerate(values):
        where = (*place, index)
        found = _decoded(value, where) if isinstance(value, str) else value
        if isinstance(found, dict):
            yield where, found
        elif isinstance(found, list):
            yield from spliced(found, where)
        elif found is not None:
            raise RowError(ErrorType.TEMPLATE, f"{dotted(where)}: should be an object, and is {jsontext.shown(found)}")


def _decoded(text: str, place: KeyPath) -> Any:
    try:
        found = jsontext.decode(text)
    except jsontext.JsonError:
        found = text
    if not isinstance(found, dict | list):
        what = f"should be an object, or a list of them, and is {jsontext.shown(text)}"
        raise RowError(ErrorType.TEMPLATE, f"{dotted(place)}: {what}")
    return found
