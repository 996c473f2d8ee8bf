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
    #: Whether results.parquet has it, and whether errors.parquet has it.
    files: tuple[bool, bool]
    #: Its meaning, for the table in README.md.
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
    Column("model", _TEXT, _BOTH, "the model of the request", repeats=True),
    Column("endpoint", _TEXT, _BOTH, "the base URL, without secrets", repeats=True),
    Column(
        "output",
        _TEXT,
        _RESULTS,
        "the answer's text; for a judge its verdict, for a metric the answer it found, for an embedding the vector",
    ),
    Column("value", _NUMBER, _RESULTS, "the value of a metric; the score of a judge's verdict"),
    Column("reasoning", _TEXT, _RESULTS, "reasoning that the server sent apart from the text"),
    Column("refusal", _TEXT, _RESULTS, "the model's refusal, if the server reports one"),
    Column("tool_calls", _TEXT, _RESULTS, "the tool calls, as JSON"),
    Column(
        "finish_reason",
        _TEXT,
        _RESULTS,
        "stop, length, tool_calls, content_filter, or another word",
        repeats=True,
    ),
    Column("choices", _TEXT, _RESULTS, "all choices as JSON, if there is more than one"),
    Column("logprobs", _TEXT, _RESULTS, "as JSON"),
    Column("prompt_tokens", _COUNT, _RESULTS, "as the server counted them"),
    Column("completion_tokens", _COUNT, _RESULTS, "as the server counted them"),
    Column("total_tokens", _COUNT, _RESULTS, "as the server counted them"),
    Column("reasoning_tokens", _COUNT, _RESULTS, "the part of `completion_tokens` that is reasoning"),
    Column("cached_tokens", _COUNT, _RESULTS, "the part of `prompt_tokens` that the server had cached"),
    Column("response_id", _TEXT, _RESULTS, "the answer's id"),
    Column("response_model", _TEXT, _RESULTS, "the model that answered, as the server says", repeats=True),
    Column("system_fingerprint", _TEXT, _RESULTS, "the version of the server, as it says", repeats=True),
    Column("error_type", _TEXT, _ERRORS, "the kind of error", repeats=True),
    Column("message", _TEXT, _ERRORS, "what went wrong, with the server's own message if there is one"),
    Column("status_code", _SMALL, _ERRORS, "the HTTP status, if there was one"),
    Column("attempts", _SMALL, _BOTH, "how many requests were sent for it"),
    Column("cached", pa.bool_(), _RESULTS, "whether it was taken from another run or the cache, and nothing was sent for it"),
    Column("response_body", _TEXT, _ERRORS, "the beginning of what the server sent"),
    Column("retry_after_s", _NUMBER, _ERRORS, "how many seconds the server asked to wait"),
    Column("started_at", _TIME, _BOTH, "when the first attempt was sent"),
    Column("completed_at", _TIME, _BOTH, "when the result was complete"),
    Column("latency_s", _NUMBER, _RESULTS, "seconds from sending to the whole answer, for the attempt that was answered"),
    Column("ttft_s", _NUMBER, _RESULTS, "seconds from sending to the first token of a stream"),
    Column("queue_s", _NUMBER, _BOTH, "seconds it waited for its turn, and for the endpoint to be back"),
    Column("backoff_s", _NUMBER, _BOTH, "seconds it waited between attempts"),
    Column("item", _TEXT, _BOTH, "the row, as JSON"),
    Column("request", _TEXT, _BOTH, "the body that was sent, as JSON, with placeholders for media"),
    Column("response", _TEXT, _RESULTS, "the body of the answer, as JSON; a stream is put together"),
    Column("cost", _NUMBER, _RESULTS, "the cost of the answer in $, by `prices`; 0 if `cached`"),
    Column("skipped", pa.bool_(), _RESULTS, "whether it was not run: its `run_condition` did not hold"),
)


def _schema(file: int) -> pa.Schema:
    return pa.schema([(column.name, column.kind) for column in COLUMNS if column.files[file]])


RESULTS_SCHEMA = _schema(0)
ERRORS_SCHEMA = _schema(1)
REPEATING = frozenset(column.name for column in COLUMNS if column.repeats)
