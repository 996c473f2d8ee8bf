"""What a 200 says must be read right: leniently where providers differ, strictly where it could be mistaken for an answer."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.endpoint.answers.fast import read_usual
from runner.endpoint.answers.responses import invalid, read_response
from runner.errors import AttemptError
from runner.types import ErrorType, Request, Response, Usage
from tests.plain_requests import request

CHAT, TEXT = request(), request(chat=False)


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def chat(message: Any = None, /, *, choice: dict[str, Any] | None = None, **more: Any) -> bytes:
    """Return a chat completion with one choice."""
    message = {"role": "assistant", "content": "ok"} if message is None else message
    return encoded({"choices": [{"index": 0, "message": message, **(choice or {})}], **more})


def fields(response: Response, names: Any) -> dict[str, Any]:
    return {name: getattr(response, name) for name in names}


TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
TOOL_CALL_TEXT = '[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\\"x\\":1}"}}]'

ANSWERS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "plain": (
        chat(choice={"finish_reason": "stop"}, id="r1", model="m-2026", system_fingerprint="fp"),
        {
            "output": "ok",
            "finish_reason": "stop",
            "response_id": "r1",
            "response_model": "m-2026",
            "system_fingerprint": "fp",
            "choices": None,
            "logprobs": None,
            "tool_calls": None,
            "reasoning": None,
            "refusal": None,
            "ttft_s": None,
        },
    ),
    "nothing but the choice": (chat(), {"output": "ok", "finish_reason": None, "response_id": None, "response_model": None}),
    "empty text": (chat({"content": ""}, choice={"finish_reason": "length"}), {"output": "", "finish_reason": "length"}),
    "filtered with a flag": (chat(choice={"finish_reason": "content_filter"}), {"finish_reason": "content_filter"}),
    "null with tool calls": (
        chat({"content": None, "tool_calls": [TOOL_CALL]}),
        {"output": None, "tool_calls": TOOL_CALL_TEXT},
    ),
    "text beside tool calls": (
        chat({"content": "hm", "tool_calls": [TOOL_CALL]}),
        {"output": "hm", "tool_calls": TOOL_CALL_TEXT},
    ),
    "no tool calls": (chat({"content": "ok", "tool_calls": []}), {"tool_calls": None}),
    "legacy function call": (
        chat({"content": None, "function_call": {"name": "f", "arguments": "{}"}}),
        {"output": None, "tool_calls": '[{"type":"function","function":{"name":"f","arguments":"{}"}}]'},
    ),
    "tool calls go before the legacy call": (
        chat({"content": None, "tool_calls": [TOOL_CALL], "function_call": {"name": "g"}}),
        {"tool_calls": TOOL_CALL_TEXT},
    ),
    "null with a refusal": (chat({"content": None, "refusal": "I won't."}), {"output": None, "refusal": "I won't."}),
    "null with reasoning": (chat({"content": None, "reasoning": "hm"}), {"output": None, "reasoning": "hm"}),
    "reasoning by its other name": (chat({"content": "a", "reasoning_content": "hm"}), {"output": "a", "reasoning": "hm"}),
    "reasoning under both names": (
        chat({"content": "a", "reasoning_content": "hm", "reasoning": "hm"}),
        {"reasoning": "hm"},
    ),
    "parts": (
        chat({"content": [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]}),
        {"output": "ab"},
    ),
    "parts that are text": (chat({"content": ["a", {"text": "b"}, 7, None]}), {"output": "ab"}),
    "no parts": (chat({"content": []}), {"output": ""}),
    "thoughts among the parts": (
        chat({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "let me think"}]}, {"text": "B"}]}),
        {"output": "B", "reasoning": "let me think"},
    ),
    "thoughts of several kinds": (
        chat(
            {
                "content": [
                    {"type": "thinking", "thinking": "one, ", "signature": "x"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "reasoning", "text": "two, ", "summary": []},
                    {"type": "thinking", "thinking": {"type": "text", "text": "and a half, "}},
                    {"type": "text", "text": "B"},
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "three"}]},
                    {"type": "text", "text": "C"},
                ]
            }
        ),
        {"output": "BC", "reasoning": "one, two, and a half, three"},
    ),
    "nothing but thoughts": (
        chat({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
        {"output": None, "reasoning": "hm"},
    ),
    "thoughts that stand beside the content too": (
        chat({"content": [{"type": "thinking", "thinking": "hm"}, {"text": "B"}], "reasoning": "hm"}),
        {"output": "B", "reasoning": "hm"},
    ),
    "reasoning in parts": (
        chat({"content": "B", "reasoning_content": [{"type": "thinking", "thinking": "h"}, {"type": "text", "text": "m"}]}),
        {"output": "B", "reasoning": "hm"},
    ),
    "content that is an object": (chat({"content": {"a": 1}}), {"output": '{"a":1}'}),
    "content that is a number": (chat({"content": 4}), {"output": "4"}),
    "text beside the message": (chat(choice={"text": "not this"}), {"output": "ok"}),
    "names that are numbers": (chat(id=7, model=8, system_fingerprint=9), {"response_id": None, "response_model": None}),
    "logprobs": (
        chat(choice={"logprobs": {"content": [{"token": "ok", "logprob": -0.1}]}}),
        {"logprobs": '{"content":[{"token":"ok","logprob":-0.1}]}'},
    ),
    "NaN and infinity in logprobs": (
        b'{"choices":[{"message":{"content":"ok"},"logprobs":{"content":[NaN,Infinity,-Infinity,1e999]}}]}',
        {"output": "ok", "logprobs": '{"content":[null,null,null,null]}'},
    ),
    "empty logprobs": (chat(choice={"logprobs": {}}), {"logprobs": None}),
    "a seed beyond int64": (chat(choice={"seed": 14150443913665712000}), {"output": "ok"}),
    "a number of 400 digits": (chat(choice={"seed": int("9" * 400)}), {"output": "ok"}),
    "lone surrogates": (
        b'{"choices":[{"message":{"content":"a\\ud800b","reasoning":"\\udfff","\\ud801":1}}],"id":"\\ud802"}',
        {"output": "a\ufffdb", "reasoning": "\ufffd", "response_id": "\ufffd"},
    ),
    "a pair of surrogates": (b'{"choices":[{"message":{"content":"\\ud83d\\ude00"}}]}', {"output": "😀"}),
    "byte-order mark": (b"\xef\xbb\xbf" + chat(), {"output": "ok"}),
    "white space around": (b"\r\n\n " + chat() + b"\n", {"output": "ok"}),
    "invalid UTF-8": (b'{"choices":[{"message":{"content":"a\xffb"}}]}', {"output": "a\ufffdb"}),
    "a NUL": (b'{"choices":[{"message":{"content":"a\\u0000b"}}]}', {"output": "a\x00b"}),
    "error that is null": (chat(error=None), {"output": "ok"}),
    "error that is empty": (chat(error={}), {"output": "ok"}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_right(name: str) -> None:
    body, expected = ANSWERS[name]
    response = read_response(body, CHAT)
    assert fields(response, expected) == expected
    assert response.body == body.decode("utf-8", "replace")


def test_text_completions() -> None:
    body = encoded({"choices": [{"index": 0, "text": " Paris", "logprobs": None, "finish_reason": "length"}], "id": "c"})
    response = read_response(body, TEXT)
    assert (response.output, response.finish_reason, response.response_id) == (" Paris", "length", "c")


@pytest.mark.parametrize(
    ("asked", "choice", "output"),
    [
        (CHAT, {"message": {"content": "m"}, "text": "t"}, "m"),
        (TEXT, {"message": {"content": "m"}, "text": "t"}, "t"),
        # Text is taken as the answer of a chat; a message does not continue a prompt.
        (CHAT, {"text": "t"}, "t"),
        (TEXT, {"message": {"content": "m"}}, None),
        (CHAT, {"message": None, "text": "t"}, "t"),
        (TEXT, {"text": ""}, ""),
    ],
)
def test_the_answer_is_where_it_was_asked_for(asked: Request, choice: dict[str, Any], output: str | None) -> None:
    assert read_response(encoded({"choices": [choice]}), asked).output == output


def test_several_choices_are_kept_in_the_order_of_their_indexes() -> None:
    choices = [{"index": index, "message": {"content": str(index)}, "seed": 10**30} for index in (2, 0, 1)]
    response = read_response(encoded({"choices": choices}), request(choices=3))
    assert response.output == "0"
    assert response.choices is not None
    assert [choice["index"] for choice in json.loads(response.choices)] == [0, 1, 2]
    assert json.loads(response.choices)[0]["seed"] == 10**30


@pytest.mark.parametrize(("wanted", "sent", "kept"), [(1, 1, False), (2, 1, True), (1, 2, True), (2, 2, True)])
def test_all_choices_are_kept_where_more_than_one_was_asked_for_or_came(wanted: int, sent: int, kept: bool) -> None:
    body = encoded({"choices": [{"message": {"content": "a"}}] * sent})
    assert (read_response(body, request(choices=wanted)).choices is not None) == kept


def test_indexes_that_are_none_do_not_disturb() -> None:
    choices = [{"index": index, "message": {"content": str(index)}} for index in (None, "7", 0, 1.5, True)]
    assert read_response(encoded({"choices": choices}), CHAT).output == "None"


NONE = Usage()


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5),
        ),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)),
        # Without a total it is the sum, where both parts are known.
        ({"prompt_tokens": 3, "completion_tokens": 2}, Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)),
        (
            {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": None},
            Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5),
        ),
        ({"prompt_tokens": 3}, Usage(prompt_tokens=3)),
        # Whole numbers are numbers, however they are written.
        (
            {"prompt_tokens": 3.0, "completion_tokens": 2.0, "total_tokens": 5.0},
            Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5),
        ),
        (
            {
                "prompt_tokens": 3e1,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 4.0},
                "completion_tokens_details": {"reasoning_tokens": 1.0},
            },
            Usage(prompt_tokens=30, completion_tokens=2, total_tokens=32, reasoning_tokens=1, cached_tokens=4),
        ),
        (
            {"completion_tokens_details": {"reasoning_tokens": 7}, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(reasoning_tokens=7, cached_tokens=4),
        ),
        # Together says it at the top; elsewhere the details are null, or hold nulls.
        ({"cached_tokens": 4}, Usage(cached_tokens=4)),
        ({"prompt_tokens_details": None, "completion_tokens_details": None}, NONE),
        ({"prompt_tokens_details": {"cached_tokens": None}, "completion_tokens_details": {}}, NONE),
        ({"prompt_tokens_details": [], "completion_tokens_details": "x"}, NONE),
        # What is no count is unknown, and never 0.
        ({"prompt_tokens": -1, "completion_tokens": -5}, NONE),
        ({"prompt_tokens": "3", "total_tokens": ""}, NONE),
        ({"prompt_tokens": True, "total_tokens": 2.5}, NONE),
        ({"prompt_tokens": None}, NONE),
        ({"prompt_tokens": 2**63 - 1, "total_tokens": 2**63}, Usage(prompt_tokens=2**63 - 1)),
        ({"prompt_tokens": 10**30}, NONE),
        ({}, NONE),
        (None, NONE),
        ("many", NONE),
        ([1], NONE),
    ],
)
def test_usage(usage: Any, expected: Usage) -> None:
    assert read_response(chat(usage=usage), CHAT).usage == expected


def test_without_usage_it_is_unknown() -> None:
    assert read_response(chat(), CHAT).usage == NONE


# --- what is no answer ---

PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the server sent an empty body"),
        (b"  \n", "the server sent a body that is not JSON"),
        (b"ok", "the server sent a body that is not JSON"),
        (chat()[:-5], "the server sent a body that is not JSON"),
        (chat() + chat(), "the server sent a body that is not JSON"),
        (b"\x00\xff\xfe", "the server sent a body that is not JSON"),
        (b"[" * 100_000, "the server sent a body that is not JSON (nested too deeply)"),
        (b"null", "the server sent a JSON NoneType where an object belongs"),
        (b"[]", "the server sent a JSON list where an object belongs"),
        (b'"ok"', "the server sent a JSON str where an object belongs"),
        (b"{}", "the server sent no choices (it sent an empty object)"),
        (b'{"id":"x","object":"y"}', "the server sent no choices (it sent id, object)"),
        (b'{"choices":[]}', "the server sent no choices (it sent choices)"),
        (b'{"choices":null}', "the server sent no choices"),
        (b'{"choices":{"message":{"content":"a"}}}', "the server sent no choices"),
        (b'{"choices":[null]}', "the server sent a choice without message or text"),
        (b'{"choices":[{}]}', "the server sent a choice without message or text"),
        (b'{"choices":["a"]}', "the server sent a choice without message or text"),
        (b'{"choices":[{"message":null}]}', "the server sent a choice without message or text"),
        (b'{"choices":[{"message":"a"}]}', "the server sent a choice without message or text"),
        (b'{"choices":[{"text":{"a":1}}]}', "the server sent a choice without message or text"),
        (b'{"choices":[{"text":null}]}', "the server sent a choice without message or text"),
        (b'{"choices":[{"delta":{"content":"a"}}]}', "the server sent a choice without message or text"),
        (b'{"choices":[{"message":{"content":"a"}},{}]}', "the server sent a choice without message or text"),
    ],
)
def test_what_is_no_answer_is_asked_again(body: bytes, message: str) -> None:
    with pytest.raises(AttemptError) as raised:
        read_response(body, CHAT)
    failure = raised.value.failure
    assert failure.error_type is ErrorType.INVALID_RESPONSE
    assert failure.message.startswith(message)
    assert failure.status_code == 200
    assert (failure.response_body or "") == body[:4096].decode("utf-8", "replace")
    assert raised.value.retry
    assert raised.value.stops_run is None


@pytest.mark.parametrize("body", [PAGE, b"\n\n  " + PAGE, b"<html>please log in"])
def test_a_page_instead_of_json_is_a_wrong_address_until_something_succeeded(body: bytes) -> None:
    """A gateway's login page has status 200; asking 3,000 rows for it would make 3,000 errors."""
    with pytest.raises(AttemptError, match="HTML") as raised:
        read_response(body, CHAT)
    assert raised.value.failure.error_type is ErrorType.INVALID_RESPONSE
    assert (raised.value.retry, raised.value.stops_run) == (True, "first")


FINAL, RETRIED, STOPS_FIRST, STOPS_ALWAYS = (False, None), (True, None), (False, "first"), (False, "always")


@pytest.mark.parametrize(
    ("error", "kind", "then", "message"),
    [
        # The status that it stands for, under any name.
        ({"message": "m", "code": 429}, ErrorType.RATE_LIMIT, RETRIED, "429 Too Many Requests: m"),
        ({"message": "m", "code": "503"}, ErrorType.SERVER, RETRIED, "503 Service Unavailable: m"),
        ({"message": "m", "status": 400}, ErrorType.REQUEST, FINAL, "400 Bad Request: m"),
        ({"message": "m", "status_code": 401}, ErrorType.AUTH, STOPS_FIRST, "401 Unauthorized: m"),
        ({"message": "Insufficient credits", "code": 402}, ErrorType.QUOTA, STOPS_ALWAYS, "402 Payment Required: *"),
        # Or the word.
        ({"message": "m", "code": "insufficient_quota"}, ErrorType.QUOTA, STOPS_ALWAYS, "429 Too Many Requests: m"),
        ({"message": "m", "code": "rate_limit_exceeded"}, ErrorType.RATE_LIMIT, RETRIED, "429 Too Many Requests: m"),
        ({"message": "m", "type": "rate_limit_error"}, ErrorType.RATE_LIMIT, RETRIED, "429 Too Many Requests: m"),
        ({"message": "m", "code": "invalid_api_key"}, ErrorType.AUTH, STOPS_FIRST, "401 Unauthorized: m"),
        ({"message": "m", "type": "authentication_error"}, ErrorType.AUTH, STOPS_FIRST, "401 Unauthorized: m"),
        ({"message": "m", "code": "model_not_found"}, ErrorType.AUTH, STOPS_FIRST, "404 Not Found: m"),
        ({"message": "m", "type": "server_error"}, ErrorType.SERVER, RETRIED, "500 Internal Server Error: m"),
        ({"message": "m", "type": "overloaded_error"}, ErrorType.SERVER, RETRIED, "503 Service Unavailable: m"),
        ({"message": "m", "type": "invalid_request_error"}, ErrorType.REQUEST, FINAL, "400 Bad Request: m"),
        (
            {"message": "m", "type": "invalid_request_error", "code": "context_length_exceeded"},
            ErrorType.CONTEXT_LENGTH,
            FINAL,
            "400 Bad Request: m",
        ),
        ({"message": "m", "code": "content_filter"}, ErrorType.CONTENT_FILTER, FINAL, "400 Bad Request: m"),
        # Neither: it is asked again.
        ({"message": "m"}, ErrorType.INVALID_RESPONSE, RETRIED, "200 OK: m"),
        ({"message": "m", "code": 200}, ErrorType.INVALID_RESPONSE, RETRIED, "200 OK: m"),
        ({"message": "m", "code": True}, ErrorType.INVALID_RESPONSE, RETRIED, "200 OK: m"),
        ({"message": "m", "code": "9" * 5000}, ErrorType.INVALID_RESPONSE, RETRIED, "200 OK: m"),
        ({"message": "m", "code": ["503"]}, ErrorType.INVALID_RESPONSE, RETRIED, "200 OK: m"),
        ("m", ErrorType.INVALID_RESPONSE, RETRIED, "200 OK: m"),
    ],
)
def test_an_error_inside_a_200_is_what_it_says(error: Any, kind: ErrorType, then: Any, message: str) -> None:
    # The choices beside it are no answer: partial text must never look like one.
    with pytest.raises(AttemptError) as raised:
        read_response(chat(error=error), CHAT)
    assert raised.value.failure.error_type is kind
    assert (raised.value.retry, raised.value.stops_run) == then
    assert raised.value.failure.message.startswith(message.rstrip("*"))


GOOGLES = {
    "code": 400,
    "message": "API key not valid. Please pass a valid API key.",
    "status": "INVALID_ARGUMENT",
    "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}],
}


@pytest.mark.parametrize("body", [encoded([{"error": GOOGLES}]), encoded({"error": GOOGLES})])
def test_an_error_in_a_list_is_one_too(body: bytes) -> None:
    with pytest.raises(AttemptError, match="400 Bad Request: API key not valid") as raised:
        read_response(body, CHAT)
    assert raised.value.failure.error_type is ErrorType.AUTH
    assert (raised.value.retry, raised.value.stops_run) == STOPS_FIRST


@pytest.mark.parametrize("error", [True, 1, ["overloaded"]])
def test_an_error_of_whatever_type_is_one(error: Any) -> None:
    with pytest.raises(AttemptError, match="200 OK: the model died"):
        read_response(chat(error=error, message="the model died"), CHAT)


# --- a choice that failed ---

TIMED_OUT = {"code": 502, "message": "Upstream idle timeout"}
GOOD_CHOICE = {"index": 0, "message": {"content": "good"}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("choice", "kind", "then", "message"),
    [
        # As a gateway says it whose provider failed.
        ({"finish_reason": "error", "error": TIMED_OUT}, ErrorType.SERVER, RETRIED, "502 Bad Gateway: Upstream idle timeout"),
        # One of the two is enough, whatever else there is.
        ({"finish_reason": "stop", "error": TIMED_OUT}, ErrorType.SERVER, RETRIED, "502 Bad Gateway: Upstream idle timeout"),
        ({"error": TIMED_OUT, "message": None}, ErrorType.SERVER, RETRIED, "502 Bad Gateway: Upstream idle timeout"),
        ({"finish_reason": "error"}, ErrorType.SERVER, RETRIED, "500 Internal Server Error: its finish reason is “error”"),
        ({"finish_reason": "ABORT"}, ErrorType.SERVER, RETRIED, "500 Internal Server Error: its finish reason is “ABORT”"),
        *(
            (
                {"finish_reason": reason},
                ErrorType.SERVER,
                RETRIED,
                f"500 Internal Server Error: its finish reason is “{reason}”",
            )
            for reason in ("cancelled", "insufficient_system_resource", "network_error")
        ),
        ({"error": "it died"}, ErrorType.SERVER, RETRIED, "500 Internal Server Error: it died"),
        ({"error": {"message": "slow down", "code": 429}}, ErrorType.RATE_LIMIT, RETRIED, "429 Too Many Requests: slow down"),
        ({"error": {"message": "no", "code": "content_filter"}}, ErrorType.CONTENT_FILTER, FINAL, "400 Bad Request: no"),
    ],
)
def test_a_choice_that_failed_is_no_answer(choice: dict[str, Any], kind: ErrorType, then: Any, message: str) -> None:
    failed = {"index": 1, "message": {"content": "half an ans"}} | choice
    for choices, asked in (([failed], CHAT), ([GOOD_CHOICE, failed], request(choices=2)), ([failed | {"text": "ha"}], TEXT)):
        with pytest.raises(AttemptError) as raised:
            read_response(encoded({"choices": choices}), asked)
        failure = raised.value.failure
        assert failure.error_type is kind
        assert (raised.value.retry, raised.value.stops_run) == then
        assert failure.message == f"a choice ended with an error: {message}; it may have been billed"
        assert "half an ans" in (failure.response_body or "") or choice.get("message", "") is None


def test_what_the_model_has_said_before_an_error_is_no_wish_of_the_servers() -> None:
    choice = {"message": {"content": "Try again in 2 hours, says the error insufficient_quota."}, "finish_reason": "error"}
    for body in (encoded({"choices": [choice]}), encoded({"choices": [choice], "error": {"message": "m", "code": 429}})):
        with pytest.raises(AttemptError) as raised:
            read_response(body, CHAT)
        assert raised.value.failure.retry_after_s is None
        assert raised.value.failure.error_type is not ErrorType.QUOTA


@pytest.mark.parametrize("error", [None, {}, "", False, [], {"code": None, "message": None}, {"code": 0, "message": ""}])
def test_an_error_that_says_nothing_is_none(error: Any) -> None:
    assert read_response(chat(choice={"error": error}), CHAT).output == "ok"
    assert read_response(chat(error=error), CHAT).output == "ok"


def test_a_flat_error_inside_a_200() -> None:
    with pytest.raises(AttemptError, match="500 Internal Server Error: m"):
        read_response(encoded({"object": "error", "message": "m", "code": 500}), CHAT)


def test_of_a_long_body_the_start_is_kept() -> None:
    failure = invalid("m", b"x" * 100_000).failure
    assert failure.response_body == "x" * 4096
    assert invalid("m").failure.response_body is None


# --- whatever a server sends ---

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NAMES = st.sampled_from(
    [
        *("choices", "message", "content", "text", "index", "error", "usage", "tool_calls", "function_call", "logprobs"),
        *("prompt_tokens", "prompt_tokens_details", "completion_tokens_details", "code", "object", "type", "id", "reasoning"),
    ]
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=15
)
MESSAGES = st.dictionaries(NAMES, JSON, max_size=5)
COMPLETIONS = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"message": MESSAGES}, optional={"index": JSON, "logprobs": JSON}), max_size=3)},
    optional={"usage": st.dictionaries(NAMES, JSON), "error": JSON, "id": JSON},
)


THOUGHTS_IN_THOUGHTS = (
    b'{"choices":[{"message":{"content":' + b'[{"type":"thinking","thinking":' * 400 + b"1" + b"}]" * 400 + b"}}]}"
)


@given(st.binary(max_size=100) | (JSON | COMPLETIONS).map(encoded), st.booleans(), st.integers(1, 2))
@example(THOUGHTS_IN_THOUGHTS, True, 1)
@example(b'{"choices":[{"message":{"content":' + b"[" * 900 + b"]" * 900 + b"}}]}", True, 2)
def test_nothing_that_a_server_sends_is_a_crash(body: bytes, asked_chat: bool, wanted: int) -> None:
    try:
        response = read_response(body, request(chat=asked_chat, choices=wanted))
    except AttemptError as error:
        error.failure.message.encode()
        return
    for name in ("output", "reasoning", "refusal", "tool_calls", "finish_reason", "choices", "logprobs", "response_id", "body"):
        value = getattr(response, name)
        assert value is None or isinstance(value, str)
        (value or "").encode()
    for name in ("tool_calls", "choices", "logprobs"):
        json.loads(getattr(response, name) or "null")
    for count in (response.usage.prompt_tokens, response.usage.cached_tokens, response.usage.reasoning_tokens):
        assert count is None or 0 <= count < 2**63


# --- the usual answer, which is decoded by its type ---

USUAL: dict[str, Any] = {
    "id": "r1",
    "object": "chat.completion",
    "model": "m-2026",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "ok", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 1},
    },
    "system_fingerprint": "fp",
}
PLACES = st.sampled_from(
    [
        *([name] for name in (*USUAL, "error")),
        *(["choices", 0, name] for name in ("index", "message", "logprobs", "finish_reason", "text", "error")),
        *(
            ["choices", 0, "message", name]
            for name in ("content", "refusal", "reasoning", "reasoning_content", "tool_calls", "function_call")
        ),
        *(["usage", name] for name in (*USUAL["usage"], "cached_tokens")),
        ["usage", "prompt_tokens_details", "cached_tokens"],
        ["usage", "completion_tokens_details", "reasoning_tokens"],
    ]
)
VALUES = JSON | st.sampled_from([-1, 0, 2**63, 7.0, True, "", "error", [], {}, [TOOL_CALL], ["\ud800"], "other"])


def with_value(value: Any, path: list[Any], member: Any) -> Any:
    """Return a copy with another member in one place, which is left as it is where there is no such place any more."""
    if not path:
        return member
    if not isinstance(value, dict if isinstance(path[0], str) else list) or (isinstance(value, list) and not value):
        return value
    copy = value.copy()
    copy[path[0]] = with_value(value.get(path[0]) if isinstance(value, dict) else value[path[0]], path[1:], member)
    return copy


def test_the_usual_answer_is_usual() -> None:
    assert read_usual(encoded(USUAL)) is not None


@pytest.mark.parametrize("path", [["usage", "prompt_tokens"], ["usage", "completion_tokens_details", "reasoning_tokens"]])
def test_counts_that_are_floats_are_usual_too(path: list[Any]) -> None:
    assert read_usual(encoded(with_value(USUAL, path, 5.0))) is not None


@given(st.lists(st.tuples(PLACES, VALUES), max_size=2), st.booleans())
@example([(["choices", 0, "finish_reason"], "error")], False)
@example([(["choices", 0, "finish_reason"], "Abort")], False)
@example([(["choices", 0, "error"], {"message": "no"})], False)
@example([(["choices", 0, "message", "reasoning"], "")], False)
@example([(["choices", 0, "message", "reasoning_content"], ""), (["choices", 0, "message", "reasoning"], "")], False)
@example([(["usage", "total_tokens"], None)], False)
@example([(["usage", "prompt_tokens"], 7.0), (["usage", "total_tokens"], 2.5)], False)
@example([(["usage", "prompt_tokens"], 1e300)], False)
@example([(["usage", "prompt_tokens"], -1)], False)
@example([(["error"], {"message": "no"})], False)
@example([(["choices", 0, "message", "tool_calls"], [TOOL_CALL])], False)
@example([(["choices", 0, "message", "function_call"], {"name": "f", "arguments": "{}"})], False)
def test_the_usual_answer_is_read_to_the_same_end_as_any_other(changes: list[tuple[list[Any], Any]], damaged: bool) -> None:
    value = USUAL
    for path, member in changes:
        value = with_value(value, path, member)
    body = encoded(value)
    if damaged:
        body = body.replace(b"ok", b"o\xff")
    usual = read_usual(body)
    with patch("runner.endpoint.answers.responses.read_usual", lambda _body: None):
        if usual is not None:
            assert usual == read_response(body, CHAT)


def test_a_number_that_nobody_looks_at_does_not_spoil_an_answer() -> None:
    body = encoded(USUAL).replace(b'{"id"', b'{"extra": %b, "id"' % (b"9" * 5000), 1)
    assert read_response(body, CHAT).output == "ok"
