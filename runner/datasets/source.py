"""Opens a dataset: finds its files, checks whether they can be read, and yields their items."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, repeat
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from runner import jsontext
from runner.datasets.files import Copy, File, FileIdentity, Stamp, change_of, find_files, identify, size_of, stamp_of, written
from runner.datasets.formats import count_rows, format_of, has_a_row_a_line, read_rows, without_meaning
from runner.datasets.opening import is_utf8
from runner.datasets.options import ReadingOptions
from runner.datasets.remote import without_query
from runner.datasets.row_ids import Namer, has_value, id_of, value_of
from runner.datasets.rows import BadRow, Cursor, Row, plain
from runner.errors import DatasetError, DatasetReadError, RunStopped
from runner.meant import name_meant
from runner.structs import Struct, field, replace
from runner.types import ErrorType, Failure, Item

__all__ = ["Dataset", "FileIdentity", "Items", "Survey", "item_of", "open_dataset"]

_FIRST_ROWS = 10
#: A file is checked for changes every so many rows.
_ROWS_BETWEEN_LOOKS = 100
#: How many rows are read at a time to count them during a run, and for how many seconds other threads run then.
_ROWS_IN_A_TURN, _BETWEEN_TURNS_S = 1000, 0.005
#: How many finished rows are passed over at a time; in between other tasks run.
_PASSED_AT_ONCE = 500
#: How many remote files are opened at the same time.
_MOST_AT_ONCE = 16
_MOST_SEARCHED = 100_000
#: How many rows are searched for a column that the first rows do not have.
_MOST_ROWS_FOR_A_COLUMN = 100_000


class Survey(Struct, frozen=True):
    """The result of reading all bytes of a dataset."""

    identities: Sequence[FileIdentity]
    #: The number of items; in JSON lines blank lines count too. None if only parsing can give the number.
    total: int | None
    #: The same, without the limit.
    whole: int | None


class Finished(Protocol):
    """The items that an earlier start of a run has finished, by their index."""

    def first_unanswered(self, item_index: int) -> int:
        """Return the index of the first item, from this one on, that is still needed."""

    def fingerprints(self, first: int, last: int) -> Sequence[int]:
        """Return the fingerprints of the names of finished items, from `first` on, up to an item without a name."""


class Items(Protocol):
    """The source of a run's items: a dataset, or a run that has kept its rows."""

    @property
    def first_rows(self) -> Sequence[dict[str, Any]]:
        """The first rows that could be read, as examples of what the columns are."""

    @property
    def total(self) -> int | None:
        """The number of items if it is known without reading, else None."""

    @property
    def is_given(self) -> bool:
        """Whether no file and no config has the rows; then they are `inline`."""

    @property
    def inline(self) -> Sequence[dict[str, Any]]:
        """Rows that no file has."""

    @property
    def elsewhere(self) -> Event | None:
        """None if all files are local; else an event: once it is set, reading no longer waits for a store."""

    def __iter__(self) -> Iterator[Item]:
        """Yield the items."""

    def passing_over(self, finished: Finished | None) -> Iterator[Item | int]:
        """Yield the items; in place of some finished items only their number."""

    def by_index(self) -> Iterator[Item]:
        """Yield all items, in the order of their indexes."""

    def may_have(self, column: str) -> bool:
        """Return whether a row may have a column."""

    def survey(self, stop: Event | None = None) -> Survey | None:
        """Return the result of reading all bytes, or None if it was stopped or a file has changed."""

    def count(self, stop: Event) -> int | None:
        """Return the number of items if only reading all rows can give it; else None, and None if it was stopped."""

    def sizes(self) -> list[tuple[str, int]]:
        """Return each file's name and size."""


class Dataset(Struct, frozen=True, kw_only=True):
    """An opened dataset. Iterating reads it from the start; each item is read when it is asked for."""

    files: Sequence[File]
    inline: Sequence[dict[str, Any]]
    id_column: str | None
    limit: int | None
    shuffle: int | None
    options: ReadingOptions
    #: Whether the rows were passed by Python code, so that no file and no config has them.
    is_given: bool = False
    #: The number of items that the files have, if it is known without reading, else None.
    whole: int | None
    #: The first rows that could be read, as examples of what the columns are.
    first_rows: Sequence[dict[str, Any]]
    #: Pipes that were copied into files, which are deleted with this object.
    copies: Mapping[Path, Copy] = field(default_factory=dict)
    #: The stamps of the files when they were opened.
    stamps: Mapping[File, Stamp] = field(default_factory=dict)
    #: None if all files are local; else an event: once it is set, reading no longer waits for a store.
    elsewhere: Event | None = None
    #: The results of a survey, by each file and its stamp: a resume needs them twice.
    identified: dict[tuple[File, Stamp], tuple[FileIdentity, int]] = field(default_factory=dict)

    @property
    def total(self) -> int | None:
        """The number of items if it is known without reading, else None."""
        return _within(self.limit, self.whole)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items. Raises DatasetReadError if a file becomes unreadable, RunStopped if it has changed."""
        return (item for item in self.passing_over(None) if not isinstance(item, int))

    def passing_over(self, finished: Finished | None) -> Iterator[Item | int]:
        """Yield the items; in place of some finished items, which need not be read, only their number.

        Raises as iterating does.
        """
        items = self.in_file_order(finished, self.namer(), Cursor())
        if self.shuffle is None:
            return items
        everything: list[Item | int] = []
        for item in items:
            everything.extend(repeat(1, item) if isinstance(item, int) else [item])
        self._shuffle(everything)
        return islice(everything, self.limit)

    def by_index(self) -> Iterator[Item]:
        """Yield all items that the files have, in their order there. Raises as iterating does."""
        return iter(replace(self, shuffle=None, limit=None))

    def namer(self) -> Namer:
        """Return a namer for the rows, from the first row on."""
        return Namer(self.id_column, self._place_of)

    def chosen(self, count: int) -> Sequence[int]:
        """Return the indexes of the items that are asked, in order; `count` is the number of all items."""
        if self.shuffle is None or self.limit is None:
            return range(count if self.limit is None else min(count, self.limit))
        order = list(range(count))
        self._shuffle(order)
        return sorted(order[: self.limit])

    def _shuffle(self, items: list[Any]) -> None:
        random.Random(self.shuffle).shuffle(items)  # noqa: S311  an order, not a secret

    def in_file_order(self, finished: Finished | None, namer: Namer, cursor: Cursor) -> Iterator[Item | int]:
        """Do as `passing_over` does, in the order of the files; yield all items if a shuffle comes before the limit.

        `namer` says of each item whether its name depends on the rows before it, and `cursor` where in the files it is.
        """
        limit = self.limit if self.shuffle is None else None
        index = needed_from = 0
        names: Sequence[int] = ()

        def unneeded() -> int:
            """Return how many of the next rows can be passed over."""
            nonlocal needed_from, names
            assert finished is not None
            if index >= needed_from:
                needed_from = finished.first_unanswered(index)
            last = min(needed_from, index + _PASSED_AT_ONCE, needed_from if limit is None else limit)
            names = finished.fingerprints(index, last) if last > index else ()
            return len(names)

        cursor.unneeded = None if finished is None else unneeded
        for file, number, row in self.rows(cursor) if limit != 0 else ():
            if isinstance(row, int):
                namer.pass_over(names[:row])
                yield row
                index += row
            else:
                yield item_of(index, f"{file}:{number}", row, row if isinstance(row, BadRow) else namer.name(row))
                index += 1
            if index == limit:
                return

    def _place_of(self, name: str) -> str | None:
        """Return where an id is first, if that is among the first rows. The search stops the run meanwhile."""
        column, rows = self.id_column or "", islice(self.rows(), _MOST_SEARCHED)
        found = (
            f"{file}:{number}" for file, number, row in rows if isinstance(row, dict) and id_of(value_of(row, column)) == name
        )
        return next(found, None)

    def rows(self, cursor: Cursor | None = None) -> Iterator[tuple[str, int, Row]]:
        """Yield each row, or the number of passed-over rows, after the file and the number of the last row."""
        cursor = cursor or Cursor()
        first = 0
        if cursor.start is not None:
            first = cursor.start.file
        else:
            for number, inline in enumerate(self.inline, 1):
                yield "data", number, inline
        for cursor.file in range(first, len(self.files)):
            file = self.files[cursor.file]
            name = self._name_of(file)
            number = 0
            try:
                for count, (number, row) in enumerate(read_rows(file, self.options, cursor)):
                    if count % _ROWS_BETWEEN_LOOKS == 0:
                        self._check_unchanged(file)
                    cursor.number = number
                    yield name, number, row
            except DatasetReadError as error:
                # The lost rows, and the rows of the next files, have no known index.
                self._check_unchanged(file)
                place = f"{name}:{error.line or number + 1}"
                raise DatasetReadError(error.file, error.what, damaged=error.damaged, place=place) from error
            finally:
                cursor.start = cursor.place = None  # they were places in this file
            self._check_unchanged(file)

    def _name_of(self, file: File) -> str:
        return str(self.copies[file].of if isinstance(file, Path) and file in self.copies else file)

    def _check_unchanged(self, file: File) -> None:
        """Raise RunStopped if a file has changed since the run began: the rows would come from two datasets."""
        if (what := change_of(file, self.stamps.get(file))) is not None:
            reason = f"{file} {what} while it was read; put it back as it was and resume, or start a new run"
            raise RunStopped(reason, hurry=False)

    def may_have(self, column: str) -> bool:
        """Return whether a row may have a column: some row has it, or there are too many rows to search them all."""
        if any(column in row for row in self.first_rows):
            return True
        for count, (_, _, row) in enumerate(self.rows()):
            if count >= _MOST_ROWS_FOR_A_COLUMN or (isinstance(row, dict) and column in row):
                return True
        return False

    def survey(self, stop: Event | None = None) -> Survey | None:
        """Read all files once, as bytes; return None if it was stopped. Takes a second per gigabyte: run it in a thread.

        Also returns None if a file has changed since it was opened: its identity would be that of other rows. Raises
        DatasetReadError.
        """
        counted = []
        for file in self.files:
            known = file, stamp_of(file)
            if known not in self.identified:
                if (found := identify(file, stop or Event())) is None:
                    return None
                self.identified[known] = found
            if stamp_of(file) != self.stamps.get(file):
                return None
            counted.append(self.identified[known])
        identities = [identity for identity, _ in counted]
        whole = self.whole
        if whole is None and all(map(self._has_a_row_a_line, self.files)):
            whole = sum(lines for _, lines in counted)
        if self.inline:
            text = jsontext.encode(list(self.inline))
            identities.append(FileIdentity("data", len(text), hashlib.sha256(text).hexdigest()))
        return Survey(identities, _within(self.limit, whole), whole)

    def count(self, stop: Event) -> int | None:
        """Read all rows, in turns with other threads; return how many are asked, or None if their number is known otherwise.

        Also returns None if it was stopped, if a file is remote, and if a file becomes unreadable.
        """
        if self.whole is not None or self.elsewhere is not None or all(map(self._has_a_row_a_line, self.files)):
            return None
        most = self.limit if self.limit is not None else sys.maxsize
        count = len(self.inline)
        try:
            for file in self.files:
                for _ in read_rows(file, self.options):
                    count += 1
                    if count >= most:
                        return most
                    if count % _ROWS_IN_A_TURN == 0 and stop.wait(_BETWEEN_TURNS_S):
                        return None
        except (DatasetError, DatasetReadError):
            return None
        return count

    def _has_a_row_a_line(self, file: File) -> bool:
        """Return whether the line ends among a file's bytes give the number of its rows."""
        return isinstance(file, Path) and has_a_row_a_line(file) and is_utf8(file, self.options.encoding)

    def sizes(self) -> list[tuple[str, int]]:
        """Return each file's name and size, for a quick first check whether it has changed."""
        return [(str(file), size_of(file)) for file in self.files]


def item_of(index: int, place: str, row: dict[str, Any] | BadRow, name: str | BadRow) -> Item:
    """Return the item of a row with its name; a row without a name is a failure."""
    if isinstance(name, str):
        return Item(item_id=name, index=index, row=row, place=place)  # type: ignore[arg-type]  # a bad row has no name
    failure = Failure(error_type=ErrorType.DATASET, message=f"{place}: {name.reason}")
    return Item(item_id=place, index=index, row={} if isinstance(row, BadRow) else row, place=place, failure=failure)


def open_dataset(
    *,
    path: Sequence[str] | None = None,
    data: Sequence[dict[str, Any]] | None = None,
    id_column: str | None = None,
    limit: int | None = None,
    shuffle: int | None = None,
    options: ReadingOptions | None = None,
    is_given: bool = False,
    lines: Iterable[bytes] | None = None,
) -> Dataset:
    """Find the files and read the first rows of each. Raises DatasetError for mistakes that these rows can show.

    `lines` are rows as JSON lines that are in no file. They are written into a file that is deleted with the dataset.
    """
    options = options or ReadingOptions()
    stop = Event()
    files, copies = find_files(path or (), stop)
    if lines is not None:
        made, copies[made] = written(lines)
        files.append(made)
    if mistakes := list(without_meaning(options, {format_of(file) for file in files})):
        raise DatasetError("\n".join(mistakes))
    inline: list[dict[str, Any]] = [plain(row) for row in data or ()]
    first_rows = inline[:_FIRST_ROWS]
    for rows, _ in (starts := _starts_of(files, options, copies)):
        first_rows += rows
    if id_column is not None and first_rows and not any(has_value(row, id_column) for row in first_rows):
        where = ", ".join(map(without_query, path or ["data"]))
        raise DatasetError(f"{where}: no row has the id column `{id_column}`; {name_meant(id_column, first_rows[0])}")
    counts = [count for _, count in starts]
    whole = None if None in counts else sum(filter(None, counts)) + len(inline)
    return Dataset(
        files=files,
        inline=inline,
        id_column=id_column,
        limit=limit,
        shuffle=shuffle,
        options=options,
        is_given=is_given,
        whole=whole,
        first_rows=first_rows[: _FIRST_ROWS * 10],
        copies=copies,
        stamps={file: stamp_of(file) for file in files},
        elsewhere=stop if any(not isinstance(file, Path) for file in files) else None,
    )


def _starts_of(
    files: Sequence[File], options: ReadingOptions, copies: Mapping[Path, Copy]
) -> list[tuple[list[dict[str, Any]], int | None]]:
    """Return the first rows of each file, and the number of its rows if it gives one; several remote files at a time."""

    def look(file: File) -> tuple[list[dict[str, Any]], int | None]:
        try:
            return _readable_start(file, options), count_rows(file)
        except DatasetError as error:
            if isinstance(file, Path) and file in copies:
                raise DatasetError(str(error).replace(str(file), str(copies[file].of))) from error
            raise

    if all(isinstance(file, Path) for file in files):
        return list(map(look, files))
    with ThreadPoolExecutor(_MOST_AT_ONCE) as several:
        return list(several.map(look, files))


def _readable_start(file: File, options: ReadingOptions) -> list[dict[str, Any]]:
    """Return the first good rows of a file. Raises DatasetError if it cannot be opened or all first rows are bad."""
    first = list(islice(read_rows(file, options), _FIRST_ROWS))
    bad = [(number, row) for number, row in first if isinstance(row, BadRow)]
    if bad and len(bad) == len(first):
        reasons = "\n".join(f"{file}:{number}: {row.reason}" for number, row in bad[:3])
        raise DatasetError(f"{file}: none of its first {len(first)} rows can be read:\n{reasons}")
    return [row for _, row in first if isinstance(row, dict)]


def _within(limit: int | None, whole: int | None) -> int | None:
    return whole if whole is None or limit is None else min(whole, limit)
