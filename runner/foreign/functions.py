"""Functions of others: found in a package or a file, examined, and called.

A place names one: `{"module": "package.module", "name": "score"}`, or `{"file": "/where/checks.py", "name": "score"}`. It may
also have `files`: the SHA-256 hashes, by path, that the file and the files in its directory that it imports must have.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeAlias

__all__ = ["CalledError", "ChangedError", "call", "describe"]

Place: TypeAlias = Mapping[str, Any]

#: The loaded modules, by file or module name.
_LOADED: dict[str, ModuleType] = {}
#: One loop for all calls of this process, so that connections which a function keeps open stay usable.
_RUNNER = asyncio.Runner()
_GIVEN = 2


class CalledError(Exception):
    """A function, or its module, has raised an exception; the message says which and where."""


class ChangedError(Exception):
    """A file has changed."""


def describe(place: Place, settings: Sequence[str]) -> dict[str, Any]:
    """Return whether a function takes a candidate, a reference and these settings by name, and the hashes of its files.

    `wrong` is the mistake in it, or None; `unknown` are settings that it does not take, `known` those that it takes, and
    `missing` those that it needs. `files` has the SHA-256 of its file, and of the files in the same directory that it imports.

    Raises CalledError.
    """
    before = set(sys.modules)
    function: Any = _function(place)
    found: dict[str, Any] = {"wrong": None, "unknown": [], "known": [], "missing": [], "files": _files(place, before)}
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return found if callable(function) else found | {"wrong": "is not a function"}
    return found | _of_signature(signature, settings)


def _of_signature(signature: inspect.Signature, settings: Sequence[str]) -> dict[str, Any]:
    parameters = list(signature.parameters.values())
    kinds = {parameter.kind for parameter in parameters}
    by_place = [one for one in parameters if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]
    if len(by_place) < _GIVEN and inspect.Parameter.VAR_POSITIONAL not in kinds:
        return {"wrong": f"takes {signature}; it is called as (candidate, reference, **settings)"}
    named = [one for one in by_place[_GIVEN:] if one.kind is one.POSITIONAL_OR_KEYWORD]
    named += [one for one in parameters if one.kind is one.KEYWORD_ONLY]
    known = [one.name for one in named]
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds
    return {
        "known": known,
        "unknown": [] if takes_any else [name for name in settings if name not in known],
        "missing": [one.name for one in named if one.default is one.empty and one.name not in settings],
    }


def call(place: Place, args: Sequence[Any], settings: Mapping[str, Any]) -> Any:
    """Return the value of a function, awaited if necessary, as a JSON value if possible.

    Raises CalledError with the exception of the function and its place; ChangedError if its file has changed.
    """
    function = _function(place)
    try:
        value = function(*args, **settings)
        return _plain(_RUNNER.run(_awaited(value)) if inspect.isawaitable(value) else value)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise CalledError(_said_of(error, place)) from error


def _prepare(place: Place, *_: Any) -> None:
    _function(place)


#: Called before the time of a call begins, because loading a package may take longer than any call.
call.prepare = _prepare  # type: ignore[attr-defined]


async def _awaited(value: Any) -> Any:
    return await value


def _plain(value: Any) -> Any:
    """Return a number of NumPy, or of a similar library, as a number of Python."""
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if hasattr(value, "item") and not isinstance(value, int | float | str):
        return value.item()
    return value


def _function(place: Place) -> Callable[..., Any]:
    """Return the function that a place names. Raises CalledError if it cannot be loaded, and ChangedError."""
    where = place.get("file") or place["module"]
    try:
        if where not in _LOADED:
            _LOADED[where] = _of_file(place) if "file" in place else importlib.import_module(where)
    except (ChangedError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise CalledError(_said_of(error, place)) from error
    found: Any = _LOADED[where]
    for name in place["name"].split("."):
        if not hasattr(found, name):
            raise CalledError(f"there is no {name!r} in it")
        found = getattr(found, name)
    return found  # type: ignore[no-any-return]  # `describe` checks what it is


def _of_file(place: Place) -> ModuleType:
    """Load a file as a program is loaded: it can import files of its directory."""
    path = place["file"]
    for known, digest in place.get("files", {}).items():
        if _digest(known) != digest:
            raise ChangedError(f"{known} has changed since the run began; restore it, or rescore the run with the new version")
    directory = os.path.dirname(path)  # noqa: PTH120  pathlib is slow to load
    sys.path.insert(0, directory)
    with open(path, "rb") as file:  # noqa: PTH123
        source = file.read()
    name = f"{os.path.basename(path).removesuffix('.py')}_{hashlib.sha256(path.encode()).hexdigest()[:8]}"  # noqa: PTH119
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module  # dataclasses need it there
    exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102  the user's own; cached bytecode could be older
    return module


def _files(place: Place, before: set[str]) -> dict[str, str]:
    if "file" not in place:
        return {}
    directory = os.path.join(os.path.dirname(place["file"]), "")  # noqa: PTH118, PTH120
    loaded = [getattr(sys.modules[name], "__file__", None) for name in sys.modules.keys() - before]
    beside = {file for file in loaded if isinstance(file, str) and file.startswith(directory) and "-packages" not in file}
    return {path: _digest(path) for path in sorted({place["file"], *beside})}


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        return f"{error.strerror}"


def _said_of(error: BaseException, place: Place) -> str:
    """Return the exception and its last line of code; if another file has that, also the last line in the file itself."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({_shown(error.filename)}:{error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    frames = [frame for frame in frames if not frame.filename.startswith("<frozen ")]
    own = [frame for frame in frames if frame.filename == place.get("file")]
    last = [*own[-1:], *(frames[-1:] if frames[-1:] != own[-1:] else [])]
    where = ", in ".join(f"{_shown(frame.filename)}:{frame.lineno}" for frame in last)
    return f"{type(error).__name__}: {error}{f' ({where})' if where else ''}"


def _shown(path: str) -> str:
    """Return the path of a file below the directory of `sys.path` that it is in."""
    places = [os.path.join(place, "") for place in sys.path if place and path.startswith(os.path.join(place, ""))]  # noqa: PTH118
    return path.removeprefix(max(places, key=len, default=""))
