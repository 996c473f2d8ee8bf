"""Which run a word means: a directory, an evaluation's name, the run before that, or its baseline.

results/primer/20261121T042000Z-6fd8     that run; also a link to one
primer                                   the newest run in `results/primer` that has finished; also as that path
primer~1                                 the one before
primer@baseline                          the one to which `results/primer/baseline` leads
s3://bucket/results/primer/latest        a run in a bucket, which is brought here
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from runner.errors import RunDirError
from runner.meant import path_meant
from runner.storage.buckets import brought, is_bucket
from runner.storage.rundir import RunDir, run_at, run_directories

__all__ = ["BASELINE", "make_baseline", "named_run"]

#: The link that leads to the run with which later ones are compared.
BASELINE = "baseline"
_WORD = re.compile(r"(?P<name>[\w.-]+)(?:~(?P<back>\d+)|@(?P<link>baseline|latest))?")


def named_run(word: str | Path, output: Path = Path("results")) -> RunDir:
    """Return the run that a word means. Raises RunDirError where there is none."""
    if is_bucket(str(word)):
        return run_at(brought(str(word)))
    path = Path(word)
    found = _WORD.fullmatch(str(word))
    if path.is_dir() and not (path / "journal").is_dir() and run_directories(path):
        return _finished(str(word), path, 0)
    if path.is_dir() or found is None or not (output / found["name"]).is_dir():
        if found is not None and not path.is_dir():
            near = path_meant(found["name"], output)
            raise RunDirError(f"{word}: is neither a run directory nor an evaluation in {output.absolute()}{near}")
        return run_at(path)
    if found["link"] is not None:
        link = output / found["name"] / found["link"]
        if not link.exists():
            raise RunDirError(f"{word}: there is no {link}; `python -m runner baseline RUN` makes one")
        return run_at(link)
    return _finished(found["name"], output / found["name"], int(found["back"] or 0))


def _finished(name: str, directory: Path, back: int) -> RunDir:
    runs = [run for run in run_directories(directory) if run.read_evaluation().get("status") == "completed"]
    if back >= len(runs):
        word = f"{name}~{back}" if back else name
        there = f"of its runs {len(runs)} finished so far" if runs else "none of its runs has finished"
        raise RunDirError(f"{word}: {there}; name one as {directory}/RUN_ID")
    return runs[-1 - back]


def make_baseline(run: RunDir) -> Path:
    """Make `baseline` lead to a run, at once; return the link. Raises RunDirError."""
    link = run.path.parent / BASELINE
    if link.exists() and not link.is_symlink():
        raise RunDirError(f"{link}: is no link, and must be one to the baseline; move it away, or give it another name")
    temporary = link.with_name(f".{BASELINE}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(run.path.name)
        temporary.replace(link)
    except OSError as error:
        raise RunDirError(f"{link}: cannot be made: {error.strerror}") from error
    return link
