"""Resuming: which run goes on, and whether it is still the same evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.config import Config
from runner.configfile import ConfigFile, KeyPath, dotted, leaves, read_config_file
from runner.datasets import Dataset, FileIdentity
from runner.errors import ConfigError, RunDirError
from runner.jsontext import encode
from runner.redaction import Redactor, mapped, secrets_in
from runner.storage.files import FILES, FileSystem
from runner.storage.journal import read_segment, segments_of
from runner.storage.ledger import Ledger
from runner.storage.rundir import RunDir, run_directories
from runner.structs import replace
from runner.types import Item

__all__ = ["check_unchanged", "find_run", "identity_of"]

_HASH_DIGITS = 16


def find_run(output: Path, name: str, files: FileSystem = FILES, *, retry_errors: bool) -> RunDir | None:
    """Return the latest run that is to go on, or None where a new one is to begin.

    A run goes on if it did not finish, or if a Parquet file of it is missing. With `retry_errors` it is the latest run in any
    case: where it has no error rows there is nothing to ask, and a new run would be paid for. One that was killed before the
    first line of its journal has nothing to go on with.
    """
    for run in run_directories(output, name, files):
        if not any(True for segment in segments_of(run.journal) for _ in read_segment(segment, files)):
            continue
        if retry_errors or run.read_evaluation().get("status") != "completed" or not run.has_views():
            return run
    return None


def identity_of(config: Config) -> dict[str, str]:
    """Return a hash of each value that decides what is asked of whom, by its path in the config.

    Limits, timeouts, keys, headers and descriptions are left out: they may change when a run is resumed. The values
    themselves are not kept, for an environment variable may have put a secret into one.
    """
    values: dict[KeyPath, Any] = {
        ("name",): config.name,
        ("dataset", "id"): config.dataset.id,
        ("dataset", "shuffle"): config.dataset.shuffle,
        ("endpoint", "base_url"): config.endpoint.asked,
        ("endpoint", "replay"): config.endpoint.replay,
    }
    for index, task in enumerate(config.tasks):
        place: KeyPath = ("tasks", index)
        values[*place, "task_type"] = task.task_type
        values[*place, "alias"] = task.name
        values[*place, "samples"] = task.samples
        values[*place, "stream"] = getattr(task, "stream", False)
        values.update(leaves(task.settings.verbatim, (*place, "configuration")))
    return {
        dotted(path): hashlib.sha256(encode(value)).hexdigest()[:_HASH_DIGITS]
        for path, value in values.items()
        if value is not None
    }


def check_unchanged(
    run: RunDir, ledger: Ledger, config: Config, file: ConfigFile, dataset: Dataset, *, redactor: Redactor
) -> None:
    """Compare a run with the config and dataset it is to go on with. Raises RunDirError with every difference."""
    differences = _config_differences(run, ledger.opens[0].identity, identity_of(config), file, redactor)
    differences += _limit_difference(ledger, config)
    if _may_be_mended(ledger):
        differences += _mended_differences(ledger, dataset, redactor)
    else:
        differences += _file_differences(ledger, dataset)
    if differences:
        listed = "\n".join(f"  {difference}" for difference in differences)
        what = f"{run.path} cannot go on, for this is another evaluation:"
        raise RunDirError(f"{what}\n{listed}\nUndo the change, or start a new run without --resume.")


def _file_differences(ledger: Ledger, dataset: Dataset) -> list[str]:
    if not ledger.files:
        return _size_differences(ledger.opens[0].files, dataset.sizes())
    survey = dataset.survey()
    assert survey is not None  # nobody stops this one
    return _dataset_differences([FileIdentity(*known) for known in ledger.files], survey.identities)


def _may_be_mended(ledger: Ledger) -> bool:
    """Whether a start ended for a damaged file, which is another one after it was mended."""
    return any(close.damaged for close in ledger.closes)


def _mended_differences(ledger: Ledger, dataset: Dataset, redactor: Redactor) -> list[str]:
    """Return the first row that is not what it was: of a mended file, only those that have results must be the same."""
    items = iter(replace(dataset, shuffle=None, limit=None))
    item: Item | None = None
    for end in ledger.ends():
        while item is None or item.index < end.item_index:
            if (item := next(items, None)) is None:
                return [f"dataset: has no row {end.item_index + 1} any more, as {end.item_id}"]
        if item.item_id != end.item_id or redactor.text(encode(item.row).decode()) != end.item:
            return [f"{item.place}: this row is not what it was when it was asked"]
    return []


def _config_differences(
    run: RunDir, old: Mapping[str, str], new: Mapping[str, str], file: ConfigFile, redactor: Redactor
) -> list[str]:
    changed = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
    if not changed:
        return []
    try:
        before: Any = read_config_file(run.config).document
    except ConfigError:
        before = {}
    # The copy in the run directory has no secrets; but one of an earlier version may have.
    earlier = Redactor([secret for _, secret in secrets_in(before)])
    before, now = mapped(before, earlier.text), mapped(file.document, redactor.text)
    return [f"{path}: {_change(_shown(_at(before, path)), _shown(_at(now, path)))}" for path in changed]


def _change(before: str, now: str) -> str:
    return f"{now} stands for another value than before" if before == now else f"was {before}, is {now}"


def _shown(value: Any) -> str:
    text = "not there" if value is None else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"  # noqa: PLR2004  a line's worth


def _at(document: Any, path: str) -> Any:
    for step in path.split("."):
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and step.isdecimal() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    return document


def _limit_difference(ledger: Ledger, config: Config) -> list[str]:
    """Return the difference if the limit shrank: a run may be extended, but what was asked cannot be taken back."""
    before, now = (
        max((_as_number(opened.limit) for opened in ledger.opens), default=0.0),
        _as_number(config.dataset.limit),
    )
    return [f"dataset.limit: was {before:g}, is {now:g}; it may only grow"] if now < before else []


def _as_number(limit: int | None) -> float:
    return float("inf") if limit is None else float(limit)


def _dataset_differences(before: Sequence[FileIdentity], now: Sequence[FileIdentity]) -> list[str]:
    if len(before) != len(now):
        return [f"dataset: had {len(before)} files, has {len(now)}"]
    pairs = [(old, new) for old, new in zip(before, now, strict=True) if (old.size, old.sha256) != (new.size, new.sha256)]
    return [f"dataset: {new.name}: its content changed: was {_as_text(old)}, is {_as_text(new)}" for old, new in pairs]


def _as_text(file: FileIdentity) -> str:
    return f"{file.size} bytes (sha256 {file.sha256[:12]}…)"


def _size_differences(before: Sequence[tuple[str, int]], now: Sequence[tuple[str, int]]) -> list[str]:
    if len(before) != len(now):
        return [f"dataset: had {len(before)} files, has {len(now)}"]
    pairs = zip(before, now, strict=True)
    return [f"dataset: {name}: was {old} bytes, is {size}" for (_, old), (name, size) in pairs if old != size]
