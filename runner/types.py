"""The values that flow through a run: items in, requests out, results kept. Nouns only, no I/O.

An `Item` repeated k times gives k `Sample`s. A task turns a sample into a `Request`, and each try at it is an `Attempt`. A
request ends in a `Response` or a `Failure`, a metric in a `Value`; a task whose condition does not hold is `SKIPPED`. An
`Outcome` says which of these it is and what it cost. A `Result` ties the outcome to its `Unit`: exactly one for each (item,
sample, task).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from runner.output import Output, request_of, vectors_of
from runner.structs import Struct

__all__ = [
    "LARGEST_VALUE",
    "SKIPPED",
    "Answer",
    "Attempt",
    "Blob",
    "CostOf",
    "ErrorType",
    "Execute",
    "Failure",
    "Item",
    "Outcome",
    "Request",
    "Response",
    "Result",
    "Sample",
    "Send",
    "Skipped",
    "Unit",
    "Usage",
    "Value",
]


class ErrorType(StrEnum):
    """The kinds of error: the values of the column `error_type`."""

    DATASET = "dataset"
    TEMPLATE = "template"
    CONNECT = "connect"
    TIMEOUT = "timeout"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    SERVER = "server"
    REQUEST = "request"
    AUTH = "auth"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    INVALID_RESPONSE = "invalid_response"
    DEPENDENCY = "dependency"
    NO_VERDICT = "no_verdict"


class Blob:
    """The bytes of a binary column; as text, a short placeholder."""

    __slots__ = ("_text", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._text: str | None = None

    def __str__(self) -> str:
        """Return the placeholder. It is computed once, because a row is written with each of its results."""
        if self._text is None:
            self._text = f"<{len(self.data)} bytes, sha256 {hashlib.sha256(self.data).hexdigest()[:16]}>"
        return self._text


class Failure(Struct, frozen=True, kw_only=True):
    """An error as a value: why there is no answer."""

    #: The kind, which decides what happens next.
    error_type: ErrorType
    #: What went wrong, with the value and the place, in the server's own words if it sent any.
    message: str
    #: The HTTP status, if there was a response.
    status_code: int | None = None
    #: The first 4 KiB of the response's body.
    response_body: str | None = None
    #: How long the server asked to wait, in seconds.
    retry_after_s: float | None = None
    #: An answer that came but is of no use, such as a verdict that cannot be read. It has to be paid all the same.
    paid: Response | None = None


class Item(Struct, frozen=True, kw_only=True):
    """One row of the dataset."""

    #: The row's name, unique in the dataset.
    item_id: str
    #: The row's position in the dataset, from 0.
    index: int
    #: The row itself; empty if it could not be read.
    row: Mapping[str, Any]
    #: Where it stands: `file:line`.
    place: str
    #: Why the row could not be read, if it could not.
    failure: Failure | None = None


class Sample(Struct, frozen=True):
    """The k-th repeat of an item."""

    item: Item
    #: k, from 0.
    index: int


class Unit(NamedTuple):
    """The identity of one result: a task's alias, an item and a sample. Two equal prompts are two units."""

    item_id: str
    item_index: int
    sample_index: int
    task: str


class Request(Struct, frozen=True, kw_only=True):
    """One call to make, with its body already encoded: every attempt sends the same bytes."""

    unit: Unit
    #: The path below the base URL: `/chat/completions`.
    path: str
    #: The requested model.
    model: str | None
    #: The JSON body as sent.
    content: bytes
    #: The JSON body as files keep it: with placeholders instead of inline media.
    shown: str
    #: Whether the answer is requested as server-sent events.
    stream: bool
    #: Whether it is a chat completion, else a text completion.
    chat: bool = True
    #: Whether it asks for vectors, so that the model writes nothing.
    embeds: bool = False
    #: The number of requested answers (`n`).
    choices: int = 1
    #: Whether it is repeated because its answer was of no use. Then no earlier answer may be taken for it.
    again: bool = False
    #: The estimated tokens of its prompt, and an upper estimate of all its tokens, for `tokens_per_minute`.
    prompt_estimate: int = 0
    token_estimate: int = 0


class Attempt(Struct):
    """One try at a request. The layers that it passes through note what it cost."""

    #: The request as it is sent: the client leaves out what the server is known not to accept.
    request: Request
    #: From 1.
    number: int
    #: Tokens that were reserved for it of `tokens_per_minute`.
    reserved: int = 0
    #: Seconds that it waited for its turn, and how many of them for the endpoint to be back, or to answer at all.
    queue_s: float = 0.0
    held_s: float = 0.0
    #: Seconds on the wire: from the first byte out to the last byte in, or to the error.
    wire_s: float = 0.0
    #: When it was sent, in microseconds since the epoch; None before that.
    sent_at: int | None = None
    #: How often it was sent again because its connection had been closed. This is no failure, but a server may have read it.
    resent: int = 0
    #: Whether it is a control request: an answered request that is sent again to see whether the endpoint is up.
    is_control: bool = False
    #: Which server has answered, if there are several.
    endpoint: str | None = None
    #: When the circuit let it through, in seconds of the monotonic clock.
    entered_at: float = 0.0

    def send_again(self) -> None:
        """Note that it is sent again."""
        self.resent += 1

    def hold(self, seconds: float) -> None:
        """Note a wait for the endpoint itself."""
        self.queue_s += seconds
        self.held_s += seconds


class Usage(Struct, frozen=True, kw_only=True):
    """The tokens of a response, as the server counted them; None if it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None


class Response(Struct, frozen=True, kw_only=True):
    """An answer. Its parts in JSON are already text."""

    #: The text of the answer, or a judge's verdict; None if the server sent null.
    output: str | None
    #: The score of a judge's verdict, if it has one.
    value: float | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: str | None = None
    finish_reason: str | None = None
    #: All choices as JSON, if more than one was requested.
    choices: str | None = None
    logprobs: str | None = None
    usage: Usage = Usage()
    response_id: str | None = None
    response_model: str | None = None
    system_fingerprint: str | None = None
    #: The body as it came; that of a stream is put together.
    body: str = ""
    #: From sending to the whole answer, in seconds; None if it was not measured.
    latency_s: float | None = None
    #: Seconds to the first piece of a stream with content.
    ttft_s: float | None = None
    #: Whether it had bytes that are not UTF-8, which were replaced.
    text_repaired: bool = False


#: No value is larger: of what is, sums over all rows and their squares would overflow.
LARGEST_VALUE = 1e100


class Value(Struct, frozen=True):
    """The result of a metric: its value, and what it took as the answer."""

    value: float | None
    output: str | None


class Skipped(Struct, frozen=True):
    """The task was not run: its condition does not hold, or a task that it reads was skipped."""


SKIPPED = Skipped()
Answer: TypeAlias = Response | Value | Failure | Skipped
#: Returns what an answer has cost, in dollars; None if that is not known.
CostOf: TypeAlias = Callable[[Request, Response], float | None]


class Outcome(Struct, frozen=True, kw_only=True):
    """The end of a request or a metric, and what it cost."""

    answer: Answer
    #: The request as the last attempt sent it; None if there was no attempt.
    sent: Request | None = None
    #: Attempts that reached the wire; 0 for a metric and for a request that was never sent.
    attempts: int = 0
    #: Which server has answered, if there are several.
    endpoint: str | None = None
    #: Whether it is an answer from before, so that nothing was sent.
    cached: bool = False
    #: Seconds that all attempts waited for their turn, and how many of them for the endpoint itself.
    queue_s: float = 0.0
    held_s: float = 0.0
    #: Seconds of back-off between attempts.
    backoff_s: float = 0.0
    #: Seconds on the wire, over all attempts.
    wire_s: float = 0.0
    #: Microseconds since the epoch.
    started_at: int
    completed_at: int


class Result(Struct, frozen=True, kw_only=True):
    """The outcome of one (item, sample, task)."""

    unit: Unit
    task_type: str
    outcome: Outcome
    #: The dataset row it belongs to.
    item: Item
    #: The request, if it could be rendered.
    request: Request | None = None

    @property
    def failed(self) -> bool:
        """Whether there is no answer."""
        return isinstance(self.outcome.answer, Failure)

    @property
    def skipped(self) -> bool:
        """Whether the task was not run."""
        return isinstance(self.outcome.answer, Skipped)

    @property
    def value(self) -> float | None:
        """The value of a metric, or the score of a judge's verdict; else None."""
        answer = self.outcome.answer
        return answer.value if isinstance(answer, Value | Response) else None

    @property
    def paid(self) -> Response | None:
        """The answer that was paid for, also if it is of no use; None for an answer from before."""
        return None if self.outcome.cached else self.answered

    @property
    def answered(self) -> Response | None:
        """The answer, also if it is of no use."""
        answer = self.outcome.answer
        return answer.paid if isinstance(answer, Failure) else answer if isinstance(answer, Response) else None

    @property
    def output(self) -> object:
        """What later tasks read under this alias: an answer with its parts (`Output`), a vector, or the value of a metric."""
        answer = self.outcome.answer
        if isinstance(answer, Response) and self.task_type == "embedding":
            return vectors_of(answer.output)
        if isinstance(answer, Value):
            return answer.value if answer.value is not None else answer.output
        return _as_output(answer, self) if isinstance(answer, Response) else None


def _as_output(response: Response, result: Result) -> Output:
    return Output(
        response.output,
        value=response.value,
        tool_calls=response.tool_calls,
        reasoning=response.reasoning,
        refusal=response.refusal,
        finish_reason=response.finish_reason,
        request=request_of(result.task_type, None if result.request is None else result.request.shown),
    )


#: Makes one attempt and raises `AttemptError` when it fails.
Send: TypeAlias = Callable[[Attempt], Awaitable[Response]]
#: Makes all attempts and returns the outcome; raises only what ends or drains the whole run.
Execute: TypeAlias = Callable[[Request], Awaitable[Outcome]]
