"""Rescoring: what of another run's answers a new run may take, and the copy of it.

Of each task that asks, by what the other run has:

    a task of the same alias, and all that it reads, are the same      its results are taken, errors too
    it is another, or reads one that is                                is asked, or refused where nothing may be asked
    there is none of its alias                                         the same

Where the rows are those of the dataset, by its item_id, a result is taken if no column has changed that the task reads,
directly or through others; what is not taken is pending. Results are copied into a first segment of the new run's journal, and
what comes then is a resume: so a rescoring that was killed goes on with whatever it lacks.
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
#: What stands for bytes in a row that was kept.
_OF_BYTES = re.compile(r"<\d+ bytes, sha256 [0-9a-f]{16}>")
#: Stands among the columns of a task that reads whole rows.
_ALL = None
_NOTHING = object()


class Rescoring(Struct, frozen=True, kw_only=True):
    """A run whose answers are to be taken, and what is to be done about those that it does not have."""

    run: RunDir
    ledger: Ledger
    #: Whether what it has no answer to is asked.
    asks: bool
    #: Whether the rows are those of the dataset, by their names; else they are the run's own.
    fresh_rows: bool

    @property
    def rescored(self) -> Rescored:
        """What the new run's journal says of it."""
        run_id, path = self.ledger.opens[0].run_id, str(self.run.path.resolve())
        return Rescored(run_id=run_id, path=path, asks=self.asks, fresh_rows=self.fresh_rows)

    def rows(self) -> KeptRows:
        """Return the run's rows. Raises RunDirError where it has no result yet."""
        rows = KeptRows(self.run.path, self.ledger)
        if next(iter(rows), None) is None:
            raise RunDirError(f"{self.run.path}: has no result yet, so there is nothing to rescore")
        return rows

    @property
    def lacks(self) -> str | None:
        """Why there are rows that the run does not have, or None."""
        if self.fresh_rows:
            return None
        if not self.ledger.is_finished:
            return f"{self.run.path} has not finished: rows that it has not asked are not here; rescore it again once it has"
        if (missing := _counted(self.run) - self.ledger.succeeded - self.ledger.failed) > 0:
            return f"{self.run.path} has lost {missing} of its results, for its journal is damaged"
        return None

    def taken(self, asked: Asked) -> frozenset[str]:
        """Return the aliases of the tasks whose results are taken.

        Raises RunDirError where one has to be asked and nothing may be, and where nothing could be taken.
        """
        others = _others(self, asked)
        requests = [task.name for task in asked.config.run_tasks if not task.judges]
        refused = [line for alias in requests for line in others.get(alias, ())]
        if refused and not self.asks:
            listed = "\n".join(f"  {line}" for line in refused)
            remedy = "Undo the change, or ask what it does not have with --ask."
            raise RunDirError(f"{self.run.path} does not have the answers that {asked.file.path} is about:\n{listed}\n{remedy}")
        taken = frozenset(requests) - others.keys()
        if not taken:
            why = "\n".join(["", *(f"  {line}" for line in refused)]) if refused else " it asks for nothing"
            raise RunDirError(f"{asked.file.path}: nothing of {self.run.path} can be taken:{why}")
        return taken

    def check(self, asked: Asked) -> None:
        """Raise RunDirError where nothing may or could be taken, before anything is made."""
        self.taken(asked)
        if self.asks and not self.fresh_rows and (column := self._column_of_bytes()) is not None:
            what = f"of `{column}`, which holds bytes, the run has kept no more than what stands for them"
            raise RunDirError(f"{self.run.path}: {what}; to ask, take the rows of the dataset with --fresh-rows")
        if self.fresh_rows:
            names = {end.item_id for end in self.ledger.ends()}
            if not any(item.item_id in names for item in asked.dataset):
                raise RunDirError(f"{self.run.path} has none of the rows of the dataset, by their names (dataset.id)")

    def _column_of_bytes(self) -> str | None:
        cells = ((column, value) for row in self.rows().first_rows for column, value in row.items())
        return next((column for column, value in cells if isinstance(value, str) and _OF_BYTES.fullmatch(value)), None)

    def results(self, asked: Asked, taken: frozenset[str]) -> Iterator[End]:
        """Yield the results of tasks as the new run keeps them. Raises StorageError; DatasetReadError with fresh rows."""
        if self.fresh_rows:
            yield from _Fresh(self, asked, taken).results()
            return
        for end in self.ledger.ends():
            if end.task in taken:
                yield as_cached(end)

    def say_what_is_not_taken(self, asked: Asked, taken: frozenset[str]) -> None:
        """Log which tasks are not taken: those to be asked, and those that the config does not have."""
        aliases = {task.name for task in asked.config.run_tasks}
        asking = [task.name for task in asked.config.run_tasks if not task.judges and task.name not in taken]
        left = [alias for alias, _ in self.ledger.plan.tasks if alias not in aliases]
        for some, what in ((asking, "to be asked"), (left, "left out, for the config has no such task")):
            if some:
                _log.info("%s: %s: %s", self.run.path, what, ", ".join(some))


@contextmanager
def opened_rescoring(run: RunDir, *, asks: bool, fresh_rows: bool) -> Iterator[Rescoring]:
    """Read the run whose answers are to be taken; within the block they can be. Raises RunDirError, StorageError."""
    with closing(Ledger.read(run.journal, run.files)) as ledger:
        yield Rescoring(run=run, ledger=ledger, asks=asks, fresh_rows=fresh_rows)


def _counted(run: RunDir) -> int:
    """Return how many results a run had when it was finished; 0 where nothing says it."""
    evaluation = run.read_evaluation()
    totals = evaluation.get("totals")
    results, errors = totals.get("results") if isinstance(totals, dict) else None, evaluation.get("error_count")
    is_told = evaluation.get("status") == "completed" and isinstance(results, int) and isinstance(errors, int)
    return results + errors if is_told else 0  # type: ignore[operator]  # both are numbers


def _others(rescoring: Rescoring, asked: Asked) -> dict[str, list[str]]:
    """Return the tasks that the run does not have as they are now, each with what makes it another."""
    samples_there = dict(rescoring.ledger.plan.tasks)
    # Of a task that is run as several, each has the place of all.
    places = {part.name: (index, task.name) for index, task in enumerate(asked.config.tasks) for part in task.parts}
    others: dict[str, list[str]] = {}
    for task, samples, inputs in ordered(asked.config):
        alias, (index, named) = task.name, places[task.name]
        place = f"tasks.{index}"
        if alias not in samples_there:
            lines = [f"{place}: `{alias}` is none of its tasks; it has: {', '.join(samples_there)}"]
        else:
            lines = _differences_of(named, place, rescoring, asked)
            if not lines and samples != (there := samples_there[alias]):
                lines = [f"{place}.samples: was {there}, is {samples}"]
            lines += [f"{place}: `{alias}` reads `{one}`, which is another" for one in inputs if one in others and not lines]
        if lines:
            others[alias] = lines
    return others


def _differences_of(alias: str, place: str, rescoring: Rescoring, asked: Asked) -> list[str]:
    """Return a line for each value of a task that is another in the run."""
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
    """Takes results by the rows of the dataset, each by its name."""

    def __init__(self, rescoring: Rescoring, asked: Asked, taken: frozenset[str]) -> None:
        self._rescoring, self._asked = rescoring, asked
        tasks = ordered(asked.config)
        self._units = [(task.name, samples) for task, samples, _ in tasks if task.name in taken]
        self._columns = _columns_of([(task, inputs) for task, _, inputs in tasks])
        #: The indexes of the run's items that the dataset was not seen to have.
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
            hint = "" if self._asked.config.dataset.id else "; without dataset.id a row's name is a hash of all of it"
            _log.warning("%s does not have %s of the dataset%s", path, self._missing, hint)
        if self._changed:
            columns = ", ".join(f"`{column}`" for column in sorted(self._changed_columns))
            _log.warning("%s has asked %s otherwise (%s); its answers to them are not taken", path, self._changed, columns)
        if self._left:
            left = _Named()
            for name in self._left:
                left.note(name)
            _log.warning("the dataset does not have %s of %s; they are left out", left, path)


class _Named:
    """Rows, counted, and the first of them named."""

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
    """Return what each task reads of a row, directly or through those before it: its columns, and `_ALL` where all of it."""
    columns: dict[str, frozenset[str | None]] = {}
    for task, inputs in tasks:
        read = {reference.field for reference in compile_template(dict(task.readable)).references}
        columns[task.name] = frozenset(read - columns.keys()).union(*(columns[one] for one in inputs))
    return columns


def _changed_columns(before: str, now: str, redactor: Redactor) -> set[str]:
    """Return the columns of a row that are not what they were, by the JSON of both; in the first there are no secrets."""
    if before == now:
        return set()
    row: Any = jsontext.decode(redactor.json(now.encode("utf-8", "surrogatepass")))
    row_before: Any = jsontext.decode(before.encode("utf-8", "surrogatepass"))
    return {one for one in {*row, *row_before} if row.get(one, _NOTHING) != row_before.get(one, _NOTHING)}


def source_of(rescored: Rescored) -> RunDir:
    """Return the run whose answers a run has begun to take. Raises RunDirError where it is gone."""
    path = Path(rescored.path)
    if not (path / "journal").is_dir():
        raise RunDirError(f"{path}: is gone, and not all of its answers were taken yet; put it back")
    return RunDir(path)
