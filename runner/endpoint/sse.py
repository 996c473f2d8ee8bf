"""Server-sent events: bytes in, in pieces of any size, the data of whole events out.

Lines end with LF, CR or CRLF; an event ends with an empty line, and its `data` lines are joined with LF (WHATWG HTML, section
"Server-sent events"). Comments, ids and retry times are skipped. The last event counts even if the empty line after it is
missing: some servers forget it after `[DONE]`.
"""

from __future__ import annotations

__all__ = ["EventReader"]

_BOM = b"\xef\xbb\xbf"


class EventReader:
    """Splits a stream into events."""

    def __init__(self) -> None:
        self._rest = b""
        self._at_start = True

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an unfinished event are held."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a piece of the stream; return the data of the events that it completes."""
        text = self._rest + chunk if self._rest else chunk
        if self._at_start:
            if _BOM.startswith(text[:3]) and len(text) < len(_BOM):
                self._rest = text
                return []
            text = text.removeprefix(_BOM)
            self._at_start = False
        if b"\r" in text:
            # A CR at the very end may be half of a CRLF; it waits for the next piece.
            held = b"\r" if text.endswith(b"\r") else b""
            text = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        if b"\n\n" not in text:
            self._rest = text + held
            return []
        *blocks, rest = text.split(b"\n\n")
        self._rest = rest + held
        return [data for block in blocks if (data := _data_of(block)) is not None]

    def finish(self) -> list[bytes]:
        """Return the data of a last event that no empty line ended."""
        text, self._rest = self._rest, b""
        blocks = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n")
        return [data for block in blocks if (data := _data_of(block)) is not None]


def _data_of(block: bytes) -> bytes | None:
    """Return an event's data, or None where it has none. An error event's data is an object with a member `error`."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
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
    if not values:
        return None
    data = b"\n".join(values)
    return b'{"error":%b}' % data if is_error and b'"error"' not in data else data
