"""Locators: a whole string such as `item.field`, which is replaced by the row's value with its JSON type.

`item.a.b` and `item["a"]["b"]` reach inside; `item.a[0]`, `item.a.0` and `item.a[-1]` take a member of a list. Any name may be
in quotes, such as `item["Correct Answer"]`; a backslash escapes a quote. White space around a locator does not count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from runner.output import PARTS, Output, asked_for_json, json_of

__all__ = ["NotThereError", "PastTheEndError", "Step", "located", "steps_of", "what_is_there", "written"]

#: A name, or the index of a member of a list.
Step: TypeAlias = str | int

_STEP = r"""\.[^\s.{}\[\]]++|\[\s*+(?:"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|-?\d{1,9})\s*+\]"""
_LOCATOR = re.compile(rf"\s*+item((?:{_STEP})++)\s*+", re.DOTALL)
_STEPS = re.compile(_STEP, re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class NotThereError(LookupError):
    """A locator leads to nothing; the message says what is there instead."""


class PastTheEndError(NotThereError):
    """A list ends before the member that a locator asks for."""


def steps_of(text: str) -> list[Step] | None:
    """Return the steps of a locator after `item`, or None if a text is not a locator."""
    found = _LOCATOR.fullmatch(text)
    return None if found is None else [_step(step) for step in _STEPS.findall(found[1])]


def _step(written: str) -> Step:
    if written.startswith("."):
        return written[1:]
    inner = written[1:-1].strip()
    if inner[0] not in "\"'":
        return int(inner)
    return _ESCAPED.sub(r"\1", inner[1:-1])


def written(*names: str) -> str:
    """Return the locator for these names; in double braces it is a template."""
    return "item" + "".join(f".{name}" if name.isidentifier() else f"[{_quoted(name)}]" for name in names)


def _quoted(name: str) -> str:
    name = name.replace("\\", "\\\\")
    return f'"{name}"' if '"' not in name else "'" + name.replace("'", "\\'") + "'"


def located(item: Mapping[str, Any], steps: Sequence[Step]) -> Any:
    """Return the value of a locator. Raises NotThereError, and JsonError for an answer that should be JSON and is not."""
    value: Any = item
    for step in steps:
        if type(value) is dict and step in value:  # nearly always
            value = value[step]
            continue
        if isinstance(value, Output) and step not in PARTS and asked_for_json(value):
            value = json_of(value)
        if isinstance(value, Mapping) and (name := str(step)) in value:
            value = value[name]
        elif isinstance(value, list) and (isinstance(step, int) or step.isdecimal()):
            value = _member(value, int(step))
        elif isinstance(value, Output) and step in PARTS:
            value = getattr(value, str(step))
        else:
            raise NotThereError(what_is_there(value))
    return value


def _member(values: list[Any], index: int) -> Any:
    try:
        return values[index]
    except IndexError:
        raise PastTheEndError(what_is_there(values)) from None


def what_is_there(value: Any) -> str:
    """Return, for a message, what a locator finds instead of what it asks for."""
    if isinstance(value, Mapping):
        return f"there is: {', '.join(map(str, value)) or 'nothing'}"
    if value is None:
        return "a null is there"
    if isinstance(value, Output):
        return f"an answer is there, which has: {', '.join(sorted(PARTS))}"
    return f"a list of {len(value)} is there" if isinstance(value, list) else f"a {type(value).__name__} is there"
