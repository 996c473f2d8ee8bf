"""Rows that Python code passes in place of a file: mappings, or a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from runner.datasets.arrowrows import rows_of_frame
from runner.datasets.rows import BadRow, plain
from runner.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GivenRows", "rows_given"]

#: Rows as mappings from column names to values that JSON can express, or a DataFrame, read as its Parquet file would be.
GivenRows: TypeAlias = Union[Iterable[Mapping[str, object]], "pd.DataFrame"]


def rows_given(data: GivenRows) -> list[dict[str, Any]]:
    """Return the rows. Raises DatasetError for a value that is not a row."""
    if type(data).__module__.partition(".")[0] == "pandas":
        rows: list[dict[str, Any]] = []
        for number, row in enumerate(rows_of_frame(data), 1):
            if isinstance(row, BadRow):
                raise DatasetError(f"data:{number}: {row.reason}")
            rows.append(row)
        return rows
    to_dicts: Any = getattr(data, "to_dicts", None)  # a DataFrame of Polars has it
    return [_checked(row, number) for number, row in enumerate(data if to_dicts is None else to_dicts(), 1)]


def _checked(row: object, number: int) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise DatasetError(f"data:{number}: is {row!r:.100}, and should be a mapping from column names to values")
    try:
        checked: dict[str, Any] = plain(_of_python(dict(row)))
    except TypeError as error:
        raise DatasetError(f"data:{number}: {error}") from None
    return checked


def _of_python(value: Any) -> Any:
    """Return a value with NumPy's scalars and arrays as Python's. Raises TypeError for a value that JSON cannot express."""
    if isinstance(value, Mapping):
        return {str(key): _of_python(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_of_python(member) for member in value]
    if type(value).__module__ == "numpy":
        return _of_python(value.tolist())
    if value is None or isinstance(value, str | int | float | bytes) or hasattr(value, "isoformat"):
        return value
    raise TypeError(f"{value!r:.100} is a {type(value).__name__}, which JSON cannot express")
