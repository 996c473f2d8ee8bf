"""How the service reads bodies: a large one apart, as it reads a small one; and what would hold it up is refused unread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.foreign.bodies import has_more_values, places
from runner.service.api import reading
from tests.service import Running, chat, running_service

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
MIB = 1 << 20


running = running_service()


@given(st.lists(JSON, max_size=5), st.dictionaries(st.text(max_size=4), JSON, max_size=3), st.sampled_from([None, 1]))
def test_the_places_of_rows_are_those_of_their_bytes(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], more: dict[str, Any], indent: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "body"
    body = {**more, "data": rows}
    path.write_text(json.dumps(body, indent=indent))
    found = places(str(path), (10, MIB, 1000))
    assert json.loads(found["said"]) == {name: value for name, value in body.items() if name != "data"}
    assert found["count"] == len(rows)
    numbers = memoryview(Path(f"{path}.places").read_bytes()).cast("Q")
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    assert [json.loads(path.read_bytes()[start:end]) for start, end in pairs] == rows


@given(JSON)
def test_values_are_counted_but_not_what_texts_hold(value: Any) -> None:
    def count(one: Any) -> int:
        members = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        return (isinstance(one, dict | list)) + max(0, len(members) - 1) + sum(map(count, members))

    text = json.dumps(value, ensure_ascii=False).encode()
    assert [has_more_values(text, most) for most in (count(value) - 1, count(value))] == [True, False]


def test_a_large_body_is_read_as_a_small_one(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"q": f"ä {number}\n", "n": [number, {"x": None}]} for number in range(50)]
    body = json.dumps({"name": "n", "data": rows, "description": "d" * 1000}, indent=1).encode()
    made = []
    for largest in (MIB, 1000):  # the second one goes to another process
        monkeypatch.setattr(reading, "_LARGE", largest)
        status, one = running.ask("POST", "/v5/evaluations", body)
        assert (status, one["description"]) == (200, "d" * 1000)
        made.append([item["data"] for item in running.items(one["id"])])
    assert made == [rows, rows]
    _, dataset = running.ask("POST", "/v5/datasets", body)
    item = running.ask("GET", f"/v5/dataset-items?dataset_id={dataset['id']}")[1]["items"][7]
    assert item["data"] == rows[7]
    changed = {"data": {"q": "x" * 2000}}
    assert running.ask("PATCH", f"/v5/dataset-items/{item['id']}", changed)[1]["data"] == changed["data"]
    torn = b'{"name": "\xff", "data": [{}]}' + b" " * 2000
    for wrong, kind in ((torn, "json_invalid"), (b"[]" + b" " * 2000, "dict_type"), (b"{" + b" " * 2000, "json_invalid")):
        assert running.ask("POST", "/v5/evaluations", wrong)[1]["detail"][0]["type"] == kind
    for data, kind in ((7, "list_type"), ([], "too_short")):
        wrong = json.dumps({"name": "n" * 2000, "data": data}).encode()
        assert running.ask("POST", "/v5/evaluations", wrong)[1]["detail"][0]["type"] == kind


MANY: list[Any] = [[]] * 60_000


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v5/evaluations", {"name": "n", "data": [{}], "metadata": {"a": MANY}}, 413),
        ("POST", "/v5/evaluations", {"name": "n", "data": [{"a": MANY}]}, 422),
        ("POST", "/v5/evaluations", {"name": "n", "data": [{}], "description": "x" * MIB}, 413),
        ("POST", "/v5/evaluations", {"name": "n", "data": [{"q": 1}], "tasks": [chat("{{item.q}}" * 1001)]}, 422),
        ("POST", "/v5/evaluations", {"name": "n", "data": [{str(number): 1 for number in range(1001)}]}, 422),
        ("POST", "/v5/evaluations/filter", {"filters": MANY}, 413),
        ("POST", "/v5/datasets", {"name": "n", "data": [{"a": MANY}]}, 422),
        ("POST", "/v5/chat/completions", {"model": "m", "messages": MANY}, 413),
        ("POST", "/v5/questions", {"name": "n", "prompt": "x" * MIB}, 413),
    ],
)
def test_what_would_hold_everybody_up_is_refused(running: Running, method: str, path: str, body: Any, status: int) -> None:
    found, said = running.ask(method, path, body)
    assert found == status, said
    assert "allowed" in str(said) or "may have" in str(said) or "more than" in str(said)


def test_a_text_may_hold_what_values_are_counted_by(running: Running) -> None:
    rows = [{"q": ",[{" * 50_000}]
    made = running.create(rows)
    assert running.items(made["id"])[0]["data"] == rows[0]
