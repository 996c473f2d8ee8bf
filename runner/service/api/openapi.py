"""The OpenAPI document, made from the models of bodies and answers.

A test checks that each route has an operation here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import models_json_schema

from runner.service.api import answers, bodies
from runner.service.api.paging import MOST, MOST_ITEMS
from runner.structs import Struct

__all__ = ["OPERATIONS", "ROUTES", "Operation", "document"]

ROUTES = web.RouteTableDef()
_REF = "#/components/schemas/{model}"
_BOOLEAN: dict[str, Any] = {"type": "boolean"}
_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}


class ChatCompletion(BaseModel):
    """A chat completion. Further parameters are sent on to the endpoint."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool | None = Field(default=None, description="Whether the answer is streamed as server-sent events.")


class Operation(Struct, frozen=True):
    """One method of a path."""

    summary: str
    answer: Any
    #: The model of the body, and whether the body also has `data`, a list of rows.
    body: type[BaseModel] | None = None
    has_rows: bool = False
    query: Sequence[str] = ()
    #: The statuses of refusals, in addition to those that follow from its path, body and query.
    refusals: Sequence[int] = ()
    #: Whether the answer may also be a stream of server-sent events.
    streams: bool = False


_PAGE = ("limit", "sort_by", "sort_order", "starting_after", "ending_before")
_PARAMETERS: dict[str, dict[str, Any]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST},
    "item_limit": {"type": "integer", "minimum": 1, "maximum": MOST_ITEMS},
    "sort_by": {"enum": ["created_at", "name", "id"]},
    "item_sort_by": {"enum": ["created_at", "id"]},
    "sort_order": {"enum": ["asc", "desc"]},
    "starting_after": _TEXT,
    "ending_before": _TEXT,
    "include_archived": _BOOLEAN,
    "name": _TEXT,
    "tags": _TEXTS,
    "ids": _TEXTS,
    "views": {"type": "array", "items": {"enum": ["tasks"]}},
    "evaluation_id": _TEXT,
    "dataset_id": _TEXT,
    "version": {"type": "integer", "minimum": 1},
    "completion_status": {"enum": ["all", "passed", "failed"]},
}
_ITEM_PAGE = ("item_limit", "item_sort_by", "sort_order", "starting_after", "ending_before")

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/v5/evaluations"): Operation(
        "Create an evaluation", answers.Evaluation, bodies.CreateEvaluation, has_rows=True, refusals=(404, 409, 501)
    ),
    ("GET", "/v5/evaluations"): Operation(
        "List evaluations", answers.Page[answers.Evaluation], query=(*_PAGE, "name", "tags", "views", "include_archived")
    ),
    ("POST", "/v5/evaluations/filter"): Operation(
        "List the evaluations that match filters",
        answers.Page[answers.Evaluation],
        bodies.Filters,
        query=(*_PAGE, "views", "include_archived"),
    ),
    ("POST", "/v5/evaluations/tasks/dry-run"): Operation(
        "Try a custom function on some rows", answers.Tried, bodies.DryRun, refusals=(501,)
    ),
    ("GET", "/v5/evaluations/{id}"): Operation("Return an evaluation", answers.Evaluation, query=("views", "include_archived")),
    ("PATCH", "/v5/evaluations/{id}"): Operation(
        "Change an evaluation, or restore it", answers.Evaluation, bodies.UpdateEvaluation
    ),
    ("DELETE", "/v5/evaluations/{id}"): Operation("Archive an evaluation", answers.Evaluation),
    ("POST", "/v5/evaluations/{id}/tasks"): Operation(
        "Add a task to an evaluation", answers.Evaluation, bodies.AddTask, query=("views",), refusals=(409, 501)
    ),
    ("GET", "/v5/evaluations/{id}/schema"): Operation(
        "Return the fields that the items have", answers.EvaluationSchema, query=("include_archived",)
    ),
    ("GET", "/v5/evaluations/{id}/taxonomy"): Operation("Return the taxonomy", dict[str, Any]),
    ("GET", "/v5/evaluation-items"): Operation(
        "List the items of evaluations",
        answers.Page[answers.EvaluationItem],
        query=(*_ITEM_PAGE, "evaluation_id", "completion_status", "include_archived"),
        refusals=(404,),
    ),
    ("GET", "/v5/evaluation-items/{id}"): Operation(
        "Return an item of an evaluation", answers.EvaluationItem, query=("include_archived",)
    ),
    ("POST", "/v5/evaluation-items/export"): Operation(
        "Export all items of an evaluation, in the answer or as a URL", answers.Exported, bodies.Export, refusals=(404,)
    ),
    ("POST", "/v5/datasets"): Operation(
        "Create a dataset", answers.Dataset, bodies.CreateDataset, has_rows=True, refusals=(409,)
    ),
    ("GET", "/v5/datasets"): Operation(
        "List datasets", answers.Page[answers.Dataset], query=(*_PAGE, "name", "tags", "include_archived")
    ),
    ("GET", "/v5/datasets/{id}"): Operation("Return a dataset", answers.Dataset, query=("include_archived",)),
    ("PATCH", "/v5/datasets/{id}"): Operation("Change a dataset, or restore it", answers.Dataset, bodies.UpdateDataset),
    ("DELETE", "/v5/datasets/{id}"): Operation("Archive a dataset", answers.Deleted, refusals=(400,)),
    ("POST", "/v5/dataset-items/batch"): Operation(
        "Add items to a dataset", answers.Added, bodies.CreateItems, has_rows=True, refusals=(404,)
    ),
    ("GET", "/v5/dataset-items"): Operation(
        "List the items of datasets",
        answers.Page[answers.DatasetItem],
        query=(*_ITEM_PAGE, "dataset_id", "version", "include_archived"),
        refusals=(404,),
    ),
    ("GET", "/v5/dataset-items/{id}"): Operation(
        "Return an item of a dataset", answers.DatasetItem, query=("version", "include_archived")
    ),
    ("PATCH", "/v5/dataset-items/{id}"): Operation(
        "Replace the content of an item of a dataset", answers.DatasetItem, bodies.UpdateItem, has_rows=True
    ),
    ("DELETE", "/v5/dataset-items/{id}"): Operation("Delete an item of a dataset", answers.Deleted, refusals=(400,)),
    ("POST", "/v5/questions"): Operation("Create a question", answers.Question, bodies.CreateQuestion),
    ("GET", "/v5/questions"): Operation(
        "List questions", answers.Page[answers.Question], query=(*_PAGE, "ids", "include_archived")
    ),
    ("GET", "/v5/questions/{id}"): Operation("Return a question", answers.Question),
    ("PATCH", "/v5/questions/{id}"): Operation("Rename a question", answers.Question, bodies.UpdateQuestion),
    ("DELETE", "/v5/questions/{id}"): Operation("Archive a question", answers.Question),
    ("POST", "/v5/questions/{id}/restore"): Operation("Restore a question", answers.Question),
    ("GET", "/v5/models"): Operation("List the models that clients may name", answers.Page[answers.Model]),
    ("POST", "/v5/chat/completions"): Operation(
        "Pass a chat completion on to the endpoint of its model",
        answers.Chat,
        ChatCompletion,
        refusals=(404, 408, 429, 500, 502),
        streams=True,
    ),
}


@ROUTES.get("/openapi.json")
async def openapi(request: web.Request) -> web.Response:  # noqa: ARG001  the signature of handlers
    """Return the document."""
    return web.json_response(document())


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    found = {place: _body(one) for place, one in OPERATIONS.items() if one.body is not None}
    models = {
        place: create_model(f"Answer{number}", value=(one.answer, ...))
        for number, (place, one) in enumerate(OPERATIONS.items())
    }
    used: list[Any] = [*found.values(), *models.values(), answers.Detail, answers.Invalid]
    _, schemas = models_json_schema([(model, "serialization") for model in used], ref_template=_REF)
    schemas = schemas["$defs"]
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), one in OPERATIONS.items():
        answer = schemas.pop(models[method, path].__name__)["properties"]["value"]
        body = found.get((method, path))
        paths.setdefault(path, {})[method.lower()] = _operation(path, one, answer, None if body is None else body.__name__)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Evaluations",
            "version": "5",
            "description": "Scale's SGP v5 evaluations API. Each evaluation is a run.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "x-api-key"}},
        },
        "security": [{"key": []}],
    }


def _body(operation: Operation) -> type[BaseModel]:
    """Return the model of a body, with its rows, which the service checks without a model."""
    assert operation.body is not None
    if not operation.has_rows or "data" in operation.body.model_fields:
        return operation.body
    rows = Annotated[list[dict[str, Any]], Field(min_length=1)]
    data: Any = (rows | None, None) if operation.body is bodies.CreateEvaluation else (rows, ...)
    return create_model(f"{operation.body.__name__}Body", __base__=operation.body, data=data)


def _operation(path: str, one: Operation, answer: dict[str, Any], body: str | None) -> dict[str, Any]:
    parameters = [{"name": "id", "in": "path", "required": True, "schema": _TEXT}] if "{id}" in path else []
    for name in one.query:
        joined = {"style": "form", "explode": False} if _PARAMETERS[name].get("type") == "array" else {}
        parameters.append({"name": name.removeprefix("item_"), "in": "query", "schema": _PARAMETERS[name], **joined})
    found: dict[str, Any] = {
        "summary": one.summary,
        "parameters": parameters,
        "responses": {"200": _response("the answer", answer)}
        | {str(status): _response("the reason of the refusal", _refusal(status)) for status in _refusals(path, one)},
    }
    if one.streams:
        found["responses"]["200"]["content"]["text/event-stream"] = {"schema": _TEXT}
    if body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REF.format(model=body)}}},
        }
    return found


def _refusals(path: str, one: Operation) -> list[int]:
    """Return the statuses of refusals: those of the operation, and those that follow from its path, query and body."""
    found = {401, 403, 503, *one.refusals}
    found |= {404} if "{id}" in path else set()
    found |= {422} if one.query else set()
    found |= {400, 413, 422} if one.body is not None else set()
    return sorted(found)


def _refusal(status: int) -> dict[str, Any]:
    name = "Invalid" if status == 422 else "Detail"  # noqa: PLR2004  the status of a body that is not valid
    return {"$ref": _REF.format(model=name)}


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
