"""Resuming: whether a run is still the same evaluation, and which changes are allowed."""

from __future__ import annotations

import hashlib
import math
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from runner.config.file import ConfigFile, read_config_file
from runner.config.model import Config
from runner.datasets import READING, FileIdentity, Items
from runner.datasets.remote import known_by
from runner.errors import ConfigError, RunDirError
from runner.jsontext import encode
from runner.keypaths import KeyPath, dotted, leaves
from runner.pipeline.kept_rows import KeptRows
from runner.secrets.redaction import Redactor, mapped, secrets_in
from runner.storage.ledger import Ledger
from runner.storage.records import FORMAT, UNSET, Open, Rescored
from runner.storage.rundir import RunDir
from runner.structs import Struct, replace
from runner.tasks.base import wall_clock_us
from runner.types import Item

__all__ = [
    "NEW_BASE_URL",
    "Asked",
    "Changes",
    "changes_since",
    "differences",
    "hash_of",
    "identity_of",
    "limit_grew",
    "open_line",
    "refusal",
]

_HASH_DIGITS = 16
#: The part of a path below a task that names the plug-ins whose code it runs.
_CODE = "code"
_BASE_URL = "endpoint.base_url"
#: With this option the base URL may differ: the address of an endpoint does not decide what is asked.
NEW_BASE_URL = "--new-base-url"
#: How the files of the dataset are read. It may differ if a file could not be read to its end, because then rows are compared.
_OPTIONS = tuple(f"dataset.{option}" for option in READING)
#: Why a value outside the tasks may differ.
_REASONS = {_BASE_URL: f"{NEW_BASE_URL} allows it"} | dict.fromkeys(_OPTIONS, "a file could not be read to its end")


class Asked(Struct, frozen=True, kw_only=True):
    """The evaluation as it is now, to be compared with an earlier run."""

    config: Config
    file: ConfigFile
    dataset: Items
    redactor: Redactor

    def with_rows(self, rows: Items) -> Asked:
        """Return the same evaluation with the rows that a run has kept: all of them, whatever `dataset.limit` is."""
        dataset = self.config.dataset.model_copy(update={"limit": None})
        return replace(self, config=self.config.model_copy(update={"dataset": dataset}), dataset=rows)


def open_line(
    run: RunDir,
    asked: Asked,
    tasks: Sequence[tuple[str, int]],
    changed: Sequence[str] = (),
    *,
    rescored: Rescored | None = None,
    engine: str | None = None,
    worker: int | None = None,
    batched: bool = False,
) -> Open:
    """Return the first line that a start, or one of its workers, writes to the journal: what is asked, and by which process.

    `batched`: a batch replaces the endpoints, so there are no slots whose time is counted.
    """
    config = asked.config
    return Open(
        format=FORMAT,
        run_id=run.run_id,
        name=config.name,
        at=wall_clock_us(),
        host=socket.gethostname(),
        pid=os.getpid(),
        tasks=list(tasks),
        identity=identity_of(config),
        files=asked.dataset.sizes(),
        concurrency=0 if batched else config.limits.first_in_flight,
        limit=config.dataset.limit,
        changed=list(changed),
        rescored=rescored,
        engine=UNSET if engine is None else engine,
        worker=UNSET if worker is None else worker,
    )


class Changes(Struct, frozen=True):
    """The differences between the evaluation now and at the latest start of the run."""

    #: The differences that make it another evaluation, one line each.
    refused: Sequence[str]
    #: The differences that are allowed, one line each, and their config paths.
    allowed: Sequence[str]
    paths: Sequence[str]
    #: The tasks that changed: they have no answers, and their errors are asked again.
    tasks: frozenset[str]


def identity_of(config: Config) -> dict[str, str]:
    """Return a hash of each value that decides what is asked of which endpoint, by its path in the config.

    Limits, timeouts, keys, headers and descriptions are left out: they may change when a run is resumed. The values
    themselves are not kept, because an environment variable may have put a secret into one.
    """
    values: dict[KeyPath, Any] = {
        ("name",): config.name,
        ("dataset", "id"): config.dataset.id,
        ("dataset", "shuffle"): config.dataset.shuffle,
        ("endpoint", "base_url"): config.endpoint.asked,
        ("endpoint", "replay"): config.endpoint.replay,
    }
    for name in {task.endpoint for task in config.tasks if task.endpoint is not None}:
        values["endpoints", name, "base_url"] = config.endpoints[name].asked
        values["endpoints", name, "replay"] = config.endpoints[name].replay
    for option in READING:
        value = getattr(config.dataset, option)
        values.update(leaves(None if value == {} else value, ("dataset", option)))
    for index, task in enumerate(config.tasks):
        place: KeyPath = ("tasks", index)
        values[*place, "task_type"] = task.task_type
        values[*place, "alias"] = task.name
        values[*place, "samples"] = task.samples
        values[*place, "endpoint"] = task.endpoint
        values[*place, "stream"] = getattr(task, "stream", False)
        values.update(leaves(task.settings.identity, (*place, "configuration")))
        values.update({(*place, _CODE, name): version for name, version in task.code.items()})
        if task.run_condition is not None:
            values.update(leaves(task.run_condition.model_dump(), (*place, "run_condition")))
    return {dotted(path): hash_of(value) for path, value in values.items() if value is not None}


def hash_of(value: Any) -> str:
    """Return the hash of a value of the config, as the journal holds it."""
    return hashlib.sha256(encode(value)).hexdigest()[:_HASH_DIGITS]


def changes_since(run: RunDir, ledger: Ledger, asked: Asked, *, new_base_url: bool = False) -> Changes:
    """Compare a run with the config and dataset that are to continue it."""
    config, redactor = asked.config, asked.redactor
    last = ledger.opens[-1]
    now = identity_of(config)
    changed = sorted(path for path in {*last.identity, *now} if last.identity.get(path) != now.get(path))
    free = {
        *_tasks_without_answers(ledger),
        *(_OPTIONS if _may_be_mended(ledger) else ()),
        *([_BASE_URL] if new_base_url else ()),
    }
    allowed = {path for path in changed if _task_of(path, last.identity) in free}
    said = differences(run, {path: path for path in changed}, asked.file, redactor)
    why = {path: _REASONS.get(_place_of(path), "nothing of this task was answered") for path in allowed}
    refused = [said[path] for path in changed if path not in allowed]
    refused += _limit_difference(ledger, config)
    refused += _dataset_differences(ledger, asked)
    names = {f"tasks.{index}": [part.name for part in task.parts] for index, task in enumerate(config.tasks)}
    tasks = frozenset(name for path in allowed for name in names.get(_place_of(path), ()))
    return Changes(refused, [f"{said[path]}; {why[path]}" for path in sorted(allowed)], sorted(allowed), tasks)


def refusal(run: RunDir, changes: Changes, *, is_finished: bool) -> RunDirError:
    """Return the error with the reasons why a run cannot go on."""
    listed = "\n".join(f"  {difference}" for difference in changes.refused)
    what = f"{run.path} {'is finished, and' if is_finished else 'cannot go on, because'} this is another evaluation:"
    if is_finished:
        remedy = "Undo the change, or start a new run without --resume, or with --resume --or-new."
    else:
        remedy = "Undo the change, or start a new run without --resume."
    if any(difference.startswith(f"{_BASE_URL}: ") for difference in changes.refused):
        remedy += f" If only the address of the same endpoint has changed, go on with {NEW_BASE_URL}."
    return RunDirError(f"{what}\n{listed}\n{remedy}")


def _tasks_without_answers(ledger: Ledger) -> set[str | None]:
    """Return the hashes of the aliases of tasks without answers; None stands for a task that was not there.

    A task that runs as several parts, such as `ALIAS.ab` and `ALIAS`, counts only if no part has an answer.
    """
    answered = [alias for alias, _ in ledger.plan.tasks if ledger.answers_of(alias)]
    silent = [alias for alias, _ in ledger.plan.tasks if alias not in answered]
    return {None, *(hash_of(alias) for alias in silent if not any(one.startswith(f"{alias}.") for one in answered))}


def _task_of(path: str, identity: Mapping[str, str]) -> str | None:
    """Return the hash of the alias of the task that a path belongs to; for a path outside the tasks, its first two parts."""
    place = _place_of(path)
    return identity.get(f"{place}.alias") if place.startswith("tasks.") else place


def _place_of(path: str) -> str:
    """Return the first two parts of a path, such as `tasks.N` or `dataset.types`."""
    return ".".join(path.split(".")[:2])


def limit_grew(ledger: Ledger, config: Config) -> bool:
    """Return whether the config wants more rows than any start so far."""
    return _limit_before(ledger) < _as_number(config.dataset.limit)


def _dataset_differences(ledger: Ledger, asked: Asked) -> list[str]:
    """Return the differences of the dataset: of its files or, if no start knew their content, of rows that have results."""
    dataset = asked.dataset
    if isinstance(dataset, KeptRows):  # the rows are from the journal of the run
        return []
    if _may_be_mended(ledger):
        return _row_differences(ledger, asked)
    if not ledger.files:
        return _size_differences(ledger.opens[0].files, dataset.sizes()) or _row_differences(ledger, asked)
    survey = dataset.survey()
    if survey is None:
        return ["dataset: a file is being written; try again when it is complete"]
    return _file_differences([FileIdentity(*known) for known in ledger.files], survey.identities)


def _may_be_mended(ledger: Ledger) -> bool:
    """Return whether a start ended because of a damaged file, whose content differs once it is mended."""
    return any(close.damaged for close in ledger.closes)


def _row_differences(ledger: Ledger, asked: Asked) -> list[str]:
    """Return the first row that has results and has changed, as a line."""
    items = asked.dataset.by_index()
    item: Item | None = None
    for end in ledger.ends():
        while item is None or item.index < end.item_index:
            if (item := next(items, None)) is None:
                return [f"dataset: row {end.item_index + 1}, {end.item_id}, is not there any more"]
        if item.item_id != end.item_id or asked.redactor.text(encode(item.row).decode()) != end.item:
            return [f"{item.place}: this row has changed since it was asked"]
    return []


def differences(run: RunDir, changed: Mapping[str, str], file: ConfigFile, redactor: Redactor) -> dict[str, str]:
    """Return a line for each config path whose value differs from that of a run. `changed` maps it to the path in the run."""
    if not changed:
        return {}
    try:
        before: Any = read_config_file(run.config).document
    except ConfigError:
        before = {}
    # The copy in the run directory has no secrets, but a copy by an earlier version may have some.
    earlier = Redactor([secret for _, secret in secrets_in(before)])
    before, now = mapped(before, earlier.text), mapped(file.document, redactor.text)
    return {
        path: _of_code(path) or f"{path}: {_change(_shown(_at(before, path_there)), _shown(_at(now, path)))}"
        for path, path_there in changed.items()
    }


def _of_code(path: str) -> str | None:
    """Return a line for the path of a plug-in whose code has changed; None for any other path."""
    match path.split(".", 3):
        case ["tasks", index, part, name] if part == _CODE:
            return f"tasks.{index}: {name} has changed since the run began; evaluation.json says which version it was"
    return None


def _change(before: str, now: str) -> str:
    return f"{now} stands for another value than before" if before == now else f"was {before}, is {now}"


def _shown(value: Any) -> str:
    text = "not there" if value is None else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"  # noqa: PLR2004  about a line


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
    """Return the difference if the limit shrank: a run may be extended, but rows that were asked cannot be taken back."""
    before, now = _limit_before(ledger), _as_number(config.dataset.limit)
    was = "was not set" if before == math.inf else f"was {before:g}"
    return [f"dataset.limit: {was}, is {now:g}; it may only grow"] if now < before else []


def _limit_before(ledger: Ledger) -> float:
    return max((_as_number(opened.limit) for opened in ledger.opens), default=0.0)


def _as_number(limit: int | None) -> float:
    return float("inf") if limit is None else float(limit)


def _file_differences(before: Sequence[FileIdentity], now: Sequence[FileIdentity]) -> list[str]:
    if len(before) != len(now):
        return [f"dataset: had {len(before)} files, has {len(now)}"]
    pairs = [(old, new) for old, new in zip(before, now, strict=True) if (old.size, old.content) != (new.size, new.content)]
    return [
        f"dataset: {new.name}: its content changed: was {known_by(old.size, old.content)}, is {known_by(new.size, new.content)}"
        for old, new in pairs
    ]


def _size_differences(before: Sequence[tuple[str, int]], now: Sequence[tuple[str, int]]) -> list[str]:
    if len(before) != len(now):
        return [f"dataset: had {len(before)} files, has {len(now)}"]
    pairs = zip(before, now, strict=True)
    return [f"dataset: {name}: was {old} bytes, is {size}" for (_, old), (name, size) in pairs if old != size]
