"""Logging without secrets: each logger of this program cleans its records, whichever handler shows them.

The handlers of the process stay as they are. Only the command line, which owns its process, also cleans what others log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["clean_handlers", "cleaning", "logger"]

#: For each running evaluation, the function that takes its secrets out.
_active: list[Callable[[str], str]] = []


def _clean(record: logging.LogRecord) -> bool:
    """Take secrets out of a record. A record without secrets stays as it is."""
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
    found.addFilter(_clean)  # logging adds the same filter only once
    return found


@contextmanager
def cleaning(clean: Callable[[str], str]) -> Iterator[None]:
    """Within the block, pass everything that is logged through `clean`: a message may quote a server."""
    _active.append(clean)
    try:
        yield
    finally:
        _active.remove(clean)


def clean_handlers() -> None:
    """Clean what the handlers of the root logger show, whoever logs it."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_clean)
