"""The metric `math`: whether an answer is mathematically the same as the reference, in whatever form."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

from runner.jsontext import as_text
from runner.processes.pool import CallError, Calls
from runner.reading.boxes import boxed
from runner.reading.statements import HAS_BOX, statements, without_checks
from runner.tasks.metrics.base import Settings, invalid_reference
from runner.tasks.metrics.text import of_text

__all__ = ["math", "missing"]

_MODULE = "runner.foreign.mathematics"
#: The time limit of a call: enough for the mathematics that people write. The loading of the library does not count.
_SECONDS = 2.0
_DELIMITER = re.compile(r"(?<!\\)\$|\\[(\[]")
#: Commands whose words are mathematics all the same, such as `\text{ cm}` and `\begin{pmatrix}`.
_COMMAND = re.compile(r"\\[A-Za-z]++\*?\s*+\{[^{}\\$]*+\}")
#: A word of a language, not a command or a function.
_WORD = re.compile(r"(?<![\\A-Za-z])(?!(?:arc)?(?:sin|cos|tan)h?\b|log\b|exp\b|sqrt\b|and\b)[^\W\d_]{3,}")


def missing() -> str | None:
    """Return what is not installed and how to install it, or None."""
    return None if find_spec("math_verify") else "needs the library math-verify: pip install 'batch-eval-runner[math]'"


@of_text
async def math(text: str, references: list[Any], _settings: Settings, calls: Calls) -> tuple[bool, str | None]:
    """Judge whether the text means the same as a reference. A reference that is not readable in time is the row's error."""
    if what := missing():
        raise invalid_reference(f"cannot be compared: math {what}")
    wanted = [_expression(as_text(one)) for one in references]
    try:
        readable = await calls.call(f"{_MODULE}:are_readable", wanted, seconds=_SECONDS)
    except CallError as error:
        raise invalid_reference(f"cannot be read as mathematics: {error}") from error
    for one, is_readable in zip(references, readable, strict=True):
        if not is_readable:
            raise invalid_reference(f"{one!r} cannot be read as mathematics")
    answer = _expression(text)
    try:
        right, found = await calls.call(f"{_MODULE}:equal", wanted, answer, seconds=_SECONDS)
    except CallError as error:  # the answer is the cause
        return False, f"not decided: {error}"
    return right or _bare(answer) in map(_bare, wanted), found


def _expression(text: str) -> str:
    """Return the part of a text that should be mathematics, in delimiters; they are empty if a box is never closed."""
    if HAS_BOX.search(text):
        return _delimited(re.sub(r"(?<!\\)\$", " ", boxed(text) or ""))
    text = without_checks(text) or text
    if _DELIMITER.search(text):
        return text
    stated = statements(text)
    part = text[stated[-1].end() :] if stated else text
    line = part.strip().rpartition("\n")[2].strip(" *_`.:")
    return text if _WORD.search(_COMMAND.sub("", line)) else _delimited(line)


def _delimited(expression: str) -> str:
    return f"${expression}$"


def _bare(expression: str) -> str:
    """Return an expression without what never counts; the library does not find each one equal to itself."""
    return "".join(re.sub(r"^\$|\$$|\\text\{([^{}]*)\}", r"\1", expression).split())
