"""Media of clients: no local file is opened for them, and URLs are sent on only to hosts that the service names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from runner.errors import RowError
from runner.keypaths import dotted, leaves
from runner.tasks.mediafiles import MediaError, MediaFiles, Medium
from runner.types import ErrorType

__all__ = ["NoFiles"]

_URL = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_SHOWN = 100


class NoFiles(MediaFiles):
    """Refuses local files, and URLs of other hosts."""

    def __init__(self, hosts: Sequence[str]) -> None:
        super().__init__()
        self._hosts = frozenset(hosts)

    def read(self, url: str, base: Path, *, anywhere: bool) -> Medium:  # noqa: ARG002  as its base has it
        """Raise MediaError; the file is not even looked for."""
        raise MediaError("names a local file, and the service opens none for clients; send it as a data: URL")

    def check_urls(self, messages: object) -> None:
        """Raise RowError for the URL of a host that is not named, wherever in a part of a message it stands."""
        for path, value in leaves(messages, ()):
            if not path:  # they are no list, which the endpoint will say
                continue
            number, *rest = path
            is_medium = isinstance(value, str) and "content" in rest and rest[-1] not in {"content", "text"}
            if is_medium and _URL.match(value) and (urlsplit(value.strip()).hostname or "") not in self._hosts:
                place = dotted(("configuration", "messages", number, *rest))
                what = "names a host that the service does not send on (media_urls); send it as a data: URL"
                raise RowError(ErrorType.TEMPLATE, f"{place}: {value[:_SHOWN]!r} {what}")
