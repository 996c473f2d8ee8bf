"""Functions that a client has sent as text: examined without being run, and called with few rights.

The kernel enforces this: before the first line of a function runs, this process gives up the rights to open files and sockets,
to write to files and to start processes. In addition, a function finds no `open` and may import only a few modules. That is
only for early error messages: it can be circumvented, and is no boundary against a hostile author.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import math
import os
import resource
import sys
import traceback
from collections.abc import Mapping
from types import CodeType, ModuleType
from typing import Any

__all__ = ["IMPORTS", "LONGEST", "FunctionError", "call", "describe"]

#: The modules that a function may import, with their submodules.
IMPORTS = (
    *("math", "json", "re", "collections", "itertools", "functools", "statistics", "decimal", "fractions", "datetime"),
    *("copy", "textwrap", "difflib", "unicodedata"),
)
#: Modules that these load at first use. By then no file can be opened.
_NEEDED_LATER = ("_strptime", "collections.abc", "encodings.ascii", "encodings.latin_1", "encodings.utf_16", "encodings.utf_32")
#: Built-ins that would only fail, or are of no use here.
_NO_BUILTINS = (
    *("open", "eval", "exec", "compile", "input", "breakpoint", "help", "globals", "locals", "vars"),
    *("exit", "quit", "copyright", "credits", "license"),
)
LONGEST = 50_000
_FILE = "<function_source>"
_LARGEST_OBJECT = 1 << 20
_NOBODY = 65534


class FunctionError(Exception):
    """A function is not acceptable, has raised an exception, or returned a wrong value. The message says what and where."""


def describe(source: str) -> dict[str, Any]:
    """Return the `name` of the function that a text defines, its `parameters`, and those that are `required`; nothing is run.

    Raises FunctionError if it is not a single function, or cannot be called by the names of its parameters.
    """
    function = _defined(source)
    try:
        compile(source, _FILE, "exec", dont_inherit=True)  # finds mistakes that the grammar alone does not
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FunctionError(_said_of(error)) from error
    found = function.args
    if found.posonlyargs or found.vararg or found.kwarg:
        raise FunctionError(f"`{function.name}` should have named parameters only, without `/`, `*args` and `**kwargs`")
    without_default = len(found.args) - len(found.defaults)
    required = [one.arg for one in found.args[:without_default]]
    required += [one.arg for one, default in zip(found.kwonlyargs, found.kw_defaults, strict=True) if default is None]
    parameters = [one.arg for one in (*found.args, *found.kwonlyargs)]
    return {"name": function.name, "parameters": parameters, "required": required}


def _defined(source: str) -> ast.FunctionDef:
    """Return the one function that a text consists of. Raises FunctionError."""
    if len(source) > LONGEST:
        raise FunctionError(f"has {len(source)} characters; {LONGEST} are allowed")
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FunctionError(_said_of(error)) from error
    if len(body) != 1 or not isinstance(function := body[0], ast.FunctionDef) or function.decorator_list:
        raise FunctionError("should be one `def` and nothing else; put imports inside it, and use no decorators")
    for node in ast.walk(function):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            _check_import(name, f" (line {getattr(node, 'lineno', 0)})")
    return function


def _check_import(name: str, where: str = "") -> None:
    if name.partition(".")[0] not in IMPORTS:
        raise FunctionError(f"imports {name!r}{where}; it may import {', '.join(IMPORTS)}")


def call(source: str, name: str, arguments: Mapping[str, Any], takes_object: bool) -> Any:
    """Return the number that a function returns, or the object, if one is allowed. Raises FunctionError.

    The text is run again for each call, so a function keeps nothing between calls.
    """
    namespace: dict[str, Any] = {"__builtins__": _BUILTINS, "__name__": name}
    try:
        exec(_compiled(source), namespace)  # noqa: S102  `_seal` has taken the rights away
        value = namespace[name](**arguments)
    except MemoryError:
        raise
    except FunctionError as error:
        raise FunctionError(f"{name} {error}") from error
    except (Exception, SystemExit) as error:
        raise FunctionError(f"{name}: {_said_of(error)}") from error
    return _checked(value, name, takes_object=takes_object)


def _prepare(*args: Any) -> None:
    _seal()
    _compiled(args[0])


#: Called before the time of a call begins.
call.prepare = _prepare  # type: ignore[attr-defined]


def _checked(value: Any, name: str, *, takes_object: bool) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not _is_finite(value):
            what = "a number" if isinstance(value, int) else value
            raise FunctionError(f"{name} returned {what}, which no column can hold")
        return value
    if not (takes_object and isinstance(value, dict)):
        wanted = "an int, a float or a dict" if takes_object else "an int or a float"
        raise FunctionError(f"{name} returned a {type(value).__name__}, and not {wanted}")
    try:
        size = len(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise FunctionError(f"{name} returned a dict that JSON cannot hold: {error}") from error
    if size > _LARGEST_OBJECT:
        raise FunctionError(f"{name} returned a dict of {size} bytes; {_LARGEST_OBJECT} are allowed")
    return value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


_CODE: dict[str, CodeType] = {}


def _compiled(source: str) -> CodeType:
    if source not in _CODE:
        _CODE[source] = compile(source, _FILE, "exec", dont_inherit=True)
    return _CODE[source]


def _import(name: str, *args: Any, **named: Any) -> ModuleType:
    """Replace `import` in a function: the modules that it may import are loaded already."""
    if name not in _NEEDED_LATER:  # a function of the standard library imports it
        _check_import(name)
    if name not in sys.modules:
        raise FunctionError(f"imports {name!r}, which is not available; it may import {', '.join(IMPORTS)}")
    return builtins.__import__(name, *args, **named)


_BUILTINS = {name: value for name, value in vars(builtins).items() if name not in _NO_BUILTINS} | {"__import__": _import}
_SEALED: list[bool] = []


def _seal() -> None:
    """Load the modules that functions may import, then give up rights. Raises OSError if the kernel refuses that."""
    if _SEALED:
        return
    for name in (*IMPORTS, *_NEEDED_LATER):
        importlib.import_module(name)
    first_free = os.open(os.devnull, os.O_RDONLY)
    os.close(first_free)
    for kind, most in ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_NOFILE, first_free)):
        resource.setrlimit(kind, (most, most))
    if os.geteuid() == 0:  # root has no limit of processes, and could kill any other process
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    _SEALED.append(True)


def _said_of(error: BaseException) -> str:
    """Return the exception, and its line in the text."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
    return f"{type(error).__name__}: {error}{f' (line {lines[-1]})' if lines else ''}"
