"""The columns of results.parquet and errors.parquet, in their order.

A new column is a line here and a field of the same name in `records.End`, which `records.end_of` fills.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

__all__ = ["COLUMNS", "ERRORS_SCHEMA", "REPEATING", "RESULTS_SCHEMA", "Column"]

_TEXT, _NUMBER, _COUNT, _SMALL = pa.string(), pa.float64(), pa.int64(), pa.int32()
_TIME = pa.timestamp("us", tz="UTC")
_BOTH, _RESULTS, _ERRORS = (True, True), (True, False), (False, True)


class Column(NamedTuple):
    """A column."""

    name: str
    kind: pa.DataType
    #: Whether results.parquet has it, and whether errors.parquet has.
    files: tuple[bool, bool]
    #: What it says.
    about: str
    #: Whether it has few different values, so that a dictionary is worth its memory.
    repeats: bool = False


COLUMNS = (
    Column("run_id", _TEXT, _BOTH, "the run's name", repeats=True),
    Column("item_id", _TEXT, _BOTH, "the row's name: its value in `dataset.id`, or a hash of the row"),
    Column("item_index", _COUNT, _BOTH, "the row's position in the dataset, from 0"),
    Column("sample_index", _SMALL, _BOTH, "which repeat of the row, from 0"),
    Column("task", _TEXT, _BOTH, "the task's alias", repeats=True),
    Column(
        "task_type",
        _TEXT,
        _BOTH,
        "chat_completion, completion, embedding, metric or auto_evaluation.guided_decoding",
        repeats=True,
    ),
    Column("model", _TEXT, _BOTH, "the model that was asked for", repeats=True),
    Column("endpoint", _TEXT, _BOTH, "the base URL, without secrets", repeats=True),
    Column(
        "output",
        _TEXT,
        _RESULTS,
        "the answer's text; of a judge its verdict, of a metric what it took for the answer, of an embedding the vector",
    ),
    Column("value", _NUMBER, _RESULTS, "of a metric its value; of a judge what its verdict counts"),
    Column("reasoning", _TEXT, _RESULTS, "reasoning that the server sent apart from the text"),
    Column("refusal", _TEXT, _RESULTS, "the model's refusal, where the server names it"),
    Column("tool_calls", _TEXT, _RESULTS, "the calls of functions, as JSON"),
    Column(
        "finish_reason",
        _TEXT,
        _RESULTS,
        "stop, length, tool_calls, content_filter, or another word",
        repeats=True,
    ),
    Column("choices", _TEXT, _RESULTS, "all choices as JSON, where there is more than one"),
    Column("logprobs", _TEXT, _RESULTS, "as JSON"),
    Column("prompt_tokens", _COUNT, _RESULTS, "as the server counted them"),
    Column("completion_tokens", _COUNT, _RESULTS, "as the server counted them"),
    Column("total_tokens", _COUNT, _RESULTS, "as the server counted them"),
    Column("reasoning_tokens", _COUNT, _RESULTS, "those of `completion_tokens` that are reasoning"),
    Column("cached_tokens", _COUNT, _RESULTS, "those of `prompt_tokens` that the server had cached"),
    Column("response_id", _TEXT, _RESULTS, "the answer's id"),
    Column("response_model", _TEXT, _RESULTS, "the model that the server says has answered", repeats=True),
    Column("system_fingerprint", _TEXT, _RESULTS, "what the server says of its own version", repeats=True),
    Column("error_type", _TEXT, _ERRORS, "the kind of error", repeats=True),
    Column("message", _TEXT, _ERRORS, "what went wrong, in the server's own words where it said any"),
    Column("status_code", _SMALL, _ERRORS, "the HTTP status, where there was one"),
    Column("attempts", _SMALL, _BOTH, "requests that were sent for it"),
    Column("cached", pa.bool_(), _RESULTS, "whether it was taken from another run or the cache, and nothing was sent for it"),
    Column("response_body", _TEXT, _ERRORS, "the beginning of what the server sent"),
    Column("retry_after_s", _NUMBER, _ERRORS, "for how long the server asked to be left alone, in seconds"),
    Column("started_at", _TIME, _BOTH, "when the first attempt was sent"),
    Column("completed_at", _TIME, _BOTH, "when the result was there"),
    Column("latency_s", _NUMBER, _RESULTS, "from sending to the whole answer, of the attempt that was answered, in seconds"),
    Column("ttft_s", _NUMBER, _RESULTS, "from sending to the first token of a stream, in seconds"),
    Column("queue_s", _NUMBER, _BOTH, "what it waited for its turn, and for the endpoint to be back, in seconds"),
    Column("backoff_s", _NUMBER, _BOTH, "what it waited between attempts, in seconds"),
    Column("item", _TEXT, _BOTH, "the row, as JSON"),
    Column("request", _TEXT, _BOTH, "the body that was sent, as JSON, with placeholders for media"),
    Column("response", _TEXT, _RESULTS, "the body that came, as JSON; of a stream, put together"),
    Column("cost", _NUMBER, _RESULTS, "what the answer has cost in $, by `prices`; 0 where it was kept from before"),
    Column("skipped", pa.bool_(), _RESULTS, "whether it was not run: its `run_condition` did not hold"),
)


def _schema(file: int) -> pa.Schema:
    return pa.schema([(column.name, column.kind) for column in COLUMNS if column.files[file]])


RESULTS_SCHEMA = _schema(0)
ERRORS_SCHEMA = _schema(1)
REPEATING = frozenset(column.name for column in COLUMNS if column.repeats)
