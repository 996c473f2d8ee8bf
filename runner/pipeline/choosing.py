"""Choosing: which run `--resume` means. The first rule that fits decides.

1  the run that is named
2  a run that another process works on: it is locked, so the resume is refused, and no new run begins beside it
3  the run that `latest` points to, if it has an answer or finished
4  among the other runs that have an answer or finished, the one that was started last, by its journal: names and directory
   times may be wrong
5  among the rest, the one that was started last

A log line names the runs that are passed over: newer ones, older ones that did not finish, and ones without an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from runner.errors import RunDirError, StorageError
from runner.logs import logger
from runner.storage.files import FILES, FileSystem
from runner.storage.glance import Glance, glance_at
from runner.storage.journal import segments_of
from runner.storage.lines import first_open
from runner.storage.records import Open, Rescored
from runner.storage.rundir import LATEST, RunDir, latest_of, run_directories
from runner.structs import Struct

__all__ = ["Chosen", "begun_in", "choose_run", "unfinished_rescoring"]

_log = logger(__name__)
_MOST_RUNS_NAMED = 5


class Chosen(Struct, frozen=True):
    """A run, and why it is this one."""

    run: RunDir
    why: str


class _Seen(Struct, frozen=True):
    """A run at a glance."""

    run: RunDir
    glance: Glance

    @property
    def age(self) -> tuple[int, str]:
        """The sort key: a newer run has a greater one."""
        return self.glance.begun_at, self.run.path.name


def begun_in(run: RunDir) -> Chosen | None:
    """Return the run in a directory that was made for it, or None if it was not begun yet."""
    return Chosen(run, "which was made for it") if glance_at(run.journal, run.files).is_begun else None


def choose_run(directory: Path, named: str | None = None, files: FileSystem = FILES) -> Chosen | None:
    """Return the run in a directory to go on with; None if there is none. Raises RunDirError for a wrong name."""
    if named is not None and named != LATEST:
        return _named_run(directory, named, files)
    found = [_Seen(run, glance_at(run.journal, files)) for run in run_directories(directory, files)]
    begun = sorted((seen for seen in found if seen.glance.is_begun or seen.run.is_live), key=lambda seen: seen.age)
    chosen, why = _choice(begun, latest_of(directory))
    if chosen is None:
        _log.info("%s: there is no run to resume; a new one begins", directory)
        return None
    _say_what_is_passed_over(chosen, begun)
    return Chosen(chosen.run, why)


def unfinished_rescoring(
    directory: Path, rescored: Rescored, identity: Mapping[str, str], files: FileSystem = FILES
) -> Chosen | None:
    """Return the newest unfinished run that rescores the same run with the same config, or None."""
    for run in reversed(run_directories(directory, files)):
        if not run.is_completed and not run.is_live:
            opened = _last_open(run)
            if opened is not None and (opened.rescored, opened.identity) == (rescored, identity):
                return Chosen(run, "which has begun to rescore the same")
    return None


def _last_open(run: RunDir) -> Open | None:
    with suppress(RunDirError, StorageError):
        opens = [first_open(segment, run.files) for segment in segments_of(run.journal)]
        return next((opened for opened in reversed(opens) if opened is not None), None)
    return None


def _choice(begun: Sequence[_Seen], latest: Path | None) -> tuple[_Seen | None, str]:
    live = [seen for seen in begun if seen.run.is_live]
    answered = [seen for seen in begun if seen.glance.counts]
    linked = [seen for seen in answered if seen.run.path == latest]
    for some, why in (
        (live, "which goes on"),
        (linked, "to which `latest` points"),
        (answered, "whose start is the latest"),
        (begun, "whose start is the latest, though nothing was answered"),
    ):
        if some:
            return some[-1], why
    return None, ""


def _say_what_is_passed_over(chosen: _Seen, begun: Sequence[_Seen]) -> None:
    others = [seen for seen in begun if seen is not chosen]
    empty = [seen for seen in others if not seen.glance.counts]
    newer = [seen for seen in others if seen.glance.counts and seen.age > chosen.age]
    older = [seen for seen in others if seen.glance.counts and seen.age < chosen.age and not seen.run.is_completed]
    for some, why in (
        (empty, "nothing was answered there"),
        (newer, "`latest` does not point there"),
        (older, "it did not finish, and is older"),
    ):
        if some:
            names = [str(seen.run.path) for seen in reversed(some)]
            more = f" and {len(names) - _MOST_RUNS_NAMED} more" if len(names) > _MOST_RUNS_NAMED else ""
            which = ", ".join(names[:_MOST_RUNS_NAMED])
            _log.info("passed over, because %s: %s%s; `--resume RUN` takes it", why, which, more)


def _named_run(directory: Path, named: str, files: FileSystem) -> Chosen | None:
    for path in (Path(named), directory / named):
        if (path / "journal").is_dir():
            is_itself = path.name not in {"", ".."} and not path.is_symlink()
            run = RunDir(path if is_itself else path.resolve(), files)
            if run.is_live or glance_at(run.journal, files).is_begun:
                return Chosen(run, "which was named")
            _log.info("%s: nothing was begun there; a new run begins", run.path)
            return None
    if Path(named).exists() or (directory / named).exists():
        raise RunDirError(f"{named}: is not a run directory (it has no journal); name a run as {directory}/RUN_ID")
    there = [run.path.name for run in run_directories(directory, files)][-_MOST_RUNS_NAMED:]
    raise RunDirError(f"{named}: there is no such run; the latest in {directory}: {', '.join(there) or 'none'}")
