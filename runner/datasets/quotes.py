"""Quotes in files of cells: whether they enclose cells or are text, and where a quote may have swallowed rows.

A CSV writer puts a cell with a delimiter, a line end or a quote into quotes, and doubles the quotes inside. In other files each
line is a row, and a quote is text. If one kind is read as the other, rows are lost: a quote that opens by chance makes one cell
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

#: What to do if it is not clear.
WHICH = "set dataset.quoting: true if quotes enclose cells, false if they are text"
NONE = "close it, or set dataset.quoting: false if quotes are text"
_LINE_END = re.compile("\r\n|\r|\n")
_NUMBER = re.compile(r"[+-]?[0-9]++[0-9.]*+")
#: A code that may name a row: letters and digits without a space.
_CODE = re.compile(r"(?=[^0-9]*+[0-9])[\w.:/#-]++")


def split(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line in which quotes are text."""
    return line.rstrip("\r\n").split(delimiter)


def is_doubled(cell: str) -> bool:
    """Return whether a cell is in quotes and has doubled quotes inside. Only files that quote their cells have that."""
    inside = cell[1:-1]
    return _is_wrapped(cell) and '""' in inside and '"' not in inside.replace('""', "")


def _is_wrapped(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


# --- where a quote opens ---


def line_of_cell(lines: Sequence[str], delimiter: str, index: int | None) -> int:
    """Return the line of a record, from 0, on which a cell begins; None is the last cell, or the one that is not CSV."""
    mark = re.escape(delimiter)
    cell = re.compile(rf'(?:"(?:[^"]++|"")*+"|[^"{mark}][^{mark}]*+)?+{mark}')
    record, at, passed = "".join(lines), 0, 0
    while (index is None or passed < index) and (found := cell.match(record, at)):
        at, passed = found.end(), passed + 1
    return bisect_right(list(accumulate(map(len, lines))), at)


# --- whether a quoted cell contains rows ---


def cell_with_rows(cells: Sequence[str], delimiter: str, width: int, *, is_proven: bool) -> int | None:
    """Return the index of the first cell that seems to contain rows; `width` is the number of columns.

    If a row ends inside a cell, the text before the line end looks like the end of the row that has the cell, and the text
    after it like the beginning of that row. One such line end is enough if a number or code is there as in the row. Otherwise
    half of the line ends have to look so; if it `is_proven` that quotes enclose cells in this file, these do not count.
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
    """A row that has a cell of several lines, to be compared with the text around the line ends in that cell."""

    before: Sequence[str]
    behind: Sequence[str]
    #: How many cells should follow it.
    count: int
    tight: re.Pattern[str]

    def likeness(self, upper: str, lower: str, first: str) -> int:
        """Return 0 if two lines cannot be of two rows, 1 if they can, 2 if they also have a number or code as the row has.

        `first` is the first line of the cell. The row begins with it if no cell is before.
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
    """Return a pattern for a delimiter without a space after it, which a comma in a sentence would have."""
    return re.compile(delimiter if delimiter == "\t" else rf"{re.escape(delimiter)}(?! )")


def _kind(cell: str) -> int:
    """Return 2 for a number, 1 for another code that may name a row, 0 for text."""
    return 2 if _NUMBER.fullmatch(cell) else 1 if _CODE.fullmatch(cell) else 0


def may_hold_rows(name: str, delimiter: str) -> bool:
    """Return whether the name of a column may have swallowed rows."""
    return _LINE_END.search(name) is not None and delimiter in name


# --- what quotes mean in a file of tabs ---


def hold_together(lines: Sequence[str], first: int, delimiter: str, width: int | None) -> bool:
    """Return whether quotes enclose cells, by some lines; `first` is the number of the first line. Raises Unreadable."""
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
        what = f"quotes enclose cells in line {evidence[True]} and are text in line {evidence[False]}; {WHICH}"
        raise Unreadable(max(evidence[True], evidence[False]), what)
    if None in evidence and len(evidence) == 1:
        raise Unreadable(evidence[None], f"a cell is in quotes, which may be text or enclose it; {WHICH}")
    return True in evidence


def _evidence(lines: Sequence[str], at: int, delimiter: str, width: int) -> tuple[set[bool | None], int]:
    """Return what a line shows about quotes, together with the lines that its quotes add; and how many lines these are."""
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
    if not fits(quoted, width) or cell_with_rows(quoted, delimiter, width, is_proven=True) is not None:
        return as_text, 1
    if count > 1:  # if each line is a row by itself, it is not clear
        return {None if all(fits(split(line, delimiter), width) for line in lines[at : at + count]) else True}, count
    if as_text and len(quoted) != len(cells):  # quotes may enclose a delimiter, or a spreadsheet has added empty cells
        return {None}, 1
    return ({_evidence_of(cell) for cell in cells if '"' in cell} if as_text else {True}), 1


def _evidence_of(cell: str) -> bool | None:
    """Return what a cell with quotes shows; None: it can be both."""
    if is_doubled(cell):
        return True
    return None if _is_wrapped(cell) and '"' not in cell[1:-1] else False


def fits(cells: Sequence[str], width: int) -> bool:
    """Return whether cells are those of a row. Spreadsheets may add empty cells at its end."""
    return len(cells) == width or (len(cells) > width and not any(cells[width:]))
