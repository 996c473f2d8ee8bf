"""The import: output and error files of batches in, answers to a run's requests out.

All lines are checked before the run changes: one file of another run, or one invalid line, refuses the whole import. Only the
places of the lines stay in memory; a line is read again when its request is executed. If several lines are about one request,
the first of these kinds counts, so that files may come in any order, in parts and more than once:

    an answer
    a refusal of a server or of the service   a failure, as of any request; it does not count if a later file has the request
    a request that was not tried              it may be exported again

A unit that already has a result is not asked, and a unit without a line stays pending.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from runner.batch import Batch
from runner.batch.lines import Said, as_sent, batch_of, name_of, read_line, result_of
from runner.errors import NotAsked, UsageError
from runner.jsontext import JsonError
from runner.logs import logger
from runner.storage.ledger import Ledger
from runner.storage.records import Try
from runner.storage.rundir import RunDir
from runner.structs import Struct, field
from runner.tasks.base import wall_clock_us
from runner.types import ErrorType, Failure, Outcome, Request

__all__ = ["Answers"]

_log = logger(__name__)
_ANSWER, _REFUSED, _NOT_TRIED = range(3)


class _Place(Struct, frozen=True, order=True, gc=False):
    """The place of a line. Places are ordered as lines about one request count: the least one counts."""

    rank: int
    #: The number of the exported file that has the request, negated: a line about a later file counts first.
    batch: int
    #: Decides between two equal lines, so that the order of the files does not matter.
    checksum: int
    file: int
    offset: int
    length: int


class Answers(Batch):
    """Answers requests from the files of batches, in place of the endpoints."""

    files: Sequence[Path]
    _open: list[BinaryIO] = field(default_factory=list)
    _places: dict[str, _Place] = field(default_factory=dict)
    _used: int = 0

    def begin(self, run: RunDir, ledger: Ledger | None) -> None:
        """Check all lines. Raises UsageError with the place of a line that is invalid or of another run."""
        self.ledger = ledger
        try:
            self._open = [path.open("rb") for path in self.files]
            for number, file in enumerate(self._open):
                self._index(number, file, run.run_id)
        except OSError as error:
            self.end()
            raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from error
        except UsageError:
            self.end()
            raise

    def _index(self, number: int, file: BinaryIO, run_id: str) -> None:
        offset = 0
        for count, text in enumerate(file, 1):
            where = f"{self.files[number]}:{count}"
            if not text.isspace():
                try:
                    said = read_line(text)
                except ValueError as error:
                    if isinstance(error, JsonError) and not text.endswith(b"\n"):
                        _log.warning("%s: its last line is torn and left out; download the file again and import it", where)
                        return
                    raise UsageError(f"{where}: {error}") from error
                self._note(said, run_id, where, (number, offset, len(text)), zlib.crc32(text.strip()))
            offset += len(text)

    def _note(self, said: Said, run_id: str, where: str, place: tuple[int, int, int], checksum: int) -> None:
        if (found := batch_of(said.custom_id, run_id)) is None:
            raise UsageError(f"{where}: {said.custom_id!r} is not a request of {run_id}; nothing was imported")
        batch, name = found
        rank = _ANSWER if said.is_answer else _REFUSED if said.is_tried else _NOT_TRIED
        self.counts["lines"] += 1
        place_of_it = _Place(rank, -batch, checksum, *place)
        known = self._places.get(name)
        if known is None or place_of_it < known:
            self._places[name] = place_of_it

    async def execute(self, request: Request) -> Outcome:
        """Return the outcome of a request, from the files. Raises NotAsked if they have no answer, StorageError."""
        if request.again:  # there is no other answer
            raise NotAsked("a batch answers once")
        sent, waits_in = as_sent(request), self.waits_in(request)
        place = self._places.get(name_of(request.unit, sent.content))
        if place is None or (place.rank != _ANSWER and -place.batch < waits_in):
            self.counts["free"] += not waits_in
            raise NotAsked("the files have no line about it")
        self._used += 1
        if place.rank == _NOT_TRIED:
            self.counts["not tried"] += 1
            self.counts["free"] += 1
            if waits_in:
                self._set_free(request, waits_in)
            raise NotAsked("it was not tried")
        answer = result_of(self._said(place), sent)
        self.counts["errors" if isinstance(answer, Failure) else "answers"] += 1
        now = wall_clock_us()
        return Outcome(answer=answer, sent=sent, attempts=1, started_at=now, completed_at=now)

    def _set_free(self, request: Request, batch: int) -> None:
        """Let a request be exported again: the batch for which it waits has not tried it."""
        assert self.journal is not None
        unit = request.unit
        self.journal.append(
            Try(
                item_index=unit.item_index,
                sample_index=unit.sample_index,
                task=unit.task,
                error_type=ErrorType.SERVER.value,
                message=f"the batch of file {batch} has not tried it",
            )
        )

    def _said(self, place: _Place) -> Said:
        file = self._open[place.file]
        file.seek(place.offset)
        return read_line(file.read(place.length))

    def end(self) -> None:
        """Close the files."""
        while self._open:
            self._open.pop().close()

    def lines(self) -> Iterator[str]:
        """Yield a summary of the import."""
        counts = self.counts
        if not counts["lines"]:
            return
        words = [f"{counts[name]} {name}" for name in ("answers", "errors", "not tried") if counts[name]] or ["nothing new"]
        yield f"{counts['lines']} lines: {', '.join(words)}"
        if left := len(self._places) - self._used:
            yield f"{left} are about requests that already have a result, or have changed since"
        if free := self.counts["free"]:
            yield f"{free} requests may be exported now: `batch export` writes them"
