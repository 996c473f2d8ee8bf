"""The task type `auto_evaluation.pairwise`: a judge says which of two answers is better, asked in both orders.

Judges tend to prefer a position. So each pair is asked twice, with the answers swapped the second time. An answer wins only if
it wins both times. A pairwise task `ALIAS` runs as two judges, `ALIAS.ab` and `ALIAS.ba`, and a metric `ALIAS` that compares
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from runner import jsontext
from runner.errors import RowError
from runner.output import JUDGE
from runner.processes.pool import Calls
from runner.tasks.base import RunCondition, Task, TaskConfig
from runner.tasks.fields import VerbatimModel
from runner.tasks.guided_decoding import GuidedDecodingConfig, InferenceArgs
from runner.tasks.guides import Guide
from runner.tasks.judging import JudgingConfiguration, JudgingTask
from runner.tasks.mediafiles import MediaFiles
from runner.tasks.pairing import CHOICES, ORDERS, orders
from runner.tasks.request import Model
from runner.templates.compile import is_template
from runner.templates.locators import steps_of, written
from runner.types import ErrorType, Execute, Value

__all__ = ["PairwiseConfig", "PairwiseConfiguration", "readable_pair", "winner"]

_PLACE = re.compile(r"\{\{\s*(first|second)\s*\}\}")


class PairwiseConfiguration(VerbatimModel):
    """Which answers are compared, and how a judge is asked."""

    model: Model
    a: str
    """One answer, such as `item.old`."""
    b: str
    """The other answer."""
    prompt: str
    """The question to the judge: a template with `{{first}}` and `{{second}}` in place of the answers."""
    system_prompt: str | None = None
    """A system message before the prompt."""
    choices: Annotated[list[str], Field(min_length=2, max_length=3)] = Field(default=list(CHOICES))
    """The verdicts that are allowed, in this order: the first is better, the second is better, neither is."""
    inference_args: InferenceArgs | None = None
    """More parameters of the request."""
    run_condition: RunCondition | None = None
    """A condition; a row that does not meet it is skipped."""
    guide: Guide = "json_schema"
    """How the server is made to answer with one of the choices."""
    swap: bool = True
    """Whether each pair is also asked in the other order. Without it, a judge that prefers a position goes unnoticed."""

    @field_validator("a", "b")
    @classmethod
    def _reads(cls, answer: str) -> str:
        if not is_template(answer):
            raise ValueError(
                f"{answer!r} reads nothing, so it would be the same for every row; write item.COLUMN or item.ALIAS"
            )
        return answer

    @field_validator("prompt")
    @classmethod
    def _has_both(cls, prompt: str) -> str:
        missing = {"first", "second"} - set(_PLACE.findall(prompt))
        if missing:
            raise ValueError(f"lacks {' and '.join(f'{{{{{name}}}}}' for name in sorted(missing))}, which an answer replaces")
        return prompt

    @property
    def readable(self) -> Any:
        """The configuration with the answers in its prompt."""
        return readable_pair(self.verbatim)


class PairwiseConfig(TaskConfig):
    """Let a model judge which of two answers is better."""

    task_type: Literal["auto_evaluation.pairwise"]
    configuration: PairwiseConfiguration

    @property
    def parts(self) -> Sequence[TaskConfig]:
        """The judges and the metric."""
        judges = {suffix: self._judge(suffix) for suffix in orders(swap=self.configuration.swap)}
        both = {suffix: written(judge.name) for suffix, judge in judges.items()}
        configuration = {**both, "choices": self.configuration.choices}
        compared = ComparisonConfig.model_validate(
            {"task_type": "metric", "alias": self.name, "samples": self.samples, "configuration": configuration}
        )
        return [*judges.values(), compared]

    def _judge(self, suffix: str) -> GuidedDecodingConfig:
        said, (first, second) = self.configuration.verbatim, ORDERS[suffix]
        kept = ("model", "system_prompt", "inference_args", "guide")
        prompt = _placed(self.configuration.prompt, said[first], said[second])
        configuration = {name: said[name] for name in kept if name in said}
        configuration |= {"prompt": prompt, "choices": self.configuration.choices}
        condition = None if self.condition is None else self.condition.model_dump()
        task = {"task_type": JUDGE, "alias": f"{self.name}.{suffix}", "samples": self.samples, "run_condition": condition}
        task["endpoint"] = self.endpoint
        return GuidedDecodingConfig.model_validate({**task, "configuration": configuration})


class ComparisonTask(JudgingTask, frozen=True, kw_only=True):
    """Gives 1 if a wins, 0 if b wins, and 0.5 for a tie or an inconsistent judge."""

    settings: ComparisonConfiguration

    async def judge(self, rendered: Mapping[str, Any]) -> Value:
        """Compare the verdicts on one sample. Raises RowError."""
        found = {winner(str(said), self.settings.choices, swapped=order == "ba") for order, said in rendered.items()}
        who = found.pop() if len(found) == 1 else "inconsistent"
        return Value({"a": 1.0, "b": 0.0}.get(who, 0.5), who)


class ComparisonConfiguration(VerbatimModel, JudgingConfiguration):
    """The verdicts of the judges in each order."""

    makes: ClassVar[type[JudgingTask]] = ComparisonTask

    ab: str
    ba: str | None = None
    choices: list[str]

    @property
    def templated(self) -> dict[str, Any]:
        """The verdicts by their orders."""
        return {order: said for order in ORDERS if (said := getattr(self, order)) is not None}


class ComparisonConfig(TaskConfig):
    """Compare the verdicts in both orders. A pairwise task makes this task; no config has it."""

    judges: ClassVar[bool] = True

    task_type: Literal["metric"]
    configuration: ComparisonConfiguration

    def build(self, execute: Execute, files: MediaFiles, calls: Calls) -> Task:  # noqa: ARG002  a metric sends nothing
        """Return the task, ready to run."""
        return self.configuration.task(self.name, calls)


def winner(verdict: str, choices: Sequence[str], *, swapped: bool) -> str:
    """Return the winner by a verdict: a, b or tie; `swapped` means that b was in the first position. Raises RowError."""
    if verdict not in choices:
        raise RowError(ErrorType.TEMPLATE, f"{jsontext.shown(verdict)} is not one of {', '.join(choices)}")
    return (("b", "a", "tie") if swapped else ("a", "b", "tie"))[choices.index(verdict)]


def readable_pair(configuration: Any) -> Any:
    """Return a configuration, even a malformed one, with the answers as templates in its prompt."""
    if not isinstance(configuration, dict):
        return configuration
    prompt, a, b = (configuration.get(name) for name in ("prompt", "a", "b"))
    if not (isinstance(prompt, str) and isinstance(a, str) and isinstance(b, str)):
        return configuration
    return {**configuration, "prompt": _placed(prompt, a, b)}


def _placed(prompt: str, first: str, second: str) -> str:
    """Return a prompt with the answers as templates in place of `{{first}}` and `{{second}}`."""
    answers = {"first": _as_template(first), "second": _as_template(second)}
    return _PLACE.sub(lambda place: answers[place[1]], prompt)


def _as_template(answer: str) -> str:
    return f"{{{{ {answer.strip()} }}}}" if steps_of(answer) is not None else answer
