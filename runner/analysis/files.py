"""The files of a report or a comparison: the ending of each name decides what is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from runner.errors import UsageError

__all__ = ["check_files", "write_files"]

_ENDINGS = (".html", ".md", ".json", ".junit.xml")


def check_files(files: Iterable[Path]) -> None:
    """Raise UsageError for a file with an unknown ending or without a directory."""
    for file in files:
        if not file.name.endswith(_ENDINGS):
            known = f"{', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}"
            raise UsageError(f"{file}: the ending decides what is written; use {known}")
        if not file.absolute().parent.is_dir():
            raise UsageError(f"{file}: there is no directory {file.absolute().parent}")


def write_files(files: Iterable[Path], kinds: Mapping[str, Callable[[], str]]) -> None:
    """Write each file atomically, in the format of its ending. Raises UsageError."""
    for file in files:
        text = next(write for ending, write in kinds.items() if file.name.endswith(ending))()
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
            temporary.replace(file)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UsageError(f"{file}: cannot be written: {error.strerror}") from error
