"""The item's columns in `runner.load(...).wide` hold what the items hold: whole numbers stay exact where some are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

import runner
from runner.results.frames import _column
from runner.structs import replace
from tests.records import failure, opening, result, write_segment


def wide_of(directory: Path, items: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the frame of a run with these items."""
    ends = [replace(result(index), item=json.dumps(item)) for index, item in enumerate(items)]
    write_segment(directory / "journal", [opening([("answer", 1)]), *ends])
    return runner.load(directory).wide


def test_whole_numbers_with_gaps_stay_exact(tmp_path: Path) -> None:
    wide = wide_of(tmp_path, [{"user": 9007199254740993}, {}, {"user": 4873214862074861312}, {"user": None}])
    assert str(wide["user"].dtype) == "Int64"
    assert [None if value is pd.NA else value for value in wide["user"]] == [9007199254740993, None, 4873214862074861312, None]


TYPES: list[tuple[list[Any], str]] = [
    ([1, 2], "int64"),
    ([1, None], "Int64"),
    ([-(1 << 63), (1 << 63) - 1], "int64"),
    ([1 << 63, 1], "object"),
    ([10**30, None], "object"),
    ([1.5, 2], "float64"),
    ([1.5, None], "float64"),
    ([0.5, (1 << 53) + 1], "object"),
    ([True, False], "bool"),
    ([True, None], "boolean"),
    ([True, 1], "object"),
    ([1, "1"], "object"),
    ([[1], {"a": [2]}], "object"),
    ([{"a": 1}, None], "object"),
    ([None, None], "object"),
    (["a", None], str(pd.Series(["a", None]).dtype)),
]


def test_types(tmp_path: Path) -> None:
    wide = wide_of(tmp_path, [{f"c{n}": values[index] for n, (values, _) in enumerate(TYPES)} for index in range(2)])
    for n, (values, dtype) in enumerate(TYPES):
        column = wide[f"c{n}"]
        assert str(column.dtype) == dtype, values
        for found, value in zip(column, values, strict=True):
            assert pd.isna(found) if value is None else found == value
            if dtype == "object" and value is not None:
                assert type(found) is type(value)


VALUE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.text()
    | st.lists(st.integers(), max_size=2)
)


@settings(max_examples=50)
@given(st.lists(VALUE, max_size=5))
def test_any_values_come_back(values: list[Any]) -> None:
    column = _column(values, pd.RangeIndex(len(values)))
    for found, value in zip(column, values, strict=True):
        assert (pd.api.types.is_scalar(found) and pd.isna(found)) if value is None else found == value


def test_items_of_different_columns_and_rows_that_could_not_be_read_share_a_frame(tmp_path: Path) -> None:
    items = [replace(result(0), item='{"n":1,"b":true}'), replace(failure(1), item="{}"), replace(result(2), item='{"s":"x"}')]
    write_segment(tmp_path / "journal", [opening([("answer", 1)]), *items])
    wide = runner.load(tmp_path).wide
    assert list(wide.columns) == ["item_index", "item_id", "sample_index", "n", "b", "s", "answer"]
    assert [str(wide[name].dtype) for name in ("n", "b")] == ["Int64", "boolean"]
    assert wide["n"].sum() == 1
