"""An item and the results of its tasks, as a page shows them: long texts are cut."""

from __future__ import annotations

from typing import Any

from runner import jsontext
from runner.analysis.pages.characters import legal
from runner.storage.records import End

__all__ = ["cut", "item_fields", "task_fields"]

_LONGEST_TEXT = 20_000


def item_fields(end: End) -> list[tuple[str, str]]:
    """Return the columns of the item of a result, each as text."""
    row = jsontext.decode(end.item)
    return [(_cut(name), _cut(jsontext.as_text(value))) for name, value in row.items()]


def task_fields(end: End) -> dict[str, Any]:
    """Return the result of a task; absent fields are left out."""
    error = None if end.error_type is None else {"type": end.error_type, "status": end.status_code, "message": end.message}
    found = {
        "alias": end.task,
        "type": end.task_type,
        "sample": end.sample_index or None,
        "value": end.value,
        "skipped": end.skipped or None,
        "output": end.output,
        "reasoning": end.reasoning,
        "refusal": end.refusal,
        "tool_calls": end.tool_calls,
        "finish_reason": end.finish_reason,
        "error": None if error is None else {name: _cut(value) for name, value in error.items() if value is not None},
        "response_body": end.response_body,
        "request": end.request,
        "attempts": end.attempts if end.request is not None else None,
        "latency_s": end.latency_s,
        "ttft_s": end.ttft_s,
        "model": end.response_model or end.model,
    }
    return {name: _cut(value) for name, value in found.items() if value is not None}


def _cut(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return cut(legal(value))


def cut(text: str) -> str:
    """Return a text, or its beginning and how many characters follow."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} … {len(text) - _LONGEST_TEXT:,} more characters"
