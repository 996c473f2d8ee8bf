"""Content encodings: compressed pieces in, pieces of bounded size out; a few kilobytes never become gigabytes at once."""

from __future__ import annotations

import zlib

__all__ = ["ACCEPTED", "Decoder", "decoder_of"]

#: What is asked for in `Accept-Encoding`.
ACCEPTED = "gzip, deflate"
_LARGEST_PIECE = 1 << 18
_GZIP_OR_ZLIB = 47
_RAW_DEFLATE = -15
_DEFLATE_METHOD = 8
_GZIP_START = 0x1F


class Decoder:
    """Decompresses gzip and deflate."""

    def __init__(self) -> None:
        self._waiting = b""
        self._unpacker: zlib._Decompress | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the body may end here."""
        return self._unpacker is None or self._unpacker.eof

    def feed(self, data: bytes) -> None:
        """Take a piece as it came."""
        self._waiting += data

    def take(self) -> bytes:
        """Return the next decompressed bytes, b"" where more must be fed first. Raises zlib.error for what is damaged."""
        while self._waiting:
            if self._unpacker is None or self._unpacker.eof:  # the first member, or one more behind another
                self._unpacker = zlib.decompressobj(_window_of(self._waiting))
            piece = self._unpacker.decompress(self._waiting, _LARGEST_PIECE)
            self._waiting = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
            if piece:
                return piece
        return b""


def decoder_of(content_encoding: str) -> Decoder | None:
    """Return what undoes an encoding, or None where there is none. Raises ValueError for one that was not asked for."""
    encoding = content_encoding.strip().lower()
    if encoding in {"", "identity"}:
        return None
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return Decoder()
    raise ValueError(f"the body comes as {encoding[:40]!r}, only {ACCEPTED} was asked for")


def _window_of(start: bytes) -> int:
    """Return zlib's word for the format: some servers send deflate without the header that the standard asks for."""
    return _GZIP_OR_ZLIB if start[0] == _GZIP_START or start[0] & 0x0F == _DEFLATE_METHOD else _RAW_DEFLATE
