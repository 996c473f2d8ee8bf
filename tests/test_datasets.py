"""Every row of every format comes out once, in order, under one name; a bad row costs only itself, a bad file is refused."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import json
import lzma
import math
import os
import sqlite3
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.datasets import Dataset, ReadingOptions, formats, json_arrays, open_dataset, seen_ids
from runner.datasets.files import File
from runner.datasets.row_ids import id_of
from runner.datasets.rows import Cursor, Rows
from runner.datasets.seen_ids import SeenIds
from runner.errors import DatasetError, DatasetReadError, StorageError
from runner.fingerprint import fingerprint_of
from runner.types import Blob, ErrorType, Item

ROWS: list[dict[str, Any]] = [{"id": f"r{n}", "text": f"line {n}\n“ü”😀", "n": n} for n in range(5)]
TEXT_ROWS = [{"id": row["id"], "text": row["text"], "n": str(row["n"])} for row in ROWS]


def opened(
    *paths: Path | str,
    data: Sequence[dict[str, Any]] | None = None,
    id_column: str | None = None,
    limit: int | None = None,
    shuffle: int | None = None,
    **options: Any,
) -> Dataset:
    names = [str(path) for path in paths] or None
    reading = ReadingOptions(**options)
    return open_dataset(path=names, data=data, id_column=id_column, limit=limit, shuffle=shuffle, options=reading)


def rows(dataset: Dataset) -> list[dict[str, Any]]:
    return [dict(item.row) for item in dataset if item.failure is None]


def file(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def lines(values: Sequence[object]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def csv_text(delimiter: str = ",") -> bytes:
    head = delimiter.join(("id", "text", "n"))
    return "\r\n".join([head, *(delimiter.join((row["id"], f'"{row["text"]}"', row["n"])) for row in TEXT_ROWS), ""]).encode()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def arrow(table: Any, *, stream: bool = False, chunk: int | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return bytes(sink.getvalue())


def parquet(table: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def failure(item: Item) -> str:
    assert item.failure is not None
    assert item.failure.error_type is ErrorType.DATASET
    return item.failure.message


def failures(dataset: Dataset, folder: Path) -> list[str]:
    return [failure(item).replace(f"{folder}/", "") for item in dataset if item.failure is not None]


def refused(folder: Path, *paths: Path | str, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        opened(*paths, **options)
    return str(caught.value).replace(f"{folder}/", "")


# Formats


FORMATS: list[tuple[str, bytes, list[dict[str, Any]]]] = [
    ("rows.jsonl", lines(ROWS), ROWS),
    ("rows.JSONL", lines(ROWS), ROWS),
    ("rows.jsonl.gz", gzip.compress(lines(ROWS), mtime=0), ROWS),
    ("rows.JSONL.GZ", gzip.compress(lines(ROWS), mtime=0), ROWS),
    ("rows.jsonl.zst", zstd(lines(ROWS)), ROWS),
    ("rows.v2.jsonl.zst", zstd(lines(ROWS[:2])) + zstd(lines(ROWS[2:])), ROWS),
    ("two.jsonl.gz", gzip.compress(lines(ROWS[:2]), mtime=0) + gzip.compress(lines(ROWS[2:]), mtime=0), ROWS),
    ("rows.json", json.dumps(ROWS).encode(), ROWS),
    ("pretty.json", b"\xef\xbb\xbf \n" + b" " * 9000 + json.dumps(ROWS, indent=2, ensure_ascii=False).encode(), ROWS),
    ("rows.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0), ROWS),
    ("rows.json.zst", zstd(json.dumps(ROWS).encode()), ROWS),
    ("rows.csv", csv_text(), TEXT_ROWS),
    ("bom.csv", b"\xef\xbb\xbf" + csv_text(), TEXT_ROWS),
    ("rows.csv.gz", gzip.compress(csv_text(), mtime=0), TEXT_ROWS),
    ("rows.csv.zst", zstd(csv_text()), TEXT_ROWS),
    ("rows.tsv", csv_text("\t"), TEXT_ROWS),
    ("rows.tsv.gz", gzip.compress(csv_text("\t"), mtime=0), TEXT_ROWS),
    ("rows.parquet", parquet(pa.Table.from_pylist(ROWS), row_group_size=2), ROWS),
    ("rows.arrow", arrow(pa.Table.from_pylist(ROWS), chunk=2), ROWS),
    ("stream.arrow", arrow(pa.Table.from_pylist(ROWS), stream=True, chunk=2), ROWS),
]


@pytest.mark.parametrize(("name", "content", "expected"), FORMATS, ids=[name for name, _, _ in FORMATS])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, content: bytes, expected: list[dict[str, Any]]) -> None:
    dataset = opened(file(tmp_path, name, content), id_column="id")
    items = list(dataset)
    assert [item.failure for item in items] == [None] * 5
    assert [dict(item.row) for item in items] == expected
    assert [(item.item_id, item.index) for item in items] == [(f"r{n}", n) for n in range(5)]
    assert list(dataset) == items  # it reads from the start again
    assert list(dataset.first_rows) == expected


@pytest.mark.parametrize(
    ("name", "content"), [(name, content) for name, content, _ in FORMATS], ids=[one[0] for one in FORMATS]
)
def test_the_number_of_rows_is_known_before_all_are_asked(tmp_path: Path, name: str, content: bytes) -> None:
    path = file(tmp_path, name, content)

    def known(**options: Any) -> int | None:
        dataset, go_on = opened(path, **options), Event()
        survey = dataset.survey(go_on)
        assert survey is not None
        told = [one for one in (dataset.total, survey.total, dataset.count(go_on)) if one is not None]
        assert len(set(told)) == 1
        return told[0]

    assert (known(), known(limit=3), known(limit=30)) == (5, 3, 5)


def test_rows_are_not_lines(tmp_path: Path) -> None:
    content = b'q,a\n"two\nlines",1\n\nbad\n"say ""a\nb""",2\n'
    dataset = opened(file(tmp_path, "a.csv", content), file(tmp_path, "b.csv", b"q,a\nx,1\n"))
    assert dataset.count(Event()) == len(list(dataset)) == 4


def test_counting_ends_when_it_is_told_to_or_cannot_go_on(tmp_path: Path) -> None:
    rows = b"q,a\n" + b"x,1\n" * 5000
    stop = Event()
    stop.set()
    assert opened(file(tmp_path, "many.csv", rows)).count(stop) is None
    long = b"".join(b"%s\n" % os.urandom(50).hex().encode() for _ in range(5000))
    broken = opened(file(tmp_path, "cut.csv.gz", gzip.compress(b"q\n" + long)[:-3000]))
    assert broken.count(Event()) is None


def test_globs_and_lists_come_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name, row in (("b/3.jsonl", 3), ("b/1.jsonl", 1), ("b/2.jsonl", 2), ("a.jsonl", 0)):
        file(tmp_path, name, lines([{"n": row}]))
    numbers = [row["n"] for row in rows(opened(tmp_path / "b" / "*.jsonl", tmp_path / "a.jsonl"))]
    assert numbers == [1, 2, 3, 0]
    assert [row["n"] for row in rows(opened(tmp_path / "**" / "*.jsonl"))] == [0, 1, 2, 3]
    assert [item.index for item in opened(tmp_path / "b" / "[13].jsonl")] == [0, 1]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    assert rows(opened(file(tmp_path, "[a].jsonl", lines([{"n": 1}])))) == [{"n": 1}]


def test_a_glob_leaves_directories_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    file(tmp_path, "b.jsonl", lines([{"n": 1}]))
    assert rows(opened(tmp_path / "*.jsonl")) == [{"n": 1}]


def test_inline_rows() -> None:
    dataset = opened(data=[{"id": 1}, {"id": "x"}, {"id": 1}], id_column="id")
    assert [(item.item_id, item.place) for item in dataset] == [("1", "data:1"), ("x", "data:2"), ("data:3", "data:3")]
    assert failures(dataset, Path()) == ["data:3: the id '1' is already used at data:1"]
    assert dataset.total == 3
    survey = dataset.survey()
    assert survey is not None
    assert survey.identities[0].name == "data"


# Rows that cannot be read


def test_bad_lines_cost_only_themselves(tmp_path: Path) -> None:
    content = b"\r\n".join(
        [
            b'\xef\xbb\xbf{"n":1}',
            b"",
            b"  \t",
            b'{"n":2',
            b"[3]",
            b'"text"',
            b'{"n":"\xff"}',
            b'{"n":"\\ud800"}',
            b"\0",
            '{"n":"\u2028"}'.encode(),
            b'{"n":NaN}',
            b'{"n":18446744073709551616}',
            b"[" * 50_000,
            b'{"n":4}',
            b'{"n":5',
        ]
    )
    dataset = opened(file(tmp_path, "rows.jsonl", content))
    assert [row["n"] for row in rows(dataset)] == [1, "\ufffd", "\u2028", None, 1 << 64, 4]
    assert failures(dataset, tmp_path) == [
        "rows.jsonl:4: not JSON: Expecting ',' delimiter at character 8",
        "rows.jsonl:5: a row is a JSON object, got list",
        "rows.jsonl:6: a row is a JSON object, got str",
        "rows.jsonl:7: not JSON: not UTF-8: byte 0xff at offset 6",
        "rows.jsonl:9: not JSON: Expecting value at character 0",
        "rows.jsonl:13: not JSON: nested too deeply",
        "rows.jsonl:15: not JSON: Expecting ',' delimiter at character 6",
    ]


def test_a_byte_order_mark_is_no_row(tmp_path: Path) -> None:
    dataset = opened(file(tmp_path, "rows.jsonl", b'\xef\xbb\xbf\r\n{"n":1}\r\n'))
    assert [(item.place, dict(item.row), item.failure) for item in dataset] == [(f"{tmp_path}/rows.jsonl:2", {"n": 1}, None)]


def test_a_bad_row_is_named_by_its_place_and_keeps_its_index(tmp_path: Path) -> None:
    path = file(tmp_path, "rows.jsonl", '{"id":"a"}\nbad\n{"id":"b"}\n')
    items = list(opened(path, id_column="id"))
    assert [(item.item_id, item.index, item.place) for item in items] == [
        ("a", 0, f"{path}:1"),
        (f"{path}:2", 1, f"{path}:2"),
        ("b", 2, f"{path}:3"),
    ]
    assert items[1].row == {}


@pytest.mark.parametrize("ending", [b"\n", b""])
def test_a_line_beyond_the_longest_is_left_out(tmp_path: Path, ending: bytes) -> None:
    long = [lines([{"n": "x" * size}]) for size in (85, 1000, 192)]
    dataset = opened(file(tmp_path, "rows.jsonl", b"".join([*long, b'{"n":1}\n', long[1].rstrip() + ending])), longest=100)
    assert [len(str(row["n"])) for row in rows(dataset)] == [85, 1]
    assert [message.split(":")[1] for message in failures(dataset, tmp_path)] == ["2", "3", "5"]
    assert "longer than" in failures(dataset, tmp_path)[0]


@pytest.mark.parametrize(
    ("content", "good", "bad"),
    [
        ("a,b\n1,2\n", [("1", "2")], []),
        ("a,b\r1,2\r3,4", [("1", "2"), ("3", "4")], []),
        ('a,b\n"x\ny","q""q"\n3,4\n', [("x\ny", 'q"q'), ("3", "4")], []),
        ('a,b\n"x,y",\n', [("x,y", "")], []),
        ("a,b\n\n1,2\n\n", [("1", "2")], []),
        ("a,b\n1,2\n1\n1,2,3\n3,4\n", [("1", "2"), ("3", "4")], ["3: has 1 cells, the header has 2", "4: has 3 cells, the"]),
        ('a,b\n"1\n2",3\n7\n3,4\n', [("1\n2", "3"), ("3", "4")], ["4: has 1 cells, the header has 2"]),
        (b"a,b\n\xff,2\n3,4\n", [("3", "4")], ["2: not UTF-8"]),
        ('a,b\n"1"2,3\n3,4\n', [("3", "4")], ["2: not CSV: ',' expected after '\"'"]),
        ("a,b\n", [], []),
        ("", [], []),
    ],
)
def test_csv(tmp_path: Path, content: str | bytes, good: list[tuple[str, str]], bad: list[str]) -> None:
    dataset = opened(file(tmp_path, "rows.csv", content))
    assert rows(dataset) == [{"a": a, "b": b} for a, b in good]
    found = failures(dataset, tmp_path)
    assert [message.startswith(f"rows.csv:{start}") for message, start in zip(found, bad, strict=True)] == [True] * len(bad)


@pytest.mark.parametrize(
    ("content", "good", "message"),
    [
        (b'[{"n":1},{"n":,},{"n":3}]', [1, 3], "rows.json:2: not JSON: "),
        (
            b'[{"n":1},{"n":"\xff"}]',
            [1],
            "rows.json:2: not JSON: not UTF-8: byte 0xff at offset 6; name the encoding in dataset.encoding, such as cp1252",
        ),
        (b'[{"n":1},]', [1], "rows.json:2: not JSON: "),
        (b'[{"n":1}, {"n":"\\"],["} ,7]', [1, '"],['], "rows.json:3: a row is a JSON object, got int"),
        (b'[{"n":1},7,{"n":3}]', [1, 3], "rows.json:2: a row is a JSON object, got int"),
        (b'[{"n":1},null,{"n":3}]', [1, 3], "rows.json:2: a row is a JSON object, got NoneType"),
    ],
)
def test_a_bad_element_of_a_json_array_costs_only_itself(
    tmp_path: Path, content: bytes, good: list[int | str], message: str
) -> None:
    dataset = opened(file(tmp_path, "rows.json", content))
    assert [row["n"] for row in rows(dataset)] == good
    (found,) = failures(dataset, tmp_path)
    assert found.startswith(message)
    assert "\n" not in found


def test_numbers_of_a_json_array_are_as_those_of_json_lines(tmp_path: Path) -> None:
    values = [1, -1, 1.5, 1e-7, 1e300, 0.1, (1 << 63) - 1, 1 << 64, -(1 << 70), 10**30, True, None, {"a": [1.25]}]
    (row,) = rows(opened(file(tmp_path, "rows.json", json.dumps([{"v": values}]))))
    assert row["v"] == values
    assert [type(value) for value in row["v"]] == [type(value) for value in values]
    assert type(row["v"][-1]["a"][0]) is float


# Files that cannot be read to their end


def read_to_the_end(dataset: Dataset, folder: Path) -> tuple[list[Item], DatasetReadError, str]:
    """Return the items before the place that cannot be read, the error and its message."""
    items: list[Item] = []
    with pytest.raises(DatasetReadError) as caught:
        items.extend(dataset)
    return items, caught.value, str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (b',{"n":2', "a JSON array ends in the middle"),
        (b',{"n":"]', "a JSON array ends in the middle"),
        (b"] x", "there is more after the closing bracket of a JSON array"),
    ],
)
def test_a_json_array_that_goes_bad_gives_the_rows_before(tmp_path: Path, end: bytes, reason: str) -> None:
    start = b"[" + b",".join(b'{"n":%d}' % n for n in range(20))
    items, error, message = read_to_the_end(opened(file(tmp_path, "rows.json", start + end)), tmp_path)
    assert [item.row["n"] for item in items] == list(range(20))
    assert message.startswith(f"rows.json:21: cannot be read from here on: {reason}; mend the file")
    assert (error.damaged, error.file) == (True, str(tmp_path / "rows.json"))


def test_a_compressed_file_that_is_cut_off_gives_the_rows_before(tmp_path: Path) -> None:
    noise = hashlib.shake_128(b"").hexdigest(100_000)
    content = lines([{"n": n} for n in range(5000)]) + noise.encode()
    for name, packed in (("rows.jsonl.gz", gzip.compress(content, mtime=0)), ("rows.jsonl.zst", zstd(content))):
        dataset = opened(file(tmp_path, name, packed[: len(packed) // 2]))
        items, error, message = read_to_the_end(dataset, tmp_path)
        assert [item.row["n"] for item in items] == list(range(5000))
        assert message.startswith(f"{name}:5001: cannot be read from here on: ")
        assert error.damaged


def test_a_parquet_file_that_goes_bad_gives_the_rows_before(tmp_path: Path) -> None:
    table = pa.table({"n": list(range(4000))})
    content = parquet(table, row_group_size=1000, compression="none", use_dictionary=False)
    start = pq.ParquetFile(pa.BufferReader(content)).metadata.row_group(2).column(0).data_page_offset
    dataset = opened(file(tmp_path, "rows.parquet", content[:start] + b"\xff" * 40 + content[start + 40 :]))
    items, error, message = read_to_the_end(dataset, tmp_path)
    assert [item.row["n"] for item in items] == list(range(len(items)))
    assert 1000 <= len(items) <= 2000
    assert message.startswith(f"rows.parquet:{len(items) + 1}: cannot be read from here on: ")
    assert error.damaged


def test_a_disk_that_cannot_be_read_is_no_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_path: File, _options: ReadingOptions, _cursor: Cursor) -> Rows:
        for number in range(1, 21):
            yield number, {"n": number}
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setitem(formats.FORMATS, "jsonl", formats.Format(read))
    items, error, message = read_to_the_end(opened(file(tmp_path, "rows.jsonl", b"")), tmp_path)
    assert len(items) == 20
    assert message.startswith("rows.jsonl:21: cannot be read: Input/output error; ")
    assert not error.damaged


def test_no_row_of_a_later_file_is_taken_for_one_of_a_damaged_file(tmp_path: Path) -> None:
    """Its index would be another one once the first file is mended."""
    first = file(tmp_path, "1.json", b"[" + b'{"n":1},' * 20)
    second = file(tmp_path, "2.json", b'[{"n":2}]')
    items, error, _ = read_to_the_end(opened(first, second), tmp_path)
    assert [item.row["n"] for item in items] == [1] * 20
    assert error.file == str(first)


def test_an_arrow_file_that_is_cut_while_it_is_read_ends_nobody(tmp_path: Path) -> None:
    """Read by way of a memory map, the process would get a SIGBUS."""
    table = pa.table({"n": list(range(20_000)), "text": ["x" * 100] * 20_000})
    path = file(tmp_path, "rows.arrow", arrow(table, chunk=500))
    reading = formats.read_rows(path)
    assert next(reading) == (1, {"n": 0, "text": "x" * 100})
    os.truncate(path, 100_000)
    with pytest.raises(DatasetReadError, match="File too short"):
        list(reading)


def test_offsets_of_an_arrow_file_that_lead_nowhere_cost_their_rows(tmp_path: Path) -> None:
    table = pa.table({"text": [f"row {n}" for n in range(600)]})
    content = arrow(table)
    good = bytes(pa.array(table["text"].to_pylist()).buffers()[1])
    at = content.index(good[: 4 * 600]) + 4 * 300
    dataset = opened(file(tmp_path, "rows.arrow", content[:at] + b"\xff\xff\xff\x7f" + content[at + 4 :]))
    assert len(rows(dataset)) == 598
    assert [message.split(": ")[0] for message in failures(dataset, tmp_path)] == ["rows.arrow:300", "rows.arrow:301"]


# Files that are refused before anything is sent


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "rows.txt",
            b"",
            "rows.txt: the ending .txt is not a dataset format; known are: .jsonl .ndjson .json .csv .tsv .parquet .arrow,",
        ),
        ("rows", b"", "rows: the ending (none) is not a dataset format"),
        ("rows.gz", b"", "rows.gz: the ending .gz is not a dataset format"),
        ("rows.parquet.gz", b"", "rows.parquet.gz: .parquet files are compressed inside; unpack the file"),
        ("rows.arrow.zst", b"", "rows.arrow.zst: .arrow files are compressed inside"),
        ("rows.json", b"7", "rows.json: a .json dataset is an array of objects, but it starts with '7'"),
        (
            "rows.json",
            b'{"a":{"0":1,"1":2},"b":{"0":3,"1":4}}',
            "rows.json: is one object without a list of rows; write an array",
        ),
        ("rows.json", b'{"columns":["a"],"index":[0],"data":[[1]]}', "rows.json: is one object, and its rows may be in a list"),
        ("rows.jsonl", b'[\n{"a":1},\n{"a":2}\n]\n', "rows.jsonl:1: an array of rows begins here, not one row per line; end"),
        (
            "rows.jsonl.gz",
            gzip.compress(b'\xef\xbb\xbf [ {"a":1},\r\n{"a":2}]', mtime=0),
            "rows.jsonl.gz:1: an array of rows begins here",
        ),
        ("rows.jsonl", gzip.compress(lines(ROWS), mtime=0), "rows.jsonl: is packed with gzip; its name has to end in .gz"),
        ("rows.csv", bz2.compress(lines(ROWS)), "rows.csv: is packed with bzip2; its name has to end in .bz2"),
        ("rows.json", lzma.compress(lines(ROWS)), "rows.json: is packed with xz; its name has to end in .xz"),
        ("rows.tsv", zstd(lines(ROWS)), "rows.tsv: is packed with zstd; its name has to end in .zst"),
        (
            "rows.csv",
            b"PK\x03\x04\x14\0",
            "rows.csv: is a ZIP archive, or a spreadsheet: unpack it, or save it as CSV in UTF-8",
        ),
        ("rows.jsonl", parquet(pa.Table.from_pylist(ROWS)), "rows.jsonl: is a Parquet file; its name has to end in .parquet"),
        ("rows.arrow", parquet(pa.Table.from_pylist(ROWS)), "rows.arrow: is a Parquet file; its name has to end in .parquet"),
        ("rows.parquet", arrow(pa.Table.from_pylist(ROWS)), "rows.parquet: is an Arrow file; its name has to end in .arrow"),
        ("rows.parquet", POINTER, "rows.parquet: is only a Git LFS pointer in place of the file: `git lfs pull` fetches"),
        ("rows.csv", POINTER, "rows.csv: is only a Git LFS pointer in place of the file: `git lfs pull` fetches the file"),
        ("rows.jsonl", b"<!DOCTYPE html>\n<html>", "rows.jsonl: is a web page: open it in a browser"),
        (
            "rows.jsonl",
            b"x\n" * 20,
            "rows.jsonl: none of its first 10 rows can be read:\nrows.jsonl:1: not JSON: Expecting value",
        ),
        ("rows.jsonl", b"[1]\n", "rows.jsonl: none of its first 1 rows can be read:"),
        ("rows.jsonl.gz", b'{"n":1}\n', "rows.jsonl.gz: Not a gzipped file (b'{\"')"),
        ("rows.jsonl.zst", b'{"n":1}\n', "rows.jsonl.zst: Unable to decompress Zstandard data: Unknown frame descriptor"),
        ("rows.jsonl.gz", gzip.compress(lines(ROWS), mtime=0)[:15], "rows.jsonl.gz: Compressed file ended before"),
        ("rows.jsonl.zst", zstd(lines(ROWS))[:15], "rows.jsonl.zst: the compressed file ends in the middle"),
        ("rows.csv", "a,a,b\n", "rows.csv:1: the header names a column twice: a"),
        ("rows.csv", 'a,"b\n1,2\n', "rows.csv:1: the quote that opens here is never closed, and 1 lines follow; close it"),
        ("rows.csv", b"a,\xff\n1,2\n", "rows.csv:1: the header is not UTF-8"),
        ("rows.parquet", b"", "rows.parquet: Parquet file size is 0 bytes"),
        ("rows.parquet", b"not a parquet file at all", "rows.parquet: Parquet magic bytes not found in footer"),
        ("rows.parquet", parquet(pa.Table.from_pylist(ROWS))[:-9], "rows.parquet: "),
        ("rows.arrow", b"", "rows.arrow: "),
        ("rows.arrow", b"not an arrow file at all", "rows.arrow: "),
        ("rows.arrow", arrow(pa.Table.from_pylist(ROWS))[:-9], "rows.arrow: Not an Arrow file"),
        ("rows.arrow", arrow(pa.Table.from_pylist(ROWS), stream=True)[:200], "rows.arrow: "),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_at_once(tmp_path: Path, name: str, content: bytes | str, message: str) -> None:
    assert refused(tmp_path, file(tmp_path, name, content)).startswith(message)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b'{\n  "a": 1\n}\n', "; each row is an object on one line, as `jq -c` writes it"),
        (b'[{"a":1}]\n', "; a file that is one array is named .json"),
        (b'{"a":1},\n{"a":2},\n', "; remove the comma after each row"),
        (b"{'a':1}\n{'a':2}\n", "; JSON has double quotes, as json.dumps writes them"),
        (b"a: 1\n", ""),
    ],
)
def test_the_first_line_tells_what_a_file_was_meant_to_be(tmp_path: Path, content: bytes, hint: str) -> None:
    first, *others = refused(tmp_path, file(tmp_path, "rows.jsonl", content)).splitlines()[1:]
    assert first.startswith("rows.jsonl:1: ")
    assert first.endswith(hint)
    assert ";" not in "".join([*others, first.removesuffix(hint)])


def test_a_list_in_an_array_is_not_told_to_be_in_a_json_file(tmp_path: Path) -> None:
    assert refused(tmp_path, file(tmp_path, "rows.json", b"[[1]]")).endswith("rows.json:1: a row is a JSON object, got list")


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, tmp_path / "no.jsonl") == f"no.jsonl: there is no such file (the path is relative to {Path.cwd()})"
    assert refused(tmp_path, tmp_path / "*.jsonl") == f"*.jsonl: no file matches (the path is relative to {Path.cwd()})"
    (tmp_path / "rows").mkdir()
    assert refused(tmp_path, tmp_path / "rows") == "rows: is a directory; name its files, such as rows/*.jsonl"
    (tmp_path / "link.csv").symlink_to("nowhere.csv")
    assert refused(tmp_path, tmp_path / "link.csv") == "link.csv: is a link to nowhere.csv, where there is no file"
    assert refused(tmp_path, tmp_path / f"{'x' * 300}.csv").endswith("x.csv: cannot be read: File name too long")


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "rows.csv", "a\n1\n")
    (tmp_path / "latest.csv").symlink_to("rows.csv")
    what = "rows.csv is the same file as rows.csv, so its rows would come twice; name it once"
    assert refused(tmp_path, path, path) == f"rows.csv: {what}"
    assert refused(tmp_path, path, tmp_path / "r*.csv") == f"r*.csv: {what}"
    assert refused(tmp_path, tmp_path / "*.csv").startswith("*.csv: rows.csv is the same file as latest.csv, so its rows")


def test_what_this_process_has_open_is_copied_and_called_by_its_own_name(tmp_path: Path) -> None:
    with file(tmp_path, "rows", lines(ROWS)).open("rb") as given:
        path = f"/proc/self/fd/{given.fileno()}"
        assert rows(opened(path)) == ROWS
    with file(tmp_path, "bad", b"x\n").open("rb") as given:
        path = f"/proc/self/fd/{given.fileno()}"
        assert refused(tmp_path, path).startswith(f"{path}: none of its first 1 rows can be read:\n{path}:1: not JSON")


@pytest.mark.parametrize(
    ("name", "declared"), [("rows.csv", "sep=;\n"), ("rows.csv", '\ufeff"sep=\t"\r\n'), ("rows.tsv", "SEP=,\r\n")]
)
def test_the_line_in_which_excel_says_what_stands_between_cells(tmp_path: Path, name: str, declared: str) -> None:
    between = declared.strip('\ufeff"\r\n')[-1]
    dataset = opened(file(tmp_path, name, f"{declared}a,b\n1,2\n3\n".replace(",", between).encode()))
    assert rows(dataset) == [{"a": "1", "b": "2"}]
    assert failures(dataset, tmp_path) == [f"{name}:4: has 1 cells, the header has 2"]
    told = opened(file(tmp_path, "told.csv", "sep=;\na|b\n1|2\n"), delimiter="|")
    assert rows(told) == [{"a": "1", "b": "2"}]


def test_every_file_of_a_list_is_looked_at(tmp_path: Path) -> None:
    good = file(tmp_path, "good.jsonl", lines(ROWS))
    assert refused(tmp_path, good, file(tmp_path, "bad.jsonl", b"x\n")).startswith("bad.jsonl: none of its first 1 rows")


def test_an_id_column_that_no_row_has_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "rows.jsonl", lines(ROWS))
    for header in ("ID,q", " id ,q"):
        said = refused(tmp_path, file(tmp_path, "rows.csv", f"{header}\n1,a\n"), id_column="id")
        assert (
            said
            == f"rows.csv: no row has the id column `id`; there is: {header.replace(',', ', ')}; did you mean `{header[:-2]}`?"
        )
    assert refused(tmp_path, path, id_column="key") == "rows.jsonl: no row has the id column `key`; there is: id, text, n"


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
def test_an_empty_file_is_a_dataset_without_rows(tmp_path: Path, name: str) -> None:
    dataset = opened(file(tmp_path, name, b"\n\n"), id_column="id")
    assert list(dataset) == []
    assert dataset.first_rows == []


# Names


def test_doubled_and_missing_ids_are_errors_of_their_rows(tmp_path: Path) -> None:
    ids: list[Any] = ["a", 1, "1", None, 1.5, True, "", [1], "a", {"x": "y" * 100}, 10**30]
    path = file(tmp_path, "rows.jsonl", lines([*({"id": one} for one in ids), {"n": 1}]))
    dataset = opened(path, id_column="id")
    items = list(dataset)
    assert [item.item_id for item in items if item.failure is None] == ["a", "1", str(10**30)]
    why = "as its id (column `id`); an id is a text or a whole number"
    assert failures(dataset, tmp_path) == [
        "rows.jsonl:3: the id '1' is already used at rows.jsonl:2",
        f"rows.jsonl:4: the row has null {why}",
        f"rows.jsonl:5: the row has 1.5 {why}",
        f"rows.jsonl:6: the row has true {why}",
        f'rows.jsonl:7: the row has "" {why}',
        f"rows.jsonl:8: the row has [1] {why}",
        "rows.jsonl:9: the id 'a' is already used at rows.jsonl:1",
        f'rows.jsonl:10: the row has {{"x":"{"y" * 54} {why}',
        "rows.jsonl:12: the row has no id (column `id`)",
    ]
    assert items[2].row == {"id": "1"}  # what could be read is kept


def test_ids_are_doubled_across_files_too(tmp_path: Path) -> None:
    for name in ("1.jsonl", "2.jsonl"):
        file(tmp_path, name, lines([{"id": "a"}]))
    assert failures(opened(tmp_path / "*.jsonl", id_column="id"), tmp_path) == [
        "2.jsonl:1: the id 'a' is already used at 1.jsonl:1"
    ]


def test_very_many_doubled_ids_do_not_read_the_dataset_for_each(tmp_path: Path) -> None:
    dataset = opened(file(tmp_path, "rows.jsonl", lines([{"id": "a"}] * 60)), id_column="id")
    found = failures(dataset, tmp_path)
    assert len(found) == 59
    assert found[0].endswith("the id 'a' is already used at rows.jsonl:1")
    assert found[-1].endswith("the id 'a' is already used further up")


def test_without_an_id_column_the_row_names_itself(tmp_path: Path) -> None:
    content = '{"a":1,"b":2}\n{"b":2,"a":1}\n{"a":2,"b":1}\n{"a":1,"b":2}\n'
    names = [item.item_id for item in opened(file(tmp_path, "rows.jsonl", content))]
    assert names[1:] == [f"{names[0]}-2", names[2], f"{names[0]}-3"]
    assert len({*names}) == 4
    assert all(len(name.partition("-")[0]) == 16 for name in names)
    other = file(tmp_path, "other.jsonl", '{"a":2,"b":1}\n{"a":1,"b":2}\n')
    assert [item.item_id for item in opened(other)] == [names[2], names[0]]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *[("a", "a"), (7, "7"), (-1, "-1"), (" ", " "), ("", None), (None, None), (True, None)],
        *[(1.0, "1"), (-3.0, "-3"), (1.5, None), (2.0**53, None), (math.nan, None)],
    ],
)
def test_what_can_be_a_name(value: object, name: str | None) -> None:
    assert id_of(value) == name


@given(
    st.lists(st.text(max_size=3) | st.integers(0, 300).map(str), max_size=300),
    st.lists(st.text(max_size=3) | st.integers(0, 300).map(str), max_size=100, unique=True),
    st.integers(0, 400),
)
def test_names_seen_is_a_set(added: list[str], earlier: list[str], most_in_memory: int) -> None:
    with patch.object(seen_ids, "_ARRAYS", 3):  # so that few names share an array, as millions do
        seen, known = SeenIds(most_in_memory), set(earlier)
        seen.add_all([fingerprint_of(name) for name in earlier])
        for name in added:
            assert seen.add(name) == (name not in known)
            known.add(name)


@pytest.mark.parametrize("most_in_memory", [1 << 20, 5_000])
def test_names_seen_grows(most_in_memory: int) -> None:
    seen = SeenIds(most_in_memory)
    assert sum(seen.add(str(n)) for n in range(8_000)) == 8_000
    assert sum(seen.add(str(n)) for n in range(8_001)) == 1


@pytest.mark.long
def test_names_beyond_the_first_ones_are_in_a_file_of_which_little_is_in_memory() -> None:
    before = _deleted_files()
    with patch.object(seen_ids, "_CACHE_KIB", 128):
        seen = SeenIds(most_in_memory=1000)
        assert all(seen.add(str(n)) for n in range(40_000))
    (added,) = _deleted_files() - before
    assert Path(f"/proc/self/fd/{added}").stat().st_size > 40_000 * 8 - 128 * 1024
    assert all(str(n) in seen for n in range(0, 40_000, 1000))
    assert "40000" not in seen
    del seen
    assert _deleted_files() == before


def _deleted_files() -> set[str]:
    """Return the open files that have no name any more."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if str(path.readlink()).endswith(" (deleted)"):
                found.add(path.name)
    return found


@pytest.mark.parametrize("full", ["when it is made", "later"])
def test_where_the_names_cannot_be_kept_it_is_said(full: str) -> None:
    seen = SeenIds(most_in_memory=1)
    assert seen.add("a")
    if full == "when it is made":
        broken = patch("sqlite3.connect", side_effect=sqlite3.OperationalError("database or disk is full"))
    else:
        assert seen.add("b")
        assert seen._more is not None
        seen._more._database.execute("PRAGMA max_page_count=3")
        broken = nullcontext()  # type: ignore[assignment]
    with broken, pytest.raises(StorageError, match=r"names of the rows cannot be kept .*: database or disk is full"):
        seen.add_all(range(1, 10_000))


# Limit, order, totals


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    path = file(tmp_path, "rows.jsonl", lines(ROWS))
    assert rows(opened(path, limit=2)) == ROWS[:2]
    assert rows(opened(path, limit=0)) == []
    assert rows(opened(path, limit=99)) == ROWS


def test_a_seed_gives_one_order_and_keeps_positions(tmp_path: Path) -> None:
    path = file(tmp_path, "rows.jsonl", lines([{"n": n} for n in range(100)]))
    plain, first, again, other = (list(opened(path, shuffle=seed)) for seed in (None, 7, 7, 8))
    assert first == again
    assert [item.index for item in first] != [item.index for item in other]
    assert sorted(first, key=lambda item: item.index) == plain
    assert [item.row["n"] for item in first] == [item.index for item in first]
    assert list(opened(path, shuffle=7, limit=10)) == first[:10]


def test_of_a_file_that_changed_since_it_was_opened_nothing_is_noted(tmp_path: Path) -> None:
    path = file(tmp_path, "rows.jsonl", b'{"a": 1}\n{"a": 2}\n')
    dataset = opened(path)
    found = dataset.survey()
    assert found is not None
    assert found.total == 2
    path.write_bytes(b'{"a": 1}\n')
    assert dataset.survey() is None


@pytest.mark.parametrize(
    ("name", "content", "known", "surveyed"),
    [
        ("rows.jsonl", lines(ROWS), False, True),
        ("rows.jsonl", lines(ROWS).rstrip(), False, True),
        ("rows.jsonl.gz", gzip.compress(lines(ROWS), mtime=0), False, False),
        ("rows.json", json.dumps(ROWS).encode(), False, False),
        ("rows.csv", csv_text(), False, False),
        ("rows.parquet", parquet(pa.Table.from_pylist(ROWS)), True, True),
    ],
)
def test_totals(tmp_path: Path, name: str, content: bytes, known: bool, surveyed: bool) -> None:
    path = file(tmp_path, name, content)
    for limit, total in ((None, 5), (3, 3), (99, 5)):
        dataset = opened(path, limit=limit)
        assert dataset.total == (total if known else None)
        survey = dataset.survey()
        assert survey is not None
        assert survey.total == (total if surveyed else None)
        (identity,) = survey.identities
        assert (identity.name, identity.size) == (str(path), len(content))
        assert identity.content == hashlib.sha256(content).hexdigest()
        assert dataset.sizes() == [(str(path), len(content))]


def test_totals_of_several_files(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    paths = [file(tmp_path, f"{n}.parquet", parquet(table.slice(0, n))) for n in (1, 3)]
    assert opened(*paths).total == 4
    assert opened(*paths, limit=2).total == 2
    assert opened(*paths, file(tmp_path, "x.jsonl", lines(ROWS))).total is None


# Columns that JSON has no word for


@pytest.mark.parametrize("form", ["parquet", "file", "stream"])
def test_columns_become_what_templates_can_read(tmp_path: Path, form: str) -> None:
    moment = datetime(2026, 11, 21, 2, 15, 0, 250_000, tzinfo=UTC)
    table = pa.table(
        {
            "image": pa.array([b"\x89PNG"], pa.binary()),
            "day": pa.array([date(2026, 11, 21)], pa.date32()),
            "at": pa.array([moment], pa.timestamp("us", "UTC")),
            "local": pa.array([moment.replace(tzinfo=None)], pa.timestamp("ms")),
            "price": pa.array([Decimal("1.50")], pa.decimal128(5, 2)),
            "images": pa.array([[b"a", None]], pa.list_(pa.binary())),
            "inner": pa.array([{"image": b"abc", "day": date(2026, 1, 2)}]),
            "label": pa.array(["cat"]).dictionary_encode(),
            "nothing": pa.array([None], pa.string()),
            "score": pa.array([0.5], pa.float32()),
            "large": pa.array([1 << 63], pa.uint64()),
        }
    )
    content = parquet(table) if form == "parquet" else arrow(table, stream=form == "stream")
    dataset = opened(file(tmp_path, "rows.parquet" if form == "parquet" else "rows.arrow", content))
    (row,) = rows(dataset)
    blobs = [row.pop("image"), row["images"].pop(0), row["inner"].pop("image")]
    assert [blob.data for blob in blobs if isinstance(blob, Blob)] == [b"\x89PNG", b"a", b"abc"]
    assert row == {
        "day": "2026-11-21",
        "at": "2026-11-21T02:15:00.250000+00:00",
        "local": "2026-11-21T02:15:00.250000",
        "price": "1.50",
        "images": [None],
        "inner": {"day": "2026-01-02"},
        "label": "cat",
        "nothing": None,
        "score": 0.5,
        "large": 1 << 63,
    }
    assert next(iter(dataset)).item_id == next(iter(dataset)).item_id  # the hash of a row with bytes is of their content


# One row at a time


DESCRIPTORS = Path("/proc/self/fdinfo")
needs_descriptors = pytest.mark.skipif(not DESCRIPTORS.exists(), reason="only Linux tells how far a file has been read")


def positions(path: Path) -> list[int]:
    """Return how far a file has been read, wherever it is open."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.exists() and link.resolve() == path]
    return [int((DESCRIPTORS / link.name).read_text().split()[1]) for link in links]


@needs_descriptors
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.csv", "rows.jsonl.zst"])
def test_the_first_rows_do_not_read_the_whole_file(tmp_path: Path, name: str) -> None:
    texts = (hashlib.shake_128(str(n).encode()).hexdigest(500) for n in range(4000))
    content = lines([{"id": n, "text": text} for n, text in enumerate(texts)])
    if ".json" in name and ".jsonl" not in name:
        content = b"[" + content.rstrip().replace(b"\n", b",") + b"]"
    if name.endswith(".csv"):
        content = b"id,text\n" + b"".join(b"%d,%s\n" % (n, b"x" * 1000) for n in range(4000))
    packed = gzip.compress(content, 1, mtime=0) if name.endswith(".gz") else zstd(content) if name.endswith(".zst") else content
    path = file(tmp_path, name, packed)
    assert len(packed) > 2_000_000
    items = iter(opened(path))
    next(items)
    (position,) = positions(path)
    assert position < len(packed) / 4
    assert len(list(items)) == 3999


@needs_descriptors
def test_no_file_stays_open(tmp_path: Path) -> None:
    path = file(tmp_path, "rows.jsonl", lines(ROWS * 1000))
    items = iter(opened(path))
    next(items)
    assert len(positions(path)) == 1
    del items
    assert positions(path) == []


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 16])
def test_a_json_array_is_cut_at_the_same_places_however_it_is_read(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [{"a": '\\"],[{'}, {}, {"b": [[], {"c": [1, {"d": "}"}]}]}, {"e": "ü🦜\\\\"}, [], "x,y", 1, None]
    data = json.dumps(values, indent=1).encode()
    monkeypatch.setattr(json_arrays, "_CHUNK", chunk)
    found = list(json_arrays.elements(io.BytesIO(data).read, 1000))
    assert [json.loads(text or b"") for text in found] == values


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 16])
@pytest.mark.parametrize("long", ['x\\"]' * 99, "\\" * 300, '\\",{[' * 99, [[{"a": 'b"}]'}]] * 50, {"k" * 300: {}}])
def test_an_element_that_is_too_long_is_passed_over_however_it_is_read(
    chunk: int, long: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_arrays, "_CHUNK", chunk)
    for values in ([long], [1, long, {"b": "]"}], [long, long, 3], [1, long]):
        found = list(json_arrays.elements(io.BytesIO(json.dumps(values).encode()).read, 100))
        short = [text is not None and len(text) <= 200 for text in found]
        assert short == [value is not long for value in values]
        assert [json.loads(text) for text in found if text is not None and len(text) <= 200] == [
            value for value in values if value is not long
        ]


def test_nan_in_a_json_array_is_as_in_json_lines(tmp_path: Path) -> None:
    content = b'[{"n":NaN},{"n":-Infinity}]'
    assert rows(opened(file(tmp_path, "rows.json", content))) == [{"n": None}, {"n": None}]


def test_an_element_that_never_ends_is_not_held_in_memory(tmp_path: Path) -> None:
    content = b'[{"n":1},{"n":"' + b'x\\"]' * 250_000 + b'"},{"n":3}]'
    dataset = opened(file(tmp_path, "rows.json", content), longest=100_000)
    assert rows(dataset) == [{"n": 1}, {"n": 3}]
    assert failures(dataset, tmp_path) == ["rows.json:2: longer than 0 MiB"]


def test_a_csv_row_beyond_the_longest_is_left_out(tmp_path: Path) -> None:
    long = [b"x," * 200 + b"x", b'"' + b"y" * 300 + b'",2', b"z" * 101 + b",2"]
    dataset = opened(file(tmp_path, "rows.csv", b"a,b\n1,2\n" + b"\n3,4\n".join(long) + b"\n5,6"), longest=100)
    assert failures(dataset, tmp_path) == [f"rows.csv:{line}: longer than 0 MiB" for line in (3, 5, 7)]
    assert [row["a"] for row in rows(dataset)] == ["1", "3", "3", "5"]


def test_a_value_that_python_cannot_hold_costs_its_row(tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2, 3], "day": pa.array([0, 2**30, 1], pa.date32())})
    dataset = opened(file(tmp_path, "rows.parquet", parquet(table)))
    assert [row["n"] for row in rows(dataset)] == [1, 3]
    (message,) = failures(dataset, tmp_path)
    assert message.startswith("rows.parquet:2: column `day` (date32[day]): ")


def test_a_column_that_comes_late_is_found(tmp_path: Path) -> None:
    content = lines([{"n": n} for n in range(50)] + [{"n": 50, "late": 1}])
    dataset = opened(file(tmp_path, "rows.jsonl", content))
    assert (dataset.may_have("late"), dataset.may_have("n"), dataset.may_have("never")) == (True, True, False)
