"""The records of a file of cells: lines that are split at a delimiter, or several lines that quotes join."""

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

#: Bytes that are invalid in the file's encoding.
_UNDECODED = re.compile("[\udc80-\udcff]")
#: How many characters of a file of tabs are read ahead at its first quote.
_READ_AHEAD = 1 << 20
#: From this number on, `tell` returns more than an offset: it includes the state of the decoder.
_NO_OFFSET = 1 << 63
#: What the file has shown about quotes, by its number in a place.
_QUOTING = (None, True, False)
Cells: TypeAlias = list[str]


def _is_undecoded(text: str) -> bool:
    return _UNDECODED.search(text) is not None


class Records:
    """The records of a file, each after the number of its first line; blank records are left out."""

    def __init__(self, file: io.TextIOWrapper, delimiter: str, options: ReadingOptions, not_decodable: str) -> None:
        """Take the file; `not_decodable` is the message about a record with invalid bytes."""
        self._file = file
        self._delimiter = delimiter
        self._longest = options.longest
        self._not_decodable = not_decodable
        #: Whether quotes enclose cells; None: the file has not shown it yet. Files of tabs are written both ways.
        self._quoting = True if options.quoting is None and delimiter != "\t" else options.quoting
        self._is_told = options.quoting is not None
        #: Lines that were read ahead.
        self._ahead: deque[str] = deque()
        #: Lines so far.
        self._number = 0
        self._quoted = _QuotedRecord(self._next_line, delimiter, options, not_decodable)

    def __iter__(self) -> Iterator[tuple[int, Cells | BadRow]]:
        """Yield the records. Raises Unreadable if it is not clear where a record ends."""
        # The work for every line is written out here: function calls would take half of the time.
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
        """Return where the next record begins, and what the file has shown about quotes; None if lines were read ahead."""
        if self._ahead or (offset := self._file.tell()) >= _NO_OFFSET:
            return None
        return self._number, offset, 2 * _QUOTING.index(self._quoting) + self._quoted.is_proven

    def go_on_at(self, place: Place) -> None:
        """Continue at a place. Raises Unreadable if no record can begin there."""
        self._number, offset, shown = place
        self._ahead.clear()
        self._file.seek(offset - 1)
        check_place(place, self._file.read(2).encode(errors="replace"))
        self._file.seek(offset)
        self._quoting, self._quoted.is_proven = _QUOTING[shown // 2], bool(shown % 2)

    def _next_line(self) -> str:
        """Return the next line, or the beginning of one that is too long; an empty text at the end."""
        line = self._ahead.popleft() if self._ahead else self._file.readline(self._longest + 1)
        self._number += bool(line)
        return line

    def _passed_over(self, line: str) -> BadRow:
        """Read to the end of a line that is too long. Raises Unreadable if a quote is open there."""
        marks = line.count('"')
        while line and not line.endswith(("\n", "\r")):
            line = self._file.readline(self._longest + 1)
            marks += line.count('"')
        bad = too_long(self._longest)
        if marks % 2 and self._quoting:
            raise Unreadable(self._number, f"a row {bad.reason} ends inside quotes; {quotes.NONE}")
        return bad

    def _decided(self, line: str) -> bool:
        """Return whether quotes enclose cells, by the first line that has one and the lines after it. Raises Unreadable."""
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
            return BadRow(f"has a quoted cell with doubled quotes, but in earlier rows quotes are text; {quotes.WHICH}")
        return cells


class _QuotedRecord:
    """A record with quotes, read by Python's CSV reader, which asks for more lines as long as a quote is open."""

    def __init__(self, next_line: Callable[[], str], delimiter: str, options: ReadingOptions, not_decodable: str) -> None:
        self._next_line = next_line
        self._delimiter = delimiter
        self._longest = options.longest
        self._not_decodable = not_decodable
        self._is_told = options.quoting is not None
        #: Whether a record has shown that quotes enclose cells: it is a row if they do, and not if they are text.
        self.is_proven = False
        self._reader = csv.reader(self, delimiter=delimiter, strict=True)
        #: The number of columns; None while the header is read.
        self.width: int | None = None
        #: Its first line, the number of that line, and the line again until the CSV reader has taken it.
        self._first, self._number, self._unread = "", 0, ""
        #: Its other lines, and their length together.
        self._lines: list[str] = []
        self._size = 0
        #: Whether the file has ended inside it.
        self._is_ended = False

    def read(self, line: str, number: int) -> Cells | BadRow:
        """Return the record that begins with a line. Raises Unreadable if it is not clear where it ends."""
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
                raise Unreadable(number, f"a quote is inside a cell that is not in quotes; {quotes.WHICH}")
        if any(map(_is_undecoded, self._lines)) or (not line.isascii() and _is_undecoded(line)):
            return BadRow(self._not_decodable)
        return cells

    def _not_csv(self, error: csv.Error) -> BadRow:
        """Return the bad row for a line that is not CSV. Raises Unreadable if quotes have added other lines to it."""
        if not self._lines and not self._is_ended and self._first.count('"') % 2 == 0:
            return BadRow(f"not CSV: {error}; {quotes.NONE}")
        opened = self._line_of_cell()
        if self._is_ended:
            what = f"the quote that opens here is never closed, and {self._number + len(self._lines) - opened} lines follow"
        else:
            what = f"it is not clear where the quoted cell that opens here ends: {error}"
        raise Unreadable(opened, f"{what}; {quotes.NONE}") from error

    def _look_inside(self, cells: Cells, width: int) -> None:
        """Raise Unreadable for a record that seems to contain rows; learn from other records that quotes enclose cells."""
        as_row = quotes.fits(cells, width)
        if self._lines:
            index = quotes.cell_with_rows(cells, self._delimiter, width, is_proven=self.is_proven)
            if index is not None or not as_row:
                cell = quotes.cell_with_lines(cells) if index is None else index
                last = self._number + len(self._lines)
                what = f"the quoted cell that opens here ends in line {last}, and may contain rows; {quotes.WHICH}"
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
        """Return the number of the line on which a cell begins; by default the last cell, or the one that is not CSV."""
        return self._number + quotes.line_of_cell([self._first, *self._lines], self._delimiter, index)
