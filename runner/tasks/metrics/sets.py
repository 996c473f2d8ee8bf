"""The metric `set_match`: whether an answer names the right things, all of them and no others, in any order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from runner import jsontext
from runner.jsontext import as_text
from runner.processes.pool import Calls
from runner.reading.fences import unfenced
from runner.tasks.metrics.base import Settings, as_label, invalid_reference
from runner.tasks.metrics.taking import extracted
from runner.tasks.metrics.text import normal
from runner.types import Value

__all__ = ["set_match"]

_BETWEEN = re.compile(r"[,;\n，；、،؛]")
#: The beginning of a line of a list.
_ITEM = re.compile(r"^[ \t]*+(?:[-–*•+]|\(?\d{1,3}[.)])[ \t]++(?=\S)", re.MULTILINE)
#: Brackets around all members, also as LaTeX.
_ENCLOSED = re.compile(r"\$?(?:\\?\{(.*?)\\?\}|\(([^()]*+)\)|\[([^\[\]]*+)\])\$?", re.DOTALL)
#: Words that may join the last two members, and a full stop that may follow them.
_AND = re.compile(r"(?<!\S)(?:and|&|und|et|y|e|и)\s++|(?<=\S)(?:和|与|と)(?=\S)")
_STOP = re.compile(r"[.。]\s*+\Z")
#: A member in Markdown or in quotes.
_DRESSED = re.compile(r"\s*+(?:(\*\*|__|[*_`\"'])(.+)\1|“(.+)”)\s*+")


async def set_match(candidate: Any, reference: Any, settings: Settings, calls: Calls) -> Value:
    """Judge whether both sides are the same set. The output is the candidate's set as a JSON list.

    Each side is a list, JSON text of one, or a text that is split at commas, semicolons and line breaks, without the marks of
    list lines. An `and` before a text's last member, and a full stop after it, may belong to the member or not. If a
    reference is a list of lists, each of them is a right set.
    """
    several = isinstance(reference, list) and reference != [] and all(isinstance(one, list) for one in reference)
    wanted = [found for one in (reference if several else [reference]) for found in _readings(one, settings)]
    if not all(wanted):
        raise invalid_reference("is empty, so no answer can be right")
    listed = isinstance(candidate, list) and not settings.steps
    text = candidate if listed else await extracted(candidate, settings, calls)
    if text is None:
        return Value(0.0, None)
    readings = list(_readings(text, settings))
    right = next((found for found in readings if found in wanted), None)
    return Value(float(right is not None), jsontext.encode_str(sorted(right or readings[0])))


def _readings(value: Any, settings: Settings) -> Iterator[set[str]]:
    """Yield the sets that a value may mean, the plainest first."""
    for members in [value] if isinstance(value, list) else _split("" if value is None else unfenced(as_text(value))):
        texts = (as_label(one) for one in members if one is not None)
        yield {text for one in texts if (text := normal(one, settings)).strip()}


def _split(text: str) -> Iterator[list[Any]]:
    """Yield the members of a text, once for each reading of it."""
    if text.lstrip().startswith("["):
        try:
            listed = jsontext.decode(text)
        except jsontext.JsonError:
            pass
        else:
            yield listed if isinstance(listed, list) else [listed]
            return
    if (enclosed := _ENCLOSED.fullmatch(text.strip())) is not None:
        text = enclosed[enclosed.lastindex or 0]
    text = _ITEM.sub("", text)
    for whole in dict.fromkeys((text, _STOP.sub("", text))):
        *others, last = map(_undressed, _BETWEEN.split(whole))
        yield [*others, last]
        yield [*others, *(_undressed(one.strip()) for one in _AND.split(last))]


def _undressed(member: str) -> str:
    dressed = _DRESSED.fullmatch(member)
    return member if dressed is None else dressed[2] or dressed[3]
