"""The task type `metric`: a value from the item and earlier outputs, without a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from runner.errors import RowError, RunStopped
from runner.fields import Locatable
from runner.processes.pool import Calls, NoProcessError
from runner.structs import Struct
from runner.tasks.base import Task, TaskConfig, alias_of, without_request
from runner.tasks.mediafiles import MediaFiles
from runner.tasks.metrics import CHECKS, METRICS, MISSING, MetricType
from runner.tasks.metrics.base import Settings
from runner.templates import Template, compile_template, is_template
from runner.types import ErrorType, Execute, Result, Sample, Value

__all__ = ["MetricConfig", "MetricConfiguration"]


class MetricConfiguration(Settings):
    """What is compared, and how both sides are looked at before."""

    type: Locatable[MetricType]
    """How the candidate is judged; a locator lets each row say it."""
    candidate: Annotated[Any, Field()]
    """The answer, usually a locator as `item.answer`; of an answer also `item.answer.tool_calls`, `.reasoning`, `.refusal`."""
    reference: Annotated[Any, Field()]
    """What is right, or a list of which any one is; the pattern of regex, calls of tool_call_match, schema of json_schema."""

    #: The settings that may hold templates.
    templated: ClassVar[tuple[str, ...]] = ("type", "candidate", "reference")

    @field_validator("type")
    @classmethod
    def _is_installed(cls, kind: Any) -> Any:
        """Find a library that is not there before anything is sent."""
        what = MISSING[kind]() if kind in MISSING else None
        if what is not None:
            raise ValueError(what)
        return kind

    @field_validator("reference")
    @classmethod
    def _makes_sense(cls, reference: Any, info: ValidationInfo) -> Any:
        """Find a reference without sense before anything is sent, where no row can change it."""
        kind = info.data.get("type")
        if isinstance(kind, str) and kind in CHECKS and not _reads_the_row(reference):
            try:
                CHECKS[kind](reference)
            except RowError as error:
                raise ValueError(str(error).partition(": ")[2]) from error
        return reference


def _reads_the_row(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_reads_the_row, value.values() if isinstance(value, dict) else value))
    return is_template(value)


class MetricConfig(TaskConfig):
    """Judge an earlier output."""

    judges: ClassVar[bool] = True

    task_type: Literal["metric"]
    configuration: MetricConfiguration

    @property
    def name(self) -> str:
        """The alias, or the metric's own type where none is given."""
        return alias_of(self.alias, self.task_type, self.configuration.type)

    def build(self, execute: Execute, files: MediaFiles, calls: Calls) -> Task:  # noqa: ARG002  a metric sends nothing
        """Return the task, ready to run."""
        settings = self.configuration
        template = compile_template(
            {name: getattr(settings, name) for name in MetricConfiguration.templated}, ("configuration",)
        )
        return MetricTask(alias=self.name, settings=settings, template=template, calls=calls)


class MetricTask(Struct, frozen=True, kw_only=True):
    """A metric, ready to judge."""

    alias: str
    settings: Settings
    template: Template
    calls: Calls
    task_type: str = "metric"
    model: str | None = None

    async def run(self, sample: Sample, item: Mapping[str, Any]) -> Result:
        """Judge one sample. What a metric raises beside RowError is left to the pipeline: it costs this result only."""
        try:
            rendered = self.template.render(item)
            answer = await self.judge(**rendered)
        except RowError as error:
            return without_request(sample, self.alias, self.task_type, error.failure)
        except NoProcessError as error:
            raise RunStopped(str(error), hurry=False) from error
        return without_request(sample, self.alias, self.task_type, answer)

    async def judge(self, *, type: Any, candidate: Any, reference: Any) -> Value:  # noqa: A002  the config's own word
        """Return 1.0 or 0.0, and what the candidate was taken for as text. Raises RowError (template)."""
        if not isinstance(type, str) or type not in METRICS:
            raise RowError(ErrorType.TEMPLATE, f"configuration.type: {type!r} is none of {', '.join(get_args(MetricType))}")
        return await METRICS[type](candidate, reference, self.settings, self.calls)
