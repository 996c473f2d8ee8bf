"""Columns made from buffers are those that pyarrow.array makes, for every type of the Parquet files and any nulls."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.storage.arrow_arrays import column_of
from runner.storage.columns import ERRORS_SCHEMA, RESULTS_SCHEMA

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "timestamp[us, tz=UTC]": st.integers(0, 4 * 10**15),
}
TYPES = {str(field.type): field.type for schema in (RESULTS_SCHEMA, ERRORS_SCHEMA) for field in schema}


@pytest.mark.parametrize("name", sorted(TYPES))
def test_a_column_is_what_pyarrow_would_make(name: str) -> None:
    @given(st.lists(st.none() | VALUES[name], max_size=40))
    def check(values: list[Any]) -> None:
        column = column_of(values, TYPES[name])
        column.validate(full=True)
        assert column.equals(pa.array(values, TYPES[name]))
        assert column.null_count == values.count(None)

    check()


def test_a_number_that_does_not_fit_is_an_error_and_not_another_number() -> None:
    with pytest.raises(OverflowError):
        column_of([2**31], pa.int32())


def test_a_run_never_imports_pandas() -> None:
    """It would take half a second, which a short evaluation feels."""
    code = (
        "import sys, pyarrow as pa\n"
        "from runner.storage.arrow_arrays import column_of\n"
        "from runner.storage.columns import RESULTS_SCHEMA\n"
        "for field in RESULTS_SCHEMA: column_of([None, None], field.type)\n"
        "column_of(['a'], pa.string()); column_of([1, None], pa.int64()); column_of([True], pa.bool_())\n"
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
