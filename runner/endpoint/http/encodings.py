"""Content encodings: compressed pieces in, pieces of bounded size out.

A few kilobytes never become gigabytes at once, and nothing takes long without others having their turn.
"""

from __future__ import annotations

import re
import zlib

__all__ = ["ACCEPTED", "Decoder", "decoder_of"]

#: What is asked for in `Accept-Encoding`.
ACCEPTED = "gzip, deflate"
_LARGEST_PIECE = 1 << 15
_WINDOW = 1 << 14
#: Members, or windows, that are looked at in one go.
_MOST_STEPS = 256
#: So many bytes out of which nothing comes, as empty members or blocks, are no flushing of buffers but an attack.
_MOST_NOTHING = 1 << 20
_GZIP_OR_ZLIB = 47
_RAW_DEFLATE = -15
_DEFLATE_METHOD = 8
#: How JSON, HTML and events begin; maybe only their first byte is there, or none.
_TEXT = re.compile(rb"\s*([{\[<:]|d(ata:|$)|e(vent:|$)|$)")
_GZIP_START = 0x1F


class Decoder:
    """Decompresses gzip and deflate."""

    def __init__(self) -> None:
        self._waiting = b""
        #: Where in what waits the next byte is, and how many bytes were taken since one came out.
        self._place = self._since = 0
        self._unpacker: zlib._Decompress | None = None

    @property
    def is_hungry(self) -> bool:
        """Whether nothing more comes out before more is fed."""
        return self._place == len(self._waiting)

    def feed(self, data: bytes) -> None:
        """Take a piece as it came, where all before it was used up."""
        assert self.is_hungry
        self._waiting, self._place = data, 0

    def take(self) -> bytes:
        """Return the next decompressed bytes, of which there may be none, after no more than a few milliseconds.

        Raises zlib.error for what is damaged, or holds next to nothing.
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
        """Decompress a little of what waits: zlib copies what it leaves over, so it is given little."""
        given = self._waiting[self._place : self._place + _WINDOW]
        if self._unpacker is None or self._unpacker.eof:  # the first member, or one more behind another
            self._unpacker = zlib.decompressobj(_window_of(given))
        piece = self._unpacker.decompress(given, room)
        left = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
        used = len(given) - len(left)
        self._place += used
        self._since = 0 if piece else self._since + used
        if self._since > _MOST_NOTHING:
            raise zlib.error(f"{_MOST_NOTHING >> 20} MiB of it hold nothing")
        return piece


def decoder_of(content_encoding: str, start: bytes) -> Decoder | None:
    """Return what undoes an encoding, or None where there is none; `start` is the beginning of the body.

    Servers name encodings that are none, as utf-8, and proxies leave the name of one that they undid: what begins as text is
    text. Raises ValueError for an encoding that was not asked for.
    """
    encodings = [name for one in content_encoding.lower().split(",") if (name := one.strip()) not in {"", "identity"}]
    if encodings == ["deflate"]:  # without a header it can begin with any byte
        return Decoder()
    if not encodings or _TEXT.match(start):
        return None
    if encodings in (["gzip"], ["x-gzip"]):
        return Decoder()
    raise ValueError(f"the body comes as {content_encoding[:40]!r}, only {ACCEPTED} was asked for")


def _window_of(start: bytes) -> int:
    """Return zlib's word for the format: some servers send deflate without the header that the standard asks for."""
    return _GZIP_OR_ZLIB if start[0] == _GZIP_START or start[0] & 0x0F == _DEFLATE_METHOD else _RAW_DEFLATE
