"""What this program logs, without secrets: each of its loggers cleans what goes through it, whoever shows it.

The handlers of the process that it runs in are left alone; the command line, whose process it is, cleans what others log too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["clean_handlers", "cleaning", "logger"]

#: What takes secrets out, of each evaluation that goes on.
_active: list[Callable[[str], str]] = []


def _clean(record: logging.LogRecord) -> bool:
    """Take secrets out of a record; one without any stays as it is."""
    for clean in tuple(_active):
        message = record.getMessage()
        if (cleaned := clean(message)) != message:
            record.msg, record.args = cleaned, None
        if record.exc_info:
            record.exc_text = clean(record.exc_text or logging.Formatter().formatException(record.exc_info))
    return True


def logger(name: str) -> logging.Logger:
    """Return the logger of a module of this program."""
    found = logging.getLogger(name)
    found.addFilter(_clean)  # the same one is added only once
    return found


@contextmanager
def cleaning(clean: Callable[[str], str]) -> Iterator[None]:
    """Within the block nothing is logged that `clean` takes out: a server's words may be part of a message."""
    _active.append(clean)
    try:
        yield
    finally:
        _active.remove(clean)


def clean_handlers() -> None:
    """Clean what the root's handlers show, whoever logs it."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_clean)
