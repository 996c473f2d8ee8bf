"""The Parquet files have the columns of the contract, whatever the results, and are whole or absent; `load` opens them.

The schemas are written down here once more, word for word: a column that is renamed, moved or retyped breaks its users.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runner
from runner.errors import RunDirError, StorageError
from runner.storage import parquet
from runner.storage.parquet import can_be_read, write_views
from runner.storage.records import End
from tests.records import END, failure, opening, result, write_segment

RUN = "20261121T021500Z-4f2a"
HEAD = "run_id str · item_id str · item_index int64 · sample_index int32 · task str · task_type str · model str · endpoint str"
RESULTS = f"""{HEAD} · output str · value float64 · reasoning str · refusal str · tool_calls str · finish_reason str ·
    choices str · logprobs str · prompt_tokens int64 · completion_tokens int64 · total_tokens int64 · reasoning_tokens int64 ·
    cached_tokens int64 · response_id str · response_model str · system_fingerprint str · attempts int32 · cached bool ·
    started_at time · completed_at time · latency_s float64 · ttft_s float64 · queue_s float64 · backoff_s float64 ·
    item str · request str · response str · cost float64 · skipped bool"""
ERRORS = f"""{HEAD} · error_type str · message str · status_code int32 · attempts int32 · response_body str ·
    retry_after_s float64 · started_at time · completed_at time · queue_s float64 · backoff_s float64 · item str ·
    request str"""
TYPES = {
    "str": pa.string(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
}
FILES = ["errors.parquet", "results.parquet"]


def columns(text: str) -> list[tuple[str, Any]]:
    """Return names and types of a contract's list of columns."""
    pairs = [column.split() for column in text.split("·")]
    return [(name, TYPES[kind]) for name, kind in pairs]


def rows(directory: Path, name: str = "results") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(directory / f"{name}.parquet").to_pylist()
    return found


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- the columns ---


@pytest.mark.parametrize(
    "ends",
    [[], [result(0)], [failure(0)], [result(0), failure(1)], [result(index) for index in range(3)]],
    ids=["nothing", "a result", "an error", "both", "three results"],
)
def test_the_schema_is_the_contracts_whatever_is_in_the_files(tmp_path: Path, ends: list[End]) -> None:
    errors = sum(end.error_type is not None for end in ends)
    assert write_views(ends, tmp_path, RUN) == (len(ends) - errors, errors)
    for name, contract in (("results", RESULTS), ("errors", ERRORS)):
        schema = pq.read_schema(tmp_path / f"{name}.parquet")
        assert [(field.name, field.type) for field in schema] == columns(contract)
    assert len(rows(tmp_path)) == len(ends) - errors
    assert len(rows(tmp_path, "errors")) == errors


def test_every_column_holds_what_it_is_named_after(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "item_id": "fr", "item_index": 2**40, "sample_index": 2, "task": "answer", "task_type": "chat_completion",
        "model": "m", "endpoint": "http://e/v1", "output": "Paris", "value": 0.25, "reasoning": "why", "refusal": "no",
        "tool_calls": "[]", "finish_reason": "stop", "choices": "[1]", "logprobs": "{}", "prompt_tokens": 2**62,
        "completion_tokens": 2, "total_tokens": 3, "reasoning_tokens": 4, "cached_tokens": 5, "response_id": "id",
        "response_model": "m-1", "system_fingerprint": "fp", "attempts": 3, "cached": True, "latency_s": 0.5, "ttft_s": 0.1,
        "queue_s": 1.5, "backoff_s": 2.5, "item": '{"a":1}', "request": '{"b":2}', "response": '{"c":3}',
        "cost": 0.00125, "skipped": True,
    }  # fmt: skip
    error: dict[str, Any] = {
        "error_type": "rate_limit", "message": "slow down", "status_code": 429, "response_body": "{}", "retry_after_s": 1.5,
    }  # fmt: skip
    times: dict[str, Any] = {"started_at": 1_763_691_300_000_001, "completed_at": 1_763_691_301_000_002}
    shared = {name: values[name] for name, _ in columns(ERRORS) if name in values}
    write_views([End(**values, **times), End(**shared, **error, **times)], tmp_path, RUN)
    moments = {
        "started_at": datetime(2025, 11, 21, 2, 15, 0, 1, tzinfo=UTC),
        "completed_at": datetime(2025, 11, 21, 2, 15, 1, 2, tzinfo=UTC),
    }
    assert rows(tmp_path) == [{"run_id": RUN} | values | moments]
    assert rows(tmp_path, "errors") == [{"run_id": RUN} | shared | error | moments]


def test_what_is_unknown_is_null(tmp_path: Path) -> None:
    bare: dict[str, Any] = {"item_id": "a", "item_index": 0, "task": "answer", "task_type": "chat_completion"}
    write_views([End(**bare), End(**bare, error_type="dataset")], tmp_path, RUN)
    (row,), (error,) = rows(tmp_path), rows(tmp_path, "errors")
    known = {
        *bare,
        "run_id",
        "sample_index",
        "attempts",
        "cached",
        "skipped",
        "started_at",
        "completed_at",
        "queue_s",
        "backoff_s",
        "item",
    }
    assert {name for name, value in row.items() if value is not None} == known
    assert {name for name, value in error.items() if value is not None} == (known - {"cached", "skipped"}) | {"error_type"}


def test_an_empty_answer_is_no_missing_one(tmp_path: Path) -> None:
    write_views([result(0, output=""), result(1, output=None), result(2, output="", prompt_tokens=0)], tmp_path, RUN)
    assert [row["output"] for row in rows(tmp_path)] == ["", None, ""]
    assert [row["prompt_tokens"] for row in rows(tmp_path)] == [None, None, 0]


@pytest.mark.long
@given(st.lists(END, max_size=12))
def test_any_result_comes_back_as_it_was_and_in_order(ends: list[End]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_views(ends, directory, RUN)
        for file, contract, kept in (
            ("results", RESULTS, [end for end in ends if end.error_type is None]),
            ("errors", ERRORS, [end for end in ends if end.error_type is not None]),
        ):
            wanted = [column for column, kind in columns(contract) if column != "run_id" and kind != TYPES["time"]]
            found = rows(directory, file)
            assert [[row[column] for column in wanted] for row in found] == [[getattr(end, c) for c in wanted] for end in kept]
            assert {row["run_id"] for row in found} <= {RUN}


def test_not_a_number_is_kept_apart_from_null(tmp_path: Path) -> None:
    write_views([result(0, value=math.nan), result(1, value=None), result(2, value=math.inf)], tmp_path, RUN)
    found = [row["value"] for row in rows(tmp_path)]
    assert math.isnan(found[0])
    assert found[1:] == [None, math.inf]


@pytest.mark.long
def test_many_rows_and_large_ones_are_written_in_pieces_and_in_order(tmp_path: Path) -> None:
    def ends() -> Iterator[End]:
        for index in range(12_000):
            yield result(index, response="x" * (1_000_000 if index % 1000 == 0 else 10))

    assert write_views(ends(), tmp_path, RUN) == (12_000, 0)
    assert pq.ParquetFile(tmp_path / "results.parquet").metadata.num_row_groups >= 3
    assert [row["item_index"] for row in rows(tmp_path)] == list(range(12_000))


def test_row_groups_grow_with_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs memory until the end: of a run of millions of rows there must not be thousands."""
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 1)
    size = 10_000
    monkeypatch.setattr(parquet, "_ROW_GROUP_BYTES", ((0, size), (2, 2 * size), (4, 3 * size)))
    write_views((result(index, response="x" * size) for index in range(18)), tmp_path, RUN)
    written = pq.ParquetFile(tmp_path / "results.parquet").metadata
    assert [written.row_group(group).num_rows for group in range(written.num_row_groups)] == [1, 1, 2, 2, 3, 3, 3, 3]


def test_only_what_can_be_counted_has_statistics(tmp_path: Path) -> None:
    write_views([result(0)], tmp_path, RUN)
    found = pq.ParquetFile(tmp_path / "results.parquet")
    group = found.metadata.row_group(0)
    with_statistics = {
        group.column(index).path_in_schema for index in range(group.num_columns) if group.column(index).statistics
    }
    assert with_statistics == {field.name for field in found.schema_arrow if field.type != pa.string()}


# --- the files ---


def test_the_files_are_compressed_and_for_the_owner_alone(tmp_path: Path) -> None:
    write_views([result(0), failure(1)], tmp_path, RUN)
    assert names(tmp_path) == FILES
    for name in FILES:
        group = pq.ParquetFile(tmp_path / name).metadata.row_group(0)
        assert {group.column(index).compression for index in range(group.num_columns)} == {"ZSTD"}
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def breaking(error: Exception) -> Iterator[End]:
    """Yield enough results that some are already on disk, and break."""
    for index in range(6000):
        yield result(index)
    raise error


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(28, "No space left on device"), StorageError),
        (pa.ArrowInvalid("bad"), StorageError),
        (KeyError("bug"), KeyError),
    ],
)
def test_where_writing_fails_the_old_files_stay_and_no_other(tmp_path: Path, error: Exception, raised: type[Exception]) -> None:
    write_views([result(0), failure(1)], tmp_path, RUN)
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    with pytest.raises(raised):
        write_views(breaking(error), tmp_path, RUN)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_where_nothing_was_before_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the Parquet files cannot be written: .*No space left.*`export` makes them later"):
        write_views(breaking(OSError(28, "No space left on device")), tmp_path, RUN)
    assert names(tmp_path) == []


def test_a_directory_that_is_gone_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_views([result(0)], tmp_path / "gone", RUN)


def test_a_directory_in_the_files_place_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    (path / "mine").mkdir(parents=True)
    assert write_views([result(0)], tmp_path, RUN) == (1, 0)
    path.unlink()
    (path / "mine too").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot be written"):  # what was put aside before is not written over
        write_views([result(0)], tmp_path, RUN)
    assert (tmp_path / "results.parquet.aside" / "mine").is_dir()
    assert (path / "mine too").is_dir()
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]


@pytest.mark.long
def test_a_byte_that_was_changed_is_noticed_where_it_changes_what_is_read(tmp_path: Path) -> None:
    write_views([result(index, output=f"{index} " * 50) for index in range(20)], tmp_path, RUN)
    assert can_be_read(tmp_path, 20, 0)
    assert not can_be_read(tmp_path, 19, 0)
    path = tmp_path / "results.parquet"
    content, table = path.read_bytes(), pq.read_table(path)
    noticed = 0
    for place in range(0, len(content), 61):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        if can_be_read(tmp_path, 20, 0):
            assert pq.read_table(path).equals(table), place
        else:
            noticed += 1
    assert noticed > 40


def test_new_files_take_the_place_of_old_ones(tmp_path: Path) -> None:
    write_views([result(0)], tmp_path, RUN)
    opened = os.open(tmp_path / "results.parquet", os.O_RDONLY)
    write_views([result(0), result(1)], tmp_path, RUN)
    assert len(rows(tmp_path)) == 2
    with os.fdopen(opened, "rb") as file:  # who had the old one open reads it to its end
        assert pq.read_table(file).num_rows == 1


# --- in pandas ---


def test_pandas_sees_the_types(tmp_path: Path) -> None:
    write_views([result(0, prompt_tokens=3, cached=True), result(1), failure(2)], tmp_path, RUN)
    frame = pd.read_parquet(tmp_path / "results.parquet")
    kinds = {"item_index": "int64", "sample_index": "int32", "attempts": "int32", "cached": "bool", "latency_s": "float64"}
    assert {name: str(frame[name].dtype) for name in kinds} == kinds
    assert str(frame["completed_at"].dtype) == "datetime64[us, UTC]"
    assert frame["completed_at"][0] == pd.Timestamp("1970-01-01T00:00:02Z")
    assert pd.api.types.is_string_dtype(frame["output"])
    assert frame["prompt_tokens"].isna().tolist() == [False, True]
    errors = pd.read_parquet(tmp_path / "errors.parquet")
    assert errors["status_code"].tolist() == [500]
    assert list(frame.columns) == [name for name, _ in columns(RESULTS)]
    assert list(errors.columns) == [name for name, _ in columns(ERRORS)]


def test_pandas_sees_the_same_types_in_empty_files(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "empty").mkdir()
    write_views([result(0), failure(1)], tmp_path / "full", RUN)
    write_views([], tmp_path / "empty", RUN)
    for name in ("item_index", "attempts", "completed_at", "output"):
        full, empty = (pd.read_parquet(tmp_path / which / "results.parquet")[name].dtype for which in ("full", "empty"))
        assert full == empty


# --- load ---


def run_of(directory: Path, tasks: Sequence[tuple[str, int]], ends: Iterable[End]) -> Path:
    """Make a run directory that has nothing but its journal."""
    directory.mkdir(exist_ok=True)
    write_segment(directory / "journal", [opening(tasks), *ends])
    return directory


def of_item(end: End, **item: Any) -> End:
    """Return a result with the dataset's row that it belongs to."""
    return End(**({name: getattr(end, name) for name in End.__struct_fields__} | {"item": json.dumps(item)}))


def test_load_gives_a_row_per_item_and_a_column_per_alias(tmp_path: Path) -> None:
    tasks = [("answer", 1), ("correct", 1)]
    ends = [
        of_item(result(0), q="Paris?", n=1),
        of_item(result(0, "correct", task_type="metric", output="answer 0", value=1.0, request=None), q="Paris?", n=1),
        of_item(result(1, output=None), q="Rome?", n=2),
        of_item(result(1, "correct", task_type="metric", output=None, value=0.0, request=None), q="Rome?", n=2),
        of_item(failure(2), q="Oslo?", n=3),
        of_item(failure(2, "correct", error_type="dependency"), q="Oslo?", n=3),
    ]
    frames = runner.load(run_of(tmp_path / "run", tasks, ends))
    assert list(frames.wide.columns) == ["item_index", "item_id", "sample_index", "q", "n", "answer", "correct"]
    assert frames.wide["item_id"].tolist() == ["row-0", "row-1", "row-2"]
    assert frames.wide["q"].tolist() == ["Paris?", "Rome?", "Oslo?"]
    assert frames.wide["n"].tolist() == [1, 2, 3]
    assert frames.wide["answer"].fillna("–").tolist() == ["answer 0", "–", "–"]
    assert frames.wide["correct"].fillna(-1).tolist() == [1.0, 0.0, -1.0]
    assert (len(frames.results), len(frames.errors)) == (4, 2)
    assert frames.results["run_id"].unique().tolist() == [opening().run_id]
    assert names(tmp_path / "run") == ["journal"], "load changes nothing in the run directory"


@pytest.mark.parametrize("more", [{"error_type": "dependency"}, {"error_type": None, "skipped": True}])
def test_a_metric_that_nothing_came_of_is_a_column_of_numbers(tmp_path: Path, more: dict[str, Any]) -> None:
    ends = [one for n in range(2) for one in (failure(n), failure(n, "correct", task_type="metric", request=None, **more))]
    wide = runner.load(run_of(tmp_path / "run", [("answer", 1), ("correct", 1)], [of_item(one, k="a") for one in ends])).wide
    assert wide.groupby("k")["correct"].mean().isna().tolist() == [True]


def test_load_gives_a_row_per_sample(tmp_path: Path) -> None:
    ends = [result(item, "answer", sample, output=f"{item}.{sample}") for item in range(2) for sample in range(3)]
    ends += [result(item, "once", output=f"once {item}") for item in range(2)]
    wide = runner.load(run_of(tmp_path / "run", [("answer", 3), ("once", 1)], ends)).wide
    assert wide[["item_index", "sample_index"]].to_numpy().tolist() == [[i, s] for i in range(2) for s in range(3)]
    assert wide["answer"].tolist() == [f"{item}.{sample}" for item in range(2) for sample in range(3)]
    assert wide["once"].fillna("–").tolist() == ["once 0", "–", "–", "once 1", "–", "–"]


def test_columns_named_like_ours_get_a_prefix(tmp_path: Path) -> None:
    item = {"item_id": "theirs", "sample_index": 9, "answer": "right", "output": "x", "value": 3, "task": "t"}
    wide = runner.load(run_of(tmp_path / "run", [("answer", 1)], [of_item(result(0), **item)])).wide
    assert wide.iloc[0].to_dict() == {
        "item_index": 0, "item_id": "row-0", "sample_index": 0, "item.item_id": "theirs", "item.sample_index": 9,
        "item.answer": "right", "output": "x", "value": 3, "task": "t", "answer": "answer 0",
    }  # fmt: skip


@pytest.mark.parametrize("alias", ["output", "value", "item", "task", "run_id"])
def test_an_alias_may_be_named_like_a_column_of_the_files(tmp_path: Path, alias: str) -> None:
    wide = runner.load(run_of(tmp_path / "run", [(alias, 1)], [of_item(result(0, alias), q=1)])).wide
    assert wide[alias].tolist() == ["answer 0"]


@pytest.mark.parametrize("alias", ["item_id", "item_index", "sample_index"])
def test_an_alias_that_is_named_like_a_key_gets_a_prefix(tmp_path: Path, alias: str) -> None:
    wide = runner.load(run_of(tmp_path / "run", [(alias, 1)], [of_item(result(0, alias), q=1)])).wide
    assert wide[f"task.{alias}"].tolist() == ["answer 0"]
    assert wide["item_id"].tolist() == ["row-0"]


def test_rows_of_different_columns_share_one_frame(tmp_path: Path) -> None:
    ends = [of_item(result(0), a=1), of_item(failure(1)), of_item(result(2), b={"deep": [1]})]
    wide = runner.load(run_of(tmp_path / "run", [("answer", 1)], ends)).wide
    assert wide["a"].fillna(-1).tolist() == [1, -1, -1]
    assert wide["b"][2] == {"deep": [1]}


@pytest.mark.parametrize("ends", [[], [failure(0)]], ids=["nothing", "only an error"])
def test_load_opens_a_run_without_results(tmp_path: Path, ends: list[End]) -> None:
    frames = runner.load(run_of(tmp_path / "run", [("answer", 1)], ends))
    assert len(frames.wide) == len(ends)
    assert list(frames.wide.columns) == ["item_index", "item_id", "sample_index", "answer"]
    assert [name for name, _ in columns(RESULTS)] == list(frames.results.columns)


def test_load_of_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"is not a run directory .*results/NAME/latest"):
        runner.load(tmp_path)
