"""Two fakes of the file system: one fails a call, the other records all calls and says what a power loss could leave of them.

Both work on real files. What a power loss leaves is judged by what POSIX promises and no more: content is safe once the file
was synced, a name once its directory was. Everything else may be there, or not, or in part, in any combination.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.storage.files import FileSystem

__all__ = ["FAULTS", "CrashState", "FaultyFiles", "RecordingFiles", "crash_states", "files_no_larger_than", "needs_a_mount"]

#: What can befall a call.
FAULTS = ("ENOSPC", "EIO", "EINTR", "short write")
needs_a_mount = pytest.mark.skipif(
    subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode != 0,
    reason="this user may not mount a disk of its own",
)
_CALLS = tuple(name for name in vars(FileSystem) if not name.startswith("_") and name != "close")


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let the kernel refuse to make a file of this process larger, as a full disk would: first short writes, then errors."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class FaultyFiles(FileSystem):
    """Real files whose N-th call fails, and with `lasting` every later one of the same name too."""

    def __init__(self, fault: str, at: int, *, lasting: bool = False) -> None:
        self.fault, self.at, self.lasting = fault, at, lasting
        #: The call that failed; None while none has.
        self.failed: str | None = None
        #: Handles that were opened and not closed yet.
        self.handles: set[int] = set()
        self._count = 0
        self._mutex = threading.Lock()
        for name in _CALLS:
            setattr(self, name, self._counted(name, getattr(FileSystem, name)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            fails = self._is_due(name)
            if fails and self.fault == "short write":
                handle, content = arguments
                return call(self, handle, content[: max(1, len(content) // 2)])
            if fails:
                number = getattr(errno, self.fault)
                raise OSError(number, os.strerror(number))
            found = call(self, *arguments, **options)
            if name == "open":
                self.handles.add(found)
            return found

        return counted

    def close(self, handle: int) -> None:
        self.handles.discard(handle)
        super().close(handle)

    def _is_due(self, name: str) -> bool:
        with self._mutex:
            if self.fault == "short write" and name != "write":
                return False
            self._count += 1
            if self._count == self.at:
                self.failed = name
            return self._count == self.at or (self.lasting and self.failed == name)


# --- what a power loss leaves ---


@dataclass(frozen=True, slots=True)
class _Write:
    node: int
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class _Truncate:
    node: int
    length: int


@dataclass(frozen=True, slots=True)
class _Names:
    """A change of names in one directory, all or nothing: to a node, a symlink's target, a directory (True), or gone (None)."""

    directory: str
    names: Mapping[str, int | str | bool | None]


@dataclass(frozen=True, slots=True)
class _Synced:
    """A file, by its node, or a directory, by its path, was synced: all that was done to it before call number `began`."""

    what: int | str
    began: int


@dataclass(frozen=True, slots=True)
class _Acknowledged:
    """Something was shown as safe."""

    what: Any


_Call = _Write | _Truncate | _Names | _Synced | _Acknowledged


@dataclass(slots=True)
class _Open:
    node: int
    position: int
    append: bool


class RecordingFiles(FileSystem):
    """Real files below one directory, with a record of what was done to them in which order."""

    def __init__(self, root: Path, *, unsynced: str | None = None) -> None:
        """What is there already counts as safe, but for the content of files whose names match `unsynced`."""
        self.root = root
        self.calls: list[_Call] = []
        self._mutex = threading.RLock()
        self._handles: dict[int, _Open] = {}
        self._nodes: dict[Path, int] = {}
        self._sizes: list[int] = []
        self._take_what_is_there(unsynced)

    def acknowledge(self, what: Any) -> None:
        """Note that something was shown as safe."""
        with self._mutex:
            self.calls.append(_Acknowledged(what))

    def _take_what_is_there(self, unsynced: str | None) -> None:
        for path in sorted(self.root.rglob("*")):
            if path.is_symlink():
                target: int | str | bool = str(path.readlink())
            elif path.is_dir():
                target = True
            else:
                target = self._new_node(path)
                content = path.read_bytes() if not path.name.startswith(".reserve") else b""
                self._sizes[target] = len(content)
                self.calls.append(_Write(target, 0, content))
                if unsynced is None or not path.match(unsynced):
                    self.calls.append(_Synced(target, len(self.calls)))
            self.calls.append(_Names(self._of(path.parent), {path.name: target}))
            self.calls.append(_Synced(self._of(path.parent), len(self.calls)))

    def _of(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def _new_node(self, path: Path) -> int:
        self._sizes.append(0)
        self._nodes[path] = len(self._sizes) - 1
        return self._nodes[path]

    def open(self, path: Path, flags: int) -> int:
        with self._mutex:
            existed = path.exists()
            handle = super().open(path, flags)
            if path.is_dir():
                return handle
            if not existed:
                self.calls.append(_Names(self._of(path.parent), {path.name: self._new_node(path)}))
            node = self._nodes[path]
            if existed and flags & os.O_TRUNC:
                self._sizes[node] = 0
                self.calls.append(_Truncate(node, 0))
            self._handles[handle] = _Open(node, 0, bool(flags & os.O_APPEND))
            return handle

    def close(self, handle: int) -> None:
        with self._mutex:
            self._handles.pop(handle, None)
            super().close(handle)

    def write(self, handle: int, content: bytes) -> int:
        with self._mutex:
            file = self._handles[handle]
            offset = self._sizes[file.node] if file.append else file.position
            written = super().write(handle, content)
            self.calls.append(_Write(file.node, offset, bytes(content[:written])))
            file.position = offset + written
            self._sizes[file.node] = max(self._sizes[file.node], file.position)
            return written

    def truncate(self, handle: int, length: int) -> None:
        with self._mutex:
            super().truncate(handle, length)
            self._sizes[self._handles[handle].node] = length
            self.calls.append(_Truncate(self._handles[handle].node, length))

    def allocate(self, handle: int, length: int) -> None:
        """Room is no content: nobody reads the file that holds it."""

    def fdatasync(self, handle: int) -> None:
        with self._mutex:
            node, began = self._handles[handle].node, len(self.calls)
        with self._mutex:
            self.calls.append(_Synced(node, began))

    def sync_directory(self, path: Path) -> None:
        with self._mutex:
            if path.is_relative_to(self.root):
                self.calls.append(_Synced(self._of(path), len(self.calls)))

    def make_directory(self, path: Path) -> None:
        with self._mutex:
            super().make_directory(path)
            self.calls.append(_Names(self._of(path.parent), {path.name: True}))

    def rename(self, old: Path, new: Path) -> None:
        assert old.parent == new.parent, "a change of two directories is not modelled"
        with self._mutex:
            target = str(old.readlink()) if old.is_symlink() else self._nodes.pop(old)
            super().rename(old, new)
            if isinstance(target, int):
                self._nodes[new] = target
            self.calls.append(_Names(self._of(old.parent), {old.name: None, new.name: target}))

    def symlink(self, target: str, path: Path) -> None:
        with self._mutex:
            super().symlink(target, path)
            self.calls.append(_Names(self._of(path.parent), {path.name: target}))

    def unlink(self, path: Path) -> None:
        with self._mutex:
            existed = path.is_symlink() or path.exists()
            super().unlink(path)
            self._nodes.pop(path, None)
            if existed:
                self.calls.append(_Names(self._of(path.parent), {path.name: None}))


@dataclass(frozen=True, slots=True)
class CrashState:
    """What one power loss leaves."""

    #: After so many calls.
    after: int
    #: What had been shown as safe by then.
    acknowledged: Sequence[Any]
    #: Each name below the root: a file's content, a symlink's target, or a directory (True).
    tree: Mapping[str, bytes | str | bool]

    def build(self, root: Path) -> None:
        """Make the files for real, in an empty directory."""
        for name, found in sorted(self.tree.items()):
            if found is True:
                (root / name).mkdir()
            elif isinstance(found, str):
                (root / name).symlink_to(found)
            elif isinstance(found, bytes):
                (root / name).write_bytes(found)


def crash_states(calls: Sequence[_Call], draw: random.Random, after: Iterable[int] | None = None) -> Iterator[CrashState]:
    """Yield distinct states: first the usual ones for every call after which the power may fail, then more at random.

    `after` names other moments than all, as numbers of calls. It ends when turn after turn brings nothing new.
    """
    moments = [_Moment(calls[:number]) for number in after or range(1, len(calls) + 1)]
    seen: set[int] = set()
    stale = 0
    for turn in itertools.count():
        if stale > _STALE_TURNS:
            return
        stale += 1
        for moment in moments:
            for fate in moment.any_fate(draw) if turn else moment.usual_fates(draw):
                state = moment.state(fate)
                key = hash((len(state.acknowledged), tuple(sorted(state.tree.items()))))
                if key not in seen:
                    seen.add(key)
                    stale = 0
                    yield state


_STALE_TURNS = 100
#: What becomes of a call that nothing has made safe: it is done, it is not, or for a write, its first bytes are, and of the
#: rest there is nothing (a number) or there are NULs (its negative, less one).
_Fate = Mapping[int, bool | int]


@dataclass(slots=True)
class _Moment:
    """The calls up to a moment, and which of them nothing has made safe yet."""

    calls: Sequence[_Call]
    pending: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        safe: dict[int | str, int] = {}
        for call in self.calls:
            if isinstance(call, _Synced):
                safe[call.what] = max(safe.get(call.what, 0), call.began)
        for number, call in enumerate(self.calls):
            what = call.directory if isinstance(call, _Names) else call.node if isinstance(call, _Write | _Truncate) else None
            if what is not None and number >= safe.get(what, 0):
                self.pending.append(number)

    def usual_fates(self, draw: random.Random) -> Iterator[_Fate]:
        """Yield the cases that break programs most often."""
        names = [number for number in self.pending if isinstance(self.calls[number], _Names)]
        yield {}  # all is done: what a kill leaves
        yield dict.fromkeys(self.pending, False)
        yield dict.fromkeys(names, False)
        yield dict.fromkeys((number for number in self.pending if number not in names), False)
        if self.pending:
            yield {self.pending[-1]: self._torn(self.pending[-1], draw)}
            lost = draw.choice(self.pending)
            yield {lost: self._torn(lost, draw)}
            yield {number: False for number in self.pending if number >= lost}

    def any_fate(self, draw: random.Random) -> Iterator[_Fate]:
        """Yield one case at random: few calls lost, or many."""
        share = draw.random()
        yield {number: self._torn(number, draw) for number in self.pending if draw.random() < share}

    def state(self, fate: _Fate) -> CrashState:
        """Return what is left."""
        acknowledged = [call.what for call in self.calls if isinstance(call, _Acknowledged)]
        return CrashState(len(self.calls), acknowledged, self._tree(fate))

    def _torn(self, number: int, draw: random.Random) -> bool | int:
        call = self.calls[number]
        if not isinstance(call, _Write) or draw.random() < 0.3:
            return False
        kept = draw.randrange(len(call.content) + 1)
        return kept if draw.random() < 0.5 else -kept - 1

    def _tree(self, fate: _Fate) -> dict[str, bytes | str | bool]:
        """Return what is there after the calls have met their fates."""
        contents: dict[int, bytearray] = {}
        directories: dict[str, dict[str, int | str | bool]] = {}
        for number, call in enumerate(self.calls):
            done = fate.get(number, True)
            if done is False:
                continue
            if isinstance(call, _Write):
                _write(contents.setdefault(call.node, bytearray()), call, done)
            elif isinstance(call, _Truncate):
                _cut(contents.setdefault(call.node, bytearray()), call.length)
            elif isinstance(call, _Names):
                entries = directories.setdefault(call.directory, {})
                for name, target in call.names.items():
                    entries.pop(name, None)
                    if target is not None:
                        entries[name] = target
        found: dict[str, bytes | str | bool] = {}
        _walk(".", "", directories, contents, found)
        return found


def _write(content: bytearray, call: _Write, done: bool | int) -> None:
    data = call.content
    if done is not True and done >= 0:
        data = data[:done]
    elif done is not True:
        data = data[: -done - 1].ljust(len(data), b"\0")
    if data:
        content.extend(bytes(max(0, call.offset - len(content))))
        content[call.offset : call.offset + len(data)] = data


def _cut(content: bytearray, length: int) -> None:
    del content[length:]
    content.extend(bytes(length - len(content)))


def _walk(
    directory: str,
    prefix: str,
    directories: Mapping[str, Mapping[str, int | str | bool]],
    contents: Mapping[int, bytearray],
    found: dict[str, bytes | str | bool],
) -> None:
    """Collect what can be reached from the root by names."""
    for name, target in directories.get(directory, {}).items():
        path = f"{prefix}{name}"
        if target is True:
            found[path] = True
            _walk(path, f"{path}/", directories, contents, found)
        elif isinstance(target, str):
            found[path] = target
        else:
            found[path] = bytes(contents.get(target, b""))
