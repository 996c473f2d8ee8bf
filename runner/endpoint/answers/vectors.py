"""The vectors of an embeddings answer: its decoded JSON in, JSON text of numbers out. Pure.

Nothing is repaired: a repaired vector would be compared with other vectors, and nobody would notice that it is wrong.
"""

from __future__ import annotations

import binascii
import math
import struct
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from runner import jsontext

__all__ = ["vectors_in"]

_BYTES = struct.calcsize("<f")


def vectors_in(answer: Mapping[str, Any], asked: object) -> str:
    """Return the vector of a text, or the list of vectors of a list of texts. Raises ValueError if any is missing or invalid.

    `asked` is the `input` of the request; a list of integers is one text, given as tokens.
    """
    texts = len(asked) if isinstance(asked, list) and not all(type(one) is int for one in asked) else None
    found = [_vector(one) for one in _in_order(answer.get("data"), 1 if texts is None else texts)]
    return jsontext.encode_str(found[0] if texts is None else found)


def _in_order(data: object, wanted: int) -> list[Any]:
    """Return the embedding of each text, sorted by index; without any index, in the order sent."""
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise ValueError("it has no `data` that is a list of objects")
    if len(data) != wanted:
        raise ValueError(f"it has {len(data)} vectors, {wanted} were requested")
    indexes = [one.get("index") for one in data]
    if any(index is not None for index in indexes):
        by_index = {index: one for index, one in zip(indexes, data, strict=True) if type(index) is int}
        if by_index.keys() != set(range(wanted)):
            raise ValueError(f"its indexes are {indexes[:10]}, not 0 to {wanted - 1}")
        data = [by_index[index] for index in range(wanted)]
    return [one.get("embedding") for one in data]


def _vector(value: object) -> list[float]:
    numbers = _of_base64(value) if isinstance(value, str) else value
    if not isinstance(numbers, list) or not numbers:
        raise ValueError("an `embedding` is not a list of numbers")
    for number in numbers:
        if type(number) not in {int, float} or not abs(number) < math.inf:
            raise ValueError(f"an `embedding` holds {str(number)[:40]}, which is not a finite number")
    return numbers


def _of_base64(text: str) -> list[float]:
    """Return the little-endian 4-byte floats in base64 text."""
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"an `embedding` is not base64: {error}") from error
    if len(data) % _BYTES:
        raise ValueError(f"an `embedding` of {len(data)} bytes is not a list of numbers of {_BYTES} bytes each")
    return list(struct.unpack(f"<{len(data) // _BYTES}f", data))
