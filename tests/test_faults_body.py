"""The fault matrix, bodies: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from aiohttp import web

import runner
from tests.commands import ask, questions
from tests.encoders import ENCODERS
from tests.misbehaving import Misbehaving
from tests.reliability.canary import places_of
from tests.serving import Served
from tests.trials import (
    SHORT,
    TROUBLED,
    Ran,
    assert_failed,
    assert_retried,
    assert_stopped,
    config_of,
    outputs,
    run,
    trial,
    tries,
)

STREAMED = [ask(stream=True)]
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


@pytest.mark.long
def test_fault_46_html_200(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        assert_stopped(trial(tmp_path / "first", endpoint.at("html-200"), rows=TROUBLED), "HTML page", "base_url")
        later = trial(tmp_path / "later", endpoint.at("html-200:1"))
    assert_retried(later, "invalid_response", "HTML page")


def test_fault_47_json_as_text(tmp_path: Path) -> None:
    assert outputs(answered(tmp_path, "text-plain"))["row-0"] == "plain"


@pytest.mark.long
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
    assert ran.said.count("1 choices were requested, 2 came") == 1


def too_large(folder: Path, fault: str) -> None:
    """Assert that what is too large costs one row each and little memory; what Python takes is counted, the server's too."""
    tracemalloc.start()
    try:
        with Misbehaving() as endpoint, patch("runner.endpoint.client.LARGEST_BODY", 8 << 20):
            ran = trial(folder / fault, endpoint.at(fault), limits={"concurrency": 1})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_failed(ran, "invalid_response", "response_too_large")
    assert endpoint.requests[fault] == 4
    assert peak < 40 << 20


def test_fault_59_huge_body(tmp_path: Path) -> None:
    too_large(tmp_path, "huge-body")


@pytest.mark.parametrize("fault", ["gzip-bomb", "deflate-bomb"])
def test_fault_60_gzip_bomb(tmp_path: Path, fault: str) -> None:
    too_large(tmp_path, fault)


@pytest.mark.parametrize(("fault", "words"), [("bad-gzip", "broke off or is damaged"), ("cut-gzip", "is not JSON")])
def test_fault_61_bad_gzip(tmp_path: Path, fault: str, words: str) -> None:
    once(tmp_path, fault, words)


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


def test_fault_110_usage_in_parts(tmp_path: Path) -> None:
    limits = {"max_tokens": 5000, "concurrency": 2}
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("usage-in-parts"), rows=questions(40), limits=limits)
        assert_stopped(ran, "tokens are used of 5000; raise limits.max_tokens")
        assert 5 <= endpoint.requests["usage-in-parts"] <= 5 + 2
        assert run(ran.project, "--resume").code == 3
        assert endpoint.requests["usage-in-parts"] <= 5 + 2
    row = ran.results[0]
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (500, 500, 1000)
    assert "estimated" not in ran.said


def test_fault_111_usage_never_said(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = trial(
            tmp_path / "p", endpoint.at("usage-missing"), rows=questions(40), limits={"max_tokens": 300, "concurrency": 1}
        )
        assert_stopped(ran, "tokens are used of 300")
        asked = endpoint.requests["usage-missing"]
        assert 5 < asked < 20
        assert ran.said.count("for limits.max_tokens they are estimated") == 1
        resumed = run(ran.project, "--resume")
        assert endpoint.requests["usage-missing"] == asked
    for summary in (ran.out, resumed.out):
        assert "0 prompt · 0 completion · about 3" in summary
        used = ran.project.evaluation["totals"]["tokens"]["estimated_tokens"]
        assert f"{used} tokens are used of 300" in summary
    assert {row["total_tokens"] for row in ran.results} == {None}


@pytest.mark.parametrize(
    ("whole", "stream", "words"),
    [
        ("choice-error", "stream-choice-error", "502 Bad Gateway: Upstream idle timeout"),
        ("choice-error-stop", "stream-choice-error-stop", "502 Bad Gateway: Upstream idle timeout"),
        ("choice-error-bare", "stream-choice-error-bare", "its finish reason is “error”"),
    ],
)
def test_fault_112_choice_with_error(tmp_path: Path, whole: str, stream: str, words: str) -> None:
    with Misbehaving() as endpoint:
        for fault, tasks in ((whole, [ask()]), (stream, STREAMED)):
            ran = trial(tmp_path / fault, endpoint.at(f"{fault}:1"), tasks=tasks)
            assert_retried(ran, "server", "a choice ended with an error", words, billed=True)
            assert not any("half an answer" in row["response"] for row in ran.results)


@pytest.mark.parametrize(("fault", "tasks"), [("thinking", [ask()]), ("stream-thinking", STREAMED)])
def test_fault_113_thoughts_in_content(tmp_path: Path, fault: str, tasks: list[Any]) -> None:
    with Misbehaving() as endpoint:
        row = trial(tmp_path / "p", endpoint.at(fault), tasks=tasks).results[0]
    assert (row["output"], row["reasoning"]) == ("B", "let me think")


async def echo_as_strangers_do(request: web.Request, body: Any) -> web.StreamResponse:
    """Refuse with all that came, each row written in another way."""
    name = sorted(ENCODERS)[int(body["messages"][-1]["content"].split()[1])]
    written = ENCODERS[name]("\n".join([str(request.url), *(f"{key}: {value}" for key, value in request.headers.items())]))
    if name.startswith(("HTML", "NUL", "a byte")):
        return web.Response(status=400, content_type="text/html", text=f"<html><title>{written}</title>{written}</html>")
    return web.Response(status=400, content_type="application/json", text=f'{{"error":{{"message":"no: {written}"}}}}')


def test_fault_130_key_in_escapes(tmp_path: Path) -> None:
    results = tmp_path / "p" / "results"
    key, header, query = 'sk-CANARY/7f3a+9e1c==&x?"0123456789', "hdr-CANARY<5b2d>'8c4f1a", "qry-CANARY-0123456789abcdef"
    with Served(echo_as_strangers_do) as endpoint:
        ran = run(
            config_of(
                tmp_path / "p", endpoint.url, rows=questions(len(ENCODERS)), limits={"give_up_after": 3, "max_attempts": 1},
                endpoint={
                    "base_url": f"{endpoint.url}?code=${{QUERY}}", "headers": {"X-Custom": "v1;${HEADER}"},
                    "record": str(results / "recordings.jsonl"),
                },
                environment={"OPENAI_API_KEY": key, "HEADER": header, "QUERY": query},
            )
        )  # fmt: skip
    assert len(ran.errors) == len(ENCODERS), ran.all_said
    assert list(places_of([key, header, query], results, ran.all_said)) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_key_in_utf_16_is_not_kept(tmp_path: Path, encoding: str) -> None:
    async def refuse(request: web.Request, _body: Any) -> web.StreamResponse:
        said = f'{{"error": {{"message": "wrong: {request.headers["Authorization"]}"}}}}'
        return web.Response(status=400, body=said.encode(encoding), content_type="application/json")

    key = "sk-CANARY-0123456789abcdef"
    with Served(refuse) as endpoint:
        ran = trial(tmp_path / "p", endpoint.url, rows=TROUBLED[:1], environment={"OPENAI_API_KEY": key})
    assert len(ran.errors) == 1, ran.all_said
    assert list(places_of([key], tmp_path / "p" / "results", ran.all_said)) == []
