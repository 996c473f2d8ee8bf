"""How a run begins: as a new one, or as one that is found again, locked, read, compared, and only then mended.

What comes of a resume, by what is found:

    nothing                                              a new run
    finished, with --or-new                              a new run
    another evaluation, nothing answered                 a new run, for nothing is lost
    another evaluation                                   refused, with each difference
    finished, all its files whole                        is left as it is: its summary once more
    finished, a file missing or damaged                  goes on, with nothing left to ask
    anything else                                        goes on

A run whose rows are fewer than are wanted now, or whose errors are to be asked again, is not finished. One in a directory that
cannot be written is refused, but for a finished one, which is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from runner.errors import UsageError
from runner.logs import logger
from runner.pipeline.choosing import Chosen, choose_run
from runner.pipeline.resume import Asked, Changes, changes_since, limit_grew, refusal
from runner.results.views import has_views
from runner.storage.files import FileSystem
from runner.storage.journal import NOT_SYNCED, mend
from runner.storage.ledger import Ledger
from runner.storage.rundir import RunDir, check_latest
from runner.structs import Struct

__all__ = ["Beginning", "Begun", "Resume"]

_log = logger(__name__)


class Resume(Struct, frozen=True, kw_only=True):
    """What `--resume` and the options that go with it say."""

    #: A run's directory or id; None: whichever is the latest.
    run: str | None = None
    #: Whether a new run is to begin where that one is finished.
    or_new: bool = False
    #: Whether units that ended as errors are asked again.
    retry_errors: bool = False
    #: Whether the base URL may be another one.
    new_base_url: bool = False


class Begun(Struct):
    """A run that is locked and ready to be worked on."""

    run: RunDir
    #: What earlier starts have found; None of a new run.
    ledger: Ledger | None = None
    #: Whether nothing is left to do.
    is_finished: bool = False
    #: Paths of the config whose values may be other than at the start before.
    changed: Sequence[str] = ()
    #: The tasks whose errors are asked again.
    retried: frozenset[str] = frozenset()

    def end(self) -> None:
        """Give everything back."""
        if self.ledger is not None:
            self.ledger.close()
        self.run.unlock()


class Beginning(Struct, frozen=True, kw_only=True):
    """What is to be run, as far as it decides which run it is."""

    asked: Asked
    files: FileSystem
    #: Each task's alias and how often it runs per item, and the aliases that it reads, in the order in which tasks run.
    tasks: Sequence[tuple[str, int]]
    inputs: Mapping[str, Sequence[str]]

    def begin(self, resume: Resume | None) -> Begun:
        """Return the run, new or found again. Raises UsageError before anything is made or changed, StorageError."""
        config = self.asked.config
        if config.dataset.limit == 0:
            raise UsageError("dataset.limit: 0 asks for no row; to check everything and send nothing, use --dry-run")
        directory = Path(config.output) / config.name
        check_latest(directory)
        chosen = None if resume is None else choose_run(directory, resume.run, self.files)
        if resume is not None and chosen is not None and (found := self._found_again(chosen, resume)) is not None:
            return found
        return Begun(RunDir.create(Path(config.output), config.name, self.files))

    def _found_again(self, chosen: Chosen, resume: Resume) -> Begun | None:
        """Return a run to go on with, or None where a new one is to begin."""
        run = chosen.run
        run.lock(or_read=True)
        begun = Begun(run)
        try:
            begun.ledger = ledger = Ledger.read(run.journal, self.files)
            run.run_id = ledger.opens[0].run_id  # the directory may have been renamed since
            is_finished = ledger.is_finished and not (resume.retry_errors and ledger.failed)
            goes_on = self._goes_on(chosen, begun, resume, is_finished=is_finished)
        except BaseException:
            begun.end()
            raise
        if not goes_on:
            begun.end()
            return None
        return begun

    def _goes_on(self, chosen: Chosen, begun: Begun, resume: Resume, *, is_finished: bool) -> bool:
        ledger, run = begun.ledger, begun.run
        assert ledger is not None
        is_finished = is_finished and not limit_grew(ledger, self.asked.config)
        if is_finished and resume.or_new:
            _log.info("%s, %s, is finished: a new run begins", run.path, chosen.why)
            return False
        changes = changes_since(run, ledger, self.asked, new_base_url=resume.new_base_url)
        if changes.refused:
            if ledger.succeeded:
                raise refusal(run, changes, is_finished=is_finished)
            _log.info("%s, %s, was another evaluation: a new run begins", run.path, chosen.why)
            return False
        is_whole = is_finished and not changes.paths and has_views(run, ledger)
        if is_whole or (is_finished and run.read_only is not None):
            _log.info("%s, %s, is finished: nothing is sent; --or-new starts a new run", run.path, chosen.why)
            if not is_whole:
                _log.warning("its files are not whole, and cannot be made again: %s", run.read_only)
            begun.is_finished = True
            return True
        if run.read_only is not None:
            raise run.read_only
        self._make_ready(begun, changes, resume)
        _announce(chosen, begun)
        return True

    def _make_ready(self, begun: Begun, changes: Changes, resume: Resume) -> None:
        """Make a run ready for more: its journal mended, and read as the tasks are now."""
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
        begun.retried = frozenset(alias for alias, _ in self.tasks) if resume.retry_errors else self._and_readers(changes.tasks)

    def _and_readers(self, tasks: frozenset[str]) -> frozenset[str]:
        """Return tasks with those that read them, directly or through others."""
        found = set(tasks)
        for alias, _ in self.tasks:  # each comes after those that it reads
            if found & set(self.inputs[alias]):
                found.add(alias)
        return frozenset(found)


def _announce(chosen: Chosen, begun: Begun) -> None:
    """Say which run goes on, what is known already, and what may be paid twice."""
    run, ledger = begun.run, begun.ledger
    assert ledger is not None
    _log.info("resuming %s, %s: %d results and %d errors are kept", run.path, chosen.why, ledger.succeeded, ledger.failed)
    _log.info("%d requests were in flight when it ended and may be paid twice", ledger.in_flight)
    if NOT_SYNCED in str(run.read_evaluation().get("status_reason")):
        _log.info("its last results could not be synced to disk; those that can be read are trusted, and not asked again")
    for place in ledger.damaged:
        _log.warning("a damaged line of the journal is left out, its row is asked again: %s", place)
