"""The filters of templates that convert: `int`, `float`, `bool`, `fromjson` and `tojson`.

A value that cannot be converted is an error of its row. Jinja2's own `int` and `float` give 0, which then looks like a number
of the row. `tojson` writes JSON as the chat templates of models expect it: without HTML escapes, without ASCII escapes, and
with the keys in their order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Undefined

from runner import jsontext
from runner.errors import RowError
from runner.output import Output, json_of
from runner.types import Blob, ErrorType

__all__ = ["CONVERSIONS", "beyond_json"]

_NONE_GIVEN = object()
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _as_int(value: Any, default: Any = _NONE_GIVEN, base: int = 10) -> Any:
    """Return a value, or the number in a text, as a whole number; decimals are cut off."""
    try:
        if isinstance(value, str) and base != 10:  # noqa: PLR2004  decimal
            return int(value, base)
        return int(value) if not isinstance(value, str) or value.strip().lstrip("+-").isdecimal() else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return _or_refused(value, "whole number", default)


def _as_float(value: Any, default: Any = _NONE_GIVEN) -> Any:
    """Return a value, or the number in a text, as a finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    return number if math.isfinite(number) else _or_refused(value, "number", default)


def _as_bool(value: Any, default: Any = _NONE_GIVEN) -> Any:
    """Return True for true, `true`, `yes` or `1`, and False for false, `false`, `no` or `0`."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower() if isinstance(value, str | int | Undefined) else ""
    return _FLAGS[text] if text in _FLAGS else _or_refused(value, "boolean", default)


def _or_refused(value: Any, wanted: str, default: Any) -> Any:
    if default is _NONE_GIVEN:
        raise RowError(ErrorType.TEMPLATE, f"{_shown(value)} is not a {wanted} (`default=` sets one for such rows)")
    return default


def _from_json(value: Any) -> Any:
    """Return the value of JSON text; a value that is not text stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json_of(value) if isinstance(value, Output) else jsontext.decode(value)
    except jsontext.JsonError as error:
        raise RowError(ErrorType.TEMPLATE, f"{_shown(value)} is not JSON: {error}") from error


def _to_json(
    value: Any, indent: int | str | None = None, ensure_ascii: bool = False, separators: Any = None, sort_keys: bool = False
) -> str:
    """Return a value as JSON."""
    return json.dumps(
        value,
        indent=indent,
        ensure_ascii=ensure_ascii,
        separators=separators,
        sort_keys=sort_keys,
        allow_nan=False,
        default=beyond_json,
    )


def beyond_json(value: Any) -> Any:
    """Return bytes, dates and the like, which Parquet files hold, as JSON values."""
    if isinstance(value, Undefined):
        return str(value)  # raises the error of an undefined name
    if isinstance(value, Blob) or type(value).__module__ in {"datetime", "decimal", "uuid"}:
        return jsontext.decode(jsontext.encode(value))
    raise RowError(ErrorType.TEMPLATE, f"{_shown(value)} cannot be written as JSON (put `| list` after a generator)")


def _shown(value: Any) -> str:
    is_plain = value is None or isinstance(value, str | int | float)
    return jsontext.shown(value) if is_plain else f"a {type(value).__name__}"


CONVERSIONS: Mapping[str, Callable[..., Any]] = {
    "bool": _as_bool,
    "float": _as_float,
    "fromjson": _from_json,
    "int": _as_int,
    "tojson": _to_json,
}
