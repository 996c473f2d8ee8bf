"""JSON text in and out: fast where it can be, tolerant where it must be.

msgspec does the common case. Real servers and files also send what it refuses: NaN, lone surrogates, a byte-order mark, bytes
that are not UTF-8. The standard library reads those. Lone surrogates are replaced here, where text enters, because neither
UTF-8 nor Parquet can hold them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["JsonError", "as_text", "clean", "decode", "decode_strict_utf8", "encode", "encode_str", "finite", "shown"]

_SURROGATES = re.compile("[\ud800-\udfff]")
_LONGEST_SHOWN = 60
_BOM = b"\xef\xbb\xbf"


class JsonError(ValueError):
    """Text that is not JSON; the message says where it breaks."""


def _text_of(value: object) -> str:
    """Encode a value that JSON cannot express, such as a `Blob`, as its text."""
    return clean_text(str(value))


_encoder = msgspec.json.Encoder(enc_hook=_text_of)
_decoder = msgspec.json.Decoder()


def encode(value: object) -> bytes:
    """Return compact UTF-8 JSON. NaN and infinities become null, and a `Blob` its placeholder."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(clean(value))


def encode_str(value: object) -> str:
    """Return compact JSON as str."""
    return encode(value).decode()


def as_text(value: object) -> str:
    """Return text as it is, and other values as JSON."""
    return value if isinstance(value, str) else encode_str(value)


def shown(value: object) -> str:
    """Return a value for a message: text in quotes, other values as JSON, and of both only the beginning."""
    if isinstance(value, str):
        return repr(str(value[:_LONGEST_SHOWN])) + ("…" if len(value) > _LONGEST_SHOWN else "")
    text = repr(value) if isinstance(value, float) else encode_str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def decode(text: bytes | str) -> Any:
    """Decode JSON from a server or a row, and repair what can be repaired. Raises JsonError."""
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    try:
        return _decoder.decode(data)
    except _REFUSED:
        return _decode(data, errors="replace")


def decode_strict_utf8(data: bytes) -> Any:
    """Decode JSON from a file. As `decode`, but bytes that are not UTF-8 are an error, and NaN is null. Raises JsonError."""
    try:
        return _decoder.decode(data)
    except _REFUSED:
        return _decode(data, errors="strict", parse=_FINITE)


def finite(text: str) -> float | None:
    """Return a number, or None for NaN and infinities, which JSON cannot express; all files of a run have null for them."""
    number = float(text)
    return number if math.isfinite(number) else None


def _null(_constant: str) -> None:
    """Read `NaN` and `Infinity` as null."""


_FINITE: Mapping[str, Any] = {"parse_constant": _null, "parse_float": finite}


#: What msgspec raises for text that it refuses.
_REFUSED = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


def _decode(data: bytes, *, errors: str, parse: Mapping[str, Any] | None = None) -> Any:
    """Decode what msgspec refuses."""
    try:
        return clean(json.loads(data.removeprefix(_BOM).decode("utf-8", errors), **(parse or {})))
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}") from error
    except json.JSONDecodeError as error:
        raise JsonError(f"{error.msg} at character {error.pos}") from error
    except (ValueError, RecursionError) as error:
        raise JsonError("nested too deeply" if isinstance(error, RecursionError) else str(error)) from error


def clean_text(text: str) -> str:
    """Replace lone surrogates with U+FFFD."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def clean(value: Any) -> Any:
    """Replace lone surrogates in every string of a JSON value."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key) if isinstance(key, str) else key: clean(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [clean(member) for member in value]
    return value
