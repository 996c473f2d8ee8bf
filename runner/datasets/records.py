"""The records of a file of cells: lines split at a delimiter, and those that quotes make of several lines."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Self, TypeAlias

from runner.datasets import quotes
from runner.datasets.options import ReadingOptions
from runner.datasets.rows import BadRow, Place, Unreadable, check_place, too_long

__all__ = ["Cells", "Records"]

#: Bytes that the file's encoding does not have.
_UNDECODED = re.compile("[\udc80-\udcff]")
#: So far a file of tabs is read ahead where it has its first quote, in characters.
_READ_AHEAD = 1 << 20
#: A number from here on is no offset: it says what the decoder of the text holds besides.
_NO_OFFSET = 1 << 63
#: What the file has shown of quotes, by its number in a place.
_QUOTING = (None, True, False)
Cells: TypeAlias = list[str]


def _is_undecoded(text: str) -> bool:
    return _UNDECODED.search(text) is not None


class Records:
    """The records of a file, each behind the number of its first line; blank ones are left out."""

    def __init__(self, file: io.TextIOWrapper, delimiter: str, options: ReadingOptions, not_decodable: str) -> None:
        """Take what is said of a record with bytes that are not in the file's encoding."""
        self._file = file
        self._delimiter = delimiter
        self._longest = options.longest
        self._not_decodable = not_decodable
        #: Whether quotes hold cells together; None: the file has not shown it yet. Files of tabs are written both ways.
        self._quoting = True if options.quoting is None and delimiter != "\t" else options.quoting
        self._is_told = options.quoting is not None
        #: Lines that were read ahead.
        self._ahead: deque[str] = deque()
        #: Lines so far.
        self._number = 0
        self._quoted = _QuotedRecord(self._next_line, delimiter, options, not_decodable)

    def __iter__(self) -> Iterator[tuple[int, Cells | BadRow]]:
        """Yield the records. Raises Unreadable where nobody can tell where one ends."""
        # What is done for every line is written out here: calls of functions would take half of the time.
        delimiter, ahead, read, most = self._delimiter, self._ahead, self._file.readline, self._longest + 1
        quoted = self._quoted.read
        while line := ahead.popleft() if ahead else read(most):
            self._number = number = self._number + 1
            record: Cells | BadRow
            if len(line) == most:
                record = self._passed_over(line)
            elif '"' in line:
                record = quoted(line, number) if self._quoting or self._decided(line) else self._with_text(line)
            else:
                record = line.rstrip("\r\n").split(delimiter)
                if not line.isascii() and _is_undecoded(line):
                    record = BadRow(self._not_decodable)
                elif not any(record):
                    continue
            yield number, record

    def set_width(self, width: int) -> None:
        """Take the number of columns, once the header is read."""
        self._quoted.width = width

    def place(self) -> Place | None:
        """Return where the next record begins, and what the file has shown of quotes; None where lines were read ahead."""
        if self._ahead or (offset := self._file.tell()) >= _NO_OFFSET:
            return None
        return self._number, offset, 2 * _QUOTING.index(self._quoting) + self._quoted.is_proven

    def go_on_at(self, place: Place) -> None:
        """Read on from a place. Raises Unreadable where no record can begin there."""
        self._number, offset, shown = place
        self._ahead.clear()
        self._file.seek(offset - 1)
        check_place(place, self._file.read(2).encode(errors="replace"))
        self._file.seek(offset)
        self._quoting, self._quoted.is_proven = _QUOTING[shown // 2], bool(shown % 2)

    def _next_line(self) -> str:
        """Return the next line, or so much of it that it is too long; nothing at the end."""
        line = self._ahead.popleft() if self._ahead else self._file.readline(self._longest + 1)
        self._number += bool(line)
        return line

    def _passed_over(self, line: str) -> BadRow:
        """Read on to the end of a line that is too long. Raises Unreadable where a quote is open there."""
        marks = line.count('"')
        while line and not line.endswith(("\n", "\r")):
            line = self._file.readline(self._longest + 1)
            marks += line.count('"')
        bad = too_long(self._longest)
        if marks % 2 and self._quoting:
            raise Unreadable(self._number, f"a row {bad.reason} ends inside quotes; {quotes.NONE}")
        return bad

    def _decided(self, line: str) -> bool:
        """Whether quotes hold cells together, by the first line that has one and those behind it. Raises Unreadable."""
        if self._quoting is not None:
            return self._quoting
        lines, size = [line], len(line)
        while size < min(_READ_AHEAD, self._longest) and (more := self._file.readline(self._longest + 1)):
            lines.append(more)
            size += len(more)
        self._ahead.extend(lines[1:])
        self._quoting = quotes.hold_together(lines, self._number, self._delimiter, self._quoted.width)
        return self._quoting

    def _with_text(self, line: str) -> Cells | BadRow:
        """Return a record in which quotes are text."""
        cells = quotes.split(line, self._delimiter)
        if _is_undecoded(line):
            return BadRow(self._not_decodable)
        if not self._is_told and any(map(quotes.is_doubled, cells)):
            return BadRow(f"has a cell as files have it that quote their cells, but quotes further up are text; {quotes.WHICH}")
        return cells


class _QuotedRecord:
    """A record with quotes, read by the library's reader of CSV, which asks for more lines as long as a quote is open."""

    def __init__(self, next_line: Callable[[], str], delimiter: str, options: ReadingOptions, not_decodable: str) -> None:
        self._next_line = next_line
        self._delimiter = delimiter
        self._longest = options.longest
        self._not_decodable = not_decodable
        self._is_told = options.quoting is not None
        #: Whether a record has shown that quotes hold cells together: it is a row with them, and none without.
        self.is_proven = False
        self._reader = csv.reader(self, delimiter=delimiter, strict=True)
        #: The number of columns; None while the header is read.
        self.width: int | None = None
        #: Its first line, the number of that, and the line itself again until it is read.
        self._first, self._number, self._unread = "", 0, ""
        #: Its other lines, and how long they are.
        self._lines: list[str] = []
        self._size = 0
        #: Whether the file has ended inside it.
        self._is_ended = False

    def read(self, line: str, number: int) -> Cells | BadRow:
        """Return the record that begins with a line. Raises Unreadable where nobody can tell where it ends."""
        self._first = self._unread = line
        self._number = number
        if self._lines:
            self._lines, self._size = [], 0
        try:
            cells = next(self._reader)
        except csv.Error as error:
            return self._not_csv(error)
        if self.width is not None and not self._is_told:
            if self._lines or not self.is_proven:
                self._look_inside(cells, self.width)
            elif line.count('"') % 2:
                raise Unreadable(number, f"a quote stands in a cell that is not in quotes; {quotes.WHICH}")
        if any(map(_is_undecoded, self._lines)) or (not line.isascii() and _is_undecoded(line)):
            return BadRow(self._not_decodable)
        return cells

    def _not_csv(self, error: csv.Error) -> BadRow:
        """Return what stands for a line that is no CSV. Raises Unreadable where quotes have added others to it."""
        if not self._lines and not self._is_ended and self._first.count('"') % 2 == 0:
            return BadRow(f"not CSV: {error}; {quotes.NONE}")
        opened = self._line_of_cell()
        if self._is_ended:
            what = f"the quote that opens here is never closed, and {self._number + len(self._lines) - opened} lines follow"
        else:
            what = f"nobody can tell where the quoted cell ends that opens here: {error}"
        raise Unreadable(opened, f"{what}; {quotes.NONE}") from error

    def _look_inside(self, cells: Cells, width: int) -> None:
        """Raise Unreadable for a record in which rows seem to stand; learn from others that quotes hold cells together."""
        as_row = quotes.fits(cells, width)
        if self._lines:
            index = quotes.cell_with_rows(cells, self._delimiter, width, is_proven=self.is_proven)
            if index is not None or not as_row:
                cell = quotes.cell_with_lines(cells) if index is None else index
                last = self._number + len(self._lines)
                what = f"the quoted cell that opens here ends in line {last}, and rows may stand in it; {quotes.WHICH}"
                raise Unreadable(self._line_of_cell(cell), what)
        lines = (self._first, *self._lines)
        self.is_proven |= as_row and not all(quotes.fits(quotes.split(line, self._delimiter), width) for line in lines)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        if line := self._unread:
            self._unread = ""
            return line
        if not (line := self._next_line()):
            self._is_ended = True
            raise StopIteration
        self._lines.append(line)
        self._size += len(line)
        if self._size > self._longest:
            what = f"the quote that opens here is not closed within {self._longest >> 20} MiB"
            raise Unreadable(self._line_of_cell(), f"{what}; {quotes.NONE}")
        return line

    def _line_of_cell(self, index: int | None = None) -> int:
        """Return the number of the line on which a cell begins, by default the last one, or the one that is no CSV."""
        return self._number + quotes.line_of_cell([self._first, *self._lines], self._delimiter, index)
