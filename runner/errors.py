"""All errors, ordered by what happens next.

    RunnerError
    ├── UsageError          nothing was sent; the command ends with exit code 2
    │   ├── ConfigError     all mistakes of the config file
    │   ├── DatasetError    a dataset that cannot be opened
    │   │   └── DatasetReadError    a dataset that cannot be read to its end: in the middle of a run, exit code 3
    │   └── RunDirError     no run directory, a locked one, or that of another config
    ├── RowError            this row becomes an error row; the run goes on
    ├── CallError           a function in another process gave no value; NoProcessError: there is no such process (`processes`)
    ├── AttemptError        this attempt failed; the retry layer decides whether another follows
    ├── NotAsked            this request is not asked now; its unit stays pending, and the run goes on
    ├── RunStopped          the run ends early by itself and can be resumed; exit code 3
    └── StorageError        results can no longer be kept, so nothing more may be sent; exit code 3

`StorageError` is not an OSError, on purpose: network errors are, and the two must never be confused.
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
    """Return what messages of one kind share: the message without quoted words, numbers and ids, which differ by row."""
    return _NUMBER_OR_ID.sub("#", _QUOTED.sub("", message))


class RunnerError(Exception):
    """Everything this program raises on purpose."""


class UsageError(RunnerError):
    """Wrong usage, config or dataset; nothing was sent."""


class ConfigError(UsageError):
    """All mistakes of a config file, one message each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("\n".join(self.mistakes))


class DatasetError(UsageError):
    """A dataset that cannot be opened or read at all."""


class DatasetReadError(DatasetError):
    """A dataset file that cannot be read, or not to its end.

    `file` is its path. `damaged` means that the content of the file is at fault, not its disk or server. `line` is where the
    trouble begins, if that is known.
    """

    def __init__(self, file: str, what: str, *, damaged: bool, place: str | None = None, line: int | None = None) -> None:
        """Take the reason as `what`, and as `place` the first row that cannot be read, if rows before it could."""
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

    `retry` says whether another attempt may help; `once` allows only one more, because a whole answer came but is of no use.
    `stops_run` says whether the failure ends the run: `first`, only if nothing has succeeded yet (a wrong key); `always`, at
    any time (a quota that is used up).
    """

    def __init__(self, failure: Failure, *, retry: bool, once: bool = False, stops_run: str | None = None) -> None:
        self.failure = failure
        self.retry = retry
        self.once = once
        self.stops_run = stops_run
        super().__init__(failure.message)


class NotAsked(RunnerError):  # noqa: N818  it is a decision, not an error
    """A request is not sent now. Its unit stays pending, and the run goes on with the others."""


class RunStopped(RunnerError):  # noqa: N818  it is a decision, not an error
    """The run ends early; rows without a result stay pending.

    `hurry` means that requests in flight may never be answered, so the run waits at most `limits.drain` seconds for them. If
    the endpoint is fine, there is no hurry: an answer on its way costs money, whether or not it is read.
    """

    def __init__(self, reason: str, *, hurry: bool = True) -> None:
        super().__init__(reason)
        self.hurry = hurry


class StorageError(RunnerError):
    """The journal or another file of the run can no longer be written."""
