"""What can go wrong, by what happens next.

    RunnerError
    ├── UsageError          nothing was sent; the command ends with exit code 2
    │   ├── ConfigError     mistakes in the config file, all of them
    │   ├── DatasetError    a dataset that cannot be opened
    │   │   └── DatasetReadError    one that cannot be read to its end: in the middle of a run, exit code 3
    │   └── RunDirError     a run directory that is locked, of another config, or not one
    ├── RowError            this row becomes an error row; the run goes on
    ├── CallError           a function that was called apart gave no value; NoProcessError: none can be called (`processes`)
    ├── AttemptError        this attempt failed; the retry layer decides whether another follows
    ├── NotAsked            this request is not asked now; its unit stays pending, and the run goes on
    ├── RunStopped          the run ends early by itself and can be resumed; exit code 3
    └── StorageError        results can no longer be kept, so nothing more may be sent; exit code 3

`StorageError` is no OSError on purpose: the network's errors are, and the two must never be confused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.types import ErrorType, Failure

__all__ = [
    "AttemptError",
    "ConfigError",
    "DatasetError",
    "DatasetReadError",
    "NotAsked",
    "RowError",
    "RunDirError",
    "RunStopped",
    "RunnerError",
    "StorageError",
    "UsageError",
    "common_words",
]

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|“[^”]*”|‘[^’]*’")
_NUMBER_OR_ID = re.compile(r"[\w-]*\d[\w-]*")


def common_words(message: str) -> str:
    """Return what messages of one kind have in common: without quoted words, numbers and ids, which are the row's."""
    return _NUMBER_OR_ID.sub("#", _QUOTED.sub("", message))


class RunnerError(Exception):
    """Everything this program raises on purpose."""


class UsageError(RunnerError):
    """Wrong usage, config or dataset; nothing was sent."""


class ConfigError(UsageError):
    """The mistakes of a config file, one message each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("\n".join(self.mistakes))


class DatasetError(UsageError):
    """A dataset that cannot be opened or read at all."""


class DatasetReadError(DatasetError):
    """A dataset file that cannot be read, or not to its end.

    `file` is its path. `damaged` says that its content is at fault, so that it has to be mended, and not its disk. `line` is
    where the trouble begins, where that is known.
    """

    def __init__(self, file: str, what: str, *, damaged: bool, place: str | None = None, line: int | None = None) -> None:
        """Take why, and the place of the first row that cannot be read, where others could."""
        self.file, self.what, self.damaged, self.line = file, what, damaged, line
        where = "server" if "://" in file else "disk"
        how, remedy = ("cannot be read from here on", "mend the file") if damaged else ("cannot be read", f"see to its {where}")
        if place is None:
            super().__init__(f"{file if line is None else f'{file}:{line}'}: {what}")
        else:
            super().__init__(f"{place}: {how}: {what}; {remedy}, then go on with --resume")


class RunDirError(UsageError):
    """A run directory that cannot be used as asked."""


class RowError(RunnerError):
    """One row cannot become a request or a value."""

    def __init__(self, error_type: ErrorType, message: str) -> None:
        self.failure = Failure(error_type=error_type, message=message)
        super().__init__(message)


class AttemptError(RunnerError):
    """One attempt failed.

    `retry` says whether another attempt may help, `once` that only one more may: an answer came whole, but is of no use.
    `stops_run` says whether the trouble is the whole run's: `first` only before anything succeeded (a wrong key), `always` at
    any time (a quota used up).
    """

    def __init__(self, failure: Failure, *, retry: bool, once: bool = False, stops_run: str | None = None) -> None:
        self.failure = failure
        self.retry = retry
        self.once = once
        self.stops_run = stops_run
        super().__init__(failure.message)


class NotAsked(RunnerError):  # noqa: N818  it is a decision, not an error
    """A request is not asked now: its unit stays pending, and the run goes on with the others."""


class RunStopped(RunnerError):  # noqa: N818  it is a decision, not an error
    """The run ends early; rows without a result stay pending.

    `hurry` says that what is in flight may never be answered, and is waited for only `limits.drain` seconds. Where nothing is
    wrong with the endpoint there is no hurry: an answer that is on its way has to be paid whether or not somebody reads it.
    """

    def __init__(self, reason: str, *, hurry: bool = True) -> None:
        super().__init__(reason)
        self.hurry = hurry


class StorageError(RunnerError):
    """The journal or another file of the run can no longer be written."""
