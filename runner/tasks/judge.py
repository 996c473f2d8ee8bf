"""A judge: it asks a model, and reads the verdict in its answer. An answer without a clear verdict is an error, not a score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from runner import jsontext
from runner.errors import NotAsked, RowError, RunStopped
from runner.processes.pool import CallError, Calls, NoProcessError
from runner.reading.fences import code_block
from runner.reading.reasoning import without_reasoning
from runner.reading.verdicts import plain_choice, verdict_in
from runner.structs import Struct, astuple, replace
from runner.tasks.guides import OTHER_GUIDES
from runner.tasks.request import RequestTask
from runner.templates.compile import Template
from runner.templates.locators import NotThereError, Step, located
from runner.types import LARGEST_VALUE, ErrorType, Failure, Outcome, Request, Response, Result, Sample, Usage, Value

__all__ = ["JudgeTask", "OfChoices", "OfSchema", "UnreadableError", "choices_in"]

#: How many bytes of an answer without a verdict are kept.
_KEPT_BYTES = 4096


class UnreadableError(Exception):
    """An answer has no verdict; the message says why."""


class Reading(Protocol):
    """How the verdict is found in an answer."""

    async def verdict(self, text: str, item: Mapping[str, Any]) -> Value:
        """Return the verdict in a text: the choice or the JSON, and its value if it has one. Raises UnreadableError."""


class OfChoices(Struct, frozen=True):
    """The verdict is one of the choices."""

    choices: Template
    scores: Mapping[str, float]

    async def verdict(self, text: str, item: Mapping[str, Any]) -> Value:
        """Return the choice that a text names. Raises UnreadableError."""
        choices = choices_in(self.choices.render(item))
        choice = verdict_in(text, choices)
        if choice is None:
            # Double quotes within would hide that such messages are of one kind (`common_words`).
            said = jsontext.shown(text.replace('"', "'"))
            raise UnreadableError(f"the answer does not name one of {', '.join(map(repr, choices))} plainly, but says {said}")
        return Value(_counted(choice, self.scores), choice)


class OfSchema(Struct, frozen=True):
    """The verdict is JSON that fits a schema; one member of it may be the value."""

    #: The schema as JSON text.
    schema: str
    #: The path of the member that is the value; None: there is no value.
    steps: tuple[Step, ...] | None
    scores: Mapping[str, float]
    calls: Calls
    #: The path of the member that is the output; None: the whole JSON is the output.
    output: tuple[Step, ...] | None

    async def verdict(self, text: str, item: Mapping[str, Any]) -> Value:  # noqa: ARG002  the signature of Reading
        """Return the JSON of a text. Raises UnreadableError."""
        answer = without_reasoning(text) or ""
        answer = (code_block(answer) or answer).strip()
        try:
            is_valid, reason = await self.calls.call("runner.foreign.schemas:verdict", self.schema, answer)
        except CallError as error:
            raise UnreadableError(f"the answer cannot be checked against the schema: {error}") from error
        if not is_valid:
            raise UnreadableError(f"the answer does not fit the schema: {reason}")
        if self.steps is None and self.output is None:
            return Value(None, answer)
        said = jsontext.decode(answer)
        value = None if self.steps is None else self._counted(said, self.steps)
        return Value(value, answer if self.output is None else jsontext.as_text(_member(said, self.output, "output")))

    def _counted(self, said: Any, steps: tuple[Step, ...]) -> float | None:
        found = _member(said, steps, "value")
        if found is None:
            return None
        if self.scores:
            label = jsontext.as_text(found)
            if label not in self.scores:
                raise UnreadableError(f"{jsontext.shown(found)} is not in `scores`")
            return self.scores[label]
        if not isinstance(found, int | float) or abs(found) > LARGEST_VALUE:
            raise UnreadableError(
                f"`value` should point to a number up to {LARGEST_VALUE:g}, and points to {jsontext.shown(found)}"
            )
        return float(found)


class JudgeTask(RequestTask, frozen=True, kw_only=True):
    """A task that judges with a model."""

    reading: Reading
    #: Whether the server is guided by `response_format`.
    by_format: bool

    async def run(self, sample: Sample, item: Mapping[str, Any]) -> Result:
        """Ask the endpoint for one sample. Ask again if the answer has no verdict and another answer may have one."""
        try:
            result = await super().run(sample, item)
            if result.request is None:
                return result
            outcome = await self._judged(result.outcome, item)
            if _is_unreadable(outcome) and _is_by_chance(result.request):
                outcome = await self._once_more(outcome, result.request, item)
        except RunStopped as stop:
            if not self.by_format or "response_format" not in str(stop):
                raise
            raise RunStopped(f"{stop}; {OTHER_GUIDES}", hurry=stop.hurry) from stop
        return replace(result, outcome=outcome)

    async def _once_more(self, first: Outcome, request: Request, item: Mapping[str, Any]) -> Outcome:
        """Ask again. If the run stops meanwhile, or nothing may be sent, the first answer counts, because it is paid.

        If the run stops, the next request raises the reason.
        """
        try:
            again = await self._judged(await self.execute(replace(request, again=True)), item)
        except (NotAsked, RunStopped):
            return first
        return again if first.cached else _together(first, again)

    def _is_refused_for_its_format(self, failure: Failure) -> bool:
        is_refusal = self.by_format and failure.status_code in {400, 422}
        return is_refusal and "response_format" in f"{failure.message} {failure.response_body}"

    async def _judged(self, outcome: Outcome, item: Mapping[str, Any]) -> Outcome:
        answer = outcome.answer
        if isinstance(answer, Failure) and self._is_refused_for_its_format(answer):
            return replace(outcome, answer=replace(answer, message=f"{answer.message}; {OTHER_GUIDES}"))
        if not isinstance(answer, Response):
            return outcome
        try:
            verdict = await self._read(answer, item)
        except UnreadableError as error:
            return replace(outcome, answer=_no_verdict(answer, str(error)))
        except RowError as error:
            return replace(outcome, answer=replace(error.failure, paid=answer))
        except NoProcessError as error:
            raise RunStopped(str(error), hurry=False) from error
        return replace(outcome, answer=replace(answer, output=verdict.output, value=verdict.value))

    async def _read(self, answer: Response, item: Mapping[str, Any]) -> Value:
        if answer.finish_reason == "length":
            raise UnreadableError("the answer was cut off (finish_reason length)")
        if answer.refusal or answer.finish_reason == "content_filter":
            raise UnreadableError(f"the model refused: {jsontext.shown(answer.refusal or answer.finish_reason)}")
        if not (answer.output or "").strip():
            raise UnreadableError("the answer is empty")
        return await self.reading.verdict(answer.output or "", item)


def _member(said: Any, steps: tuple[Step, ...], name: str) -> Any:
    """Return the member of a verdict to which the option of this name points. Raises UnreadableError."""
    try:
        return located({"": said}, ["", *steps])
    except NotThereError as error:
        raise UnreadableError(f"`{name}` points to nothing: {error}") from error


def choices_in(found: Any) -> list[str]:
    """Return choices as texts. Raises RowError unless they are a list of texts that differ."""
    given = found if isinstance(found, list) else []
    choices = [str(one) for one in given if isinstance(one, str | int) and not isinstance(one, bool) and str(one).strip()]
    if len(choices) != len(given) or len({plain_choice(one) for one in choices}) != len(choices) or not choices:
        what = "should be a list of texts that differ in more than case or punctuation"
        raise RowError(ErrorType.TEMPLATE, f"configuration.choices: {what}, and is {jsontext.shown(found)}")
    return choices


def _no_verdict(answer: Response, why: str) -> Failure:
    kept = (answer.output or "").encode("utf-8", "replace")[:_KEPT_BYTES].decode("utf-8", "ignore")
    return Failure(error_type=ErrorType.NO_VERDICT, message=f"no verdict: {why}", response_body=kept, paid=answer)


def _counted(choice: str, scores: Mapping[str, float]) -> float | None:
    """Return the score of a choice; without scores, the choice itself if it is a number."""
    if scores:
        return scores.get(choice)
    try:
        number = float(choice) if choice.lstrip("-").replace(".", "", 1).isdecimal() else math.inf
    except ValueError:
        return None
    return number if abs(number) <= LARGEST_VALUE else None


def _is_unreadable(outcome: Outcome) -> bool:
    return isinstance(outcome.answer, Failure) and outcome.answer.error_type is ErrorType.NO_VERDICT


def _is_by_chance(request: Request) -> bool:
    """Return whether the same request may get another answer: its temperature is not 0."""
    return bool(jsontext.decode(request.content).get("temperature") != 0)


def _together(first: Outcome, last: Outcome) -> Outcome:
    """Return the last outcome with the cost of both. The first has an answer without a verdict."""
    answer, before = last.answer, first.answer
    assert isinstance(before, Failure)
    assert before.paid is not None
    if isinstance(answer, Response):
        answer = _also_paid(answer, before.paid)
    elif isinstance(answer, Failure):
        answer = replace(answer, paid=before.paid if answer.paid is None else _also_paid(answer.paid, before.paid))
    return replace(
        last,
        answer=answer,
        attempts=first.attempts + last.attempts,
        queue_s=first.queue_s + last.queue_s,
        held_s=first.held_s + last.held_s,
        backoff_s=first.backoff_s + last.backoff_s,
        wire_s=first.wire_s + last.wire_s,
        started_at=first.started_at,
    )


def _also_paid(answer: Response, other: Response) -> Response:
    """Return an answer with the tokens of both; a count is None if the server did not report it for one of them."""
    both = zip(Usage.__struct_fields__, astuple(answer.usage), astuple(other.usage), strict=True)
    return replace(answer, usage=Usage(**{name: None if None in counts else sum(counts) for name, *counts in both}))
