"""Arrow arrays from Python values, built from their buffers.

`pyarrow.array` would do the same, but it imports pandas if that is installed, which costs half a second at the end of every
run. Layout: https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa

__all__ = ["column_of"]

_TYPE_CODES = {"int64": "q", "int32": "i", "double": "d", "timestamp[us, tz=UTC]": "q"}


def column_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return an array of strings, numbers, booleans or times (microseconds since the epoch), None for null."""
    missing = values.count(None)
    if missing == len(values):
        return pa.nulls(len(values), kind)
    validity = pa.py_buffer(_bits([value is not None for value in values])) if missing else None
    return pa.Array.from_buffers(kind, len(values), [validity, *_buffers(values, kind)], missing)


def _buffers(values: Sequence[Any], kind: pa.DataType) -> list[pa.Buffer]:
    if pa.types.is_string(kind):
        is_one = values.count(values[0]) == len(values)  # one value for all rows is encoded once
        parts = [values[0].encode()] * len(values) if is_one else [b"" if one is None else one.encode() for one in values]
        offsets = array("i", accumulate(map(len, parts), initial=0))
        return [pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(parts))]
    if pa.types.is_boolean(kind):
        return [pa.py_buffer(_bits([bool(value) for value in values]))]
    numbers = array(_TYPE_CODES[str(kind)], [0 if value is None else value for value in values])
    return [pa.py_buffer(numbers.tobytes())]


def _bits(flags: Sequence[bool]) -> bytes:
    """Return flags as bits, the first one lowest."""
    number = int("".join("1" if flag else "0" for flag in reversed(flags)), 2)
    return number.to_bytes((len(flags) + 7) // 8, "little")
