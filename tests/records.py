"""Journal lines, directories and Hypothesis strategies for tests of the storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
from hypothesis import strategies as st

from runner.storage import index
from runner.storage.journal import Journal, read_segment, segments_of
from runner.storage.records import FORMAT, End, Open

__all__ = ["END", "TEXT", "ends_in", "failure", "opening", "result", "short_stretches", "write_segment"]

#: Any text that UTF-8 can hold, with an eye to what breaks lines, quotes and files.
TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "",
        '"',
        "\\",
        "\n",
        "\r\n",
        "\0",
        "\x1b[0m",
        "\u2028",
        "\x85",
        "”“",
        "日本",
        "🦜",
        "a" * 300,
        '{"kind":"end"}',
        "00000000 {}",
    ]
)
_COUNT = st.none() | st.integers(0, 2**63 - 1)
_SECONDS = st.floats(0, 1e6)
_MAYBE = st.none() | TEXT

#: Any result that a run could keep.
END = st.builds(
    End,
    item_id=TEXT,
    item_index=st.integers(0, 2**40),
    sample_index=st.integers(0, 100_000),
    task=st.sampled_from(["answer", "judge", "correct"]),
    task_type=st.sampled_from(["chat_completion", "metric"]),
    model=_MAYBE,
    endpoint=_MAYBE,
    error_type=st.none() | st.sampled_from(["server", "template"]),
    message=_MAYBE,
    status_code=st.none() | st.integers(100, 599),
    response_body=_MAYBE,
    retry_after_s=st.none() | _SECONDS,
    output=_MAYBE,
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    reasoning=_MAYBE,
    tool_calls=_MAYBE,
    finish_reason=_MAYBE,
    prompt_tokens=_COUNT,
    cached_tokens=_COUNT,
    attempts=st.integers(0, 1000),
    cached=st.booleans(),
    started_at=st.integers(0, 2**52),
    completed_at=st.integers(0, 2**52),
    latency_s=st.none() | _SECONDS,
    queue_s=_SECONDS,
    item=TEXT,
    request=_MAYBE,
    response=_MAYBE,
)


def opening(tasks: Sequence[tuple[str, int]] = (("answer", 1),), **more: Any) -> Open:
    """Return the first line of a segment."""
    fields: dict[str, Any] = {
        "format": FORMAT,
        "run_id": "20261121T021500Z-4f2a",
        "name": "capitals",
        "at": 1_000_000,
        "host": "here",
        "pid": 1,
        "tasks": list(tasks),
        "identity": {},
        "files": [],
        "concurrency": 4,
    }
    return Open(**(fields | more))


def result(index: int, task: str = "answer", sample: int = 0, **more: Any) -> End:
    """Return an answer."""
    fields: dict[str, Any] = {
        "item_id": f"row-{index}",
        "item_index": index,
        "sample_index": sample,
        "task": task,
        "task_type": "chat_completion",
        "output": f"answer {index}",
        "attempts": 1,
        "started_at": 1_000_000,
        "completed_at": 2_000_000,
        "ran_us": 1_000_000,
        "request": "{}",
    }
    return End(**(fields | more))


def failure(index: int, task: str = "answer", sample: int = 0, **more: Any) -> End:
    """Return an error."""
    fields: dict[str, Any] = {
        "output": None,
        "error_type": "server",
        "message": "500 Internal Server Error",
        "status_code": 500,
    }
    return result(index, task, sample, **(fields | more))


def write_segment(directory: Path, records: Iterable[msgspec.Struct]) -> Path:
    """Write one segment of a journal and close it."""
    directory.mkdir(exist_ok=True)
    journal = Journal(directory)
    for record in records:
        journal.append(record)
    journal.close()
    return journal.path


@contextmanager
def short_stretches() -> Iterator[None]:
    """Within the block a journal has blocks in its index after a few lines, as a long one has."""
    with patch.object(index, "_STRETCH_BYTES", 700):
        yield


def ends_in(directory: Path) -> list[End]:
    """Return every result of a journal in the order in which they were written, superseded ones too."""
    payloads = [line.payload for segment in segments_of(directory) for line in read_segment(segment)]
    return [msgspec.json.decode(payload, type=End) for payload in payloads if payload and b'"kind":"end"' in payload[:14]]
