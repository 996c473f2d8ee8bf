"""JSON Schemas: whether a text is JSON that is valid against one.

A `$ref` to another document is refused, and nothing is fetched. Values that are nested too deeply are not validated. The time
that a schema takes cannot be known beforehand: a few lines can have more paths than there are atoms.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from jsonschema_rs import Validator

__all__ = ["check", "verdict"]

_SCHEMAS_KEPT = 64
#: A longer schema is compiled each time, so that those that are kept do not fill the memory.
_LONGEST_KEPT = 1 << 16
#: Steps back that one pattern may take over one string: some milliseconds.
_MOST_BACKTRACKING = 100_000
#: The validator uses the native stack, other functions that of Python.
_DEEPEST = 200
_LONGEST_REASON = 300
_SURROGATES = re.compile("[\ud800-\udfff]")


def check(reference: str) -> None:
    """Raise ValueError if a reference, as JSON text, is not a valid schema."""
    _validator(reference)


def verdict(reference: str, text: str) -> tuple[bool, str]:
    """Return whether a text is JSON that fits the schema, and `valid` or the reason. Raises ValueError as `check` does."""
    validator = _validator(reference)
    try:
        value = _parsed(text)
    except ValueError as error:
        return False, f"not JSON: {error}" if text else "no answer"
    if _is_deep(value):
        return False, "nested too deeply"
    reason = _why_invalid(validator, _clean(value))
    return reason is None, reason or "valid"


def _parsed(text: str) -> Any:
    """Decode JSON strictly by the standard: no NaN, no repairs. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _is_deep(value: Any) -> bool:
    """Return whether a value has too many levels. It goes level by level, so that no depth does harm."""
    level = [value]
    for _ in range(_DEEPEST):
        members = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [member for group in members for member in group]
        if not level:
            return False
    return True


def _clean(value: Any) -> Any:
    """Replace lone surrogates, which only strings of Python can hold."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_clean(key): _clean(member) for key, member in value.items()}
    return [_clean(member) for member in value] if isinstance(value, list) else value


def _validator(reference: str) -> Validator:
    return _kept(reference) if len(reference) <= _LONGEST_KEPT else _compiled(reference)


def _compiled(reference: str) -> Validator:
    """Compile a schema, or the one inside a `response_format`. Raises ValueError."""
    import jsonschema_rs  # late: patterns do not need it

    limits = jsonschema_rs.FancyRegexOptions(backtrack_limit=_MOST_BACKTRACKING)
    schema = _schema(reference)
    try:
        return jsonschema_rs.validator_for(schema, retriever=_refuse_to_fetch, pattern_options=limits)
    except jsonschema_rs.ValidationError as error:
        raise ValueError(f"is not a valid JSON schema: {_at(error.instance_path)}{error.message}"[:_LONGEST_REASON]) from error
    except ValueError as error:
        raise ValueError(f"is not a valid JSON schema: {error}"[:_LONGEST_REASON]) from error


_kept = lru_cache(_SCHEMAS_KEPT)(_compiled)


def _schema(reference: str) -> str:
    try:
        schema = _parsed(reference)
    except ValueError as error:
        what = "a JSON schema nested too deeply" if "too deeply" in str(error) else f"not a JSON schema: {error}"
        raise ValueError(f"is {what}"[:_LONGEST_REASON]) from error
    if isinstance(schema, dict) and schema.get("type") == "json_schema":  # a response_format
        inside = schema.get("json_schema")
        schema = inside.get("schema") if isinstance(inside, dict) else inside
    if not isinstance(schema, dict):
        what = "null" if schema is None else f"a {type(schema).__name__}"
        raise ValueError(f"is not a JSON schema but {what}")  # noqa: TRY004  the value is at fault
    if _is_deep(schema):
        raise ValueError("is a JSON schema nested too deeply")
    return json.dumps(_clean(schema))


def _refuse_to_fetch(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not part of the schema, and nothing is fetched")


def _why_invalid(validator: Validator, value: Any) -> str | None:
    """Return the first mistake by the schema, or None. Raises ValueError if a pattern takes too long."""
    import jsonschema_rs

    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.BacktrackLimitExceeded):
            what = "a pattern of the schema takes too long on this answer; write it without nested repeats"
            raise ValueError(what) from error  # noqa: TRY004  the value is at fault
        return f"{_at(error.instance_path)}{error.message}"[:_LONGEST_REASON]
    return None


def _at(path: list[str | int]) -> str:
    return f"{'.'.join(map(str, path))}: " if path else ""
