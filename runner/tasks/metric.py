"""The task type `metric`: a value from the item and earlier outputs, without a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from runner.errors import RowError, RunStopped
from runner.processes.pool import Calls, NoProcessError
from runner.structs import Struct
from runner.tasks.base import Task, TaskConfig, alias_of, without_request
from runner.tasks.fields import Locatable
from runner.tasks.mediafiles import MediaFiles
from runner.tasks.metrics import METRICS, MetricType
from runner.tasks.metrics.base import Settings
from runner.templates.compile import Template, compile_template, is_template
from runner.types import ErrorType, Execute, Result, Sample, Value

__all__ = ["MetricConfig", "MetricConfiguration"]


class MetricConfiguration(Settings):
    """What is compared, and how both sides are looked at before."""

    type: Locatable[MetricType]
    """How the candidate is judged; a locator lets each row say it."""
    candidate: Any = None
    """The answer, usually a locator as `item.answer`; of an answer also `item.answer.tool_calls`, `.reasoning`, `.refusal`."""
    candidates: Locatable[list[Any]] | None = None
    """vote, mean: what several judges say, as `[item.first, item.second]`, in place of the candidate."""
    reference: Any = None
    """What is right, or a list of which any one is; the pattern of regex, calls of tool_call_match, schema of json_schema,
    set of set_match, vector of cosine_similarity. score and mean have none, and vote may go without."""

    #: The settings that may hold templates.
    templated: ClassVar[tuple[str, ...]] = ("type", "candidate", "candidates", "reference", "choices")

    @field_validator("type")
    @classmethod
    def _can_be_computed(cls, kind: str) -> str:
        """Find out what is not installed before anything is sent; where rows say the type, they do."""
        found = METRICS.get(kind)
        if found is not None and found.missing is not None and (missing := found.missing()) is not None:
            raise ValueError(missing)
        return kind

    @field_validator("reference")
    @classmethod
    def _makes_sense(cls, reference: Any, info: ValidationInfo) -> Any:
        """Find a reference without sense before anything is sent, where no row can change it."""
        found = METRICS.get(str(info.data.get("type")))
        if found is not None and found.check is not None and not _reads_the_row(reference):
            try:
                found.check(reference)
            except RowError as error:
                raise ValueError(str(error).partition(": ")[2]) from error
        return reference

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = self.model_fields_set
        if ("candidate" in given) == ("candidates" in given):
            raise ValueError("needs either `candidate` or `candidates`")
        if "candidates" in given and not is_template(self.type) and self.type not in {"mean", "vote"}:
            raise ValueError(f"{self.type} takes one `candidate`; `candidates` are for mean and vote")
        if "reference" not in given and not is_template(self.type) and not METRICS[self.type].is_of_grades:
            raise ValueError(f"{self.type} needs a `reference`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` is {self.min:g}, which is more than `max`, {self.max:g}")
        return self


def _reads_the_row(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_reads_the_row, value.values() if isinstance(value, dict) else value))
    return is_template(value)


class MetricConfig(TaskConfig):
    """Judge an earlier output."""

    judges: ClassVar[bool] = True

    task_type: Literal["metric"]
    configuration: MetricConfiguration
    reduce: list[Annotated[str, Field(pattern=r"^(?:mean|(?:pass[@^]|majority@)[1-9]\d{0,3})$")]] | None = None
    """What the samples of an item are reduced to beside their mean: `pass@4` (one of 4 is right), `pass^4` (all are),
    `majority@8` (what most of 8 say). Default, of k samples: `pass@k` and `majority@k`."""
    better: Literal["higher", "lower"] = "higher"
    """Whether a higher or a lower value is better, for comparisons."""
    right: float = 1.0
    """The value from which an answer is right for `pass` and `majority`."""
    majority: Literal["share", "strict"] = "share"
    """Of answers that share the first place each counts its share, or (strict) more than half have to say the same."""

    @property
    def name(self) -> str:
        """The alias, or the metric's own type where none is given."""
        return alias_of(self.alias, self.task_type, self.configuration.type)

    def build(self, execute: Execute, files: MediaFiles, calls: Calls) -> Task:  # noqa: ARG002  a metric sends nothing
        """Return the task, ready to run."""
        settings = self.configuration
        values = {name: getattr(settings, name) for name in MetricConfiguration.templated}
        template = compile_template(values, ("configuration",), lambda _path: "value")
        return MetricTask(alias=self.name, settings=settings, template=template, calls=calls)


class MetricTask(Struct, frozen=True, kw_only=True):
    """A metric, ready to judge."""

    alias: str
    settings: MetricConfiguration
    template: Template
    calls: Calls
    task_type: str = "metric"
    model: str | None = None

    @property
    def takes_any_candidate(self) -> bool:
        """Whether every candidate has a value; where rows say the type, nobody knows."""
        found = METRICS.get(self.settings.type)
        return found is None or found.takes_any_candidate

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

    async def judge(self, *, type: Any, candidate: Any, candidates: Any, reference: Any, choices: Any) -> Value:  # noqa: A002  the config's own word
        """Return the value, and what the candidate was taken for as text. Raises RowError (template)."""
        if not isinstance(type, str) or type not in METRICS:
            raise RowError(ErrorType.TEMPLATE, f"configuration.type: {type!r} is none of {', '.join(METRICS)}")
        settings = self.settings
        if choices is not settings.choices:
            settings = settings.model_copy(update={"choices": choices})
        return await METRICS[type].judge(candidate if candidates is None else candidates, reference, settings, self.calls)
