"""How a run begins: as a new run, or as an earlier run that is locked, read, compared with the config, and only then mended.

The result of a resume depends on the run that is found:

    none                                                 a new run
    finished, with --or-new                              a new run
    another evaluation, nothing answered                 a new run, because nothing is lost
    another evaluation                                   refused, with each difference
    finished, all its files whole                        left as it is; its summary is shown again
    finished, a file missing or damaged                  goes on, with nothing left to ask
    anything else                                        goes on

A rescoring begins a new run too, unless an earlier run of the same rescoring did not finish. First it copies the results that
it can take from the other run; a resume copies those that are still missing. Then the run goes on like any other.

A run with fewer rows than the config wants now, or with errors that are to be asked again, is not finished. A run in a
directory that cannot be written is refused, unless it is finished: then it is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from runner.datasets import Items
from runner.errors import DatasetReadError, RunDirError, UsageError
from runner.logs import logger
from runner.pipeline.choosing import Chosen, begun_in, choose_run, unfinished_rescoring
from runner.pipeline.kept_rows import KeptRows
from runner.pipeline.rescoring import Rescoring, opened_rescoring, source_of
from runner.pipeline.resume import Asked, Changes, changes_since, identity_of, limit_grew, open_line, refusal
from runner.results.views import has_views
from runner.storage.files import FileSystem
from runner.storage.journal import NOT_SYNCED, Journal, mend
from runner.storage.ledger import Ledger
from runner.storage.records import Close
from runner.storage.rundir import RunDir, check_latest
from runner.structs import Struct
from runner.tasks.base import wall_clock_us

__all__ = ["Beginning", "Begun", "Resume"]

_log = logger(__name__)
#: The reason in the last line of a segment after which all results that the run can take from another are copied.
_TAKEN = "all results were taken over"


class Resume(Struct, frozen=True, kw_only=True):
    """The values of `--resume` and of the options that go with it."""

    #: The directory or id of a run; None: the latest run.
    run: str | None = None
    #: Whether a new run begins if that run is finished.
    or_new: bool = False
    #: Whether units that ended as errors are asked again.
    retry_errors: bool = False
    #: Whether the base URL may differ.
    new_base_url: bool = False


class Begun(Struct):
    """A run that is locked and ready to be worked on."""

    run: RunDir
    #: The results of earlier starts; None for a new run.
    ledger: Ledger | None = None
    #: Whether nothing is left to do.
    is_finished: bool = False
    #: Paths of the config whose values may differ from the previous start.
    changed: Sequence[str] = ()
    #: The tasks whose errors are asked again.
    retried: frozenset[str] = frozenset()
    #: The rows, if the run has kept them itself.
    rows: Items | None = None
    #: Whether anything may be asked.
    asks: bool = True
    #: Why the run cannot finish with the rows that it has, or None.
    lacks: str | None = None

    @property
    def known(self) -> int:
        """How many results there are already."""
        return 0 if self.ledger is None else self.ledger.succeeded + self.ledger.failed

    def end(self) -> None:
        """Close the ledger and unlock the run."""
        if self.ledger is not None:
            self.ledger.close()
        self.run.unlock()


class Beginning(Struct, frozen=True, kw_only=True):
    """The part of an evaluation that decides which run it is."""

    asked: Asked
    files: FileSystem
    #: The alias of each task and its number of samples, in the order in which tasks run; and the aliases that each task reads.
    tasks: Sequence[tuple[str, int]]
    inputs: Mapping[str, Sequence[str]]
    #: The run whose answers are taken.
    rescoring: Rescoring | None = None
    #: Values that must not reach a journal.
    secrets: Sequence[str] = ()
    #: A directory that was made for the run, which begins and goes on there; None: a new one below `output`.
    made: Path | None = None

    def begin(self, resume: Resume | None) -> Begun:
        """Return the run, new or resumed. Raises StorageError, and UsageError before anything is made or changed."""
        config = self.asked.config
        if config.dataset.limit == 0:
            raise UsageError("dataset.limit: 0 asks for no row; to check everything and send nothing, use --dry-run")
        if self.made is not None:
            return self._in_its_own(RunDir.made(self.made, self.files), resume or Resume())
        directory = Path(config.output) / config.name
        check_latest(directory)
        if self.rescoring is not None:
            self.rescoring.check(self.asked)
            resume = Resume()
            chosen = unfinished_rescoring(directory, self.rescoring.rescored, identity_of(config), self.files)
        else:
            chosen = None if resume is None else choose_run(directory, resume.run, self.files)
        if resume is not None and chosen is not None and (found := self._found_again(chosen, resume)) is not None:
            return found
        begun = Begun(RunDir.create(Path(config.output), config.name, self.files))
        if self.rescoring is not None:
            with _ending(begun):
                self._take_over(begun, self.rescoring)
                _log.info("%s: %d results were copied from %s", begun.run.path, begun.known, self.rescoring.run.path)
        return begun

    def _in_its_own(self, run: RunDir, resume: Resume) -> Begun:
        """Return the run in a locked directory that was made for it, whether it was begun already or not."""
        chosen = begun_in(run)
        if chosen is None:
            return Begun(run)
        found = self._going_on(chosen, resume)
        if found is None:
            raise RunDirError(f"{run.path}: cannot go on: another evaluation was begun there")
        return found

    def _found_again(self, chosen: Chosen, resume: Resume) -> Begun | None:
        """Return the run to go on with, or None if a new one is to begin."""
        chosen.run.lock(or_read=True)
        return self._going_on(chosen, resume)

    def _going_on(self, chosen: Chosen, resume: Resume) -> Begun | None:
        run = chosen.run
        begun = Begun(run)
        with _ending(begun):
            begun.ledger = ledger = Ledger.read(run.journal, self.files)
            run.run_id = ledger.opens[0].run_id  # the directory may have been renamed since
            is_finished = ledger.is_finished and not (resume.retry_errors and ledger.failed)
            goes_on = self._goes_on(chosen, begun, resume, is_finished=is_finished)
        if not goes_on:
            begun.end()
            return None
        return begun

    def _goes_on(self, chosen: Chosen, begun: Begun, resume: Resume, *, is_finished: bool) -> bool:
        ledger, run = begun.ledger, begun.run
        assert ledger is not None
        asked = self._asked_of(begun)
        is_finished = is_finished and not limit_grew(ledger, asked.config)
        if is_finished and resume.or_new:
            _log.info("%s, %s, is finished: a new run begins", run.path, chosen.why)
            return False
        changes = changes_since(run, ledger, asked, new_base_url=resume.new_base_url)
        if changes.refused:
            if ledger.succeeded and self.rescoring is None:
                raise refusal(run, changes, is_finished=is_finished)
            _log.info("%s, %s, was another evaluation: a new run begins", run.path, chosen.why)
            return False
        is_whole = is_finished and not changes.paths and has_views(run, ledger)
        if is_whole or (is_finished and run.read_only is not None):
            _log.info("%s, %s, is finished: nothing is sent; --or-new starts a new run", run.path, chosen.why)
            if not is_whole:
                _log.warning("its Parquet files are missing, damaged or old, and cannot be made again: %s", run.read_only)
            begun.is_finished = True
            return True
        if run.read_only is not None:
            raise run.read_only
        self._make_ready(begun, changes, resume)
        _announce(chosen, begun)
        return True

    def _make_ready(self, begun: Begun, changes: Changes, resume: Resume) -> None:
        """Prepare a run to go on: mend its journal, and read it again if its tasks have changed."""
        run, ledger = begun.run, begun.ledger
        assert ledger is not None
        for mended in mend(run.journal, self.files):
            _log.warning("%s", mended)
        for difference in changes.allowed:
            _log.info("%s", difference)
        if list(ledger.plan.tasks) != list(self.tasks):
            ledger.close()
            begun.ledger = None
            begun.ledger = Ledger.read(run.journal, self.files, tasks=self.tasks)
        if changes.paths:
            run.write_config(self.asked.file.rerunnable_text(self.asked.redactor.text))
        begun.changed = changes.paths
        self._go_on_taking(begun)
        retried = (task.name for task in self.asked.config.tasks if begun.asks or task.judges)
        begun.retried = frozenset(retried) if resume.retry_errors else self._and_readers(changes.tasks)

    def _asked_of(self, begun: Begun) -> Asked:
        """Return what is asked: with the rows in its own journal, if the run rescores another without fresh rows."""
        ledger = begun.ledger
        if ledger is None or ledger.rescored is None or ledger.rescored.fresh_rows:
            return self.asked
        return self.asked.with_rows(KeptRows(begun.run.path, ledger))

    def _go_on_taking(self, begun: Begun) -> None:
        """Copy the results that a run that rescores another still lacks."""
        ledger = begun.ledger
        assert ledger is not None
        if (rescored := ledger.rescored) is None:
            return
        if any(close.reason == _TAKEN for close in ledger.closes):
            self._note_rescored(begun)
        elif self.rescoring is not None:
            self._take_over(begun, self.rescoring)
        else:
            source = source_of(rescored)
            with opened_rescoring(source, asks=rescored.asks, fresh_rows=rescored.fresh_rows) as rescoring:
                self._take_over(begun, rescoring)

    def _take_over(self, begun: Begun, rescoring: Rescoring) -> None:
        """Copy the results of another run that this one does not have yet, into a new segment. Raises StorageError."""
        run, known, asked = begun.run, begun.ledger, self.asked
        if not rescoring.fresh_rows:
            asked = asked.with_rows(rescoring.rows())
        taken = rescoring.taken(asked)
        rescoring.say_what_is_not_taken(asked, taken)
        begun.lacks = reason = rescoring.lacks
        run.write_config(asked.file.rerunnable_text(asked.redactor.text))
        with closing(Journal(run.journal, secrets=self.secrets, files=self.files)) as journal:
            opening = open_line(run, asked, self.tasks, begun.changed, rescored=rescoring.rescored)
            for _ in range(2):  # twice, because a flipped bit in the only one would cost the run
                journal.append(opening)
            try:
                for end in rescoring.results(asked, taken):
                    if known is None or not known.is_done(end.item_index, end.sample_index, end.task):
                        journal.append(end)
            except DatasetReadError as error:  # the run will reach the same row, and report the error
                reason = str(error)
            journal.append(Close(at=wall_clock_us(), reason=reason or _TAKEN))
        if known is not None:
            known.close()
        begun.ledger = None
        begun.ledger = Ledger.read(run.journal, self.files, tasks=self.tasks)
        self._note_rescored(begun)

    def _note_rescored(self, begun: Begun) -> None:
        assert begun.ledger is not None
        rescored = begun.ledger.rescored
        assert rescored is not None
        begun.asks = rescored.asks
        begun.rows = None if rescored.fresh_rows else KeptRows(begun.run.path, begun.ledger)

    def _and_readers(self, tasks: frozenset[str]) -> frozenset[str]:
        """Return tasks and all tasks that read them, directly or through others."""
        found = set(tasks)
        for alias, _ in self.tasks:  # each comes after the tasks that it reads
            if found & set(self.inputs[alias]):
                found.add(alias)
        return frozenset(found)


@contextmanager
def _ending(begun: Begun) -> Iterator[None]:
    """End a run if the block fails."""
    try:
        yield
    except BaseException:
        begun.end()
        raise


def _announce(chosen: Chosen, begun: Begun) -> None:
    """Log which run goes on, how many results it has, and how many requests may be paid twice."""
    run, ledger = begun.run, begun.ledger
    assert ledger is not None
    _log.info("resuming %s, %s: %d results and %d errors are kept", run.path, chosen.why, ledger.succeeded, ledger.failed)
    waiting = ledger.waiting
    if flying := ledger.in_flight - waiting:
        _log.info("%d requests were in flight when it ended and may be paid twice", flying)
    if waiting:
        _log.info("%d requests are in batch files, and no answer to them was imported yet", waiting)
    if NOT_SYNCED in str(run.read_evaluation().get("status_reason")):
        _log.info("its last results could not be synced to disk; those that can be read are trusted, and not asked again")
    for place in ledger.damaged:
        _log.warning("a damaged line of the journal is left out, its row is asked again: %s", place)
