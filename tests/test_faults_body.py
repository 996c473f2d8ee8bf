"""The fault matrix, bodies: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import runner
from tests.misbehaving import Misbehaving
from tests.trials import SHORT, TROUBLED, Ran, assert_failed, assert_retried, assert_stopped, outputs, trial, tries

OK = {"row-0": "ok", "row-1": "re: fine 1", "row-2": "ok", "row-3": "re: fine 3"}


def once(folder: Path, fault: str, *words: str) -> dict[str, Any]:
    """Assert that a fault is worth one more attempt and no second one; return the error row that it then is."""
    with Misbehaving() as endpoint:
        assert_retried(trial(folder / "once", endpoint.at(f"{fault}:1")), "invalid_response", *words)
        error = assert_failed(trial(folder / "ever", endpoint.at(fault)), "invalid_response", *words, attempts=2)
    assert error["status_code"] in {None, 200}
    return error


def answered(folder: Path, fault: str) -> Ran:
    """Return a run in which the fault is an answer like any other."""
    with Misbehaving() as endpoint:
        ran = trial(folder / fault, endpoint.at(fault))
    assert ran.code == 0, ran.all_said
    assert endpoint.requests[fault] == 4
    assert runner.load(ran.project.run_dir).results["item_id"].nunique() == 4
    return ran


def test_fault_45_html_502(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        assert_retried(trial(tmp_path / "p", endpoint.at("html-502:1")), "server", "502", "Sign in · Gateway")


def test_fault_46_html_200(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        assert_stopped(trial(tmp_path / "first", endpoint.at("html-200"), rows=TROUBLED), "HTML page", "base_url")
        later = trial(tmp_path / "later", endpoint.at("html-200:1"))
    assert_retried(later, "invalid_response", "HTML page")


def test_fault_47_json_as_text(tmp_path: Path) -> None:
    assert outputs(answered(tmp_path, "text-plain"))["row-0"] == "plain"


def test_fault_48_error_in_200(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        assert_retried(trial(tmp_path / "rate", endpoint.at("error-200-rate:1")), "rate_limit", "slow down")
        assert_retried(trial(tmp_path / "server", endpoint.at("error-200-server:1")), "server", "503", "worker died")
        assert_failed(trial(tmp_path / "context", endpoint.at("error-200-context")), "context_length", "too long")
        assert_stopped(trial(tmp_path / "auth", endpoint.at("error-200-auth"), rows=TROUBLED), "no such key")


def test_fault_49_empty_body(tmp_path: Path) -> None:
    once(tmp_path, "empty", "empty_response")


def test_fault_50_truncated_json(tmp_path: Path) -> None:
    error = once(tmp_path, "truncated-json", "not JSON")
    assert error["response_body"].startswith('{"id": "chatcmpl-1"')


def test_fault_51_invalid_utf8(tmp_path: Path) -> None:
    assert outputs(answered(tmp_path, "bom"))["row-0"] == "after a BOM"
    assert outputs(answered(tmp_path, "surrogate"))["row-0"] == "half a pair \ufffd"
    for fault in ("bad-utf8", "stream-bad-utf8"):
        ran = answered(tmp_path, fault)
        assert outputs(ran)["row-0"] == "caf\ufffd"
        assert ran.said.count("text_repaired") == 1
        assert ran.project.evaluation["totals"]["text_repaired"] == 2
        assert " · 2 text repaired" in ran.out


@pytest.mark.parametrize("fault", ["nan", "huge-integers"])
def test_fault_52_nan_and_huge_numbers(tmp_path: Path, fault: str) -> None:
    ran = answered(tmp_path, fault)
    assert outputs(ran) == OK
    row = ran.results[0]
    if fault == "nan":
        assert json.loads(row["logprobs"])["content"][0]["token"] == "a"
    else:
        assert (row["prompt_tokens"], row["completion_tokens"]) == (None, None)
        assert str(10**40) in row["response"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no-choices", "empty_choices"),
        ("choices-missing", "empty_choices"),
        ("choices-null", "empty_choices"),
        ("choice-without-message", "without message or text"),
    ],
)
def test_fault_53_no_choices(tmp_path: Path, fault: str, words: str) -> None:
    once(tmp_path, fault, words)


@pytest.mark.parametrize(
    ("fault", "column"),
    [("null-content", None), ("tool-calls", "tool_calls"), ("refusal", "refusal"), ("reasoning-only", "reasoning")],
)
def test_fault_54_no_content_but_more(tmp_path: Path, fault: str, column: str | None) -> None:
    row = answered(tmp_path, fault).results[0]
    assert row["output"] is None
    assert '"content":null' in row["response"].replace(" ", "")
    if column is not None:
        assert row[column]


def test_fault_55_finish_reason_length(tmp_path: Path) -> None:
    ran = answered(tmp_path, "length")
    assert (ran.results[0]["finish_reason"], ran.results[0]["output"]) == ("length", "half a sen")
    assert "2 truncated" in ran.out


def test_fault_56_content_filter(tmp_path: Path) -> None:
    row = answered(tmp_path, "filtered").results[0]
    assert (row["finish_reason"], row["output"]) == ("content_filter", "some of")
    with Misbehaving() as endpoint:
        assert_failed(trial(tmp_path / "p", endpoint.at("400-filter")), "content_filter", "filtered")


@pytest.mark.parametrize("fault", ["usage-missing", "usage-negative", "usage-words"])
def test_fault_57_usage_unusable(tmp_path: Path, fault: str) -> None:
    ran = answered(tmp_path, fault)
    assert [ran.results[0][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")] == [None] * 3
    assert "2 without usage" in ran.out


def test_fault_58_wrong_model_or_choices(tmp_path: Path) -> None:
    ran = answered(tmp_path, "other-model")
    assert ran.results[0]["response_model"] == "another-model"
    assert ran.said.count("'another-model' answers") == 1
    ran = answered(tmp_path, "two-choices")
    assert ran.results[0]["output"] == "answer 0"
    assert len(json.loads(ran.results[0]["choices"])) == 2
    assert ran.said.count("1 choices were asked for, 2 came") == 1


def too_large(folder: Path, fault: str) -> None:
    """Assert that what is too large costs one row each and little memory; what Python takes is counted, the server's too."""
    tracemalloc.start()
    try:
        with Misbehaving() as endpoint:
            ran = trial(folder / fault, endpoint.at(fault), limits={"concurrency": 1})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_failed(ran, "invalid_response", "response_too_large")
    assert endpoint.requests[fault] == 4
    assert peak < 120 << 20


def test_fault_59_huge_body(tmp_path: Path) -> None:
    too_large(tmp_path, "huge-body")


@pytest.mark.parametrize("fault", ["gzip-bomb", "deflate-bomb"])
def test_fault_60_gzip_bomb(tmp_path: Path, fault: str) -> None:
    too_large(tmp_path, fault)


@pytest.mark.parametrize("fault", ["bad-gzip", "cut-gzip"])
def test_fault_61_bad_gzip(tmp_path: Path, fault: str) -> None:
    once(tmp_path, fault, "broke off or is damaged")


@pytest.mark.parametrize("fault", ["short-body", "reset-body"])
def test_fault_62_short_body(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        assert_retried(trial(tmp_path / "p", endpoint.at(f"{fault}:1")), "invalid_response", "broke off", billed=True)


@pytest.mark.parametrize("fault", ["whole-body-cut", "whole-body-reset", "whole-body-hangs"])
def test_fault_153_whole_answer_without_an_end(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(fault), endpoint={"timeout": SHORT})
    assert (outputs(ran)["row-0"], tries(ran)) == ("whole", [])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("length-too-small", ""),
        ("length-twice", "does not speak HTTP"),
        ("bad-status", "does not speak HTTP"),
        ("long-header", "does not speak HTTP"),
        ("many-headers", "does not speak HTTP"),
        ("ssh", "does not speak HTTP"),
    ],
)
def test_fault_63_broken_http(tmp_path: Path, fault: str, words: str) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(f"{fault}:1"))
    assert_retried(ran, "invalid_response", words)


def test_fault_64_half_headers(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        assert_retried(trial(tmp_path / "p", endpoint.at("half-headers:1")), "connect", "before an answer came", billed=True)
