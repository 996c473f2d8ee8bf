"""The metric `json_schema`: whether an answer is JSON that is valid against a schema.

Schemas come with datasets, so they are not trusted: `foreign.schemas` reads those of rows in another process. Only a schema in
the config itself is checked in this process, when the run begins.
"""

from __future__ import annotations

from typing import Any

from runner import jsontext
from runner.foreign.schemas import check
from runner.processes.pool import CallError, Calls
from runner.reading.fences import unfenced
from runner.tasks.metrics.base import Settings, invalid_reference
from runner.tasks.metrics.taking import extracted
from runner.types import Value

__all__ = ["check_schema", "json_schema"]


async def json_schema(candidate: Any, reference: Any, settings: Settings, calls: Calls) -> Value:
    """Judge whether the candidate's text is JSON that fits the schema. The output is `valid`, or the reason why not.

    The schema is an object, JSON text of one, or a `response_format` that holds one. A candidate that is not text is judged
    as JSON. Of a text that is only a Markdown fence, the content is judged. Raises RowError if the schema is invalid, or
    takes too much time or memory.
    """
    text = unfenced(await extracted(candidate, settings, calls) or "")
    try:
        valid, reason = await calls.call("runner.foreign.schemas:verdict", _as_json(reference), text)
    except CallError as error:
        if error.reason == "raised":
            raise invalid_reference(str(error)) from error
        raise invalid_reference(f"this answer cannot be checked against the schema: {error}") from error
    return Value(float(valid), reason)


def check_schema(reference: Any) -> None:
    """Raise RowError for an invalid schema. It is read in this process, without limits: only for schemas of a config."""
    try:
        check(_as_json(reference))
    except ValueError as error:
        raise invalid_reference(str(error)) from error


def _as_json(reference: Any) -> str:
    try:
        return jsontext.as_text(reference)
    except RecursionError as error:
        raise invalid_reference("is a JSON schema nested too deeply") from error
