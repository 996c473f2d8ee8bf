"""The lines of the journal, and the columns of the Parquet files that are made from them.

The journal of a run has nine kinds of lines:

    open       starts a segment, twice for safety: what is asked, and by which process
    files      the identity of the files of the dataset
    start      an attempt is about to be sent
    try        an attempt failed, and another may follow
    end        the result of a unit
    control    the result of a control request, which checks whether the endpoint is up
    limit      how many requests may be in flight, if the run finds that number itself
    batch      which requests are in a file for a batch service
    close      the segment ended in order

A unit with a `start` but no `try` or `end` after it may be paid for, although its answer was not kept. A unit of a `batch`
waits for its answer.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from runner import jsontext
from runner.output import Output, request_of, vectors_of
from runner.structs import Struct, field, replace
from runner.types import ErrorType, Failure, Request, Response, Result, Skipped, Value
from runner.usage import used_by

__all__ = [
    "FORMAT",
    "UNSET",
    "Batch",
    "Close",
    "Control",
    "End",
    "EndHead",
    "Files",
    "Limit",
    "Open",
    "Rescored",
    "Start",
    "Try",
    "as_cached",
    "end_of",
    "tokens_of",
]

#: The version of the journal's format.
FORMAT = 1


class Rescored(Struct, frozen=True, kw_only=True):
    """The run whose answers a run has taken."""

    run_id: str
    #: The directory of that run.
    path: str
    #: Whether requests that the other run has no answer to are asked.
    asks: bool = False
    #: Whether the rows come from the dataset; else they come from the other run.
    fresh_rows: bool = False


class Open(Struct, frozen=True, kw_only=True, tag_field="kind", tag="open"):
    """The first line of a segment."""

    format: int
    run_id: str
    #: The name of the evaluation.
    name: str
    #: When the segment started, in microseconds since the epoch.
    at: int
    host: str
    pid: int
    #: The alias of each task and its number of samples, in the order in which tasks run.
    tasks: list[tuple[str, int]]
    #: A hash of each value of the config that decides what is asked, by its path.
    identity: dict[str, str]
    #: Each file of the dataset and its size.
    files: list[tuple[str, int]]
    #: `limits.concurrency`; if that is `auto`, the number at the start; 0 if a batch replaces the endpoint.
    concurrency: int
    #: `dataset.limit`, which may grow when the run is resumed.
    limit: int | None = None
    #: Paths in `identity` whose value may differ from the previous start.
    changed: list[str] = field(default_factory=list)
    #: The other run, if this run rescores one.
    rescored: Rescored | None = None
    #: The engine of the workers of the run, if it has any. The coordinator's own segment has it too.
    engine: str | UnsetType = UNSET
    #: The number, from 0, of the worker whose segment this is.
    worker: int | UnsetType = UNSET

    @property
    def is_worker(self) -> bool:
        """Whether a worker wrote the segment, whose end is not the end of the run."""
        return self.worker is not UNSET


class Start(Struct, frozen=True, kw_only=True, tag_field="kind", tag="start", omit_defaults=True, gc=False):
    """An attempt is about to be sent."""

    item_index: int
    sample_index: int = 0
    task: str
    #: The number of the attempt, from 1.
    attempt: int = 1


class Try(Struct, frozen=True, kw_only=True, tag_field="kind", tag="try", omit_defaults=True, gc=False):
    """An attempt failed, and there may be another."""

    item_index: int
    sample_index: int = 0
    task: str
    attempt: int = 1
    error_type: str
    message: str
    status_code: int | None = None


class Control(Struct, frozen=True, kw_only=True, tag_field="kind", tag="control", omit_defaults=True):
    """A control request: a request that was answered already, sent again to check the endpoint. Its answer is not a result."""

    item_index: int
    sample_index: int = 0
    task: str
    error_type: str | None = None
    message: str | None = None
    status_code: int | None = None
    #: The tokens of the answer, and its cost in dollars.
    tokens: int = 0
    cost: float | None = None


class EndHead(Struct, frozen=True, kw_only=True, tag_field="kind", tag="end", gc=False):
    """The part of an `end` line that a scan needs: the fields before `item_id`."""

    item_index: int
    sample_index: int = 0
    task: str
    error_type: str | None = None
    total_tokens: int | None = None
    completed_at: int = 0
    #: How long the segment had been open then, in microseconds of a monotonic clock.
    ran_us: int = 0
    #: The tokens that count if the server sent no total, or an impossible one. Not a column.
    used_tokens: int | None = None
    #: The cost of the answer in dollars, by the prices of that time; 0 if it was known already.
    cost: float | None = None


class End(EndHead, frozen=True, kw_only=True, tag_field="kind", tag="end", omit_defaults=True):
    """The result of a unit: the values of `columns`, and some that are only counted. Unknown values are None.

    The fields of `EndHead` come first, then `item_id`: so a scan of a million lines need not read them to their ends.
    """

    item_id: str
    task_type: str
    model: str | None = None
    endpoint: str | None = None
    message: str | None = None
    status_code: int | None = None
    response_body: str | None = None
    retry_after_s: float | None = None
    output: str | None = None
    value: float | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: str | None = None
    finish_reason: str | None = None
    choices: str | None = None
    logprobs: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    response_id: str | None = None
    response_model: str | None = None
    system_fingerprint: str | None = None
    attempts: int = 0
    #: Whether nothing was sent, because the result was known from another run, or the answer from the cache.
    cached: bool = False
    #: Whether the task did not run, because its condition did not hold or a task that it reads was skipped.
    skipped: bool = False
    #: Whether bytes of the answer that are not UTF-8 were replaced by U+FFFD. It is counted, and not a column.
    text_repaired: bool = False
    started_at: int = 0
    latency_s: float | None = None
    ttft_s: float | None = None
    queue_s: float = 0.0
    #: The part of `queue_s` in which the endpoint was down, or had not answered yet. It is summed up, and not a column.
    held_s: float = 0.0
    backoff_s: float = 0.0
    wire_s: float = 0.0
    item: str = "{}"
    request: str | None = None
    response: str | None = None

    @property
    def is_answered(self) -> bool:
        """Whether a server answered and may be paid for it: also if the answer has no readable verdict, which is an error."""
        return self.request is not None and (self.error_type is None or self.error_type == ErrorType.NO_VERDICT)

    @property
    def is_empty(self) -> bool:
        """Whether an answer says nothing: it has neither a text nor tool calls nor a refusal."""
        return not (self.output or self.tool_calls or self.refusal)

    @property
    def read_back(self) -> object:
        """The value that a later task reads, the same as from the `Result` itself."""
        if self.error_type is not None or self.skipped:
            return None
        if self.task_type == "metric":
            return self.output if self.value is None else self.value
        if self.task_type == "embedding":
            return vectors_of(self.output)
        return Output(
            self.output,
            value=self.value,
            tool_calls=self.tool_calls,
            reasoning=self.reasoning,
            refusal=self.refusal,
            finish_reason=self.finish_reason,
            request=request_of(self.task_type, self.request),
        )


class Close(Struct, frozen=True, kw_only=True, tag_field="kind", tag="close"):
    """The last line of a segment that ended in order."""

    at: int
    #: Why the run stopped early; None if it finished.
    reason: str | None
    #: Files of the dataset that are damaged from some row on: if their content differs later, they may have been mended.
    damaged: list[str] = field(default_factory=list)


class Limit(Struct, frozen=True, kw_only=True, tag_field="kind", tag="limit"):
    """How many requests may be in flight, if the run finds that number itself."""

    #: How long the segment had been open then, in microseconds.
    ran_us: int
    #: The number of slots now, and the sum of slots times seconds until now.
    limit: int
    slot_s: float
    #: The latest finished round of answers: its limit, its answers a second and its median latency in seconds.
    round: tuple[int, float, float] | None = None
    #: The best limit by the latest rounds, and the answers a second with it.
    best: tuple[int, float] | None = None


class Batch(Struct, frozen=True, kw_only=True, tag_field="kind", tag="batch"):
    """A file of requests for a batch service is written completely; next it is renamed to its final name."""

    #: The number of the file in the run, from 1, and its path.
    number: int
    file: str
    #: The aliases of the tasks that have requests in the file.
    tasks: list[str]
    #: The requests: the index of the item, that of the sample, and that of the task in `tasks`.
    units: list[tuple[int, int, int]]


class Files(Struct, frozen=True, kw_only=True, tag_field="kind", tag="files"):
    """The identity of the files of the dataset, written once all bytes of local files were read."""

    #: The name, size and SHA-256 of each; for an object in a store, the version that the store gives, such as `etag:…`.
    files: list[tuple[str, int, str]]


def tokens_of(end: EndHead) -> int:
    """Return the tokens of an answer, as counted when it came; 0 for an error without an answer."""
    return (end.total_tokens or 0) if end.used_tokens is None else end.used_tokens


def as_cached(end: End) -> End:
    """Return an earlier result as one for which nothing was sent: the answer stays, and nothing was spent."""
    return replace(
        end,
        cached=True,
        attempts=0,
        used_tokens=0,
        cost=None if end.error_type is not None or end.request is None else 0.0,
        ran_us=0,
        latency_s=None,
        ttft_s=None,
        queue_s=0.0,
        held_s=0.0,
        backoff_s=0.0,
        wire_s=0.0,
    )


#: Replaces the answer if there is none.
_NOTHING = Response(output=None)


def end_of(result: Result, endpoint: str | None, *, ran_us: int, cost: float | None = None) -> End:
    """Return a result as a line of the journal. Its segment has been open for `ran_us` microseconds.

    `cost` is the cost of its answer in dollars.
    """
    end = _as_it_came(result, endpoint, ran_us, cost)
    if isinstance(failure := result.outcome.answer, Failure):
        end = replace(
            end,
            error_type=failure.error_type.value,
            message=failure.message,
            status_code=failure.status_code,
            response_body=failure.response_body,
            retry_after_s=failure.retry_after_s,
        )
    return replace(as_cached(end), ran_us=ran_us) if result.outcome.cached else end


def _as_it_came(result: Result, endpoint: str | None, ran_us: int, cost: float | None) -> End:
    outcome, unit, request, answer = result.outcome, result.unit, result.request, result.outcome.answer
    answered = result.answered
    said = answered or _NOTHING
    usage = said.usage
    return End(
        item_id=unit.item_id,
        item_index=unit.item_index,
        sample_index=unit.sample_index,
        task=unit.task,
        task_type=result.task_type,
        model=None if request is None else _name_of(request.model),
        endpoint=None if request is None else endpoint,
        output=answer.output if isinstance(answer, Response | Value) else None,
        value=answer.value if isinstance(answer, Value) else said.value,
        reasoning=said.reasoning,
        refusal=said.refusal,
        tool_calls=said.tool_calls,
        finish_reason=said.finish_reason,
        choices=said.choices,
        logprobs=said.logprobs,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cached_tokens=usage.cached_tokens,
        used_tokens=None if answered is None else _used_beyond(request, answered),
        cost=None if answered is None else cost,
        response_id=said.response_id,
        response_model=said.response_model,
        system_fingerprint=said.system_fingerprint,
        text_repaired=said.text_repaired,
        latency_s=said.latency_s,
        ttft_s=said.ttft_s,
        attempts=outcome.attempts,
        skipped=isinstance(answer, Skipped),
        started_at=outcome.started_at,
        completed_at=outcome.completed_at,
        ran_us=ran_us,
        queue_s=outcome.queue_s,
        held_s=outcome.held_s,
        backoff_s=outcome.backoff_s,
        wire_s=outcome.wire_s,
        item=jsontext.encode_str(result.item.row),
        request=None if request is None else request.shown,
        response=answer.body if isinstance(answer, Response) else None,
    )


def _name_of(model: Any) -> str | None:
    """Return the name of a model, as JSON if a row gives something else than a string."""
    return str(model) if isinstance(model, str) else None if model is None else jsontext.encode_str(model)


def _used_beyond(request: Request | None, response: Response) -> int | None:
    """Return the tokens that an answer has used, or None if that is the total that the server sent."""
    used = None if request is None else used_by(request, response).tokens
    return None if used == response.usage.total_tokens else used
