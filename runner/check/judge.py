"""Whether an answer is what was asked for: a body and what came back in, a verdict out. Pure.

Most of what an answer must show is written in its request: `n`, `logprobs`, `echo`, `response_format`, `stream`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from runner import jsontext
from runner.check.probes import TOOL, Expect
from runner.check.samples import COLOUR
from runner.types import ErrorType, Failure, Response

__all__ = ["Judgement", "Verdict", "excerpt", "judge_failure", "judge_response", "parts_present"]

_OK = 200
_EXCERPT = 80
_BEGINNING_OF_5XX = 500


class Verdict(StrEnum):
    """What became of a probe."""

    #: It was answered with what was asked for.
    WORKS = "works"
    #: It was answered with an error, or not at all.
    REFUSED = "refused"
    #: It was answered as if all were well, but not with what was asked for.
    WRONG = "wrong"


class Judgement(NamedTuple):
    """A verdict and why."""

    verdict: Verdict
    #: What is wrong, or the server's own words; "" where there is nothing to say.
    message: str


def judge_response(body: Mapping[str, Any], response: Response, expects: Expect) -> Judgement:
    """Judge an answer."""
    if expects is Expect.REFUSAL:
        return Judgement(Verdict.WRONG, "answered as if nothing were missing: such a mistake would go unnoticed")
    faults = [*_faults_of_form(body, response), *_faults_of_content(body, response), *_faults_of_kind(body, response, expects)]
    return Judgement(Verdict.WRONG if faults else Verdict.WORKS, "; ".join(dict.fromkeys(faults)))


def judge_failure(failure: Failure, expects: Expect) -> Judgement:
    """Judge an error."""
    if expects is Expect.REFUSAL and failure.status_code is not None and failure.status_code != _OK:
        retried = ", though as a 5xx, which a run retries" if failure.status_code >= _BEGINNING_OF_5XX else ""
        return Judgement(Verdict.WORKS, f"refused as it should be{retried}: {failure.message}")
    is_no_answer = failure.error_type is ErrorType.INVALID_RESPONSE and failure.status_code == _OK
    return Judgement(Verdict.WRONG if is_no_answer else Verdict.REFUSED, failure.message)


def parts_present(response: Response) -> list[str]:
    """Return what an answer has besides its text."""
    usage = response.usage
    found = {
        "usage": usage.total_tokens is not None or usage.completion_tokens is not None,
        "reasoning": bool(response.reasoning),
        "tool_calls": bool(response.tool_calls),
        "logprobs": _positions(response.logprobs) is not None,
        "choices": len(_choices(response)) > 1,
    }
    return [name for name, there in found.items() if there]


def _faults_of_form(body: Mapping[str, Any], response: Response) -> Iterator[str]:
    """Find what is wrong with how it came: as a stream or whole, with usage, with as many choices as asked for."""
    streamed = response.ttft_s is not None
    visible = response.output or response.reasoning or response.tool_calls or response.refusal
    if body.get("stream") and not streamed and visible:
        yield "it came whole, not as a stream"
    if not body.get("stream") and streamed:
        yield "it came as a stream, which was not asked for"
    if _mapping(body.get("stream_options")).get("include_usage") and "usage" not in parts_present(response):
        yield "no usage, which stream_options.include_usage asks for"
    wanted, got = body.get("n") or 1, len(_choices(response))
    if got != wanted:
        yield f"asked for n: {wanted}, got {got}"


def _faults_of_content(body: Mapping[str, Any], response: Response) -> Iterator[str]:
    """Find what is wrong with what it holds, as far as the request says what it should."""
    positions = _positions(response.logprobs)
    asks_for_logprobs = body.get("logprobs") is not None and body["logprobs"] is not False  # 0 asks for them too
    if asks_for_logprobs and positions is None:
        yield "no logprobs"
    if body.get("echo"):
        yield from _faults_of_echo(body, response, positions if asks_for_logprobs else None)
    wanted = _mapping(body.get("response_format"))
    if wanted.get("type") in {"json_object", "json_schema"}:
        yield from _faults_of_json(response, _mapping(_mapping(wanted.get("json_schema")).get("schema")) or {"type": "object"})


def _faults_of_echo(body: Mapping[str, Any], response: Response, positions: int | None) -> Iterator[str]:
    prompt = body.get("prompt")
    if isinstance(prompt, str) and prompt not in (response.output or ""):
        yield "the prompt is not echoed"
    generated = response.usage.completion_tokens or body.get("max_tokens") or 0
    if positions is not None and positions <= generated:
        yield "logprobs of the answer only, none of the prompt"


def _faults_of_json(response: Response, schema: Mapping[str, Any]) -> Iterator[str]:
    try:
        value = jsontext.decode((response.output or "").encode())
    except jsontext.JsonError:
        yield f"the answer is no JSON{_cut_off(response)}"
        return
    if unfit := _misfit(value, schema):
        yield f"the JSON does not fit: {unfit}"


def _faults_of_kind(body: Mapping[str, Any], response: Response, expects: Expect) -> Iterator[str]:
    """Find what is missing that the probe is about."""
    if expects is Expect.OWN:
        return
    if not _says_something(response):
        yield "an empty answer"
    elif expects is Expect.LIMIT:
        yield from _faults_of_length(body, response)
    elif expects in {Expect.TOOL_CALL, Expect.WHOLE_TOOL_CALL}:
        yield from _faults_of_tool_call(response, whole=expects is Expect.WHOLE_TOOL_CALL)
    elif expects is Expect.COLOUR and response.output and COLOUR not in response.output.lower():
        yield f"the picture is {COLOUR}, and the answer does not say so: is it ignored?"


def _faults_of_length(body: Mapping[str, Any], response: Response) -> Iterator[str]:
    limit = body.get("max_tokens") or body["max_completion_tokens"]
    used = response.usage.completion_tokens
    if used is None:
        used = len((response.output or "").split())  # a word is a token at least
    if used - (response.usage.reasoning_tokens or 0) > limit:
        yield f"asked for {limit} tokens at most, got {used}"


def _faults_of_tool_call(response: Response, *, whole: bool) -> Iterator[str]:
    calls = jsontext.decode(response.tool_calls.encode()) if response.tool_calls else []
    if not calls:
        yield f"no tool call{_cut_off(response)}"
        return
    function = _mapping(_mapping(calls[0]).get("function"))
    if function.get("name") != TOOL["name"]:
        yield f"a call of {function.get('name')!r}, which was not declared"
    try:
        unfit = _misfit(jsontext.decode(str(function.get("arguments")).encode()), TOOL["parameters"])
    except jsontext.JsonError:
        unfit = "no JSON"
    if unfit and (whole or response.finish_reason != "length"):
        yield f"the call's arguments do not fit: {unfit}{_cut_off(response)}"


def _cut_off(response: Response) -> str:
    return " (it was cut off: finish_reason length)" if response.finish_reason == "length" else ""


def _says_something(response: Response) -> bool:
    """Whether anything came: also hidden reasoning that used up all the tokens."""
    used_up = response.finish_reason == "length" and bool(response.usage.reasoning_tokens)
    text = any((choice.get("text") or _mapping(choice.get("message")).get("content")) for choice in _choices(response))
    return bool(text or response.reasoning or response.tool_calls or response.refusal or used_up)


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a value if it is an object, else an empty one: servers send anything."""
    return value if isinstance(value, dict) else {}


def _choices(response: Response) -> list[Mapping[str, Any]]:
    if response.choices is None:
        return [{"text": response.output}]
    found: list[Mapping[str, Any]] = jsontext.decode(response.choices.encode())
    return found


def _positions(logprobs: str | None) -> int | None:
    """Return for how many tokens there are logprobs, in the form of chat or of text completions; None for none."""
    found = _mapping(jsontext.decode(logprobs.encode())) if logprobs else {}
    content = found.get("content") or []
    numbers = [entry.get("logprob") for entry in content if isinstance(entry, dict)] or found.get("token_logprobs") or []
    return len(numbers) if any(isinstance(number, int | float) for number in numbers) else None


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def _misfit(value: Any, schema: Mapping[str, Any], place: str = "the value") -> str | None:
    """Return why a value does not fit a JSON Schema, or None. Only what is simple is looked at: types, names, choices."""
    kind = schema.get("type")
    if isinstance(kind, str) and kind in _TYPES:
        fits = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
        if not fits:
            return f"{place} is no {kind}"
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        return f"{place} is none of the choices"
    if isinstance(value, dict):
        return _misfit_inside(value, schema)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return next(filter(None, (_misfit(member, schema["items"], "a member") for member in value)), None)
    return None


def _misfit_inside(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    properties = schema.get("properties") or {}
    for name in schema.get("required") or ():
        if name not in value:
            return f"`{name}` is missing"
    if schema.get("additionalProperties") is False and (unknown := [name for name in value if name not in properties]):
        return f"`{unknown[0]}` is not in the schema"
    found = (_misfit(member, properties[name], f"`{name}`") for name, member in value.items() if name in properties)
    return next(filter(None, found), None)


def excerpt(response: Response) -> str:
    """Return the beginning of what was said, in one line."""
    said = response.output or response.tool_calls or response.refusal or response.reasoning or ""
    line = " ".join(said.split())
    return line if len(line) <= _EXCERPT else f"{line[: _EXCERPT - 1]}…"
