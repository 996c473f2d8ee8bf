"""The task type `metric`: a value from the item and earlier outputs, without a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import Field, TypeAdapter, ValidationInfo, field_validator, model_validator
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from runner.errors import RowError
from runner.keypaths import leaves
from runner.processes.pool import Calls
from runner.tasks.base import Task, TaskConfig, alias_of
from runner.tasks.fields import Late, Locatable, VerbatimModel
from runner.tasks.judging import JudgingConfiguration, JudgingTask
from runner.tasks.mediafiles import MediaFiles
from runner.tasks.metrics import METRICS, MetricType
from runner.tasks.metrics.base import Settings
from runner.templates.compile import is_template
from runner.templates.locators import Step
from runner.types import ErrorType, Execute, Value

__all__ = ["MetricConfig", "MetricConfiguration", "MetricTask", "is_plugged"]


class MetricTask(JudgingTask, frozen=True, kw_only=True):
    """A metric, ready to judge."""

    settings: MetricConfiguration

    @property
    def takes_any_candidate(self) -> bool:
        """Whether every candidate has a value; True, though unknown, if rows name the type."""
        found = METRICS.get(self.settings.type)
        return found is None or found.takes_any_candidate

    async def judge(self, rendered: Mapping[str, Any]) -> Value:
        """Return the value, and the candidate as it was read, as text. Raises RowError (template)."""
        kind, candidates, choices = (rendered[name] for name in ("type", "candidates", "choices"))
        if not isinstance(kind, str) or kind not in METRICS:
            raise RowError(ErrorType.TEMPLATE, f"configuration.type: {kind!r} is not one of {', '.join(METRICS)}")
        settings = self.settings
        if choices is not settings.choices:
            settings = settings.model_copy(update={"choices": choices})
        candidate = rendered["candidate"] if candidates is None else candidates
        return await METRICS[kind].judge(candidate, rendered["reference"], settings, self.calls)


class MetricConfiguration(Settings, JudgingConfiguration):
    """What is compared, and how both sides are prepared."""

    makes: ClassVar[type[JudgingTask]] = MetricTask

    type: Locatable[MetricType]
    """How the candidate is judged. With a locator each row gives the type."""
    candidate: Any = None
    """The answer, usually a locator such as `item.answer`, or `item.answer.tool_calls`, `.reasoning` or `.refusal`."""
    candidates: Locatable[list[Any]] | None = None
    """vote, mean: the verdicts of several judges, such as `[item.first, item.second]`, in place of `candidate`."""
    reference: Any = None
    """The right answer, or a list of right answers. For regex it is a pattern, for tool_call_match calls, for json_schema a
    schema, for set_match a set, for cosine_similarity a vector. score and mean have none, and vote may have none."""

    @field_validator("type")
    @classmethod
    def _can_be_computed(cls, kind: str) -> str:
        """Check before anything is sent that the libraries are installed. If rows give the type, each row finds it out."""
        found = METRICS.get(kind)
        if found is not None and found.missing is not None and (missing := found.missing()) is not None:
            raise ValueError(missing)
        return kind

    @field_validator("reference")
    @classmethod
    def _makes_sense(cls, reference: Any, info: ValidationInfo) -> Any:
        """Check the reference before anything is sent, if it is the same for all rows."""
        found = METRICS.get(str(info.data.get("type")))
        if found is not None and found.check is not None and not any(is_template(leaf) for _, leaf in leaves(reference, ())):
            try:
                found.check(reference)
            except RowError as error:
                raise ValueError(str(error).partition(": ")[2]) from error
        return reference

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = self.model_fields_set
        if ("candidate" in given) == ("candidates" in given):
            raise ValueError("needs either `candidate`, as item.ALIAS, or `candidates`, which are for mean and vote")
        if "candidates" in given and not is_template(self.type) and self.type not in {"mean", "vote"}:
            raise ValueError(f"{self.type} takes one `candidate`; `candidates` are for mean and vote")
        if "reference" not in given and not is_template(self.type) and not METRICS[self.type].is_of_grades:
            raise ValueError(f"{self.type} needs a `reference`, as item.COLUMN")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` is {self.min:g}, which is more than `max`, {self.max:g}")
        return self

    @property
    def templated(self) -> dict[str, Any]:
        """The settings that may read the row."""
        return {name: getattr(self, name) for name in ("type", "candidate", "candidates", "reference", "choices")}


def _validator(value: Any) -> SchemaValidator:
    """Return the validator for a configuration: a custom function or a plug-in has other keys."""
    kind = value.get("type") if isinstance(value, dict) else None
    model = _function_model() if kind == "custom_function" else _plugged_model() if is_plugged(kind) else MetricConfiguration
    return cast("SchemaValidator", model.__pydantic_validator__)


def is_plugged(kind: object) -> bool:
    """Return whether a type is a function in a file, or the name of a plug-in of an installed package."""
    if not isinstance(kind, str) or kind in METRICS or is_template(kind):
        return False
    if ".py:" in kind:
        return True
    from runner.plugins import METRICS_GROUP, offers  # imported only for a type that is not built in

    return kind in offers(METRICS_GROUP)


def _plugged_model() -> type[VerbatimModel]:
    from runner.tasks.plugged import PluggedConfiguration

    return PluggedConfiguration


def _function_model() -> type[VerbatimModel]:
    from runner.tasks.function import FunctionConfiguration  # hardly any config has one

    return FunctionConfiguration


def _schema() -> CoreSchema:
    models = (MetricConfiguration, _function_model(), _plugged_model())
    return core_schema.union_schema([TypeAdapter(model).core_schema for model in models])


class MetricConfig(TaskConfig):
    """Judge an earlier output."""

    judges: ClassVar[bool] = True

    task_type: Literal["metric"]
    configuration: Annotated[MetricConfiguration, Late(_validator, _schema)]
    reduce: list[Annotated[str, Field(pattern=r"^(?:mean|(?:pass[@^]|majority@)[1-9]\d{0,3})$")]] | None = None
    """How the samples of an item are reduced, in addition to their mean: `pass@4` (one of 4 is right), `pass^4` (all 4 are),
    `majority@8` (the most frequent answer of 8). Default for k samples: `pass@k` and `majority@k`."""
    better: Literal["higher", "lower"] = "higher"
    """Whether a higher or a lower value is better, for comparisons."""
    right: float = 1.0
    """The lowest value of a right answer, for `pass` and `majority`."""
    majority: Literal["share", "strict"] = "share"
    """share: answers that tie for the most frequent one count a share each. strict: more than half must be the same answer."""

    @property
    def columns(self) -> Mapping[str, Sequence[Step]]:
        """The `outputs` of a custom function: the path of each by its name."""
        return self.configuration.columns

    @property
    def name(self) -> str:
        """The alias, or the metric's own type if none is given."""
        return alias_of(self.alias, self.task_type, self.configuration.type)

    def build(self, execute: Execute, files: MediaFiles, calls: Calls) -> Task:  # noqa: ARG002  a metric sends nothing
        """Return the task, ready to run."""
        return self.configuration.task(self.name, calls)
