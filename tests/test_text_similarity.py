"""The metric `cosine_similarity` of the service: texts become vectors at an endpoint, and their angle is the value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import runner
from runner.errors import ConfigError
from runner.evaluation import prepare
from runner.service.settings import load_service
from tests.service import Running, chat, settings_text
from tests.serving import Served, chat_answer

VECTORS: dict[str, list[float]] = {
    "right": [1, 0],
    "up": [0, 2],
    "both": [3, 3],
    "left": [-1, 0],
    "7": [0, 1],
    '{"a":1}': [2, 0],
}
EMBEDDINGS = "embeddings: {endpoint: local, model: embedder}"
TASK = {
    "task_type": "metric",
    "alias": "near",
    "configuration": {"type": "cosine_similarity", "candidate": "item.r", "reference": "item.a"},
}


async def either(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    if request.path.endswith("/chat/completions"):
        return web.json_response(chat_answer(body["messages"][0]["content"]))
    if "bad" in body["input"]:
        return web.json_response({"error": {"message": "too long for me"}}, status=400)
    data = [{"index": at, "embedding": VECTORS.get(text, [0, 0])} for at, text in enumerate(body["input"])]
    return web.json_response({"object": "list", "data": data, "model": body["model"]})


def test_texts_are_as_near_as_their_vectors(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"q": "right", "a": "right"},
        {"q": "both", "a": "up"},
        {"q": "left", "a": "right"},
        {"q": "right", "a": "of length zero"},
        {"q": "up", "a": 7},
        {"q": "right", "a": {"a": 1}},
        {"q": "bad", "a": "up"},
        {"q": "up", "a": None},
    ]
    fixed = {**TASK, "alias": "fixed", "configuration": {**TASK["configuration"], "reference": "up"}}  # type: ignore[dict-item]
    with Served(either) as endpoint, Running(tmp_path / "s", endpoint, EMBEDDINGS) as service:
        made = service.create(rows, chat("item.q"), TASK, fixed)
        ended = service.ended(made["id"])
        items = service.items(made["id"])
        sent = [seen.body for seen in endpoint.seen if "input" in seen.body]
    assert ended["tasks"] == [chat("item.q"), TASK, fixed]
    assert list(items[0]["data"]) == ["q", "a", "r", "near", "fixed"]
    near = [item["data"].get("near") for item in items]
    assert near[:6] == [1, pytest.approx(math.sqrt(0.5)), -1, 0, 1, 1]
    assert near[6:] == [None, None]
    assert "too long for me" in items[6]["task_errors"]["near"]["message"]
    assert items[7]["task_errors"]["near"]["type"] == "template"
    assert items[7]["task_result_statuses"] == {"r": "completed", "near": "errored", "fixed": "completed"}
    assert {"model": "embedder", "input": ["both", "up"]} in sent
    assert ended["progress"]["items"]["failed"] == 2
    path = tmp_path / "s" / "out" / made["id"]
    assert runner.load(path).results.query("task == 'near'")["value"].count() == 6
    assert "near.vectors" in {task.name for task in prepare(path / "config.yaml").config.tasks}


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with Running(tmp_path / "s", more=EMBEDDINGS) as service:
        other = {**TASK, "configuration": {**TASK["configuration"], "candidate": "item.nope"}}  # type: ignore[dict-item]
        for tasks, place in (
            ([chat(), other], ["body", "tasks", 1, "configuration", "candidate"]),
            ([chat(), {**TASK, "configuration": {"type": "cosine_similarity", "candidate": "x"}}], [*"btc"]),
            ([chat(), TASK, chat(alias="near.vectors")], ["body", "tasks"]),
        ):
            status, said = service.ask("POST", "/v5/evaluations", {"name": "n", "data": [{"q": "x", "a": "y"}], "tasks": tasks})
            assert status == 422
            assert place == [*"btc"] or place in [one["loc"] for one in said["detail"]]
    with Running(tmp_path / "t") as service:
        status, said = service.ask("POST", "/v5/evaluations", {"name": "n", "data": [{"a": "y"}], "tasks": [chat("a"), TASK]})
        assert (status, "needs embeddings" in said["detail"][0]["msg"]) == (422, True)


def test_the_endpoint_of_embeddings_is_one_of_the_service(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(settings_text("http://127.0.0.1:1", tmp_path, "embeddings: {endpoint: other, model: m}"))
    with pytest.raises(ConfigError, match=r"embeddings\.endpoint: 'other' is none of local"):
        load_service(file)
