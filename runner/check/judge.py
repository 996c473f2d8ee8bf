"""Judges whether an answer is what was asked for: a request body and the response in, a verdict out.

Most of what an answer must have is in its request: `n`, `logprobs`, `echo`, `response_format`, `stream`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from runner import jsontext
from runner.check.probes import TOOL, Expect
from runner.check.samples import COLOUR
from runner.processes.pool import CallError, Calls
from runner.types import ErrorType, Failure, Response

__all__ = ["Judgement", "Verdict", "excerpt", "judge_failure", "judge_response", "parts_present"]

_OK = 200
_EXCERPT = 80
_BEGINNING_OF_5XX = 500


class Verdict(StrEnum):
    """The outcome of a probe."""

    #: The answer is what was asked for.
    WORKS = "works"
    #: There was an error, or no answer.
    REFUSED = "refused"
    #: The answer looks like a success, but is not what was asked for.
    WRONG = "wrong"


class Judgement(NamedTuple):
    """A verdict and its reason."""

    verdict: Verdict
    #: What is wrong, or the server's message; "" if there is nothing to say.
    message: str


async def judge_response(body: Mapping[str, Any], response: Response, expects: Expect, calls: Calls) -> Judgement:
    """Judge an answer; `calls` runs the checks against JSON Schemas."""
    if expects is Expect.REFUSAL:
        return Judgement(Verdict.WRONG, "answered as if nothing were missing: such a mistake would go unnoticed")
    faults = [*_faults_of_form(body, response), *_faults_of_content(body, response)]
    faults += [*await _faults_of_json(body, response, calls), *_faults_of_kind(body, response, expects)]
    if expects in {Expect.TOOL_CALL, Expect.WHOLE_TOOL_CALL}:
        faults += await _faults_of_tool_call(response, calls, whole=expects is Expect.WHOLE_TOOL_CALL)
    return Judgement(Verdict.WRONG if faults else Verdict.WORKS, "; ".join(dict.fromkeys(faults)))


def judge_failure(failure: Failure, expects: Expect) -> Judgement:
    """Judge an error."""
    if expects is Expect.REFUSAL and failure.status_code is not None and failure.status_code != _OK:
        retried = ", but with a 5xx, which a run retries" if failure.status_code >= _BEGINNING_OF_5XX else ""
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
    """Find faults in the form of an answer: streamed or not, its usage, its number of choices."""
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
    """Find faults in the content of an answer, as far as the request says what it must hold."""
    positions = _positions(response.logprobs)
    asks_for_logprobs = body.get("logprobs") is not None and body["logprobs"] is not False  # 0 asks for them too
    if asks_for_logprobs and positions is None:
        yield "no logprobs"
    if body.get("echo"):
        yield from _faults_of_echo(body, response, positions if asks_for_logprobs else None)


def _faults_of_echo(body: Mapping[str, Any], response: Response, positions: int | None) -> Iterator[str]:
    prompt = body.get("prompt")
    if isinstance(prompt, str) and prompt not in (response.output or ""):
        yield "the prompt is not echoed"
    generated = response.usage.completion_tokens or body.get("max_tokens") or 0
    if positions is not None and positions <= generated:
        yield "logprobs of the answer only, none of the prompt"


async def _faults_of_json(body: Mapping[str, Any], response: Response, calls: Calls) -> list[str]:
    wanted = _mapping(body.get("response_format"))
    if wanted.get("type") not in {"json_object", "json_schema"}:
        return []
    schema = _mapping(_mapping(wanted.get("json_schema")).get("schema")) or {"type": "object"}
    unfit = await _misfit(response.output or "", schema, calls)
    return [f"the answer does not fit response_format: {unfit}{_cut_off(response)}"] if unfit else []


def _faults_of_kind(body: Mapping[str, Any], response: Response, expects: Expect) -> Iterator[str]:
    """Find faults in the feature that the probe tests."""
    if expects is Expect.OWN:
        return
    if not _says_something(response):
        yield "an empty answer"
    elif expects is Expect.LIMIT:
        yield from _faults_of_length(body, response)
    elif expects is Expect.COLOUR and response.output and COLOUR not in response.output.lower():
        yield f"the picture is {COLOUR}, and the answer does not say so: is it ignored?"


def _faults_of_length(body: Mapping[str, Any], response: Response) -> Iterator[str]:
    limit = body.get("max_tokens") or body["max_completion_tokens"]
    used = response.usage.completion_tokens
    if used is None:
        used = len((response.output or "").split())  # each word is at least one token
    if used - (response.usage.reasoning_tokens or 0) > limit:
        yield f"asked for {limit} tokens at most, got {used}"


async def _faults_of_tool_call(response: Response, calls: Calls, *, whole: bool) -> list[str]:
    called = jsontext.decode(response.tool_calls) if response.tool_calls else []
    if not called:
        return [f"no tool call{_cut_off(response)}"]
    function = _mapping(_mapping(called[0]).get("function"))
    faults = []
    if function.get("name") != TOOL["name"]:
        faults.append(f"a call of {function.get('name')!r}, which was not declared")
    unfit = await _misfit(str(function.get("arguments")), TOOL["parameters"], calls)
    if unfit and (whole or response.finish_reason != "length"):
        faults.append(f"the call's arguments do not fit: {unfit}{_cut_off(response)}")
    return faults


def _cut_off(response: Response) -> str:
    return " (it was cut off: finish_reason length)" if response.finish_reason == "length" else ""


def _says_something(response: Response) -> bool:
    """Return whether any content came, or hidden reasoning used up all the tokens."""
    used_up = response.finish_reason == "length" and bool(response.usage.reasoning_tokens)
    text = any((choice.get("text") or _mapping(choice.get("message")).get("content")) for choice in _choices(response))
    return bool(text or response.reasoning or response.tool_calls or response.refusal or used_up)


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a value if it is an object, else an empty one: servers send values of any type."""
    return value if isinstance(value, dict) else {}


def _choices(response: Response) -> list[Mapping[str, Any]]:
    if response.choices is None:
        return [{"text": response.output}]
    found: list[Mapping[str, Any]] = jsontext.decode(response.choices)
    return found


def _positions(logprobs: str | None) -> int | None:
    """Return how many tokens have logprobs, in the format of chat or text completions; None if none have."""
    found = _mapping(jsontext.decode(logprobs)) if logprobs else {}
    content = found.get("content") or []
    numbers = [entry.get("logprob") for entry in content if isinstance(entry, dict)] or found.get("token_logprobs") or []
    return len(numbers) if any(isinstance(number, int | float) for number in numbers) else None


async def _misfit(text: str, schema: Mapping[str, Any], calls: Calls) -> str | None:
    """Return why a text is not JSON of a schema, or None.

    A separate process checks it, because the schema may come from the dataset and take long.
    """
    try:
        fits, why = await calls.call("runner.foreign.schemas:verdict", jsontext.encode_str(schema), text)
    except CallError as error:
        return f"the check of the schema failed: {error}"
    return None if fits else str(why)


def excerpt(response: Response) -> str:
    """Return the beginning of the answer, in one line."""
    said = response.output or response.tool_calls or response.refusal or response.reasoning or ""
    line = " ".join(said.split())
    return line if len(line) <= _EXCERPT else f"{line[: _EXCERPT - 1]}…"
