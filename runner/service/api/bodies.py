"""The bodies of requests, as models: all mistakes at once, in FastAPI's words. The OpenAPI document is made from them.

`data`, the rows of a body, is read apart: no model checks it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

from runner.service.refusals import invalid, mistake
from runner.service.trying import MOST_ROWS

__all__ = [
    "AddTask",
    "CreateDataset",
    "CreateEvaluation",
    "CreateItems",
    "CreateQuestion",
    "DryRun",
    "Export",
    "Filters",
    "UpdateDataset",
    "UpdateEvaluation",
    "UpdateItem",
    "UpdateQuestion",
    "validated",
]

_T = TypeVar("_T", bound=BaseModel)
_Tags = list[str]
_Files = list[dict[str, str] | None]


class NewDataset(BaseModel):
    """A dataset that is created with an evaluation."""

    name: str = Field(min_length=1)
    description: str | None = None
    keys: list[str] | None = None
    tags: _Tags | None = None


class Task(BaseModel):
    """A task. Its configuration depends on the task type."""

    model_config = ConfigDict(extra="allow")

    task_type: str
    alias: str | None = None
    configuration: dict[str, Any]


class CreateEvaluation(BaseModel):
    """An evaluation of an existing dataset, of rows that become a new dataset, or of rows alone."""

    name: str = Field(min_length=1)
    description: str | None = None
    tags: _Tags | None = None
    metadata: dict[str, Any] | None = None
    tasks: list[Task] | None = None
    taxonomy_params: dict[str, Any] | None = None
    skip_prefilled_rows: bool | None = Field(
        default=None,
        description="Whether people skip questions that rows answer already. It has no effect: only models are asked.",
    )
    files: _Files | None = None
    dataset_id: str | None = None
    dataset: NewDataset | None = None

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.dataset_id is not None and self.dataset is not None:
            raise ValueError("`dataset_id` names an existing dataset, and `dataset` makes a new one; leave one of them out")
        return self


class AddTask(BaseModel):
    """A task to add to an evaluation."""

    task: Task


class _Update(BaseModel):
    name: str | None = Field(default=None, min_length=1)
    description: str | None = None
    tags: _Tags | None = None
    restore: Literal[True] | None = None

    @model_validator(mode="after")
    def _changes_or_restores(self) -> Self:
        if self.restore and (others := self.model_fields_set - {"restore"}):
            raise ValueError(f"`restore` cannot be combined with other fields; leave out {', '.join(sorted(others))}")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """The changed values. A name of null is not a change, because every object has a name."""
        found = {name: getattr(self, name) for name in self.model_fields_set - {"restore"}}
        return {name: value for name, value in found.items() if (name, value) != ("name", None)}


class UpdateEvaluation(_Update):
    """Changed values of an evaluation; or `restore` alone, to bring it back from the archive."""

    metadata: dict[str, Any] | None = None


class Filter(BaseModel):
    """A condition for evaluations."""

    key: str
    operator: Literal["==", "!=", ">=", "<=", "IN", "NOT_IN"]
    value: str


class Filters(BaseModel):
    """Conditions that an evaluation must all meet."""

    filters: list[Filter] = Field(max_length=10)


class Export(BaseModel):
    """The evaluation to export, the format and the method."""

    evaluation_id: str
    export_format: Literal["json", "jsonl", "csv"] = "json"
    export_method: Literal["direct", "signed_url"] = "direct"
    include_archived: bool | None = None


class CreateDataset(BaseModel):
    """A new dataset."""

    name: str = Field(min_length=1)
    description: str | None = None
    tags: _Tags | None = None
    files: _Files | None = None


class UpdateDataset(_Update):
    """Changed values of a dataset; or `restore` alone, to bring it back from the archive."""


class CreateItems(BaseModel):
    """New items of a dataset."""

    dataset_id: str
    files: _Files | None = None


class UpdateItem(BaseModel):
    """The new content of an item. Its files stay unless `files` is set."""

    data: dict[str, Any]
    files: dict[str, str] | None = None


class DryRun(BaseModel):
    """A task, and rows to try it on."""

    task_type: Literal["custom_function"]
    configuration: dict[str, Any]
    sample_data: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_ROWS)


class Categorical(BaseModel):
    """One of several choices; with `multi`, any number of them."""

    choices: list[str] = Field(min_length=1)
    dropdown: bool | None = Field(default=None, description="How people see the choices. It is stored; judges do not see it.")
    multi: bool | None = None


class Rating(BaseModel):
    """A whole number from 1 to `steps`."""

    min_label: str
    max_label: str
    steps: int = Field(ge=1, le=1000)


class Number(BaseModel):
    """A number, with optional bounds."""

    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)


class FreeText(BaseModel):
    """A text, with optional bounds of its length."""

    min_length: int | None = Field(default=None, ge=0)
    max_length: int | None = Field(default=None, ge=0)


class Form(BaseModel):
    """A form that a JSON schema describes."""

    form_schema: dict[str, Any]


class Timestamp(BaseModel):
    """A time; with `multi`, several times."""

    multi: bool | None = None


class _Question(BaseModel):
    name: str = Field(min_length=1)
    prompt: str
    conditions: list[dict[str, Any]] | None = Field(
        default=None,
        description="When people see the question. It is stored; a task that gives such a question to a judge is refused.",
    )


class CategoricalQuestion(_Question):
    """A question with choices."""

    question_type: Literal["categorical"]
    configuration: Categorical


class RatingQuestion(_Question):
    """A question with a scale."""

    question_type: Literal["rating"]
    configuration: Rating


class NumberQuestion(_Question):
    """A question for a number."""

    question_type: Literal["number"]
    configuration: Number | None = None


class FreeTextQuestion(_Question):
    """A question for a text."""

    question_type: Literal["free_text"]
    configuration: FreeText | None = None


class FormQuestion(_Question):
    """A question for a form, which only people fill in."""

    question_type: Literal["form"]
    configuration: Form


class TimestampQuestion(_Question):
    """A question for a time, which only people answer."""

    question_type: Literal["timestamp"]
    configuration: Timestamp | None = None


AnyQuestion = CategoricalQuestion | RatingQuestion | NumberQuestion | FreeTextQuestion | FormQuestion | TimestampQuestion


class CreateQuestion(RootModel[Annotated[AnyQuestion, Field(discriminator="question_type")]]):
    """A question, of one of the types."""


class UpdateQuestion(BaseModel):
    """The new name of a question."""

    name: str = Field(min_length=1)


def validated(model: type[_T], said: dict[str, Any]) -> _T:
    """Return a body as its model. Raises Refusal with every mistake."""
    try:
        return model.model_validate(said)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)
        raise invalid(*(mistake(("body", *one["loc"]), one["msg"], one["type"]) for one in wrong)) from None
