"""Rows that Python code passes in place of a file: mappings, or a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from runner.datasets.arrowrows import rows_of_frame
from runner.datasets.rows import BadRow, plain
from runner.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Rows", "rows_given"]

#: Rows as mappings from column names to values that JSON has a word for, or a DataFrame, read as its Parquet file would be.
Rows: TypeAlias = Union[Iterable[Mapping[str, object]], "pd.DataFrame"]


def rows_given(data: Rows) -> list[dict[str, Any]]:
    """Return the rows. Raises DatasetError for one that is none."""
    if hasattr(data, "dtypes") and hasattr(data, "columns"):
        rows: list[dict[str, Any]] = []
        for number, row in enumerate(rows_of_frame(data), 1):
            if isinstance(row, BadRow):
                raise DatasetError(f"data:{number}: {row.reason}")
            rows.append(row)
        return rows
    return [_checked(row, number) for number, row in enumerate(data, 1)]


def _checked(row: object, number: int) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise DatasetError(f"data:{number}: is {row!r:.100}, and should be a mapping from column names to values")
    checked: dict[str, Any] = plain(dict(row))
    return checked
