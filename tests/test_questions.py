"""Questions that the service keeps, and judges that answer them: what may be answered is what the question has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.service import Running, chat, running_service
from tests.serving import Served, chat_answer

RATING = {"question_type": "rating", "configuration": {"min_label": "bad", "max_label": "good", "steps": 5}}
KINDS: dict[str, tuple[dict[str, Any], Any, dict[str, Any] | None]] = {
    "one": ({"question_type": "categorical", "configuration": {"choices": ["Yes", "No"]}}, "Yes", None),
    "many": (
        {"question_type": "categorical", "configuration": {"choices": ["a", "b", "c"], "multi": True}},
        ["a", "c"],
        {"type": "array", "items": {"type": "string", "enum": ["a", "b", "c"]}, "uniqueItems": True},
    ),
    "rating": (RATING, 4, {"type": "integer", "minimum": 1, "maximum": 5}),
    "number": (
        {"question_type": "number", "configuration": {"min": 0, "max": 1}},
        0.5,
        {"type": "number", "minimum": 0.0, "maximum": 1.0},
    ),
    "any": ({"question_type": "number"}, -3, {"type": "number"}),
    "text": ({"question_type": "free_text", "configuration": {"max_length": 9}}, "[1, 2]", {"type": "string", "maxLength": 9}),
}


running = running_service()


def make(service: Running, said: dict[str, Any], prompt: str = "Is it good?") -> dict[str, Any]:
    status, made = service.ask("POST", "/v5/questions", {"name": "q", "prompt": prompt, **said})
    assert status == 200, made
    return dict(made)


def judge(question_id: Any, alias: str = "v", **more: Any) -> dict[str, Any]:
    configuration = {"model": "v/m", "prompt": "{{item.q}}?", "question_id": question_id, **more}
    return {"task_type": "auto_evaluation.question", "alias": alias, "configuration": configuration}


def test_a_question_is_kept_renamed_archived_and_restored(tmp_path: Path) -> None:
    with Running(tmp_path / "s") as service:
        first, second = make(service, RATING), make(service, {"question_type": "form", "configuration": {"form_schema": {}}})
        path = f"/v5/questions/{first['id']}"
        assert (first["object"], first["configuration"]["steps"], first["archived_at"]) == ("question", 5, None)
        assert service.ask("PATCH", path, {"name": "other"})[1]["name"] == "other"
        assert service.ask("PATCH", path, {})[0] == 422
        assert service.ask("DELETE", path)[1]["archived_at"] is not None
        assert service.ask("PATCH", path, {"name": "x"})[0] == 400
        assert (
            service.ask("POST", "/v5/evaluations", {"name": "n", "data": [{"q": 1}], "tasks": [judge(first["id"])]})[0] == 422
        )
        listed = service.ask("GET", "/v5/questions")[1]
        assert ([one["id"] for one in listed["items"]], listed["total"]) == ([second["id"]], 1)
        assert service.ask("GET", "/v5/questions?include_archived=true&sort_by=name&sort_order=desc")[1]["total"] == 2
        assert service.ask("GET", path, x_selected_account_id="another")[0] == 404
    with (tmp_path / "s" / "out" / "questions" / "questions.jsonl").open("ab") as file:
        file.write(b'{"id": "torn')
    with Running(tmp_path / "s") as service:
        assert service.ask("GET", path)[1]["name"] == "other"
        assert service.ask("POST", f"{path}/restore")[1]["archived_at"] is None
        third = make(service, RATING)
        assert service.ask("GET", f"/v5/questions?ids={first['id']},{third['id']}")[1]["total"] == 2
    with Running(tmp_path / "s") as service:
        assert service.ask("GET", "/v5/questions")[1]["total"] == 3


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"question_type": "categorical", "configuration": {"choices": []}}, ["categorical", "configuration", "choices"]),
        ({"question_type": "rating", "configuration": {"steps": 5, "min_label": ""}}, ["rating", "configuration", "max_label"]),
        ({"question_type": "other"}, []),
        ({"question_type": "number", "name": ""}, ["number", "name"]),
    ],
)
def test_a_question_without_sense_is_refused(running: Running, said: dict[str, Any], place: list[str]) -> None:
    status, found = running.ask("POST", "/v5/questions", {"name": "q", "prompt": "p", **said})
    assert (status, [one["loc"] for one in found["detail"]]) == (422, [["body", *place]])


@pytest.mark.long
def test_a_judge_answers_what_the_question_allows(tmp_path: Path) -> None:
    async def answers(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        kind = body["messages"][0]["content"].split("\n")[0]
        said = body["messages"][-1]["content"] if kind not in KINDS else json.dumps(_whole(body, KINDS[kind][1]))
        return web.json_response(chat_answer(said if "bad" not in body["messages"][-1]["content"] else '{"answer": 99}'))

    with Served(answers) as endpoint, Running(tmp_path / "s", endpoint) as service:
        ids = {name: make(service, said, name)["id"] for name, (said, _, _) in KINDS.items()}
        tasks = [judge(question_id, name) for name, question_id in ids.items()]
        made = service.create([{"q": "good"}, {"q": "bad"}], *tasks, chat("{{item.rating}} of {{item.many}}", "after"))
        ended = service.ended(made["id"])
        good, bad = service.items(made["id"])
        sent = {seen.body["messages"][0]["content"].split("\n")[0]: seen.body for seen in endpoint.seen}
        assert sent["rating"]["messages"][0]["content"] == "rating\n\n1 means: bad; 5 means: good"
        status, added = service.ask("POST", f"/v5/evaluations/{made['id']}/tasks", {"task": judge(ids["rating"], "again")})
        assert status == 200, added
        service.ended(made["id"])
        assert service.items(made["id"])[0]["data"]["again"] == KINDS["rating"][1]
    assert ended["tasks"][0] == tasks[0]
    assert good["data"] == {"q": "good", **{name: value for name, (_, value, _) in KINDS.items()}, "after": '4 of ["a","c"]'}
    assert {"one", "many", "rating", "number", "text"} <= bad["task_errors"].keys()
    assert bad["task_errors"]["rating"]["type"] == "no_verdict"
    for name, (_, _, schema) in KINDS.items():
        form = sent[name]["response_format"]["json_schema"]["schema"]["properties"]
        assert schema is None or form == {"answer": schema}
        assert [one["role"] for one in sent[name]["messages"]] == ["system", "user"]


def _whole(body: dict[str, Any], value: Any) -> dict[str, Any]:
    (member,) = body["response_format"]["json_schema"]["schema"]["properties"]
    return {member: value}


def test_only_what_judges_can_answer_is_asked(running: Running) -> None:
    body: dict[str, Any] = {"name": "n", "data": [{"q": "x"}]}
    for kind, configuration in (("form", {"form_schema": {}}), ("timestamp", {"multi": True})):
        made = make(running, {"question_type": kind, "configuration": configuration})
        status, said = running.ask("POST", "/v5/evaluations", {**body, "tasks": [judge(made["id"])]})
        assert (status, kind in said["detail"]) == (501, True)
    shown_when = make(running, {**RATING, "conditions": [{"foo": "bar"}]})
    status, said = running.ask("POST", "/v5/evaluations", {**body, "tasks": [judge(shown_when["id"])]})
    assert (status, "a question with conditions" in said["detail"]) == (501, True)
    hostile = make(running, RATING, "{% for x in range(9) %}")
    place = ["body", "tasks", 0, "configuration", "question_id"]
    for question_id in (hostile["id"], "question_nope", None):
        status, said = running.ask("POST", "/v5/evaluations", {**body, "tasks": [judge(question_id)]})
        assert (status, said["detail"][0]["loc"]) == (422, place)
