"""Quotes in files of cells: whether they hold cells together or are text, and where one may have taken rows with it.

A writer of CSV puts a cell into quotes that holds a delimiter, a line end or a quote, and doubles the quotes inside. Other
files are lines of cells, and a quote is text. One taken for the other loses rows: a quote that opens by chance makes one cell
of all lines to the next quote.
"""

from __future__ import annotations

import csv
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

from runner.datasets.rows import Unreadable
from runner.structs import Struct

__all__ = [
    "NONE",
    "WHICH",
    "cell_with_lines",
    "cell_with_rows",
    "fits",
    "hold_together",
    "is_doubled",
    "line_of_cell",
    "may_hold_rows",
    "split",
]

#: What to do where it is not clear.
WHICH = "set dataset.quoting: true if quotes hold cells together, false if they are text"
NONE = "close it, or set dataset.quoting: false if quotes are text"
_LINE_END = re.compile("\r\n|\r|\n")
_NUMBER = re.compile(r"[+-]?[0-9]++[0-9.]*+")
#: What names a row: letters and digits without a space.
_CODE = re.compile(r"(?=[^0-9]*+[0-9])[\w.:/#-]++")


def split(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line in which quotes are text."""
    return line.rstrip("\r\n").split(delimiter)


def is_doubled(cell: str) -> bool:
    """Whether a cell is in quotes and has doubled ones inside, as only a file has it that quotes its cells."""
    inside = cell[1:-1]
    return _is_wrapped(cell) and '""' in inside and '"' not in inside.replace('""', "")


def _is_wrapped(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


# --- where a quote opens ---


def line_of_cell(lines: Sequence[str], delimiter: str, index: int | None = None) -> int:
    """Return on which line of a record, from 0, a cell begins; by default the last one, or the one that is no CSV."""
    mark = re.escape(delimiter)
    cell = re.compile(rf'(?:"(?:[^"]++|"")*+"|[^"{mark}][^{mark}]*+)?+{mark}')
    record, at, passed = "".join(lines), 0, 0
    while (index is None or passed < index) and (found := cell.match(record, at)):
        at, passed = found.end(), passed + 1
    return bisect_right(list(accumulate(map(len, lines))), at)


# --- whether rows stand in a quoted cell ---


def cell_with_rows(cells: Sequence[str], delimiter: str, width: int, *, is_proven: bool) -> int | None:
    """Return the index of the first cell in which rows seem to stand; `width` is the number of columns.

    Where a row ends inside a cell, what stands before the line end looks like the end of the row that has the cell, and what
    stands behind it like its beginning. One such line end is enough if a number or code stands there as in the row; of others,
    half, and none where it `is_proven` that quotes hold cells together in this file.
    """
    for index, cell in enumerate(cells):
        lines = _lines_in(cell)
        if width == 1 or len(lines) == 1:
            continue
        row = _Row(cells[:index], cells[index + 1 :], max(width - 1 - index, 0), _tight(delimiter))
        alike = [row.likeness(upper, lower, lines[0]) for upper, lower in pairwise(lines)]
        if _VERY in alike or (not is_proven and 2 * sum(alike) >= len(alike)):
            return index
    return None


def cell_with_lines(cells: Sequence[str]) -> int:
    """Return the index of the first cell that has more than one line."""
    return next((index for index, cell in enumerate(cells) if _LINE_END.search(cell)), 0)


def _lines_in(cell: str) -> list[str]:
    """Return the lines of a cell that are not blank, at least one."""
    return [line for line in _LINE_END.split(cell) if line] or [""]


_VERY = 2


class _Row(Struct, frozen=True):
    """A row that has a cell of several lines, to be compared with what stands at the line ends in there."""

    before: Sequence[str]
    behind: Sequence[str]
    #: How many cells should be behind it.
    count: int
    tight: re.Pattern[str]

    def likeness(self, upper: str, lower: str, first: str) -> int:
        """Return 0 if two lines cannot be of two rows, 1 if they can, 2 if a number or code stands there as in the row.

        `first` is the first line of the cell, with which the row begins that has nothing before it.
        """
        ends = self.tight.split(upper)[1:]
        begins = self.tight.split(lower)[:-1]
        if len(ends) < self.count or len(begins) < len(self.before):
            return 0
        own = self.before or self.tight.split(first)[:-1][:1]
        pairs = [*zip(own, begins, strict=False), *zip(reversed(self.behind), reversed(ends), strict=False)]
        kinds = [(_kind(one), _kind(other)) for one, other in pairs]
        if any(one != other for one, other in kinds):
            return 0
        return _VERY if any(one for one, _ in kinds) else 1


def _tight(delimiter: str) -> re.Pattern[str]:
    """Return what is a delimiter and no comma of a sentence, which a space follows."""
    return re.compile(delimiter if delimiter == "\t" else rf"{re.escape(delimiter)}(?! )")


def _kind(cell: str) -> int:
    """Return 2 for a number, 1 for another code as rows are named by, 0 for text."""
    return 2 if _NUMBER.fullmatch(cell) else 1 if _CODE.fullmatch(cell) else 0


def may_hold_rows(name: str, delimiter: str) -> bool:
    """Whether the name of a column holds more of the file than its name."""
    return _LINE_END.search(name) is not None and delimiter in name


# --- what quotes are in a file of tabs ---


def hold_together(lines: Sequence[str], first: int, delimiter: str, width: int | None) -> bool:
    """Tell by lines, of which `first` is the number of the first, whether quotes hold cells together. Raises Unreadable."""
    if width is None:  # the header
        return any(cell.startswith('"') for cell in split(lines[0], delimiter))
    evidence: dict[bool | None, int] = {}
    at = 0
    while at < len(lines):
        length = 1
        if '"' in lines[at]:
            found, length = _evidence(lines, at, delimiter, width)
            for one in found:
                evidence.setdefault(one, first + at)
        at += length
    if True in evidence and False in evidence:
        what = f"quotes hold cells together in line {evidence[True]} and are text in line {evidence[False]}; {WHICH}"
        raise Unreadable(max(evidence[True], evidence[False]), what)
    if None in evidence and len(evidence) == 1:
        raise Unreadable(evidence[None], f"a cell is in quotes, which may be text or hold it together; {WHICH}")
    return True in evidence


def _evidence(lines: Sequence[str], at: int, delimiter: str, width: int) -> tuple[set[bool | None], int]:
    """Return what a line, and those that its quotes add, say of quotes, and how many lines these are."""
    cells = split(lines[at], delimiter)
    as_text: set[bool | None] = {False} if fits(cells, width) else set()
    reader = csv.reader((lines[number] for number in range(at, len(lines))), delimiter=delimiter, strict=True)
    try:
        quoted = next(reader)
    except csv.Error:
        following = lines[at + 1 : at + min(reader.line_num, 2)]
        is_row = all(fits(split(line, delimiter), width) for line in following)
        return as_text if is_row else {None for _ in as_text}, 1
    count = reader.line_num
    if not fits(quoted, width) or cell_with_rows(quoted, delimiter, width, is_proven=False) is not None:
        return as_text, 1
    if count > 1:  # where each line is a row by itself, it is not clear
        return {None if all(fits(split(line, delimiter), width) for line in lines[at : at + count]) else True}, count
    return ({_evidence_of(cell) for cell in cells if '"' in cell} if as_text else {True}), 1


def _evidence_of(cell: str) -> bool | None:
    """Tell by a cell with quotes; None: it can be both."""
    if is_doubled(cell):
        return True
    return None if _is_wrapped(cell) and '"' not in cell[1:-1] else False


def fits(cells: Sequence[str], width: int) -> bool:
    """Whether cells are those of a row; more empty ones at its end are a spreadsheet's."""
    return len(cells) == width or (len(cells) > width and not any(cells[width:]))
