"""JSON Schemas: whether a text is JSON that is valid against one.

A `$ref` to another document is refused and nothing is fetched, and what is nested too deeply is never walked. How long a
schema takes cannot be told before: a few lines can have more paths than there are atoms.
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
#: A longer schema is compiled anew each time: those that are kept must not fill the memory.
_LONGEST_KEPT = 1 << 16
#: Steps back that one pattern may take over one string: some milliseconds.
_MOST_BACKTRACKING = 100_000
#: The validator walks on the machine's own stack, others on Python's.
_DEEPEST = 200
_LONGEST_REASON = 300
_SURROGATES = re.compile("[\ud800-\udfff]")


def check(reference: str) -> None:
    """Raise ValueError for a reference, as JSON text, that is no valid schema."""
    _validator(reference)


def verdict(reference: str, text: str) -> tuple[bool, str]:
    """Return whether a text is JSON of the schema, and `valid` or why it is not. Raises ValueError as `check` does."""
    validator = _validator(reference)
    try:
        value = _parsed(text)
    except ValueError as error:
        return False, f"no JSON: {error}" if text else "no answer"
    if _is_deep(value):
        return False, "nested too deeply"
    reason = _why_invalid(validator, _clean(value))
    return reason is None, reason or "valid"


def _parsed(text: str) -> Any:
    """Decode JSON as the standard has it: no NaN, no repairs. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _is_deep(value: Any) -> bool:
    """Whether a value has more levels than may be walked; level by level, so that no depth harms."""
    level = [value]
    for _ in range(_DEEPEST):
        members = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [member for group in members for member in group]
        if not level:
            return False
    return True


def _clean(value: Any) -> Any:
    """Replace lone surrogates, which only Python's strings can hold."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_clean(key): _clean(member) for key, member in value.items()}
    return [_clean(member) for member in value] if isinstance(value, list) else value


def _validator(reference: str) -> Validator:
    return _kept(reference) if len(reference) <= _LONGEST_KEPT else _compiled(reference)


def _compiled(reference: str) -> Validator:
    """Compile the schema that a reference is or holds. Raises ValueError."""
    import jsonschema_rs  # late: patterns need nothing of it

    limits = jsonschema_rs.FancyRegexOptions(backtrack_limit=_MOST_BACKTRACKING)
    schema = _schema(reference)
    try:
        return jsonschema_rs.validator_for(schema, retriever=_refuse_to_fetch, pattern_options=limits)
    except jsonschema_rs.ValidationError as error:
        raise ValueError(f"is no valid JSON schema: {_at(error.instance_path)}{error.message}"[:_LONGEST_REASON]) from error
    except ValueError as error:
        raise ValueError(f"is no valid JSON schema: {error}"[:_LONGEST_REASON]) from error


_kept = lru_cache(_SCHEMAS_KEPT)(_compiled)


def _schema(reference: str) -> str:
    try:
        schema = _parsed(reference)
    except ValueError as error:
        what = "a JSON schema nested too deeply" if "too deeply" in str(error) else f"no JSON schema: {error}"
        raise ValueError(f"is {what}"[:_LONGEST_REASON]) from error
    if isinstance(schema, dict) and schema.get("type") == "json_schema":  # a response_format
        inside = schema.get("json_schema")
        schema = inside.get("schema") if isinstance(inside, dict) else inside
    if not isinstance(schema, dict):
        what = "null" if schema is None else f"a {type(schema).__name__}"
        raise ValueError(f"is no JSON schema but {what}")  # noqa: TRY004  the value is at fault
    if _is_deep(schema):
        raise ValueError("is a JSON schema nested too deeply")
    return json.dumps(_clean(schema))


def _refuse_to_fetch(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not part of the schema, and nothing is fetched")


def _why_invalid(validator: Validator, value: Any) -> str | None:
    """Return the first place that is not as the schema wants it. Raises ValueError where a pattern cannot be decided."""
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
