"""Cells of CSV files are text, or what the config says of their column; one that is not what it should be costs its row."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config.loading import load_config
from runner.datasets import Dataset, ReadingOptions, open_dataset
from runner.datasets.cells import typed
from runner.datasets.rows import BadRow
from runner.errors import ConfigError, DatasetError
from runner.jsontext import encode_str


def opened(folder: Path, name: str, content: str, **options: Any) -> Dataset:
    path = folder / name
    path.write_text(content, newline="")
    return open_dataset(path=[str(path)], options=ReadingOptions(**options))


def rows(dataset: Dataset) -> list[dict[str, Any]]:
    return [dict(item.row) for item in dataset if item.failure is None]


def failures(dataset: Dataset) -> list[str]:
    return [item.failure.message.rpartition("/")[2] for item in dataset if item.failure is not None]


VALUES: list[tuple[str, str, Any]] = [
    ("int", "16", 16),
    ("int", " -3 ", -3),
    ("int", "+7", 7),
    ("int", "1.0", 1),
    ("int", "007", 7),
    ("int", "9007199254740993", 9007199254740993),
    ("int", "123456789012345678901234567890", 123456789012345678901234567890),
    ("float", "0.7", 0.7),
    ("float", "1", 1.0),
    ("float", "-.5e-3", -0.0005),
    ("float", "5.", 5.0),
    ("float", "NaN", None),
    ("float", "-inf", None),
    ("float", "1e400", None),
    ("bool", "true", True),
    ("bool", "FALSE", False),
    ("bool", "1", True),
    ("bool", "0", False),
    ("json", '["a", 1, NaN, {"b": null}]', ["a", 1, None, {"b": None}]),
    ("json", '"x"', "x"),
    ("json", "null", None),
    *((name, empty, None) for name in ("int", "float", "bool", "json") for empty in ("", "  ")),
]


@pytest.mark.parametrize(("name", "text", "value"), VALUES)
def test_a_cell_is_read_as_its_type(name: str, text: str, value: Any) -> None:
    row = typed({"c": text}, {"c": name})
    assert row == {"c": value}
    assert isinstance(row, dict)
    assert type(row["c"]) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("int", text) for text in ("1.5", "1e3", "1_000", "1,000", "٣", "x", "0x10", "--1", "9" * 5000)),
        *(("float", text) for text in ("0,7", "1_0.0", "x", "1e", "٣.٥", "0.7 s", ".")),
        *(("bool", text) for text in ("yes", "2", "t", "None")),
        *(("json", text) for text in ("[1", "{'a': 1}", "x", "[1] x", "True")),
    ],
)
def test_a_cell_that_is_not_of_its_type_says_so(name: str, text: str) -> None:
    bad = typed({"c": text}, {"c": name})
    assert isinstance(bad, BadRow)
    assert bad.reason.startswith(f"column `c`: {text!r}"[:40])
    assert f"(dataset.types: {name})" in bad.reason
    assert len(bad.reason) < 200


@settings(max_examples=50)
@given(st.integers() | st.floats() | st.booleans())
def test_what_is_printed_comes_back(value: float) -> None:
    row = typed({"c": str(value)}, {"c": type(value).__name__})
    assert row == {"c": value if math.isfinite(value) else None}


@settings(max_examples=30)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner), max_leaves=4
    )
)
def test_json_comes_back(value: Any) -> None:
    assert typed({"c": encode_str(value)}, {"c": "json"}) == {"c": value}


def test_only_named_columns_have_a_type_and_a_bad_cell_costs_its_row(tmp_path: Path) -> None:
    content = 'id,temp,mt,flag,data\n1,0.7,16,TRUE,"[1]"\n2,,,,\n3,0.7,x,0,{}\n4,1,1,1,"a\nb"\n5,2,2,false,7\n'
    dataset = opened(tmp_path, "rows.csv", content, types={"temp": "float", "mt": "int", "flag": "bool", "data": "json"})
    assert rows(dataset) == [
        {"id": "1", "temp": 0.7, "mt": 16, "flag": True, "data": [1]},
        {"id": "2", "temp": None, "mt": None, "flag": None, "data": None},
        {"id": "5", "temp": 2.0, "mt": 2, "flag": False, "data": 7},
    ]
    assert failures(dataset) == [
        "rows.csv:4: column `mt`: 'x' is not a whole number (dataset.types: int)",
        "rows.csv:5: column `data`: 'a\\nb' is not JSON (dataset.types: json)",
    ]
    assert rows(opened(tmp_path, "rows.csv", "a,b\n007,1e3\n")) == [{"a": "007", "b": "1e3"}]
    assert rows(opened(tmp_path, "rows.tsv", "a\tb\n007\t1e3\n", types={"b": "float"})) == [{"a": "007", "b": 1000.0}]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "rows.csv",
            {"types": {"tmp": "int"}},
            "rows.csv:1: dataset.types: there is no column `tmp`; there is: id, temp; did you mean `temp`?",
        ),
        ("rows.csv", {"types": {"q": "int", "r": "int"}}, "there is no column `q`, `r`; there is: id, temp"),
        (
            "rows.jsonl",
            {"types": {"a": "int"}},
            "dataset.types: applies only to .csv, .tsv, not to .jsonl; leave it out",
        ),
        ("rows.jsonl", {"delimiter": ";"}, "dataset.delimiter: applies only to .csv, .tsv"),
        ("rows.json", {"quoting": False}, "dataset.quoting: applies only to .csv, .tsv"),
        ("rows.csv", {"field": "data"}, "dataset.field: applies only to .json"),
        ("rows.parquet", {"encoding": "cp1252"}, "dataset.encoding: applies only to .csv, .json, .jsonl, .ndjson, .tsv"),
    ],
)
def test_what_has_no_meaning_is_refused(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path, name, "id,temp\n1,2\n", **options)
    assert message in str(caught.value)


def test_options_have_no_meaning_for_rows_in_the_config() -> None:
    with pytest.raises(DatasetError, match=r"dataset\.types: .* not to rows in the config"):
        open_dataset(data=[{"a": "1"}], options=ReadingOptions(types={"a": "int"}))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("types: {temp: integer}", "dataset.types.temp: "),
        ("types: [temp]", "dataset.types: should be a mapping of keys"),
        ("encoding: utf-18", "dataset.encoding: 'utf-18' is not a text encoding; did you mean 'utf_8'?"),
        ("encoding: base64", "dataset.encoding: 'base64' is not a text encoding"),
        ("encoding: undefined", "dataset.encoding: 'undefined' is not a text encoding"),
        ("delimiter: ', '", "dataset.delimiter: ', ' cannot separate cells; write one character, such as ';', '|' or '\\t'"),
        ("delimiter: '\"'", "dataset.delimiter: '\"' cannot separate cells"),
        ("quoting: minimal", "dataset.quoting: "),
        ("feild: data", "dataset.feild: unknown key; did you mean `field`?"),
    ],
)
def test_an_option_that_is_none_is_a_mistake_of_the_config(tmp_path: Path, option: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config(tmp_path, option), environment={})
    assert any(message in mistake for mistake in caught.value.mistakes), caught.value.mistakes


def config(folder: Path, option: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(f"""
name: cells
dataset:
  path: rows.csv
  {option}
endpoint: {{base_url: http://127.0.0.1:1}}
tasks: [{{task_type: completion, configuration: {{model: m, prompt: "{{{{item.a}}}}"}}}}]
""")
    return path


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("encoding: latin-1", "encoding", "latin-1"),
        ("delimiter: '\\t'", "delimiter", "\t"),
        ('delimiter: "\\t"', "delimiter", "\t"),
        ("quoting: false", "quoting", False),
        ("types: {a: json}", "types", {"a": "json"}),
    ],
)
def test_the_config_says_how_files_are_read(tmp_path: Path, option: str, name: str, value: Any) -> None:
    read, _ = load_config(config(tmp_path, option), environment={})
    found = getattr(ReadingOptions.of(read.dataset), name)
    assert found == value


@pytest.mark.parametrize(("option", "longest"), [("media_limit: 1000", 16 << 20), ("media_limit: 31457280", 41 << 20)])
def test_a_row_may_hold_the_largest_medium_in_base64(tmp_path: Path, option: str, longest: int) -> None:
    read, _ = load_config(config(tmp_path, option), environment={})
    assert ReadingOptions.of(read.dataset).longest == longest
