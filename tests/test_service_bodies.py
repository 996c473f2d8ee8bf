"""What the bodies of clients say: every field means something or is refused, and what Scale documents is answered so."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import BaseModel

from runner.service.api.openapi import OPERATIONS
from runner.service.kept import append, lines_of
from tests.service import Running, chat, running_service
from tests.serving import Served, chat_answer
from tests.shared import SHARED

DOCUMENTED = sorted((SHARED / "sgp_peer" / "bodies").glob("*.json"))
#: Where it is tested what a field does.
FIELDS = {
    "AddTask.task": "test_a_task_that_is_added_reads_what_is_there",
    "ChatCompletion.messages": "test_a_chat_completion_is_passed_on_within_the_limits_of_its_endpoint",
    "ChatCompletion.model": "test_a_chat_completion_is_passed_on_within_the_limits_of_its_endpoint",
    "ChatCompletion.stream": "test_events_are_passed_on_as_they_come_and_nothing_is_kept",
    "CreateDataset.description": "test_what_is_said_of_a_thing_is_shown",
    "CreateDataset.files": "test_files_stay_with_their_items",
    "CreateDataset.name": "test_what_is_said_of_a_thing_is_shown",
    "CreateDataset.tags": "test_what_is_said_of_a_thing_is_shown",
    "CreateEvaluation.dataset": "test_an_evaluation_makes_a_dataset_of_the_keys_that_it_names",
    "CreateEvaluation.dataset_id": "test_datasets_keep_their_versions",
    "CreateEvaluation.description": "test_what_is_said_of_a_thing_is_shown",
    "CreateEvaluation.files": "test_files_stay_with_their_items",
    "CreateEvaluation.metadata": "test_changes_archive_and_restore",
    "CreateEvaluation.name": "test_an_evaluation_is_a_run",
    "CreateEvaluation.skip_prefilled_rows": "test_nobody_is_left_out_who_would_be_asked",
    "CreateEvaluation.tags": "test_what_is_said_of_a_thing_is_shown",
    "CreateEvaluation.tasks": "test_an_evaluation_is_a_run",
    "CreateEvaluation.taxonomy_params": "test_what_scale_documents_is_taken",
    "CreateItems.dataset_id": "test_files_stay_with_their_items",
    "CreateItems.files": "test_files_stay_with_their_items",
    "DryRun.configuration": "test_what_is_no_such_function_is_refused",
    "DryRun.sample_data": "test_no_name_outlives_a_call",
    "DryRun.task_type": "test_it_is_refused_where_it_is_not_enabled",
    "Export.evaluation_id": "test_exports",
    "Export.export_format": "test_exports",
    "Export.export_method": "test_exports",
    "Export.include_archived": "test_an_archived_evaluation_is_exported_where_that_is_asked",
    "Filters.filters": "test_changes_archive_and_restore",
    "UpdateDataset.description": "test_what_is_said_of_a_thing_is_shown",
    "UpdateDataset.name": "test_what_is_said_of_a_thing_is_shown",
    "UpdateDataset.restore": "test_datasets_keep_their_versions",
    "UpdateDataset.tags": "test_what_is_said_of_a_thing_is_shown",
    "UpdateEvaluation.description": "test_what_is_said_of_a_thing_is_shown",
    "UpdateEvaluation.metadata": "test_changes_archive_and_restore",
    "UpdateEvaluation.name": "test_what_is_said_of_a_thing_is_shown",
    "UpdateEvaluation.restore": "test_changes_archive_and_restore",
    "UpdateEvaluation.tags": "test_what_is_said_of_a_thing_is_shown",
    "UpdateItem.data": "test_files_stay_with_their_items",
    "UpdateItem.files": "test_files_stay_with_their_items",
    "UpdateQuestion.name": "test_a_question_is_kept_renamed_archived_and_restored",
    "CreateQuestion": "test_a_judge_answers_what_the_question_allows",
}


running = running_service(models=", '*': {endpoint: local}")


def test_each_field_has_a_test() -> None:
    models: list[type[BaseModel]] = [one.body for one in OPERATIONS.values() if one.body is not None]
    named = {
        model.__name__ if "root" in model.model_fields else f"{model.__name__}.{name}"
        for model in models
        for name in model.model_fields
    }
    assert named == FIELDS.keys()
    written = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in FIELDS.values() if f"def {name}(" not in written] == []


@pytest.mark.long
@pytest.mark.skipif(not DOCUMENTED, reason="the documented bodies are not at hand")
@pytest.mark.parametrize("path", DOCUMENTED, ids=lambda path: path.stem)
def test_a_documented_body_gets_the_documented_answer(running: Running, path: Path, tmp_path: Path) -> None:
    said = json.loads(path.read_text())
    (tmp_path / "body.json").write_text(json.dumps(said["request"]))
    words = ["curl", "-sS", "-w", "\n%{http_code}", f"{running.url}/v5/evaluations", "-H", "x-api-key: k"]
    words += ["-H", "Content-Type: application/json", "-d", f"@{tmp_path / 'body.json'}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    answer, _, status = done.stdout.rpartition("\n")
    assert status == "200", answer
    made = json.loads(answer)
    assert list(_missing(said["response"], made)) == []
    ended = running.ended(made["id"])
    assert list(_missing(said["response"], ended)) == []
    assert len(ended["tasks"]) == len(said["response"]["tasks"])
    assert running.items(made["id"])[0]["task_result_statuses"] is not None


def _missing(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Yield the keys that an answer lacks; what may be null, and empty lists, have none."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name, value in wanted.items():
            yield from _missing(value, found[name], f"{path}.{name}") if name in found else [f"{path}.{name}"]
    elif isinstance(wanted, list) and isinstance(found, list) and found:
        yield from _missing(wanted[0], found[0], f"{path}[0]")


def test_what_is_said_of_a_thing_is_shown(running: Running) -> None:
    before: dict[str, Any] = {"name": "a", "description": "b", "tags": ["c"]}
    after: dict[str, Any] = {"name": "d", "description": None, "tags": ["e", "f"]}
    for kind in ("evaluations", "datasets"):
        status, made = running.ask("POST", f"/v5/{kind}", {**before, "data": [{"q": 1}]})
        assert (status, {name: made[name] for name in before}) == (200, before)
        path = f"/v5/{kind}/{made['id']}"
        status, changed = running.ask("PATCH", path, after)
        assert (status, {name: changed[name] for name in after}) == (200, after)
        status, said = running.ask("PATCH", path, {"restore": True, "name": "x"})
        what = "Value error, `restore` cannot be combined with other fields; leave out name"
        assert (status, said["detail"][0]["msg"]) == (422, what)
        assert running.ask("GET", path)[1]["name"] == "d"


def test_files_stay_with_their_items(running: Running) -> None:
    _, made = running.ask("POST", "/v5/datasets", {"name": "d", "data": [{"q": 1}, {"q": 2}], "files": [{"f": "a"}, None]})
    batch = {"dataset_id": made["id"], "data": [{"q": 3}], "files": [{"f": "c"}]}
    assert running.ask("POST", "/v5/dataset-items/batch", batch)[1]["items"][0]["files"] == {"f": "c"}
    first, second, _ = running.ask("GET", f"/v5/dataset-items?dataset_id={made['id']}")[1]["items"]
    for item, body, files in ((first, {}, {"f": "a"}), (second, {"files": {"f": "b"}}, {"f": "b"})):
        _, changed = running.ask("PATCH", f"/v5/dataset-items/{item['id']}", {"data": {"q": 9}, **body})
        assert (changed["data"], changed["files"]) == ({"q": 9}, files)
    _, of_dataset = running.ask("POST", "/v5/evaluations", {"name": "n", "dataset_id": made["id"]})
    assert [item["files"] for item in running.items(of_dataset["id"])] == [{"f": "a"}, {"f": "b"}, {"f": "c"}]
    of_its_own = running.create([{"q": 1}], files=[{"f": "own"}])
    assert running.items(of_its_own["id"])[0]["files"] == {"f": "own"}


def test_an_evaluation_makes_a_dataset_of_the_keys_that_it_names(running: Running) -> None:
    new = {"name": "made", "keys": ["q"], "tags": ["t"], "description": "d"}
    made = running.create([{"q": 1, "a": 2}, {"a": 3}], dataset=new)
    (dataset,) = made["datasets"]
    assert {name: dataset[name] for name in ("name", "tags", "description")} == {
        "name": "made",
        "tags": ["t"],
        "description": "d",
    }
    items = running.ask("GET", f"/v5/dataset-items?dataset_id={dataset['id']}")[1]["items"]
    assert [item["data"] for item in items] == [{"q": 1}, {}]
    assert [item["data"] for item in running.items(made["id"])] == [{"q": 1, "a": 2}, {"a": 3}]
    status, said = running.ask(
        "POST", "/v5/evaluations", {"name": "n", "data": [{}], "dataset": new, "dataset_id": dataset["id"]}
    )
    assert (status, "leave one of them out" in said["detail"][0]["msg"]) == (422, True)


@pytest.mark.parametrize("skips", [True, False, None])
def test_nobody_is_left_out_who_would_be_asked(running: Running, skips: bool | None) -> None:
    made = running.create([{"q": "x"}, {"q": "y"}], chat(), skip_prefilled_rows=skips)
    assert running.ended(made["id"])["progress"]["items"]["successful"] == 2
    assert running.ask("POST", "/v5/evaluations", {"name": "n", "data": [{}], "skip_prefilled_rows": 7})[0] == 422
    people = {"task_type": "contributor_evaluation.question", "configuration": {"prefill_from": "q"}}
    assert running.ask("POST", "/v5/evaluations", {"name": "n", "data": [{}], "tasks": [people]})[0] == 501


def test_an_archived_evaluation_is_exported_where_that_is_asked(running: Running) -> None:
    made = running.create([{"q": "x"}])
    running.ask("DELETE", f"/v5/evaluations/{made['id']}")
    path, body = "/v5/evaluation-items/export", {"evaluation_id": made["id"]}
    assert running.ask("POST", path, body)[0] == 404
    assert running.ask("POST", path, {**body, "include_archived": True})[0] == 200


def judge(**args: Any) -> dict[str, Any]:
    configuration = {"model": "m", "prompt": "{{item.q}}", "choices": ["a", "b"], "inference_args": args}
    return {"task_type": "auto_evaluation.guided_decoding", "configuration": configuration}


def inference(**more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "item.q"}]
    return {"task_type": "inference", "configuration": {"model": "m", "args": {"messages": messages}, **more}}


#: What a server may be told by which it would ask another model, or answer otherwise than it is read.
OTHERWISE: dict[str, Any] = {
    "extra_body": {"model": "x"},
    "models": ["x"],
    "fallbacks": ["x"],
    "stream": True,
    "stream_options": {},
}


@pytest.mark.parametrize(
    ("task", "place"),
    [
        *((chat(**{name: value}), [name]) for name, value in OTHERWISE.items()),
        *((judge(**{name: value}), ["inference_args", name]) for name, value in OTHERWISE.items()),
        *((judge(**{name: "x"}), ["inference_args", name]) for name in ("model", "messages", "prompt", "choices", "n")),
        *((inference(args={"prompt": "x", name: value}), ["args", name]) for name, value in OTHERWISE.items()),
        (inference(inference_configuration={"num_retries": 3}), ["inference_configuration"]),
    ],
)
def test_no_request_asks_another_model_or_otherwise(running: Running, task: dict[str, Any], place: list[str]) -> None:
    status, said = running.ask("POST", "/v5/evaluations", {"name": "n", "data": [{"q": "x"}], "tasks": [task]})
    assert (status, said["detail"][0]["loc"]) == (422, ["body", "tasks", 0, "configuration", *place]), said


def test_where_and_how_it_runs_is_no_part_of_a_body(running: Running) -> None:
    elsewhere = {"base_url": "http://127.0.0.1:1/v1", "headers": {"x-evil": "1"}}
    said = {"endpoint": elsewhere, "endpoints": {"e": elsewhere}, "output": "/nowhere", "limits": {"concurrency": 999}}
    task = {**chat(), **said, "endpoint": "e", "samples": 50, "run_condition": {"op": "const", "value": False}}
    before = len(running.echo.seen)
    made = running.create([{"q": "x"}], task, **said, cache={"path": "/nowhere"}, id="eval_of_mine", created_by="somebody")
    assert running.ended(made["id"])["progress"]["items"]["successful"] == 1
    assert (len(running.echo.seen), made["created_by"]["id"]) == (before + 1, "local")
    assert "x-evil" not in running.echo.seen[-1].headers
    written = (running.path / "out" / made["id"] / "config.yaml").read_text()
    assert not any(word in written for word in ("127.0.0.1:1/", "nowhere", "999", "x-evil", "samples"))


def test_more_parameters_of_a_judge_are_sent_on(running: Running) -> None:
    made = running.create([{"q": "x"}], judge(temperature=0.5, top_k=3, min_p=0.1, chat_template_kwargs={"thinking": False}))
    running.ended(made["id"])
    sent = running.echo.seen[-1].body
    assert [sent[name] for name in ("model", "temperature", "top_k", "min_p")] == ["m", 0.5, 3, 0.1]
    assert sent["chat_template_kwargs"] == {"thinking": False}
    assert "extra_body" not in sent


def test_errors_are_asked_again_and_what_is_archived_ends(tmp_path: Path) -> None:
    may_answer, begun = threading.Event(), threading.Event()

    async def answers(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text = body["messages"][0]["content"]
        if text == "bad" and not may_answer.is_set():
            return web.json_response({"error": {"message": "no"}}, status=400)
        begun.set()
        if text == "slow":
            await asyncio.to_thread(may_answer.wait, 10)
        return web.json_response(chat_answer(text))

    with Served(answers) as endpoint, Running(tmp_path / "s", endpoint) as service:
        made = service.create([{"q": "good"}, {"q": "bad"}], chat())
        assert service.ended(made["id"])["error_count"] == 1
        begun.clear()
        slow = service.create([{"q": "slow"}] * 20, chat())
        assert begun.wait(10)
        assert service.ask("DELETE", f"/v5/evaluations/{slow['id']}")[0] == 200
        may_answer.set()
        ended = service.ended(slow["id"])
        assert (ended["status"], ended["status_reason"]) == ("failed", "archived while it ran")
        assert service.ask("POST", f"/runner/evaluations/{made['id']}/retry-errors")[0] == 200
        ended = service.ended(made["id"])
        assert (ended["status"], ended["error_count"], len(endpoint.seen)) == ("completed", 0, 3 + 8)
        assert service.ask("GET", "/v5/datasets", x_api_key="", Authorization="Bearer k")[0] == 200
        service.service.supervisor.draining = True
        assert (service.ask("GET", "/v5/datasets")[0], service.headers["Retry-After"]) == (503, "5")


def test_a_torn_line_is_cut_off_and_spoils_no_later_one(tmp_path: Path) -> None:
    path = tmp_path / "changes.jsonl"
    append(path, [b'{"name":"one"}'])
    with path.open("ab") as file:
        file.write(b'{"na')
    assert lines_of(path) == [b'{"name":"one"}']
    append(path, [b'{"name":"two"}'])
    assert lines_of(path) == [b'{"name":"one"}', b'{"name":"two"}']
