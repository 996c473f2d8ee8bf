"""The metric `json_schema`: whether an answer is JSON that is valid against a schema.

Schemas come with datasets, so they are not trusted: a `$ref` to another document is refused and nothing is fetched, a pattern
is given up after so many steps, and what is nested too deeply is never walked.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from runner import jsontext
from runner.tasks.metrics.base import Settings, extracted, no_sense
from runner.types import Value

if TYPE_CHECKING:
    from jsonschema_rs import Validator

__all__ = ["json_schema"]

_SCHEMAS_KEPT = 256
#: Steps back that one pattern may take over one string: some milliseconds.
_MOST_BACKTRACKING = 100_000
#: The validator walks on the machine's own stack, others on Python's.
_DEEPEST = 200
_LONGEST_REASON = 300


def json_schema(candidate: Any, reference: Any, settings: Settings) -> Value:
    """Judge whether the candidate's text is JSON of the schema; `valid`, or why it is not, is kept as text.

    The schema is an object, JSON text of one, or a `response_format` that holds one. A candidate that is no text is
    looked at as it is. Raises RowError where the schema is invalid.
    """
    validator = _validator(jsontext.encode_str(_schema(reference)))
    if isinstance(candidate, str) or settings.extract is not None:
        candidate = extracted(candidate, settings)
        try:
            candidate = _parsed(candidate or "")
        except ValueError as error:
            return Value(0.0, f"no JSON: {error}" if candidate else "no answer")
    elif candidate is None:
        return Value(0.0, "no answer")
    if _is_deep(candidate):
        return Value(0.0, "nested too deeply")
    reason = _why_invalid(validator, jsontext.clean(candidate))
    return Value(1.0, "valid") if reason is None else Value(0.0, reason)


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


def _schema(reference: Any) -> dict[str, Any]:
    if isinstance(reference, str):
        try:
            reference = jsontext.decode(reference.encode())
        except jsontext.JsonError as error:
            raise no_sense(f"is no JSON schema: {error}") from error
    if isinstance(reference, dict) and reference.get("type") == "json_schema":  # a response_format
        inside = reference.get("json_schema")
        reference = inside.get("schema") if isinstance(inside, dict) else inside
    if not isinstance(reference, dict):
        raise no_sense(f"is no JSON schema but {'null' if reference is None else f'a {type(reference).__name__}'}")
    if _is_deep(reference):
        raise no_sense("is a JSON schema nested too deeply")
    return reference


@lru_cache(_SCHEMAS_KEPT)
def _validator(schema: str) -> Validator:
    """Compile a schema, as often as it changes. Raises RowError."""
    import jsonschema_rs

    limits = jsonschema_rs.FancyRegexOptions(backtrack_limit=_MOST_BACKTRACKING)
    try:
        return jsonschema_rs.validator_for(schema, retriever=_refuse_to_fetch, pattern_options=limits)
    except jsonschema_rs.ValidationError as error:
        raise no_sense(f"is no valid JSON schema: {_at(error.instance_path)}{error.message}"[:_LONGEST_REASON]) from error
    except ValueError as error:
        raise no_sense(f"is no valid JSON schema: {error}"[:_LONGEST_REASON]) from error


def _refuse_to_fetch(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not part of the schema, and nothing is fetched")


def _why_invalid(validator: Validator, value: Any) -> str | None:
    """Return the first place that is not as the schema wants it. Raises RowError where a pattern cannot be decided."""
    import jsonschema_rs

    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.BacktrackLimitExceeded):
            raise no_sense("a pattern of the schema takes too long on this answer; write it without nested repeats") from error
        return f"{_at(error.instance_path)}{error.message}"[:_LONGEST_REASON]
    return None


def _at(path: list[str | int]) -> str:
    return f"{'.'.join(map(str, path))}: " if path else ""
