"""Content encodings: compressed chunks in, chunks of bounded size out.

A few kilobytes never become gigabytes at once, and each step is short, so that other tasks can run.
"""

from __future__ import annotations

import re
import zlib

__all__ = ["ACCEPTED", "Decoder", "decoder_of"]

#: The value of `Accept-Encoding`.
ACCEPTED = "gzip, deflate"
_LARGEST_PIECE = 1 << 15
_WINDOW = 1 << 14
#: How many members or windows one call of `take` decompresses at most.
_MOST_STEPS = 256
#: More bytes than this that decompress to nothing, such as empty members or blocks, are an attack. Flushed buffers need fewer.
_MOST_NOTHING = 1 << 20
_GZIP_OR_ZLIB = 47
_RAW_DEFLATE = -15
_DEFLATE_METHOD = 8
#: How JSON, HTML and events begin. Only the first byte may have come yet, or none.
_TEXT = re.compile(rb"\s*([{\[<:]|d(ata:|$)|e(vent:|$)|$)")
_GZIP_START = 0x1F


class Decoder:
    """Decompresses gzip and deflate."""

    def __init__(self) -> None:
        self._waiting = b""
        #: The offset of the next byte in `_waiting`, and how many bytes went in since the last one came out.
        self._place = self._since = 0
        self._unpacker: zlib._Decompress | None = None

    @property
    def is_hungry(self) -> bool:
        """Whether it needs more input before more comes out."""
        return self._place == len(self._waiting)

    def feed(self, data: bytes) -> None:
        """Take a compressed chunk. All earlier ones must be used up."""
        assert self.is_hungry
        self._waiting, self._place = data, 0

    def take(self) -> bytes:
        """Return the next decompressed bytes, possibly none, within a few milliseconds.

        Raises zlib.error if the data is damaged, or too much of it decompresses to nothing.
        """
        pieces: list[bytes] = []
        room = _LARGEST_PIECE
        for _ in range(_MOST_STEPS):
            if self.is_hungry or room <= 0:
                break
            piece = self._step(room)
            room -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _step(self, room: int) -> bytes:
        """Decompress a small part of the input. zlib copies what it does not use, so a large part would be slow."""
        given = self._waiting[self._place : self._place + _WINDOW]
        if self._unpacker is None or self._unpacker.eof:  # the first member, or the next one
            self._unpacker = zlib.decompressobj(_window_of(given))
        piece = self._unpacker.decompress(given, room)
        left = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
        used = len(given) - len(left)
        self._place += used
        self._since = 0 if piece else self._since + used
        if self._since > _MOST_NOTHING:
            raise zlib.error(f"{_MOST_NOTHING >> 20} MiB of it decompress to nothing")
        return piece


def decoder_of(content_encoding: str, start: bytes) -> Decoder | None:
    """Return the decoder of an encoding, or None if the body is not encoded; `start` is the beginning of the body.

    Some servers name encodings that are none, such as utf-8, and some proxies decompress a body but keep the header. So a body
    that begins as text is text. Raises ValueError for an encoding that was not requested.
    """
    encodings = [name for one in content_encoding.lower().split(",") if (name := one.strip()) not in {"", "identity"}]
    if encodings == ["deflate"]:  # raw deflate has no header, and can begin with any byte
        return Decoder()
    if not encodings or _TEXT.match(start):
        return None
    if encodings in (["gzip"], ["x-gzip"]):
        return Decoder()
    raise ValueError(f"the body comes as {content_encoding[:40]!r}, but only these are accepted: {ACCEPTED}")


def _window_of(start: bytes) -> int:
    """Return zlib's `wbits` for the format. Some servers send deflate without the header that the standard requires."""
    return _GZIP_OR_ZLIB if start[0] == _GZIP_START or start[0] & 0x0F == _DEFLATE_METHOD else _RAW_DEFLATE
