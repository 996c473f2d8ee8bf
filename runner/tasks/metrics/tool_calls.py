"""The metric `tool_call_match`: whether an answer calls the right functions with the right arguments.

Arguments are compared as JSON: `1` equals `1.0` but not `true`; the order of keys does not count, the order of lists does.
Parallel calls may come in any order, but each as often as in the reference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

from runner import jsontext
from runner.output import Output
from runner.processes.pool import Calls
from runner.reading.fences import unfenced
from runner.structs import Struct
from runner.tasks.metrics.base import Settings, invalid_reference
from runner.tasks.metrics.taking import extracted
from runner.tasks.metrics.text import folded
from runner.types import Value

__all__ = ["check_calls", "tool_call_match"]

#: The keys that a call without arguments may have.
_BESIDE_NAME = {"name", "type", "id", "index"}


class _Call(Struct, frozen=True):
    name: str
    arguments: dict[str, Any]


class _NoCallError(ValueError):
    """A value that cannot be read as tool calls; the message says why."""


async def tool_call_match(candidate: Any, reference: Any, settings: Settings, calls: Calls) -> Value:
    """Judge whether the candidate's tool calls are the reference's. The output is its calls as JSON.

    The candidate is an answer (`item.answer`), its `tool_calls`, or a text that holds calls as JSON. The reference is a list
    of calls, one call, an assistant's message, or a list of lists of which any one is right; each also as JSON text. An empty
    list means no call.
    """
    try:
        wanted = [_as_counted(one, settings) for one in _wanted(reference)]
    except RecursionError as error:
        raise invalid_reference("is nested too deeply") from error
    made = await _made(candidate, settings, calls)
    try:
        called = _calls(made)
        right = _as_counted(called, settings) in wanted
    except RecursionError:
        return Value(0.0, None)
    except _NoCallError:
        return Value(0.0, jsontext.as_text(made))
    return Value(float(right), jsontext.encode_str([{"name": call.name, "arguments": call.arguments} for call in called]))


def check_calls(reference: Any) -> None:
    """Raise RowError for a reference that does not hold tool calls."""
    _wanted(reference)


async def _made(candidate: Any, settings: Settings, calls: Calls) -> Any:
    """Return the part of the candidate that holds its calls; text that is not a JSON object or list holds none.

    A call in the text of an answer, such as `<tool_call>…`, does not count: no client would have run it. `extract` can find it.
    """
    if isinstance(candidate, Output) and settings.extract is None:
        return candidate.tool_calls
    if candidate is not None and not isinstance(candidate, str):
        return candidate
    text = unfenced(await extracted(candidate, settings, calls) or "").strip()
    return text if _decodes(text) else []


def _decodes(text: str) -> bool:
    try:
        return isinstance(jsontext.decode(text), dict | list)
    except jsontext.JsonError:
        return False


def _wanted(reference: Any) -> list[list[_Call]]:
    """Return the calls of each alternative. Raises RowError if the reference does not hold tool calls."""
    try:
        calls = _decoded(reference)
        alternatives = calls if isinstance(calls, list) and calls and all(isinstance(one, list) for one in calls) else [calls]
        return [_calls(one) for one in alternatives]
    except _NoCallError as error:
        raise invalid_reference(f"{error}; a call is {{name: …, arguments: {{…}}}}, and no call is []") from error


def _calls(value: Any) -> list[_Call]:
    """Return the calls that a list, a single call or an assistant's message holds. Raises _NoCallError."""
    value = _decoded(value)
    if isinstance(value, dict) and "tool_calls" in value:
        value = value["tool_calls"] or []
    elif isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise _NoCallError(f"{jsontext.shown(value)} is not a list of tool calls")
    return [_call(one) for one in value]


def _call(value: Any) -> _Call:
    value = _decoded(value)
    if isinstance(value, dict):
        value = next((value[key] for key in ("function", "function_call") if isinstance(value.get(key), dict)), value)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise _NoCallError(f"{jsontext.shown(value)} is not a tool call")
    if "arguments" not in value and not value.keys() <= _BESIDE_NAME:
        raise _NoCallError(f"{jsontext.shown(value)} has no `arguments`")
    arguments = value.get("arguments")
    if isinstance(arguments, str):  # some servers send nothing at all for a function without parameters
        arguments = _decoded(arguments) if arguments.strip() else {}
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict):
        raise _NoCallError(f"the arguments of {value['name']}, {jsontext.shown(arguments)}, are not an object")
    return _Call(value["name"], arguments)


def _decoded(value: Any) -> Any:
    """Return the value of JSON text, and any other value as it is. Raises _NoCallError."""
    if not isinstance(value, str):
        return value
    try:
        return jsontext.decode(value)
    except jsontext.JsonError as error:
        raise _NoCallError(f"{jsontext.shown(value)} is not JSON ({error})") from error


def _as_counted(calls: list[_Call], settings: Settings) -> Counter[Hashable]:
    """Return how often each call is made, in a form that is equal if the calls are."""
    ignored = settings.ignore_arguments
    if ignored is True:
        return Counter(call.name for call in calls)
    left_out = ignored if isinstance(ignored, list) else []
    return Counter(
        (call.name, _comparable({key: value for key, value in call.arguments.items() if key not in left_out}, settings))
        for call in calls
    )


def _comparable(value: Any, settings: Settings) -> Hashable:
    """Return a JSON value in a form that is equal if the JSON is. In Python itself, True equals 1."""
    match value:
        case dict():
            return ("object", frozenset((key, _comparable(member, settings)) for key, member in value.items()))
        case list():
            return ("array", tuple(_comparable(member, settings) for member in value))
        case bool() | None:
            return ("constant", value)
        case str():
            return folded(value, settings)
        case int() | float():
            return ("number", _as_written(value))
        case _:  # a date or bytes of a Parquet file
            return jsontext.encode_str(value)


def _as_written(number: int | float) -> str:  # noqa: PYI041  the difference counts here
    """Return a number as text, equal if the numbers are. Nobody can make the hashes of texts collide on purpose."""
    return str(int(number) if isinstance(number, float) and number.is_integer() else number)
