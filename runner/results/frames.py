"""A run in pandas."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.logs import logger
from runner.storage.ledger import Ledger
from runner.storage.rundir import run_at
from runner.structs import Struct

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Frames", "read_frames"]

_log = logger(__name__)
#: From this number on, whole numbers do not fit into pandas' int64.
_INT64 = 1 << 63
#: From this number on, a float cannot hold every whole number.
_EXACT = 1 << 53


class Frames(Struct, frozen=True):
    """The results of a run, as DataFrames."""

    #: As in results.parquet.
    results: pd.DataFrame
    #: As in errors.parquet.
    errors: pd.DataFrame
    #: A row per item and sample: the item's own columns, and one column per alias.
    wide: pd.DataFrame


def read_frames(directory: Path) -> Frames:
    """Return a run as pandas DataFrames, even if it still goes on, was killed, or lacks its Parquet files.

    Nothing in the run directory is changed. Raises RunDirError if there is no run, StorageError.
    """
    import pandas as pd

    from runner.storage.parquet import write_views

    run = run_at(directory)
    ledger = Ledger.read(run.journal)
    for place in ledger.damaged:
        _log.warning("a damaged line of the journal is left out: %s", place)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            write_views(ledger.ends(), Path(temporary), ledger.opens[0].run_id)
        finally:
            ledger.close()
        results = pd.read_parquet(Path(temporary) / "results.parquet")
        errors = pd.read_parquet(Path(temporary) / "errors.parquet")
    return Frames(results, errors, _wide(results, errors, [alias for alias, _ in ledger.plan.tasks]))


def _wide(results: pd.DataFrame, errors: pd.DataFrame, aliases: Sequence[str]) -> pd.DataFrame:
    """Return a row per item and sample.

    A column of the item with the name of another column gets the prefix `item.`; a task with the name of a key, `task.`.
    """
    import pandas as pd

    keys = ["item_index", "item_id", "sample_index"]
    both = pd.concat([frame[[*keys, "item"]] for frame in (results, errors) if len(frame)] or [results[[*keys, "item"]]])
    rows = both.drop_duplicates(keys).sort_values(keys).reset_index(drop=True)
    own = _own_columns([json.loads(text) for text in rows["item"]], rows.index)
    named = {alias: f"task.{alias}" if alias in keys else alias for alias in aliases}
    own.columns = [f"item.{name}" if name in {*keys, *named.values()} else name for name in own.columns]
    wide = pd.concat([rows[keys], own], axis=1)
    metrics = {task for frame in (results, errors) for task in frame["task"][frame["task_type"] == "metric"].unique()}
    for alias in aliases:
        mine = results[results["task"] == alias]
        # A judge gives its verdict, and not its value. So does a metric over several judges, if it has no values.
        counts = alias in metrics and bool(mine["value"].notna().any() or mine["output"].isna().all())
        column = "value" if counts else "output"
        wide = wide.merge(mine[[*keys, column]].rename(columns={column: named[alias]}), on=keys, how="left")
    return wide


def _own_columns(items: Sequence[Mapping[str, Any]], index: pd.Index) -> pd.DataFrame:
    """Return the columns of the items themselves; a column that an item does not have is a missing value."""
    import pandas as pd

    names = dict.fromkeys(name for item in items for name in item)
    return pd.DataFrame({name: _column([item.get(name) for item in items], index) for name in names}, index=index)


def _column(values: Sequence[Any], index: pd.Index) -> pd.Series[Any]:
    """Return values of JSON as a column: whole numbers and booleans keep their type even if some values are missing."""
    import pandas as pd

    kinds = {type(value) for value in values} - {type(None)}
    dtype: str | None = "object"
    if kinds == {bool}:
        dtype = "boolean" if None in values else "bool"
    elif kinds == {int} and all(-_INT64 <= value < _INT64 for value in values if value is not None):
        dtype = "Int64" if None in values else "int64"
    elif kinds and kinds <= {int, float} and all(abs(value) <= _EXACT for value in values if type(value) is int):
        dtype = "float64"
    elif kinds == {str}:
        dtype = None  # pandas' own string type, which differs between versions
    return pd.Series(values, index=index, dtype=dtype)
