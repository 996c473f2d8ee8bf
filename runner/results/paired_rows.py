"""Rows that hold the answers of two runs side by side, so that a judge can compare them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

from runner import jsontext
from runner.errors import DatasetError, RunDirError
from runner.logs import logger
from runner.results.run import find_run
from runner.storage.ledger import Ledger
from runner.storage.records import End
from runner.storage.rundir import run_at

__all__ = ["paired_rows"]

_log = logger(__name__)


def paired_rows(runs: Mapping[str, str], task: str) -> Iterator[bytes]:
    """Yield a line of JSON for each item that both runs have answered: its columns, and the answers as `a` and `b`.

    Only the first sample of an item is used. Memory grows with the number of items, and not with their texts. Raises
    DatasetError if a run or its task is missing, or if a row has a column `a` or `b` already.
    """
    with (
        closing(_ledger("dataset.runs.a", runs["a"], task)) as a,
        closing(_ledger("dataset.runs.b", runs["b"], task)) as b,
    ):
        places = {end.item_id: end.item_index for end in b.ends() if _is_of(end, task)}
        pairs = left_out = 0
        for end in a.ends():
            if not _is_of(end, task):
                continue
            place = places.pop(end.item_id, None)
            other = None if place is None else b.end(place, 0, task)
            if other is None or end.error_type is not None or other.error_type is not None:
                left_out += 1
                continue
            pairs += 1
            yield _line(end, other)
        left_out += len(places)  # the items that only the other run has
        if left_out:
            _log.warning("%d of %d items are left out: not both runs have answered them", left_out, pairs + left_out)


def _ledger(key: str, run: str, task: str) -> Ledger:
    try:
        ledger = Ledger.read(run_at(find_run(run)).journal)
    except RunDirError as error:
        raise DatasetError(f"{key}: {error}") from error
    aliases = [alias for alias, _ in ledger.plan.tasks]
    if task not in aliases:
        ledger.close()
        raise DatasetError(f"{key}: {run} has no task `{task}`; it has: {', '.join(aliases)}")
    return ledger


def _is_of(end: End, task: str) -> bool:
    return end.task == task and end.sample_index == 0 and not end.skipped


def _line(end: End, other: End) -> bytes:
    row = jsontext.decode(end.item)
    if taken := sorted({"a", "b"} & row.keys()):
        raise DatasetError(f"dataset.runs: the rows already have a column `{taken[0]}`, which is needed for an answer")
    answers = {"a": _text(end), "b": _text(other)}
    return jsontext.encode({**row, **answers}) + b"\n"


def _text(end: End) -> str:
    read = end.read_back
    return str(read) if isinstance(read, str) else jsontext.encode_str(read)
