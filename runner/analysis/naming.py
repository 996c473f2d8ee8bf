"""The run that a name means: a run directory, or the latest run, an earlier run or the baseline of an evaluation.

results/primer/20261121T042000Z-6fd8     that run; also a link to one
primer                                   the latest finished run in `results/primer`, which may be given instead
primer~1                                 the finished run before that one
primer@baseline                          the run to which `results/primer/baseline` points
s3://bucket/results/primer/latest        a run in a bucket, which is copied to this machine
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from runner.errors import RunDirError
from runner.meant import path_meant
from runner.results.run import Run, find_run
from runner.storage.buckets import is_bucket
from runner.storage.rundir import RunDir, run_at, run_directories

__all__ = ["BASELINE", "make_baseline", "named_run"]

#: The link to the run with which later runs are compared.
BASELINE = "baseline"
#: The directory of the evaluations, in which a name is looked up.
_OUTPUT = Path("results")
_WORD = re.compile(r"(?P<name>[\w.-]+)(?:~(?P<back>\d+)|@(?P<link>baseline|latest))?")


def named_run(word: str | Path | Run) -> RunDir:
    """Return the run that a name or a path means, or that of a `Run`. Raises RunDirError if there is none."""
    if isinstance(word, Run) or is_bucket(str(word)):
        return run_at(find_run(word))
    path = Path(word)
    if path.is_dir():
        is_evaluation = not (path / "journal").is_dir() and run_directories(path)
        return _finished(str(word), path, 0) if is_evaluation else run_at(path)
    if (found := _WORD.fullmatch(str(word))) is None:
        return run_at(path)
    directory = _OUTPUT / found["name"]
    if not directory.is_dir():
        near = path_meant(found["name"], _OUTPUT)
        raise RunDirError(f"{word}: is neither a run directory nor an evaluation in {_OUTPUT.absolute()}{near}")
    if found["link"] is None:
        return _finished(found["name"], directory, int(found["back"] or 0))
    link = directory / found["link"]
    if not link.exists():
        raise RunDirError(f"{word}: there is no {link}; `python -m runner baseline RUN` makes one")
    return run_at(link)


def _finished(name: str, directory: Path, back: int) -> RunDir:
    runs = [run for run in run_directories(directory) if run.is_completed]
    if back >= len(runs):
        word = f"{name}~{back}" if back else name
        there = f"only {len(runs)} of its runs finished so far" if runs else "none of its runs has finished"
        raise RunDirError(f"{word}: {there}; name one as {directory}/RUN_ID")
    return runs[-1 - back]


def make_baseline(run: RunDir) -> Path:
    """Point `baseline` to a run, atomically; return the link. Raises RunDirError."""
    link = run.path.parent / BASELINE
    if link.exists() and not link.is_symlink():
        raise RunDirError(f"{link}: must be a link to the baseline, but is not a link; move it away or rename it")
    temporary = link.with_name(f".{BASELINE}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(run.path.name)
        temporary.replace(link)
    except OSError as error:
        raise RunDirError(f"{link}: cannot be made: {error.strerror}") from error
    return link
