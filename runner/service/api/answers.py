"""The answers of the API, as models. The OpenAPI document is made from them, and tests compare every answer with it.

They follow the types of Scale's client, scale-gp-beta 0.7.0. Answers are not built with these models: that would check each of
a million items that this program has made itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Added",
    "Chat",
    "Dataset",
    "DatasetItem",
    "Deleted",
    "Detail",
    "Evaluation",
    "EvaluationItem",
    "EvaluationSchema",
    "Exported",
    "Invalid",
    "Model",
    "Page",
    "Question",
    "Tried",
]

_T = TypeVar("_T")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Identity(_Answer):
    """The creator of an object."""

    id: str
    type: Literal["user"]
    object: Literal["identity"]


class FailedItem(_Answer):
    """An item with an error; only the first such items are listed."""

    item_id: str
    error: str
    error_type: str


class ItemProgress(_Answer):
    """The number of items in each state."""

    total: int = Field(ge=0)
    successful: int = Field(ge=0)
    failed: int = Field(ge=0)
    pending: int = Field(ge=0)
    failed_items: list[FailedItem] = Field(max_length=100)


class WorkflowProgress(_Answer):
    """The same counts, for the workflows of SGP."""

    total: int = Field(ge=0)
    completed: int = Field(ge=0)
    failed: int = Field(ge=0)
    pending: int = Field(ge=0)


class Progress(_Answer):
    """The progress of an evaluation."""

    items: ItemProgress
    workflows: WorkflowProgress


class Dataset(_Answer):
    """A dataset."""

    id: str
    object: Literal["dataset"]
    name: str
    description: str | None
    tags: list[str] | None
    current_version_num: int = Field(ge=1)
    created_at: datetime
    archived_at: datetime | None
    created_by: Identity
    created_by_user_id: str


class DatasetItem(_Answer):
    """An item of a dataset."""

    id: str
    object: Literal["dataset.item"]
    dataset_id: str
    data: dict[str, Any]
    content_hash: str
    files: dict[str, str] | None
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None
    created_by: Identity


class Evaluation(_Answer):
    """An evaluation; its tasks are included with `views=tasks`."""

    id: str
    object: Literal["evaluation"]
    name: str
    description: str | None
    status: Literal["running", "completed", "failed"]
    status_reason: str | None
    created_at: datetime
    created_by: Identity
    created_by_user_id: str
    archived_at: datetime | None
    tags: list[str] | None
    metadata: dict[str, Any] | None
    datasets: list[Dataset] | None
    error_count: int = Field(ge=0)
    progress: Progress
    tasks: list[dict[str, Any]] | None


class TaskError(_Answer):
    """Why a task of an item has no result."""

    type: str
    message: str | None


class Worked(_Answer):
    """The result of a function for a row."""

    result: float | dict[str, Any]


class Failed(_Answer):
    """The error of a function for a row."""

    error: TaskError


class Tried(_Answer):
    """A dry run: the result or the error of each row, in the order of the rows."""

    results: list[Worked | Failed]


class EvaluationItem(_Answer):
    """An item of an evaluation: `data` is its row, with the result of each task under its alias."""

    id: str
    object: Literal["evaluation.item"]
    evaluation_id: str
    data: dict[str, Any]
    created_at: datetime
    created_by: Identity
    archived_at: datetime | None
    dataset_item_id: str | None
    dataset_item_version_num: int | None
    files: dict[str, str] | None
    task_errors: dict[str, TaskError] | None
    task_result_statuses: dict[str, Literal["completed", "errored", "skipped", "pending"]] | None


class FieldSchema(_Answer):
    """A field of the items."""

    field_name: str
    data_type: Literal["string", "boolean", "number", "object", "array", "null"]
    item_count: int = Field(ge=1)
    source: Literal["data", "task_result_cache"]
    object: Literal["field_schema"]


class EvaluationSchema(_Answer):
    """The fields that the items of an evaluation have."""

    evaluation_id: str
    object: Literal["evaluation_schema"]
    fields: list[FieldSchema]
    total_items: int = Field(ge=0)
    is_sampled: bool
    sample_size: int | None


class Page(_Answer, Generic[_T]):
    """A page of a list."""

    object: Literal["list"]
    items: list[_T]
    total: int = Field(ge=0)
    has_more: bool
    limit: int = Field(ge=0)


class Added(_Answer):
    """The items that were added to a dataset."""

    object: Literal["list"]
    items: list[DatasetItem]


class Question(_Answer):
    """A question that judges answer."""

    id: str
    object: Literal["question"]
    name: str
    prompt: str
    question_type: Literal["categorical", "rating", "number", "free_text", "form", "timestamp"]
    configuration: dict[str, Any] | None
    conditions: list[dict[str, Any]] | None
    created_at: datetime
    created_by: Identity
    archived_at: datetime | None


class Deleted(_Answer):
    """The dataset that was archived, or the item that was deleted."""

    id: str
    deleted: Literal[True]
    object: Literal["dataset", "dataset.item"]


class Exported(_Answer):
    """An export: its content, or the URL to download it from."""

    filename: str
    content: str | None
    signed_url: str | None


class Model(_Answer):
    """A model that clients may name; a `*` stands for any text."""

    id: str
    object: Literal["model"]
    name: str


class Chat(BaseModel):
    """A chat completion, as the endpoint answered."""

    choices: list[Any]


class Detail(_Answer):
    """The reason why a request is refused."""

    detail: str


class Wrong(_Answer):
    """One of the mistakes of a request."""

    loc: list[str | int]
    msg: str
    type: str


class Invalid(_Answer):
    """All mistakes of a request."""

    detail: list[Wrong]
