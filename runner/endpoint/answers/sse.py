"""Server-sent events: bytes in, in chunks of any size, the data of whole events out.

Lines end with LF, CR or CRLF; an event ends with an empty line, and its `data` lines are joined with LF (WHATWG HTML, section
"Server-sent events"). Comments, ids and retry times are skipped. The last event counts even without an empty line after it,
because some servers forget it after `[DONE]`; but not if the event was cut off in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping

from runner import jsontext
from runner.endpoint.answers.refusals import says_something

__all__ = ["DONE", "EventReader", "is_stream"]

#: The data of the event after which OpenAI's API sends no more.
DONE = b"[DONE]"
#: An event of more lines is a fault, and takes long to read.
_MOST_LINES = 50_000
_TOO_MANY_LINES = b"an event of more than 50,000 lines"
_BOM = b"\xef\xbb\xbf"
#: JSON begins so, and lines of an event never do.
_JSON = (b"{", b"[")
#: A stream may begin so, and JSON never does.
_STARTS = (b"data:", b"event:", b"id:", b"retry:", b"error:", b":")


def is_stream(headers: Mapping[str, str], first: bytes) -> bool:
    """Return whether a body is a stream of events: by its type or, if that is wrong, by its first bytes, even just one."""
    if first.startswith(_JSON):
        return False
    start = first.removeprefix(_BOM).lstrip()
    if "event-stream" in headers.get("content-type", "").lower():
        return not start.startswith(_JSON)
    return bool(start) and any(start.startswith(name) or name.startswith(start) for name in _STARTS)


class EventReader:
    """Splits a stream into events."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk of the stream; return the data of the events that it completes."""
        if b"\r" in chunk or self._after_cr:
            chunk = self._with_lf(chunk)
        if self._pieces or self._at_start or b"\n\n" not in chunk:
            ends_one = b"\n\n" in chunk or (chunk.startswith(b"\n") and self._pieces and self._pieces[-1].endswith(b"\n"))
            if chunk:
                self._pieces.append(chunk)
            if not ends_one:  # chunks are joined only once an event ends: a large event has many
                return []
            chunk = self._text()
            self._pieces = []
        *blocks, rest = chunk.split(b"\n\n")
        if rest:
            self._pieces = [rest]
        found = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                found.append(block[6:])
            elif block.startswith(b":") and b"\n" not in block:
                continue
            elif (data := _data_of(block)) is not None:
                found.append(data)
        return found

    def finish(self) -> list[bytes]:
        """Return the data of a last event without an empty line after it, if it is whole: `[DONE]`, or JSON."""
        data = _data_of(self._text())
        self._pieces = []
        return [data] if data is not None and _is_whole(data) else []

    def _with_lf(self, chunk: bytes) -> bytes:
        """End lines with LF. A CR ends its line at once; an LF right after it, even in the next chunk, is dropped."""
        if chunk and self._after_cr:
            chunk, self._after_cr = chunk.removeprefix(b"\n"), False
        if chunk:
            self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _text(self) -> bytes:
        text = b"".join(self._pieces)
        if self._at_start:
            text, self._at_start = text.removeprefix(_BOM), False
        return text


def _data_of(block: bytes) -> bytes | None:
    """Return an event's data, or None if it has none. An error event's data is an object with a member `error`.

    JSON without a field name is data too: some servers write errors into a stream as they write them elsewhere.
    """
    if block.count(b"\n") > _MOST_LINES:
        return _TOO_MANY_LINES
    values: list[bytes] = []
    is_error = False
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            values.append(value)
        elif name == b"error":  # llama.cpp's server has a field of its own for errors
            is_error = True
            values.append(value)
        elif name == b"event" and value == b"error":
            is_error = True
    if is_error:
        return _as_error(b"\n".join(values))
    if not values:
        return block if block.startswith(_JSON) else None
    return b"\n".join(values)


def _as_error(data: bytes) -> bytes:
    """Return the data of an error event, JSON or not, as an object with a member `error`."""
    try:
        said = jsontext.decode(data)
    except jsontext.JsonError:
        said = data.decode("utf-8", "replace")
    if isinstance(said, dict) and says_something(said.get("error")):
        return data
    return jsontext.encode({"error": said or "an error event that does not say why"})


def _is_whole(data: bytes) -> bool:
    if data.strip() == DONE:
        return True
    try:
        jsontext.decode(data)
    except jsontext.JsonError:
        return False
    return True
