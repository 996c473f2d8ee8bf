"""The fault matrix, HTTP status: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.commands import ask, questions
from tests.misbehaving import Misbehaving
from tests.trials import ROWS, TROUBLED, assert_failed, assert_retried, assert_stopped, outputs, trial, tries


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("400", "request", "temperature must be below 2"),
        ("400-long", "request", "xxx"),
        ("400-context", "context_length", "maximum context length"),
    ],
)
def test_fault_31_bad_request(tmp_path: Path, fault: str, kind: str, words: str) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(fault))
    error = assert_failed(ran, kind, "400 Bad Request", words)
    assert error["status_code"] == 400
    assert words in error["response_body"]
    assert len(error["response_body"]) <= 4096
    assert endpoint.requests[fault] == 4


@pytest.mark.parametrize("fault", ["401", "403", "401@8"])
def test_fault_32_unauthorized(tmp_path: Path, fault: str) -> None:
    rows = questions(40)
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(fault), rows=rows)
    assert_stopped(ran, f"{fault[:3]} ")
    answered = 8 if "@" in fault else 0
    assert len(ran.results) == answered
    assert endpoint.requests[fault] <= answered + 24


@pytest.mark.parametrize(("fault", "words"), [("404-model", "The model `m` does not exist"), ("404-path", "404 Not Found")])
def test_fault_33_not_found(tmp_path: Path, fault: str, words: str) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(fault), rows=questions(40))
    assert_stopped(ran, words)
    assert endpoint.requests[fault] <= 24


@pytest.mark.parametrize("fault", ["402", "429-quota", "402@8", "429-quota@8"])
def test_fault_34_quota_used_up(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(fault), rows=questions(40))
    answered = 8 if "@" in fault else 0
    assert_stopped(ran, fault[:3])
    assert len(ran.results) == answered
    assert endpoint.requests[fault] <= answered + 4


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "wait_s"),
    [
        ("429", None),
        ("429-seconds", 1.0),
        ("429-ms", 0.7),
        ("429-date", 2.0),
        ("429-reset", 0.9),
        ("429-message", 0.8),
        ("429-negative", None),
        ("429-garbage", None),
    ],
)
def test_fault_35_retry_after_in_all_forms(tmp_path: Path, fault: str, wait_s: float | None) -> None:
    path = f"{fault}:1"
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(path), rows=TROUBLED[:1])
        assert ran.code == 0, ran.all_said
        first, second = endpoint.times[path]
    assert [one["error_type"] for one in tries(ran)] == ["rate_limit"]
    if wait_s is not None:
        assert wait_s <= second - first < wait_s + 5


@pytest.mark.long
@pytest.mark.parametrize("fault", ["429-1e9", "429-reset-long"])
def test_a_long_wish_is_waited_for_and_can_be_stopped(tmp_path: Path, fault: str) -> None:
    """Nobody asks again before the time, no row is lost to it, and the run still ends when its own time is over."""
    with Misbehaving() as endpoint:
        began = time.monotonic()
        ran = trial(tmp_path / "p", endpoint.at(fault), rows=questions(40), limits={"max_wall_time": 1.5})
        assert time.monotonic() - began < 15
    assert_stopped(ran, "limits.max_wall_time")
    assert endpoint.requests[fault] <= 8  # those that were sent before the first answer came


@pytest.mark.long
def test_fault_36_storm_of_429(tmp_path: Path) -> None:
    rows = questions(120)
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("storm"), rows=rows, limits={"concurrency": 40, "max_row_time": 50})
    assert (ran.code, len(ran.results), ran.errors) == (0, 120, [])
    refused = [one for one in tries(ran) if one["error_type"] == "rate_limit"]
    assert len(refused) == endpoint.requests["storm"] - 120
    assert len(refused) <= 80  # two waves at most: those that were in flight when the bucket ran dry


def test_fault_155_refusal_cut(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "later", endpoint.at("429-cut:1"))
        assert ran.code == 0, ran.all_said
        assert {one["error_type"] for one in tries(ran)} == {"rate_limit"}
        ran = trial(tmp_path / "first", endpoint.at("401-cut"), rows=questions(60))
        assert_stopped(ran, "401 Unauthorized")
        assert endpoint.requests["401-cut"] <= 24


@pytest.mark.parametrize("fault", ["408", "409", "425"])
def test_fault_37_conflict_and_too_early(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(f"{fault}:1"))
    assert_retried(ran, "server", fault)


@pytest.mark.parametrize("fault", ["413", "422", "451"])
def test_fault_38_refused_for_good(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(fault))
    assert_failed(ran, "request", fault)
    assert endpoint.requests[fault] == 4


@pytest.mark.parametrize("fault", ["500", "502", "503", "504", "529"])
def test_fault_39_server_errors(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(f"{fault}:1"))
    assert_retried(ran, "server", fault)


@pytest.mark.parametrize("fault", ["501", "505"])
def test_fault_40_not_implemented(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        assert_stopped(trial(tmp_path / "first", endpoint.at(fault), rows=TROUBLED), fault)
        later = trial(tmp_path / "later", endpoint.at(f"{fault}@1"), limits={"concurrency": 1}, rows=TROUBLED)
    assert later.code == 1
    assert [row["error_type"] for row in later.errors] == ["server"] * 3


def redirects(folder: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        first = trial(folder / "first", endpoint.at(fault), rows=TROUBLED)
        later = trial(folder / "later", endpoint.at(f"{fault}@1"), limits={"concurrency": 1}, rows=TROUBLED)
    assert_stopped(first, fault, "http://elsewhere.invalid/v1/chat/completions")
    assert later.code == 1
    assert [row["error_type"] for row in later.errors] == ["request"] * 3
    assert "CANARY" not in first.all_said + later.all_said + str(later.errors)


@pytest.mark.parametrize("fault", ["301", "302"])
def test_fault_41_redirect(tmp_path: Path, fault: str) -> None:
    redirects(tmp_path, fault)


@pytest.mark.parametrize("fault", ["307", "308"])
def test_fault_42_redirect_loop(tmp_path: Path, fault: str) -> None:
    redirects(tmp_path, fault)


@pytest.mark.parametrize("fault", ["204", "206", "101"])
def test_fault_43_status_without_content(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        assert_retried(trial(tmp_path / "once", endpoint.at(f"{fault}:1")), "invalid_response", fault)
        assert_failed(trial(tmp_path / "ever", endpoint.at(fault)), "invalid_response", fault, attempts=2)
        hinted = trial(tmp_path / "hint", endpoint.at("103-then-200"))
    assert outputs(hinted)["row-0"] == "ok"


def test_fault_152_other_success(tmp_path: Path) -> None:
    rows = [{"id": f"{status}", "question": f"status {status}"} for status in (201, 202, 203, 206, 226, 299)]
    tasks = [ask("whole"), ask("streamed", stream=True)]
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("2xx"), rows=rows, tasks=tasks)
    assert (ran.code, tries(ran)) == (0, []), ran.all_said
    assert [row["output"] for row in ran.results] == [f"re: {row['question']}" for row in rows for _ in tasks]


def test_fault_44_x_should_retry(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        assert_retried(trial(tmp_path / "yes", endpoint.at("should-retry-true:1")), "request", "a hiccup")
        assert_failed(trial(tmp_path / "no", endpoint.at("should-retry-false")), "server", "it will not get better")
    assert endpoint.requests["should-retry-false"] == 4


def test_fault_114_key_refused_with_400(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("400-google-key"), rows=TROUBLED)
    assert_stopped(ran, "400 Bad Request: API key not valid")
    assert {one["error_type"] for one in tries(ran)} == {"auth"}


@pytest.mark.parametrize(("fault", "wait_s"), [("429-nested", 0.7), ("429-long", 1.0)])
def test_fault_115_wait_only_in_words(tmp_path: Path, fault: str, wait_s: float) -> None:
    path = f"{fault}:1"
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(path), rows=TROUBLED[:1])
        first, second = endpoint.times[path]
    assert ran.code == 0, ran.all_said
    assert wait_s <= second - first < wait_s + 5


@pytest.mark.long
def test_fault_116_prompt_in_refusal(tmp_path: Path) -> None:
    rows = [{"id": "row-0", "question": "explain insufficient_quota: You exceeded your current quota"}, *ROWS[1:2], *ROWS[3:]]
    with Misbehaving() as endpoint:
        busy = trial(tmp_path / "busy", endpoint.at("429-echo:1"), rows=rows)
        ran = trial(tmp_path / "p", endpoint.at("403-echo"), rows=rows)
    assert (busy.code, [one["error_type"] for one in tries(busy)]) == (0, ["rate_limit"])
    assert ran.code == 1, ran.all_said
    assert set(outputs(ran)) == {"row-1", "row-3"}
    assert (ran.error["error_type"], ran.error["status_code"]) == ("auth", 403)
