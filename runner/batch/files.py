"""The export: writes the requests of a run into files for a batch service. Each whole file gets a line in the journal.

A service takes files of a limited size, with requests to one path and for one model. So each (endpoint, path, model) has files
of its own. A file is written under a temporary name, synced, noted in the journal, and then renamed. After a kill in between,
the next export renames it. So each request is either in a file and noted, or neither: no request is lost, and none is in two
files. From then on the request waits. It is not exported again until its batch reports that it was not tried.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner import jsontext
from runner.batch import Batch
from runner.batch.lines import as_line, as_sent, name_of, url_of
from runner.errors import NotAsked, StorageError, UsageError
from runner.logs import logger
from runner.secrets.redaction import Redactor
from runner.storage import records
from runner.storage.files import FileSystem, OutputFile
from runner.storage.journal import Journal
from runner.storage.ledger import Ledger
from runner.storage.rundir import RunDir
from runner.structs import Struct, field
from runner.types import Outcome, Request

__all__ = ["Export", "Limits", "Written"]

_log = logger(__name__)
_PIECE_BYTES = 1 << 20
_MOST_NAMED = 5


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of one file; the defaults are OpenAI's."""

    lines: int = 50_000
    #: OpenAI's 200 MB, as the smaller meaning of MB.
    size: int = 200_000_000
    #: Texts to embed, in all lines together.
    inputs: int = 50_000


class Written(Struct, frozen=True):
    """A file that is whole."""

    path: Path
    lines: int
    size: int
    #: The endpoint and the path of its requests, and their model as JSON.
    endpoint: str | None
    url: str
    model: str


class _File:
    """A file that is being written."""

    def __init__(self, run: RunDir, directory: Path, number: int) -> None:
        self.path = (directory / f"batch-{number:04d}.jsonl").absolute()
        self.number = number
        self.size = self.inputs = 0
        self.tasks: dict[str, int] = {}
        self.units: list[tuple[int, int, int]] = []
        self._part = _part_of(self.path, run)
        self._files = run.files
        self._pending = bytearray()
        self._output: OutputFile | None = None

    def add(self, request: Request, line: bytes, inputs: int) -> None:
        """Write a line. Raises OSError."""
        unit = request.unit
        self.units.append((unit.item_index, unit.sample_index, self.tasks.setdefault(unit.task, len(self.tasks))))
        self.size += len(line)
        self.inputs += inputs
        self._pending += line
        if len(self._pending) >= _PIECE_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._output is None:
            self._output = OutputFile(self._files, self._part)
        self._output.write(bytes(self._pending))
        self._pending.clear()

    def finish(self, journal: Journal) -> None:
        """Finish the file, note it in the journal, and rename it. Raises OSError, StorageError."""
        self._flush()
        assert self._output is not None
        self._output.sync()
        self._output.close()
        journal.append(records.Batch(number=self.number, file=str(self.path), tasks=list(self.tasks), units=self.units))
        journal.sync()
        _name(self._files, self._part, self.path)


def _part_of(path: Path, run: RunDir) -> Path:
    """Return the temporary name of a file that is not whole yet, or not noted."""
    return path.with_name(f".{path.name}.{run.run_id}.part")


def _name(files: FileSystem, part: Path, path: Path) -> None:
    files.rename(part, path)
    files.sync_directory(path.parent)


class Export(Batch, kw_only=True):
    """Writes requests into files, in place of the endpoints."""

    #: Where the files are written; None: `batch` in the run directory.
    directory: Path | None
    #: The endpoint of each task, if tasks have several.
    endpoints: Mapping[str, str | None] = field(default_factory=dict)
    #: Finds secrets, which must not be in a file.
    redactor: Redactor = field(default_factory=lambda: Redactor([]))
    #: Whether requests that wait for the answers to an earlier file are written too.
    again: bool = False
    limits: Limits = Limits()
    written: list[Written] = field(default_factory=list)
    _run: RunDir | None = None
    _open: dict[tuple[str | None, str, str], _File] = field(default_factory=dict)
    _number: int = 0

    def check(self, run_id: str = "") -> None:
        """Raise UsageError if files of other runs are in the directory. Without a run id all files count as others'."""
        if (directory := self.directory) is None:
            return
        there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise UsageError(f"{directory}: no files can be written there, because {there} is not a writable directory")
        for path in sorted(directory.glob("batch-*.jsonl")):
            with path.open("rb") as file:
                is_own = bool(run_id) and file.readline().startswith(b'{"custom_id":"%b:' % run_id.encode())
            if not is_own:
                raise UsageError(f"{path}: belongs to another run; write into another directory (-o), or move it away")

    def begin(self, run: RunDir, ledger: Ledger | None) -> None:
        """Prepare the directory of the files. Raises UsageError."""
        self._run, self.ledger = run, ledger
        self.check(run.run_id)
        self.directory = directory = self.directory or run.path / "batch"
        known = {} if ledger is None else ledger.batches
        self._number = max(known, default=0)
        try:
            for path in map(Path, known.values()):
                if (part := _part_of(path, run)).exists():
                    _name(run.files, part, path)
                    _log.info("%s: an export that was killed had written this file; it has its name now", path)
            directory.mkdir(parents=True, exist_ok=True)
            for left in directory.glob(f".batch-*.{run.run_id}.part"):  # of an export that was killed
                run.files.unlink(left)
        except OSError as error:
            raise UsageError(f"{directory}: cannot be written: {error.strerror}") from error

    async def execute(self, request: Request) -> Outcome:
        """Write a request into a file, if it may be in one. Raises NotAsked, StorageError."""
        if not self.again and self.waits_in(request):
            self.counts["waiting"] += 1
            raise NotAsked("it is in a file already")
        sent = as_sent(request)
        if self.redactor.json(sent.content) != sent.content:
            raise self._left_out(sent, "holds a secret, which no batch file may hold")
        try:
            self._write(sent)
        except OSError as error:
            raise StorageError(f"{self.directory}: the batch files cannot be written: {error.strerror}") from error
        raise NotAsked("it is in a file now")

    def _write(self, request: Request) -> None:
        key = self.endpoints.get(request.unit.task), url_of(request), jsontext.encode_str(request.model)
        name, inputs = name_of(request.unit, request.content), _inputs_in(request)
        file = self._open.get(key) or self._next()
        line = as_line(self._run_id, file.number, name, request)
        if file.units and not self._has_room(file, len(line), inputs):
            self._finish(key)
            file = self._next()
            line = as_line(self._run_id, file.number, name, request)
        if len(line) > self.limits.size or inputs > self.limits.inputs:
            raise self._left_out(
                request, f"has {len(line)} bytes and {inputs} inputs, which is more than a batch file may have"
            )
        if not file.units:
            self._number = file.number
            self._open[key] = file
        file.add(request, line, inputs)

    @property
    def _run_id(self) -> str:
        assert self._run is not None
        return self._run.run_id

    def _next(self) -> _File:
        assert self._run is not None
        assert self.directory is not None
        return _File(self._run, self.directory, self._number + 1)

    def _has_room(self, file: _File, length: int, inputs: int) -> bool:
        limits = self.limits
        is_full = len(file.units) >= limits.lines or file.size + length > limits.size
        return not is_full and file.inputs + inputs <= limits.inputs

    def _left_out(self, request: Request, why: str) -> NotAsked:
        self.counts["left out"] += 1
        if self.counts["left out"] <= _MOST_NAMED:
            what = "it stays pending, and `--resume` asks for it directly"
            _log.warning("%s: the request of `%s` %s; %s", request.unit.item_id, request.unit.task, why, what)
        return NotAsked(why)

    def _finish(self, key: tuple[str | None, str, str]) -> None:
        file = self._open.pop(key)
        assert self.journal is not None
        file.finish(self.journal)
        self.written.append(Written(file.path, len(file.units), file.size, *key))

    def end(self) -> None:
        """Finish all files. Raises StorageError."""
        try:
            for key in list(self._open):
                self._finish(key)
        except OSError as error:
            raise StorageError(f"{self.directory}: the batch files cannot be written: {error.strerror}") from error

    def lines(self) -> Iterator[str]:
        """Yield a summary of the export."""
        for one in self.written:
            to = f" of {one.endpoint}" if one.endpoint else ""
            yield f"{one.path}: {one.lines} requests, {one.size:,} bytes, model {one.model} at {one.url}{to}"
        if waiting := self.counts["waiting"]:
            yield f"{waiting} requests are in earlier files and wait for answers; --again writes them again"
        if left := self.counts["left out"]:
            yield f"{left} requests cannot be in a batch; `--resume` asks for them directly"


def _inputs_in(request: Request) -> int:
    """Return how many texts a request embeds."""
    if not request.embeds:
        return 0
    given = jsontext.decode(request.content).get("input")
    return len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1
