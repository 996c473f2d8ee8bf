"""What a server says when it does not answer must become the right kind of error, in the server's own words.

The bodies are those of real servers: OpenAI, vLLM (old and new), FastAPI, Azure, Bedrock, watsonx, Gemini, TGI, gateways.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.endpoint.answers.refusals import KEPT_BYTES, error_object, inner_refusal, refusal
from runner.endpoint.answers.retry_after import retry_after
from runner.errors import AttemptError
from runner.types import ErrorType

#: Whether another attempt follows, and whether it may be the whole run's trouble.
RETRIED = (True, None)
FINAL = (False, None)
STOPS_FIRST = (False, "first")
STOPS_ALWAYS = (False, "always")


@dataclass(frozen=True)
class Case:
    """A refusal and what must be made of it."""

    name: str
    status: int
    body: bytes
    kind: ErrorType
    then: tuple[bool, str | None]
    message: str
    headers: dict[str, str] = field(default_factory=dict)


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def openai(message: str, *, type_: str | None = "invalid_request_error", code: Any = None) -> bytes:
    return body({"error": {"message": message, "type": type_, "param": None, "code": code}})


def google(status: str, reason: str | None, *, as_list: bool = True) -> bytes:
    """Return an error as Google words it."""
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}]
    error = {"error": {"code": 400, "message": "no", "status": status, "details": details if reason else []}}
    return body([error] if as_list else error)


AUTH_MESSAGE = "Incorrect API key provided: sk-ab*****yz. You can find your API key at https://platform.openai.com."
QUOTA_MESSAGE = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, read "
    "the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)
#: An ordinary rate limit of OpenAI's, which names the billing page.
BILLING_RATE_MESSAGE = (
    "Rate limit reached for default-gpt-3.5-turbo in organization org-x on requests per min. Limit: 3 / min. Please add a "
    "payment method to your account to increase your rate limit. Visit https://platform.openai.com/account/billing to add one."
)
#: An ordinary rate limit of Gemini's, in the words that OpenAI has for a used-up quota.
GEMINI_RATE_MESSAGE = (
    "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: "
    "generativelanguage.googleapis.com/generate_content_paid_tier_input_token_count, limit: 1000000. Please retry in 33.8s."
)
AZURE_FILTER_MESSAGE = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
    "Please modify your prompt."
)
LONG_MESSAGE = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens."
VLLM_LONG_MESSAGE = (
    "You passed 894 input characters and requested 4096 output tokens. However, the model's context length is only 4096 tokens"
)
TGI_LONG_MESSAGE = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 and 256"
WATSONX_MESSAGE = "Model 'llama-3-3-70b-instruct' does not support function 'function_image_chat'"
PAGE = b"<!DOCTYPE html>\n<html><head>\n<title>\n  502 Bad\n Gateway</title></head><body><h1>nginx</h1></body></html>"
FASTAPI_ERRORS = [{"loc": ["body", "messages"], "msg": "field required", "type": "value_error.missing"}]

CASES = [
    # --- the caller's own fault ---
    Case("openai", 400, openai("Bad value."), ErrorType.REQUEST, FINAL, "400 Bad Request: Bad value."),
    Case(
        "vllm flat",
        400,
        body({"object": "error", "message": "no multimodal model", "type": "BadRequestError", "param": None, "code": 400}),
        ErrorType.REQUEST,
        FINAL,
        "400 Bad Request: no multimodal model",
    ),
    Case(
        "vllm nested", 400, openai("bad", type_="BadRequestError", code=400), ErrorType.REQUEST, FINAL, "400 Bad Request: bad"
    ),
    Case("fastapi string", 422, body({"detail": "bad model"}), ErrorType.REQUEST, FINAL, "422 Unprocessable *: bad model"),
    Case(
        "fastapi list",
        422,
        body({"detail": FASTAPI_ERRORS}),
        ErrorType.REQUEST,
        FINAL,
        '422 Unprocessable *: [{"loc":["body","messages"],"msg":"field required","type":"value_error.missing"}]',
    ),
    Case(
        "azure",
        400,
        body({"error": {"code": "BadRequest", "message": "The image url is not accessible.", "param": None, "type": None}}),
        ErrorType.REQUEST,
        FINAL,
        "400 Bad Request: The image url is not accessible.",
    ),
    Case(
        "bedrock, JSON inside the message",
        400,
        openai('{"error":{"code":"validation_error","message":"no image modality","type":"invalid_request_error"}}'),
        ErrorType.REQUEST,
        FINAL,
        "400 Bad Request: no image modality",
    ),
    Case(
        "watsonx, message inside and outside",
        400,
        body(
            {
                "message": f"400 {WATSONX_MESSAGE}",
                "status": 400,
                "error": {"message": WATSONX_MESSAGE, "type": "invalid_request_error", "code": "model_no_support"},
                "trace": "5bfc6f51",
            }
        ),
        ErrorType.REQUEST,
        FINAL,
        f"400 Bad Request: {WATSONX_MESSAGE}",
    ),
    Case("error is a string", 400, body({"error": "no such option"}), ErrorType.REQUEST, FINAL, "400 *: no such option"),
    Case("error without message", 400, body({"error": {"code": 7}}), ErrorType.REQUEST, FINAL, '400 *: {"code":7}'),
    Case("error null", 400, body({"error": None, "message": "bad"}), ErrorType.REQUEST, FINAL, "400 Bad Request: bad"),
    Case("JSON list", 400, body([{"error": {"message": "bad"}}]), ErrorType.REQUEST, FINAL, "400 Bad Request: bad"),
    Case("JSON list of text", 400, body(["bad"]), ErrorType.REQUEST, FINAL, '400 Bad Request: ["bad"]'),
    Case("JSON number", 400, b"7", ErrorType.REQUEST, FINAL, "400 Bad Request: 7"),
    Case("text", 400, b"  no\n  such  thing ", ErrorType.REQUEST, FINAL, "400 Bad Request: no such thing"),
    Case("empty", 400, b"", ErrorType.REQUEST, FINAL, "400 Bad Request"),
    Case("JSON cut short", 400, b'{"error": {"mess', ErrorType.REQUEST, FINAL, '400 Bad Request: {"error": {"mess'),
    Case("no UTF-8", 400, b"\xff\xfe", ErrorType.REQUEST, FINAL, "400 Bad Request: \ufffd\ufffd"),
    Case("lone surrogate", 400, b'{"error":{"message":"{\\ud800"}}', ErrorType.REQUEST, FINAL, "400 Bad Request: {\ufffd"),
    Case("too large", 413, b"", ErrorType.REQUEST, FINAL, "413 *"),
    Case("legal reasons", 451, b"", ErrorType.REQUEST, FINAL, "451 Unavailable For Legal Reasons"),
    # --- too long for the model ---
    Case(
        "openai, too long",
        400,
        openai(LONG_MESSAGE, code="context_length_exceeded"),
        ErrorType.CONTEXT_LENGTH,
        FINAL,
        f"400 Bad Request: {LONG_MESSAGE}",
    ),
    Case(
        "vllm, too long",
        400,
        openai(VLLM_LONG_MESSAGE, type_="BadRequestError", code=400),
        ErrorType.CONTEXT_LENGTH,
        FINAL,
        f"400 Bad Request: {VLLM_LONG_MESSAGE}",
    ),
    Case(
        "llama.cpp, too long",
        400,
        body({"error": {"code": 400, "message": "the request exceeds the slots", "type": "exceed_context_size_error"}}),
        ErrorType.CONTEXT_LENGTH,
        FINAL,
        "400 Bad Request: the request exceeds the slots",
    ),
    Case(
        "tgi, too long",
        422,
        body({"error": TGI_LONG_MESSAGE, "error_type": "validation"}),
        ErrorType.CONTEXT_LENGTH,
        FINAL,
        f"422 *: {TGI_LONG_MESSAGE}",
    ),
    Case(
        "max_tokens beyond the model's",
        400,
        openai("max_tokens is too large: 5000. This model supports at most 4096 completion tokens."),
        ErrorType.REQUEST,
        FINAL,
        "400 Bad Request: max_tokens is too large: 5000. *",
    ),
    # --- filtered ---
    Case(
        "azure, filtered",
        400,
        body({"error": {"message": AZURE_FILTER_MESSAGE, "type": None, "code": "content_filter", "status": 400}}),
        ErrorType.CONTENT_FILTER,
        FINAL,
        f"400 Bad Request: {AZURE_FILTER_MESSAGE}",
    ),
    Case(
        "openai, filtered",
        400,
        openai("Your request was rejected as a result of our safety system.", code="content_policy_violation"),
        ErrorType.CONTENT_FILTER,
        FINAL,
        "400 Bad Request: Your request was rejected as a result of our safety system.",
    ),
    Case(
        "filtered by a 403",
        403,
        openai("blocked", code="content_filter"),
        ErrorType.CONTENT_FILTER,
        FINAL,
        "403 Forbidden: blocked",
    ),
    # --- nobody may ---
    Case(
        "wrong key",
        401,
        openai(AUTH_MESSAGE, code="invalid_api_key"),
        ErrorType.AUTH,
        STOPS_FIRST,
        f"401 Unauthorized: {AUTH_MESSAGE}",
    ),
    Case("forbidden", 403, body({"detail": "no"}), ErrorType.AUTH, STOPS_FIRST, "403 Forbidden: no"),
    Case("wrong path", 404, body({"detail": "Not Found"}), ErrorType.AUTH, STOPS_FIRST, "404 Not Found: Not Found"),
    Case(
        "wrong model",
        404,
        openai("The model `gpt-9` does not exist", code="model_not_found"),
        ErrorType.AUTH,
        STOPS_FIRST,
        "404 Not Found: The model `gpt-9` does not exist",
    ),
    *(
        Case(
            f"Google, {reason or status_word}",
            status,
            google(status_word, reason, as_list=as_list),
            ErrorType.AUTH,
            STOPS_FIRST,
            f"{status} *: no",
        )
        for status, status_word, reason in [
            (400, "INVALID_ARGUMENT", "API_KEY_INVALID"),
            (400, "FAILED_PRECONDITION", "ACCESS_TOKEN_EXPIRED"),
            (403, "PERMISSION_DENIED", "API_KEY_SERVICE_BLOCKED"),
            (400, "UNAUTHENTICATED", None),
        ]
        for as_list in (True, False)
    ),
    Case(
        "Google, in older words",
        400,
        body({"error": {"code": 400, "message": "no", "errors": [{"domain": "usageLimits", "reason": "keyInvalid"}]}}),
        ErrorType.AUTH,
        STOPS_FIRST,
        "400 *: no",
    ),
    Case(
        "a 400 for a wrong key, by its words only",
        400,
        body({"code": "Client specified an invalid argument", "error": AUTH_MESSAGE}),
        ErrorType.AUTH,
        STOPS_FIRST,
        f"400 Bad Request: {AUTH_MESSAGE}",
    ),
    Case(
        "a key that is not valid", 400, openai("API key not valid."), ErrorType.AUTH, STOPS_FIRST, "400 *: API key not valid."
    ),
    Case("Google, only wrong", 400, google("INVALID_ARGUMENT", "BAD_FIELD"), ErrorType.REQUEST, FINAL, "400 Bad Request: no"),
    Case(
        "Google inside a gateway's message",
        400,
        openai(google("INVALID_ARGUMENT", "API_KEY_INVALID", as_list=False).decode()),
        ErrorType.AUTH,
        STOPS_FIRST,
        "400 Bad Request: no",
    ),
    Case(
        "a 400 for a wrong key", 400, openai("no", code="invalid_api_key"), ErrorType.AUTH, STOPS_FIRST, "400 Bad Request: no"
    ),
    # --- nothing left ---
    Case(
        "Google, no account", 403, google("PERMISSION_DENIED", "BILLING_DISABLED"), ErrorType.QUOTA, STOPS_ALWAYS, "403 *: no"
    ),
    Case("a user's quota", 403, openai("no", code="insufficient_user_quota"), ErrorType.QUOTA, STOPS_ALWAYS, "403 *: no"),
    Case("a 400 for a quota", 400, openai("no", code="insufficient_quota"), ErrorType.QUOTA, STOPS_ALWAYS, "400 *: no"),
    Case(
        "a 400 for a rate", 400, google("RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"), ErrorType.RATE_LIMIT, RETRIED, "400 *: no"
    ),
    Case(
        "quota",
        429,
        openai(QUOTA_MESSAGE, type_="insufficient_quota", code="insufficient_quota"),
        ErrorType.QUOTA,
        STOPS_ALWAYS,
        f"429 Too Many Requests: {QUOTA_MESSAGE}",
    ),
    Case(
        "quota, by its words only",
        429,
        openai("Your credit balance is too low to access the API.", type_=None),
        ErrorType.QUOTA,
        STOPS_ALWAYS,
        "429 Too Many Requests: Your credit balance is too low to access the API.",
    ),
    Case(
        "account not active",
        429,
        openai("Your account is not active.", type_="billing_not_active", code="billing_not_active"),
        ErrorType.QUOTA,
        STOPS_ALWAYS,
        "429 Too Many Requests: Your account is not active.",
    ),
    Case(
        "hard limit",
        403,
        openai("Billing hard limit has been reached", code="billing_hard_limit_reached"),
        ErrorType.QUOTA,
        STOPS_ALWAYS,
        "403 Forbidden: Billing hard limit has been reached",
    ),
    Case("payment required", 402, b"", ErrorType.QUOTA, STOPS_ALWAYS, "402 Payment Required"),
    # --- not now ---
    Case(
        "rate limit",
        429,
        openai("Rate limit reached for gpt-4o on tokens per min (TPM)", type_="tokens", code="rate_limit_exceeded"),
        ErrorType.RATE_LIMIT,
        RETRIED,
        "429 Too Many Requests: Rate limit reached for gpt-4o on tokens per min (TPM)",
    ),
    Case(
        "rate limit that names the billing page",
        429,
        openai(BILLING_RATE_MESSAGE, type_="requests", code="rate_limit_exceeded"),
        ErrorType.RATE_LIMIT,
        RETRIED,
        f"429 Too Many Requests: {BILLING_RATE_MESSAGE}",
    ),
    Case(
        "rate limit that names the billing page, without a code",
        429,
        openai(BILLING_RATE_MESSAGE, type_="requests"),
        ErrorType.RATE_LIMIT,
        RETRIED,
        f"429 Too Many Requests: {BILLING_RATE_MESSAGE}",
    ),
    Case(
        "rate limit in the words of a quota",
        429,
        body([{"error": {"code": 429, "message": GEMINI_RATE_MESSAGE, "status": "RESOURCE_EXHAUSTED"}}]),
        ErrorType.RATE_LIMIT,
        RETRIED,
        f"429 Too Many Requests: {GEMINI_RATE_MESSAGE}",
    ),
    Case("rate limit, empty", 429, b"", ErrorType.RATE_LIMIT, RETRIED, "429 Too Many Requests"),
    Case("timeout", 408, b"", ErrorType.SERVER, RETRIED, "408 Request Timeout"),
    Case("conflict", 409, b"", ErrorType.SERVER, RETRIED, "409 Conflict"),
    Case("too early", 425, b"", ErrorType.SERVER, RETRIED, "425 Too Early"),
    Case("server", 500, openai("boom", type_="server_error"), ErrorType.SERVER, RETRIED, "500 Internal Server Error: boom"),
    Case(
        "server, whose words are those of a filter",
        500,
        openai("the content_filter crashed"),
        ErrorType.SERVER,
        RETRIED,
        "500 Internal Server Error: the content_filter crashed",
    ),
    Case("gateway's page", 502, PAGE, ErrorType.SERVER, RETRIED, "502 Bad Gateway: an HTML page, “502 Bad Gateway”"),
    Case("page without title", 503, b"<html>\n down", ErrorType.SERVER, RETRIED, "503 Service Unavailable: <html> down"),
    Case("gateway timeout", 504, b"upstream", ErrorType.SERVER, RETRIED, "504 Gateway Timeout: upstream"),
    Case("overloaded", 529, b"", ErrorType.SERVER, RETRIED, "529"),
    Case("no such status", 799, b"", ErrorType.SERVER, RETRIED, "799"),
    Case("not implemented", 501, b"", ErrorType.SERVER, STOPS_FIRST, "501 Not Implemented"),
    Case("HTTP version", 505, b"", ErrorType.SERVER, STOPS_FIRST, "505 HTTP Version Not Supported"),
    # --- not an answer at all ---
    Case("no content", 204, b"", ErrorType.INVALID_RESPONSE, RETRIED, "204 No Content: empty_response"),
    Case("partial", 206, b"{}", ErrorType.INVALID_RESPONSE, RETRIED, "206 Partial Content: {}"),
    Case(
        "moved",
        301,
        b"",
        ErrorType.REQUEST,
        STOPS_FIRST,
        "301 Moved Permanently to https://host/v1/ (redirects are not followed: give that URL as base_url)",
        {"location": "https://host/v1/?key=secret"},
    ),
    Case("moved, nowhere", 308, b"", ErrorType.REQUEST, STOPS_FIRST, "308 Permanent Redirect"),
    # --- an error inside a 200 ---
    Case("200, unknown", 200, openai("boom"), ErrorType.INVALID_RESPONSE, RETRIED, "200 OK: boom"),
    Case("200, too long", 200, openai(LONG_MESSAGE), ErrorType.CONTEXT_LENGTH, FINAL, f"200 OK: {LONG_MESSAGE}"),
    # --- the server says itself whether to try again ---
    Case("told to retry", 400, b"", ErrorType.REQUEST, RETRIED, "400 Bad Request", {"x-should-retry": "true"}),
    Case("told not to", 503, b"", ErrorType.SERVER, FINAL, "503 Service Unavailable", {"x-should-retry": "False"}),
    Case("told nonsense", 503, b"", ErrorType.SERVER, RETRIED, "503 Service Unavailable", {"x-should-retry": "maybe"}),
    Case("told to retry a wrong key", 401, b"", ErrorType.AUTH, STOPS_FIRST, "401 Unauthorized", {"x-should-retry": "true"}),
]


#: What servers say of an account, of a text that is too long, and of one that they do not like, each in words of its own.
ACCOUNT, LONG, DISLIKED = (
    (ErrorType.QUOTA, STOPS_ALWAYS),
    (ErrorType.CONTEXT_LENGTH, FINAL),
    (ErrorType.CONTENT_FILTER, FINAL),
)
WORDED: list[tuple[int, dict[str, Any], tuple[ErrorType, tuple[bool, str | None]]]] = [
    (400, {"message": "Your credit balance is too low to access the API. Go to Plans & Billing.", "type": "x"}, ACCOUNT),
    (400, {"message": "Billing hard limit has been reached", "code": "billing_hard_limit_reached"}, ACCOUNT),
    (412, {"message": "Account acme-7 is suspended, possibly due to reaching the monthly spending limit."}, ACCOUNT),
    (400, {"message": "The input token count (9001) exceeds the maximum number of tokens allowed (8192)."}, LONG),
    (422, {"message": "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"}, LONG),
    (400, {"message": "This model's maximum prompt length is 8192 but the request contains 9001 tokens."}, LONG),
    (400, {"message": "Invalid request: Your request exceeded model token limit: 8192"}, LONG),
    (400, {"message": "Range of input length should be [1, 30720]"}, LONG),
    (400, {"message": "Prompt exceeds max length", "code": "1261"}, LONG),
    (400, {"message": "Invalid prompt: your prompt was flagged as potentially violating our usage policy."}, DISLIKED),
    (403, {"message": "m requires moderation on P. Your input was flagged for violence.", "code": 403}, DISLIKED),
    (403, {"message": "Content violates usage guidelines. Failed check: BIO"}, DISLIKED),
    (400, {"message": "Content Exists Risk", "type": "invalid_request_error"}, DISLIKED),
    (400, {"message": "no", "code": "data_inspection_failed"}, DISLIKED),
    (400, {"message": "System detected potentially unsafe or sensitive content in input.", "code": "1301"}, DISLIKED),
    # The same words of something else.
    (400, {"message": "no JSON: “Your credit balance is too low, Ann”"}, (ErrorType.REQUEST, FINAL)),
    (401, {"message": "Your account was flagged for violating our usage policies"}, (ErrorType.AUTH, STOPS_FIRST)),
    (400, {"message": "max_tokens is too large: 9001. This model supports at most 8192"}, (ErrorType.REQUEST, FINAL)),
]


@pytest.mark.parametrize(("status", "error", "meaning"), WORDED)
def test_servers_say_the_same_in_words_of_their_own(status: int, error: dict[str, Any], meaning: Any) -> None:
    found = refusal(status, {}, body({"error": error}))
    assert (found.failure.error_type, (found.retry, found.stops_run)) == meaning
    if "code" not in error and meaning in {LONG, DISLIKED}:  # words are enough inside a 200 too
        assert inner_refusal(error, b"").failure.error_type is meaning[0]


@pytest.mark.parametrize("status", [408, 409, 425, 499])
def test_a_status_that_speaks_of_the_moment_is_tried_again(status: int) -> None:
    found = refusal(status, {}, b"")
    assert (found.failure.error_type, found.retry) == (ErrorType.SERVER, True)


def fits(message: str, expected: str) -> bool:
    """Compare; a `*` stands for words that differ from one Python to the next."""
    before, star, after = expected.partition("*")
    return message.startswith(before) and message.endswith(after) if star else message == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.status} {case.name}")
def test_a_refusal_has_the_right_kind_and_the_servers_words(case: Case) -> None:
    error = refusal(case.status, case.headers, case.body)
    failure = error.failure
    assert (failure.error_type, (error.retry, error.stops_run)) == (case.kind, case.then)
    assert fits(failure.message, case.message), failure.message
    assert failure.status_code == case.status
    assert failure.response_body == case.body.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("word", "kind", "status"),
    [
        ("UNAUTHENTICATED", ErrorType.AUTH, 401),
        ("PERMISSION_DENIED", ErrorType.AUTH, 403),
        ("NOT_FOUND", ErrorType.AUTH, 404),
        ("RESOURCE_EXHAUSTED", ErrorType.RATE_LIMIT, 429),
        ("INVALID_ARGUMENT", ErrorType.REQUEST, 400),
        ("FAILED_PRECONDITION", ErrorType.REQUEST, 400),
        ("ABORTED", ErrorType.SERVER, 409),
        ("CANCELLED", ErrorType.SERVER, 499),
        ("INTERNAL", ErrorType.SERVER, 500),
        ("UNIMPLEMENTED", ErrorType.SERVER, 501),
        ("UNAVAILABLE", ErrorType.SERVER, 503),
        ("DEADLINE_EXCEEDED", ErrorType.SERVER, 504),
        ("SOMETHING_ELSE", ErrorType.INVALID_RESPONSE, 200),
    ],
)
def test_an_error_inside_a_200_may_be_told_by_googles_words(word: str, kind: ErrorType, status: int) -> None:
    failure = inner_refusal({"message": "m", "status": word}, b"").failure
    assert (failure.error_type, failure.status_code) == (kind, status)


# --- words that a message repeats ---

ASKED = json.dumps(
    {"prompt": "What is insufficient_quota, a Context Window, a content_policy, an invalid API key? Retry in 20s."}
)


@pytest.mark.parametrize(
    ("status", "content", "kind", "then"),
    [
        # Of a 403 only the code says that a quota is used up.
        (403, openai("blocked: explain exceeded your current quota", code="waf"), ErrorType.AUTH, STOPS_FIRST),
        (403, b"<html>insufficient_quota is a bad word", ErrorType.AUTH, STOPS_FIRST),
        # What the request says too may be its own words.
        (429, openai("queue full for “What is insufficient_quota”", type_=None), ErrorType.RATE_LIMIT, RETRIED),
        (400, openai("cannot parse 'a CONTEXT WINDOW'"), ErrorType.REQUEST, FINAL),
        (400, openai("cannot parse 'a content_policy'"), ErrorType.REQUEST, FINAL),
        (400, openai("cannot parse 'an invalid API key'"), ErrorType.REQUEST, FINAL),
        (401, openai("no key for 'a content_policy'"), ErrorType.AUTH, STOPS_FIRST),
        (429, openai('{"error":{"code":"insufficient_quota"}}', type_=None), ErrorType.RATE_LIMIT, RETRIED),
        # A code is the server's in any case, and so are words that the request does not have.
        (429, openai("m", code="insufficient_quota"), ErrorType.QUOTA, STOPS_ALWAYS),
        (429, openai("insufficient_quota: your credit balance is too low", type_=None), ErrorType.QUOTA, STOPS_ALWAYS),
        (400, openai("m", code="context_length_exceeded"), ErrorType.CONTEXT_LENGTH, FINAL),
        (400, openai("a Context Window of 9 is too small, the maximum context is 8"), ErrorType.CONTEXT_LENGTH, FINAL),
    ],
)
def test_a_prompt_that_is_repeated_decides_nothing(
    status: int, content: bytes, kind: ErrorType, then: tuple[bool, str | None]
) -> None:
    error = refusal(status, {}, content, ASKED)
    assert (error.failure.error_type, (error.retry, error.stops_run)) == (kind, then)


def test_a_wait_that_the_request_names_too_is_not_the_servers() -> None:
    assert refusal(429, {}, openai("busy: 'Retry in 20s.'"), ASKED).failure.retry_after_s is None
    assert refusal(429, {}, openai("busy: 'Retry in 20s.'; try again in 2s"), ASKED).failure.retry_after_s == 2


def test_of_a_long_body_the_start_is_kept() -> None:
    error = refusal(500, {}, openai("x" * 100_000))
    assert len(error.failure.message) < 1100
    assert error.failure.response_body is not None
    assert len(error.failure.response_body) == KEPT_BYTES


def test_words_behind_a_long_text_are_read() -> None:
    assert refusal(400, {}, openai(f"{'x' * 1_000_000}: maximum context length")).failure.error_type is ErrorType.CONTEXT_LENGTH


def test_a_long_body_is_understood_as_a_whole() -> None:
    """The code stands behind the first 4 KiB, and still decides."""
    long = {"error": {"details": "x" * KEPT_BYTES, "message": "no", "code": "insufficient_quota"}}
    assert refusal(429, {}, body(long)).failure.error_type is ErrorType.QUOTA


@pytest.mark.parametrize(
    ("decoded", "expected"),
    [
        ({"error": {"message": "m", "code": 1}}, {"message": "m", "code": 1}),
        ({"error": {"code": 1}}, {"code": 1, "message": '{"code":1}'}),
        ({"error": "m", "status": 404}, {"message": "m", "code": 404}),
        ({"object": "error", "message": "m"}, {"object": "error", "message": "m"}),
        ([{"error": {"message": "m"}}], {"message": "m"}),
        ([{"usage": 1}, {"error": {"message": "m"}}], {"message": "m"}),
        # Some only say that there is one.
        ({"error": True, "message": "m", "code": 7}, {"message": "m", "code": 7}),
        ({"error": ["a", "b"]}, {"message": '["a","b"]', "code": None}),
        # What a good answer may hold is no error.
        ({"error": None, "choices": []}, {}),
        ({"error": {}, "choices": []}, {}),
        ({"error": "", "choices": []}, {}),
        ({"error": False, "choices": []}, {}),
        ([["error"]], {}),
        ({"object": "chat.completion"}, {}),
        ([], {}),
        ("error", {}),
        (None, {}),
    ],
)
def test_error_object(decoded: Any, expected: dict[str, Any]) -> None:
    assert error_object(decoded) == expected


# --- when to come back ---

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
IN_A_MINUTE = "Sat, 21 Nov 2026 12:01:00 GMT"
#: As seconds since 1970.
NOON_PLUS_40 = str(int(NOW.timestamp()) + 40)
DAY = 24 * 3600.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        # Seconds.
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1000000000"}, DAY),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        # Milliseconds, which go before seconds.
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "-1"}, None),
        # An HTTP date, against the server's own clock where it tells it.
        ({"retry-after": IN_A_MINUTE}, 60.0),
        ({"retry-after": IN_A_MINUTE, "date": "Sat, 21 Nov 2026 12:00:50 GMT"}, 10.0),
        ({"retry-after": IN_A_MINUTE, "date": "Mon, 01 Jan 2024 00:00:00 GMT"}, DAY),
        ({"retry-after": IN_A_MINUTE, "date": "garbage"}, 60.0),
        ({"retry-after": "Sat, 21 Nov 2026 13:01:00 +0100"}, 60.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:01:00"}, 60.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, None),
        ({"retry-after": "Sat, 99 Nov 2026 12:01:00 GMT"}, None),
        ({"retry-after": f"Sat, 21 Nov {'9' * 20} 12:01:00 GMT"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 12:01:00 +9999"}, None),
        # OpenAI's headers, where nothing remains.
        ({"x-ratelimit-reset-requests": "1m30s"}, 90.0),
        ({"x-ratelimit-reset-requests": "250ms"}, 0.25),
        ({"x-ratelimit-reset-requests": "2h"}, 7200.0),
        ({"x-ratelimit-reset-requests": "1h2m3s"}, 3723.0),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-requests": "2m59.56s"}, 179.56),
        ({"x-ratelimit-reset-tokens": "7.66s"}, 7.66),
        ({"x-ratelimit-reset-tokens": "12"}, 12.0),
        ({"x-ratelimit-reset-tokens": "-1s"}, None),
        ({"x-ratelimit-reset-tokens": "soon"}, None),
        ({"x-ratelimit-reset-tokens": ""}, None),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "4s"}, 4.0),
        (
            {
                "x-ratelimit-reset-requests": "60s",
                "x-ratelimit-remaining-requests": "99",
                "x-ratelimit-reset-tokens": "4s",
                "x-ratelimit-remaining-tokens": "0",
            },
            4.0,
        ),
        ({"x-ratelimit-reset-requests": "60s", "x-ratelimit-remaining-requests": "1"}, None),
        # Retry-After is the more exact word.
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": NOON_PLUS_40}, 40.0),
        ({"retry-after": NOON_PLUS_40, "date": "Sat, 21 Nov 2026 12:00:30 GMT"}, 10.0),
        ({"retry-after": NOON_PLUS_40, "date": "Sat, 21 Nov 2026 12:00:50 GMT"}, None),
        ({"x-ratelimit-reset-tokens": NOON_PLUS_40}, 40.0),
        ({"x-ratelimit-reset": f"{NOON_PLUS_40}500", "x-ratelimit-remaining": "0"}, 40.5),
        ({"x-ratelimit-reset": NOON_PLUS_40, "x-ratelimit-remaining": "3"}, None),
        ({"x-ratelimit-reset": "3", "x-ratelimit-reset-tokens": "250ms"}, 3.0),
        ({"retry-after": "1", "x-ratelimit-reset-requests": "60s"}, 1.0),
        ({"retry-after": "soon", "x-ratelimit-reset-requests": "60s"}, 60.0),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after(headers, NOW) == (None if expected is None else pytest.approx(expected))


def test_without_a_clock_given_the_date_is_held_against_todays() -> None:
    assert retry_after({"retry-after": "Wed, 01 Jan 2025 00:00:00 GMT"}) is None
    assert retry_after({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}) == DAY


def test_the_wait_stands_in_the_failure() -> None:
    assert refusal(429, {"retry-after": "7"}, b"").failure.retry_after_s == 7.0
    assert refusal(503, {"retry-after-ms": "500"}, b"").failure.retry_after_s == 0.5


# --- whatever a server sends ---

NAMES = st.sampled_from(["error", "message", "detail", "code", "type", "object", "status", "title"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("error"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
BODIES = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "date", "x-ratelimit-reset-tokens", "x-should-retry", "location"]),
    st.text(max_size=40)
    | st.from_regex(r"\w{3}, \d{1,3} (Jan|Nov) \d{1,30} \d{1,3}:\d\d:\d\d( GMT| [+-]\d{4})?", fullmatch=True),
)


@given(st.integers(200, 999), HEADERS, BODIES)
@example(400, {}, b"[" * 100_000)
@example(400, {}, b'{"error":' * 900 + b"1" + b"}" * 900)
@example(400, {}, b'{"error":{"message":' + b"9" * 5000 + b"}}")
def test_nothing_that_a_server_sends_is_a_crash(status: int, headers: dict[str, str], content: bytes) -> None:
    error = refusal(status, headers, content)
    assert isinstance(error, AttemptError)
    error.failure.message.encode()
    assert error.failure.response_body is not None
    error.failure.response_body.encode()
    wait = error.failure.retry_after_s
    assert wait is None or (0 <= wait <= DAY and math.isfinite(wait))
    assert not (error.retry and error.stops_run == "always")


@pytest.mark.parametrize(
    ("words", "wait"),
    [
        ("Please try again in 1.2s.", 1.2),
        ("Please try again in 20ms. Visit https://…", 0.02),
        ("try again in 6m0s", 360),
        ("Please retry in 37.5s.", 37.5),
        ("Please retry after 20 seconds", 20),
        ("Try again in 2 minutes", 120),
        ("retry after 500 milliseconds", 0.5),
        ('"retryDelay": "37s"', 37),
        ("try again in 999999999 hours", 24 * 3600),
        # Several units, any spelling.
        ("Please try again in 1m30s.", 90),
        ("Please try again in 1h2m3.5s.", 3723.5),
        ("Please try again in 1 minute and 30 seconds.", 90),
        ("Try your request again in 2 mins, 5 secs", 125),
        ("Rate limit reached. Try again after 30 seconds.", 30),
        ("You may come back in 5 min", 300),
        ("please wait for 20 seconds before the next request", 20),
        ("Please wait 1.5 s and retry", 1.5),
        ("The limit resets in 40s", 40),
        ("The limit will reset after 1 minute", 60),
        ("Please retry the whole operation in approximately 12 seconds", 12),
        ("wait at least 3 sec", 3),
        ("The next request is accepted after 30 seconds", 30),
        ("PLEASE RETRY AFTER 7 SECONDS", 7),
        ("Retry-After: 30", 30),
        ("retry after 30", 30),
        # Fields, also where they are nested as text, or as Python prints them.
        ('{"error":{"message":"m","retry_after":2.5}}', 2.5),
        ('{"error":{"message":"m","retry_after_ms":500}}', 0.5),
        ('{"retryAfterSeconds": "12"}', 12),
        ('{"error":{"message":"{\\"retryDelay\\": \\"37s\\"}"}}', 37),
        ("429 [retry_delay {\n  seconds: 37\n}]", 37),
        (r"429 [retry_delay {\n  seconds: 37\n}]", 37),
        ('[{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1s"}]}}]', 1),
        # Behind a long text.
        (f'{{"error":{{"message":"{"x" * 1_000_000}. Please retry in 1.5s"}}}}', 1.5),
        # The first one counts.
        ("Please try again in 20s. Limit 3 / 60s, wait 9s", 20),
        # No waits.
        ("Please try again later", None),
        ("in 5s", None),
        ("timed out after 60 seconds", None),
        ("the last retry failed after 60 seconds", None),
        ("retry after 2026-11-27T01:00:00Z", None),
        ("retry after 12:30", None),
        ('{"retry_after": -5}', None),
        ('{"retry_after": null, "limit": 60}', None),
        ("try again in 5x", None),
    ],
)
def test_a_wait_that_only_the_words_name_is_read(words: str, wait: float | None) -> None:
    assert refusal(429, {}, words.encode()).failure.retry_after_s == wait
    assert refusal(429, {"retry-after": "3"}, words.encode()).failure.retry_after_s == 3
    assert refusal(400, {}, words.encode()).failure.retry_after_s is None
