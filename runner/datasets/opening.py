"""Opens text files of any compression and encoding, as UTF-8 without a byte-order mark."""

from __future__ import annotations

import codecs
import gzip
import io
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from runner.datasets.files import File
from runner.datasets.first_bytes import check_first_bytes
from runner.errors import DatasetError
from runner.structs import Struct

__all__ = ["COMPRESSIONS", "Text", "is_utf8", "open_text"]

_CHUNK = 1 << 16
#: Byte-order marks, the longer ones first: that of UTF-16 begins one of UTF-32.
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8"),
)
_UTF_8 = "utf-8"
#: zstd's `--long=31`, the largest window.
_LARGEST_WINDOW = 31


class Text(Struct, frozen=True):
    """An opened text file."""

    #: Its text in UTF-8. Bytes that are invalid in its own encoding are invalid in UTF-8 too.
    file: io.BufferedReader
    #: Its own encoding.
    encoding: str
    #: Whether the encoding is a guess: neither the file nor the config names it.
    is_guess: bool

    def not_decodable(self, where: str = "") -> str:
        """Return a message about bytes that are invalid in the encoding; `where` is their position."""
        remedy = "; name the encoding in dataset.encoding, such as cp1252" if self.is_guess else ""
        return f"not {self.encoding.upper()}{where}{remedy}"


def open_text(path: File, encoding: str | None) -> Text:
    """Open a text file. A byte-order mark decides its encoding, else `encoding` does, else it is UTF-8."""
    file = _unpacked(path)
    try:
        return _in_utf8(file, path, encoding)
    except BaseException:
        file.close()
        raise


def _in_utf8(file: io.BufferedReader, path: File, encoding: str | None) -> Text:
    start = file.peek(4)
    check_first_bytes(path, start)
    start = start[:4]
    mark, named = next(((mark, name) for mark, name in _MARKS if start.startswith(mark)), (b"", encoding))
    if named is None and start.count(0) == len(start) // 2 > 1:
        order = "le" if start[0] else "be"
        raise DatasetError(f"{path}: looks like UTF-16, but has no byte-order mark; set dataset.encoding: utf-16-{order}")
    name = codecs.lookup(named or _UTF_8).name
    if name != _UTF_8:
        return Text(io.BufferedReader(_Recoded(file, name), _CHUNK), name, is_guess=False)
    file.read(len(mark))
    return Text(file, name, is_guess=named is None)


def is_utf8(path: File, encoding: str | None) -> bool:
    """Return whether an unpacked text file is in UTF-8, by its beginning and the config."""
    text = open_text(path, encoding)
    text.file.close()
    return text.encoding == _UTF_8


class _Recoded(io.RawIOBase):
    """Text of another encoding, in UTF-8."""

    def __init__(self, file: io.BufferedReader, encoding: str) -> None:
        # Bytes that cannot be decoded become bytes that are invalid in UTF-8 too: they cost their row, not the file.
        self._errors = "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        self._text = io.TextIOWrapper(file, encoding=encoding, errors=self._errors, newline="")
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._left or self._text.read(len(view)).encode(_UTF_8, self._errors)
        given, self._left = data[: len(view)], data[len(view) :]
        view[: len(given)] = given
        return len(given)

    def close(self) -> None:
        self._text.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """The output of decompressors, stream after stream. The library's own file objects end silently at a damaged stream."""

    def __init__(self, file: IO[bytes], new: Callable[[], Any], damage: type[Exception]) -> None:
        """Take the function that makes a decompressor, and the error that a decompressor raises for damaged input."""
        self._file = file
        self._new, self._damage = new, damage
        self._current = new()
        self._packed = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and (data := self._next(len(view) - filled)):
            view[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    def _next(self, most: int) -> bytes:
        """Return some bytes; an empty result is the end."""
        while not self._current.eof or self._begins_another():
            if self._current.needs_input and not self._packed:
                self._packed = self._file.read(_CHUNK)
                if not self._packed:
                    raise EOFError("the compressed file ends in the middle")
            try:
                data: bytes = self._current.decompress(self._packed, most)
            except self._damage as error:
                raise ValueError(str(error)) from error
            self._packed = b""
            if data:
                return data
        return b""

    def _begins_another(self) -> bool:
        """Return whether another stream follows, and begin it. Zeros between streams and at the end are padding."""
        packed: bytes = self._current.unused_data
        while not (packed := packed.lstrip(b"\0")):
            if not (packed := self._file.read(_CHUNK)):
                return False
        self._current, self._packed = self._new(), packed
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


def _packed(path: File) -> io.BufferedReader:
    return io.BufferedReader(path.open("rb", 0), _CHUNK)


def _gzip(path: File) -> io.BufferedReader:
    if isinstance(path, Path):
        return io.BufferedReader(gzip.open(path), _CHUNK)
    return io.BufferedReader(gzip.GzipFile(fileobj=_packed(path)), _CHUNK)  # its inner file stays open, but holds nothing


def _bz2(path: File) -> io.BufferedReader:
    import bz2

    return io.BufferedReader(_Unpacked(_packed(path), bz2.BZ2Decompressor, OSError), _CHUNK)


def _xz(path: File) -> io.BufferedReader:
    import lzma

    return io.BufferedReader(_Unpacked(_packed(path), lzma.LZMADecompressor, lzma.LZMAError), _CHUNK)


def _zstd(path: File) -> io.BufferedReader:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    options = {int(zstd.DecompressionParameter.window_log_max): _LARGEST_WINDOW}
    new = partial(zstd.ZstdDecompressor, options=options)
    return io.BufferedReader(_Unpacked(_packed(path), new, zstd.ZstdError), _CHUNK)


#: The function that opens a packed file, by its ending.
COMPRESSIONS: Mapping[str, Callable[[File], io.BufferedReader]] = {".gz": _gzip, ".bz2": _bz2, ".xz": _xz, ".zst": _zstd}


def _unpacked(path: File) -> io.BufferedReader:
    unpack = COMPRESSIONS.get(path.suffix.lower())
    return _packed(path) if unpack is None else unpack(path)
