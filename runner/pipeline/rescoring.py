"""Rescoring: which answers of another run a new run may take, and the copy of them.

For each task that asks, the other run decides:

    it has the same task, and the same tasks that this one reads       its results are taken, errors too
    the task, or a task that it reads, differs there                   it is asked, or refused if nothing may be asked
    it has no task of this alias                                       the same

With the rows of the dataset (matched by item_id), a result is taken if no column that the task reads, directly or through
other tasks, has changed. All other units are pending. The results are copied into a first segment of the new run's journal, and
the rest is a resume. So a rescoring that was killed goes on with the results that it lacks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from runner import jsontext
from runner.errors import RunDirError
from runner.logs import logger
from runner.pipeline.kept_rows import KeptRows
from runner.pipeline.resume import Asked, differences, hash_of, identity_of
from runner.pipeline.steps import ordered
from runner.secrets.redaction import Redactor
from runner.storage.ledger import Ledger
from runner.storage.records import End, Rescored, as_cached
from runner.storage.rundir import RunDir
from runner.structs import Struct, replace
from runner.tasks.base import TaskConfig
from runner.templates.compile import compile_template
from runner.types import Item

__all__ = ["Rescoring", "opened_rescoring", "source_of"]

_log = logger(__name__)
_MOST_NAMED = 5
#: The placeholder for bytes in a row that was kept.
_OF_BYTES = re.compile(r"<\d+ bytes, sha256 [0-9a-f]{16}>")
#: Among the columns of a task: it reads the whole row.
_ALL = None
_NOTHING = object()


class Rescoring(Struct, frozen=True, kw_only=True):
    """A run whose answers are taken, and what happens to the answers that it does not have."""

    run: RunDir
    ledger: Ledger
    #: Whether requests that have no answer there are sent.
    asks: bool
    #: Whether the rows come from the dataset, matched by name; if not, from the run.
    fresh_rows: bool

    @property
    def rescored(self) -> Rescored:
        """The entry about it in the new run's journal."""
        run_id, path = self.ledger.opens[0].run_id, str(self.run.path.resolve())
        return Rescored(run_id=run_id, path=path, asks=self.asks, fresh_rows=self.fresh_rows)

    def rows(self) -> KeptRows:
        """Return the rows of the run. Raises RunDirError if it has no result yet."""
        rows = KeptRows(self.run.path, self.ledger)
        if next(iter(rows), None) is None:
            raise RunDirError(f"{self.run.path}: has no result yet, so there is nothing to rescore")
        return rows

    @property
    def lacks(self) -> str | None:
        """Why the run does not have all rows, or None."""
        if self.fresh_rows:
            return None
        if not self.ledger.is_finished:
            return f"{self.run.path} has not finished: rows that it has not asked yet are missing here; rescore it again later"
        if (missing := _counted(self.run) - self.ledger.succeeded - self.ledger.failed) > 0:
            return f"{self.run.path} has lost {missing} of its results, because its journal is damaged"
        return None

    def taken(self, asked: Asked) -> frozenset[str]:
        """Return the aliases of the tasks whose results are taken.

        Raises RunDirError if a task would have to be asked and may not, and if nothing can be taken.
        """
        others = _others(self, asked)
        requests = [task.name for task in asked.config.run_tasks if not task.judges]
        refused = [line for alias in requests for line in others.get(alias, ())]
        if refused and not self.asks:
            listed = "\n".join(f"  {line}" for line in refused)
            remedy = "Undo the change, or send the requests that have no answer there with --ask."
            raise RunDirError(f"{self.run.path} does not have the answers that {asked.file.path} needs:\n{listed}\n{remedy}")
        taken = frozenset(requests) - others.keys()
        if not taken:
            why = "\n".join(["", *(f"  {line}" for line in refused)]) if refused else " the config has no task that asks"
            raise RunDirError(f"{asked.file.path}: no result of {self.run.path} can be taken:{why}")
        return taken

    def check(self, asked: Asked) -> None:
        """Raise RunDirError if results may not or cannot be taken, before anything is made."""
        self.taken(asked)
        if self.asks and not self.fresh_rows and (column := self._column_of_bytes()) is not None:
            what = f"`{column}` holds bytes, and the run has kept only placeholders for them"
            raise RunDirError(f"{self.run.path}: {what}; to ask, take the rows of the dataset with --fresh-rows")
        if self.fresh_rows:
            names = {end.item_id for end in self.ledger.ends()}
            if not any(item.item_id in names for item in asked.dataset):
                raise RunDirError(f"{self.run.path} has none of the rows of the dataset; rows are matched by name (dataset.id)")

    def _column_of_bytes(self) -> str | None:
        cells = ((column, value) for row in self.rows().first_rows for column, value in row.items())
        return next((column for column, value in cells if isinstance(value, str) and _OF_BYTES.fullmatch(value)), None)

    def results(self, asked: Asked, taken: frozenset[str]) -> Iterator[End]:
        """Yield the results of tasks as the new run keeps them. Raises StorageError, and DatasetReadError with fresh rows."""
        if self.fresh_rows:
            yield from _Fresh(self, asked, taken).results()
            return
        for end in self.ledger.ends():
            if end.task in taken:
                yield as_cached(end)

    def say_what_is_not_taken(self, asked: Asked, taken: frozenset[str]) -> None:
        """Log the tasks whose results are not taken: tasks to be asked, and tasks that the config does not have."""
        aliases = {task.name for task in asked.config.run_tasks}
        asking = [task.name for task in asked.config.run_tasks if not task.judges and task.name not in taken]
        left = [alias for alias, _ in self.ledger.plan.tasks if alias not in aliases]
        for some, what in ((asking, "to be asked"), (left, "left out, because the config has no such task")):
            if some:
                _log.info("%s: %s: %s", self.run.path, what, ", ".join(some))


@contextmanager
def opened_rescoring(run: RunDir, *, asks: bool, fresh_rows: bool) -> Iterator[Rescoring]:
    """Open the run whose answers are taken, for the block. Raises RunDirError, StorageError."""
    with closing(Ledger.read(run.journal, run.files)) as ledger:
        yield Rescoring(run=run, ledger=ledger, asks=asks, fresh_rows=fresh_rows)


def _counted(run: RunDir) -> int:
    """Return how many results a run had when it finished; 0 if that is not known."""
    evaluation = run.read_evaluation()
    totals = evaluation.get("totals")
    results, errors = totals.get("results") if isinstance(totals, dict) else None, evaluation.get("error_count")
    is_told = evaluation.get("status") == "completed" and isinstance(results, int) and isinstance(errors, int)
    return results + errors if is_told else 0  # type: ignore[operator]  # both are numbers


def _others(rescoring: Rescoring, asked: Asked) -> dict[str, list[str]]:
    """Return the tasks that the run does not have in their present form, each with its differences, one line each."""
    samples_there = dict(rescoring.ledger.plan.tasks)
    # A task that runs as several parts: each part has the position of the task in the config.
    places = {part.name: (index, task.name) for index, task in enumerate(asked.config.tasks) for part in task.parts}
    others: dict[str, list[str]] = {}
    for task, samples, inputs in ordered(asked.config):
        alias, (index, named) = task.name, places[task.name]
        place = f"tasks.{index}"
        if alias not in samples_there:
            lines = [f"{place}: the run has no task `{alias}`; it has: {', '.join(samples_there)}"]
        else:
            lines = _differences_of(named, place, rescoring, asked)
            if not lines and samples != (there := samples_there[alias]):
                lines = [f"{place}.samples: was {there}, is {samples}"]
            lines += [f"{place}: `{alias}` reads `{one}`, which has changed" for one in inputs if one in others and not lines]
        if lines:
            others[alias] = lines
    return others


def _differences_of(alias: str, place: str, rescoring: Rescoring, asked: Asked) -> list[str]:
    """Return a line for each value of a task that differs in the run."""
    before, now = rescoring.ledger.opens[-1].identity, identity_of(asked.config)
    place_there = next(path for path, value in before.items() if path.endswith(".alias") and value == hash_of(alias))
    place_there = place_there.removesuffix(".alias")
    there, here = _below(before, place_there), _below(now, place)
    changed = [rest for rest in sorted({*there, *here}) if rest != "samples" and there.get(rest) != here.get(rest)]
    paths = {f"{place}.{rest}": f"{place_there}.{rest}" for rest in changed}
    return list(differences(rescoring.run, paths, asked.file, asked.redactor).values())


def _below(identity: Mapping[str, str], place: str) -> dict[str, str]:
    return {path.removeprefix(f"{place}."): value for path, value in identity.items() if path.startswith(f"{place}.")}


class _Fresh:
    """Takes results for the rows of the dataset, which are matched by name."""

    def __init__(self, rescoring: Rescoring, asked: Asked, taken: frozenset[str]) -> None:
        self._rescoring, self._asked = rescoring, asked
        tasks = ordered(asked.config)
        self._units = [(task.name, samples) for task, samples, _ in tasks if task.name in taken]
        self._columns = _columns_of([(task, inputs) for task, _, inputs in tasks])
        #: The indexes of the run's items that were not found in the dataset yet.
        self._left = {end.item_id: end.item_index for end in rescoring.ledger.ends()}
        self._missing, self._changed = _Named(), _Named()
        self._changed_columns: Counter[str] = Counter()

    def results(self) -> Iterator[End]:
        for item in self._asked.dataset:
            if item.failure is not None:
                continue
            index = self._left.pop(item.item_id, None)
            if index is None:
                self._missing.note(item.item_id)
            else:
                yield from self._of(item, index)
        self._say_what_differs()

    def _of(self, item: Item, index: int) -> Iterator[End]:
        text = jsontext.encode_str(item.row)
        changed: set[str] | None = None
        is_asked_otherwise = False
        for alias, samples in self._units:
            for sample in range(samples):
                end = self._rescoring.ledger.end(index, sample, alias)
                if end is None:
                    continue
                if changed is None:
                    changed = _changed_columns(end.item, text, self._asked.redactor)
                read = self._columns[alias]
                if others := changed if _ALL in read else changed & read:
                    is_asked_otherwise = True
                    self._changed_columns.update(others)
                else:
                    yield replace(as_cached(end), item_index=item.index, item=text)
        if is_asked_otherwise:
            self._changed.note(item.item_id)

    def _say_what_differs(self) -> None:
        path = self._rescoring.run.path
        if self._missing:
            hint = "" if self._asked.config.dataset.id else "; without dataset.id a row's name is a hash of the whole row"
            _log.warning("%s does not have %s of the dataset%s", path, self._missing, hint)
        if self._changed:
            columns = ", ".join(f"`{column}`" for column in sorted(self._changed_columns))
            _log.warning("%s has asked %s with other values (%s); those answers are not taken", path, self._changed, columns)
        if self._left:
            left = _Named()
            for name in self._left:
                left.note(name)
            _log.warning("the dataset does not have %s of %s; they are left out", left, path)


class _Named:
    """A count of rows, and the names of the first ones."""

    def __init__(self) -> None:
        self._count = 0
        self._first: list[str] = []

    def note(self, item_id: str) -> None:
        self._count += 1
        if len(self._first) < _MOST_NAMED:
            self._first.append(item_id)

    def __bool__(self) -> bool:
        return self._count > 0

    def __str__(self) -> str:
        more = ", …" if self._count > len(self._first) else ""
        return f"{self._count} rows ({', '.join(self._first)}{more})"


def _columns_of(tasks: Sequence[tuple[TaskConfig, Sequence[str]]]) -> dict[str, frozenset[str | None]]:
    """Return the columns that each task reads, directly or through earlier tasks; `_ALL` among them means the whole row."""
    columns: dict[str, frozenset[str | None]] = {}
    for task, inputs in tasks:
        read = {reference.field for reference in compile_template(dict(task.readable)).references}
        columns[task.name] = frozenset(read - columns.keys()).union(*(columns[one] for one in inputs))
    return columns


def _changed_columns(before: str, now: str, redactor: Redactor) -> set[str]:
    """Return the columns of a row that have changed, from the JSON of both rows; secrets are removed from the first already."""
    if before == now:
        return set()
    row: Any = jsontext.decode(redactor.json(now.encode("utf-8", "surrogatepass")))
    row_before: Any = jsontext.decode(before.encode("utf-8", "surrogatepass"))
    return {one for one in {*row, *row_before} if row.get(one, _NOTHING) != row_before.get(one, _NOTHING)}


def source_of(rescored: Rescored) -> RunDir:
    """Return the run whose answers a rescoring has begun to take. Raises RunDirError if it is gone."""
    path = Path(rescored.path)
    if not (path / "journal").is_dir():
        raise RunDirError(f"{path}: is gone, and not all of its answers were taken yet; put it back")
    return RunDir(path)
