"""The lines of the journal, and the columns of the Parquet files that are made from them.

A run's journal holds nine kinds of line. `open` starts a segment, twice for safety, and says what the run is, `files` what
the dataset is; `start` says that an attempt is about to be sent; `try` that it failed and another may follow; `end` what
became of a unit; `control` what a request found that was sent to see whether the endpoint is up; `limit` how many may be in
flight, where that is found while the run goes on; `batch` which requests are in a file that somebody else has answered;
`close` that the segment ended in order. A unit with a `start` but no `try` or `end` after it may have been paid for without its
answer having been kept; one of a `batch` waits for its answer.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from runner import jsontext
from runner.output import Output, request_of, vectors_of
from runner.structs import Struct, field, replace
from runner.types import Failure, Request, Response, Result, Skipped, Value
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
    """Whose answers a run has taken."""

    run_id: str
    #: The directory of that run.
    path: str
    #: Whether what that run has no answer to is asked.
    asks: bool = False
    #: Whether the rows are those of the dataset; else they are that run's.
    fresh_rows: bool = False


class Open(Struct, frozen=True, kw_only=True, tag_field="kind", tag="open"):
    """The first line of a segment."""

    format: int
    run_id: str
    #: The evaluation's name.
    name: str
    #: When the segment started, in microseconds since the epoch.
    at: int
    host: str
    pid: int
    #: Each task's alias and how often it runs per item, in the order in which tasks run.
    tasks: list[tuple[str, int]]
    #: A hash of each value of the config that decides what is asked, by its path.
    identity: dict[str, str]
    #: Each file of the dataset and its size.
    files: list[tuple[str, int]]
    #: `limits.concurrency`; where that is `auto`, with how many in flight it begins; 0 where a batch stands for the endpoint.
    concurrency: int
    #: `dataset.limit`, which may grow when the run is resumed.
    limit: int | None = None
    #: Paths in `identity` whose value may be another one than at the start before.
    changed: list[str] = field(default_factory=list)
    #: Of a run that rescores another.
    rescored: Rescored | None = None
    #: What the run's workers run on, where it has any: also in the segment of whoever gives them their rows.
    engine: str | UnsetType = UNSET
    #: The place of the worker whose segment this is, from 0.
    worker: int | UnsetType = UNSET

    @property
    def is_worker(self) -> bool:
        """Whether a worker wrote it: its end is not the run's."""
        return self.worker is not UNSET


class Start(Struct, frozen=True, kw_only=True, tag_field="kind", tag="start", omit_defaults=True, gc=False):
    """An attempt is about to be sent."""

    item_index: int
    sample_index: int = 0
    task: str
    #: Which attempt, from 1.
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
    """A request that was answered already was sent again, to see whether the endpoint is up; its answer is no result."""

    item_index: int
    sample_index: int = 0
    task: str
    error_type: str | None = None
    message: str | None = None
    status_code: int | None = None
    #: What the answer has used, and what it has cost, in dollars.
    tokens: int = 0
    cost: float | None = None


class EndHead(Struct, frozen=True, kw_only=True, tag_field="kind", tag="end", gc=False):
    """As much of an `end` line as a scan needs: what stands before its `item_id`."""

    item_index: int
    sample_index: int = 0
    task: str
    error_type: str | None = None
    total_tokens: int | None = None
    completed_at: int = 0
    #: For how long this start of the run had been going on then, in microseconds, by a clock that nobody sets.
    ran_us: int = 0
    #: What counts as used where the server did not say a total, or one that cannot be. It is no column.
    used_tokens: int | None = None
    #: What the answer has cost, in dollars, by the prices of then; 0 where it was kept from before.
    cost: float | None = None


class End(EndHead, frozen=True, kw_only=True, tag_field="kind", tag="end", omit_defaults=True):
    """What became of a unit: what `columns` has of it, and what is only counted. What is unknown is None.

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
    #: Whether nothing was sent for it, for what became of it was known from another run, or the answer from the cache.
    cached: bool = False
    #: Whether the task was not run, for its condition did not hold, or a task that it reads was skipped.
    skipped: bool = False
    #: Whether bytes of the answer that are no UTF-8 were replaced by U+FFFD. It is counted, and no column.
    text_repaired: bool = False
    started_at: int = 0
    latency_s: float | None = None
    ttft_s: float | None = None
    queue_s: float = 0.0
    #: How much of `queue_s` was waited for the endpoint to be back, or to answer at all. It is summed up, and no column.
    held_s: float = 0.0
    backoff_s: float = 0.0
    wire_s: float = 0.0
    item: str = "{}"
    request: str | None = None
    response: str | None = None

    @property
    def read_back(self) -> object:
        """What a later task reads of it: the same as of the `Result` that it was."""
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
    #: Why the run stopped early; None where it finished.
    reason: str | None
    #: Files of the dataset that are damaged from some row on: another content of theirs may be the mended one.
    damaged: list[str] = field(default_factory=list)


class Limit(Struct, frozen=True, kw_only=True, tag_field="kind", tag="limit"):
    """How many requests may be in flight, where that is found while the run goes on."""

    #: For how long this start of the run had been going on then, in microseconds.
    ran_us: int
    #: How many slots there are now, and what those of all the time until now come to, in seconds.
    limit: int
    slot_s: float
    #: What the latest round of answers came to that is over: its limit, answers a second and median latency in seconds.
    round: tuple[int, float, float] | None = None
    #: What is best by the latest rounds: how many, and the answers a second with them.
    best: tuple[int, float] | None = None


class Batch(Struct, frozen=True, kw_only=True, tag_field="kind", tag="batch"):
    """A file of requests is written, whole, for a batch service to answer; its name is given to it next."""

    #: The file's number in the run, from 1, and its path.
    number: int
    file: str
    #: The aliases of the tasks whose requests it has.
    tasks: list[str]
    #: The requests: the item's index, the sample's, and the task's place in `tasks`.
    units: list[tuple[int, int, int]]


class Files(Struct, frozen=True, kw_only=True, tag_field="kind", tag="files"):
    """What the dataset's files are: of those on this machine once all their bytes were read."""

    #: Name, size and SHA-256 of each; of an object in a store what that knows it by, as `etag:…`.
    files: list[tuple[str, int, str]]


def tokens_of(end: EndHead) -> int:
    """Return what an answer has used, as it was counted when it came; 0 for an error without one."""
    return (end.total_tokens or 0) if end.used_tokens is None else end.used_tokens


def as_cached(end: End) -> End:
    """Return a result of before as one for which nothing was sent: what was said stays, and nothing was spent."""
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


#: Stands for the answer where there is none.
_NOTHING = Response(output=None)


def end_of(result: Result, endpoint: str | None, *, ran_us: int, cost: float | None = None) -> End:
    """Return a result as the journal keeps it, written when its segment had been open for so many microseconds.

    `cost` is what its answer has cost, in dollars.
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
    """Return the name of a model; a row may give anything in its place."""
    return str(model) if isinstance(model, str) else None if model is None else jsontext.encode_str(model)


def _used_beyond(request: Request | None, response: Response) -> int | None:
    """Return what an answer has used where that is not the total that the server said."""
    used = None if request is None else used_by(request, response).tokens
    return None if used == response.usage.total_tokens else used
