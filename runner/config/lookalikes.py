"""Finds texts that look as if they read the row, and do not: they would be the same for all rows, and nobody would notice.

The sign is the name of a column or of another task: alone in place of a value, in single braces, or after `item.` in the middle
of a prompt. Prose without such a name is never refused, and literal text can always be written inside a template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from runner.config.misspelt import AROUND, QUOTES, no_locator, shortened
from runner.config.sections import AnalysisConfig
from runner.datasets import Items
from runner.keypaths import KeyPath, leaves
from runner.meant import name_meant
from runner.structs import Struct
from runner.tasks.base import TaskConfig
from runner.tasks.dependencies import names_in
from runner.templates.compile import Reference, compile_template
from runner.templates.locators import steps_of, written

__all__ = ["asking_the_same", "mistakes_in_reading", "unknown_columns"]

#: Text that Jinja2 reads: expressions, statements, and raw text, which it leaves alone.
_JINJA = re.compile(r"\{%-?\s*raw\b.*?\bendraw\s*-?%\}|\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
#: The keys of a configuration that hold prompts.
_PROSE = frozenset(
    {
        *("content", "text", "input", "prompt", "system_prompt", "suffix", "url", "data", "file_data"),
        *("image_url", "audio_url", "video_url"),
    }
)
#: Keys of objects that describe an answer or a condition: names in them are not a mistake.
_DESCRIBING = frozenset({"tools", "functions", "response_format", "run_condition"})
#: What separates a name from `item`. Positions of a name: at the beginning of any text, in the middle of a prompt, in single
#: braces. And what may follow a name that is the whole value.
_REACHING = rf"(?:\.|\[\s*+[{QUOTES}]?)"
_BEGINNING = re.compile(rf"{AROUND}(?i:items?){_REACHING}")
_INSIDE = re.compile(rf"(?<![\w.$])item{_REACHING}")
_BRACED = re.compile(r"(?<![\w{}\\^$])\{\s*+([^{}]*?)\s*\}")
_AROUND, _LED = re.compile(AROUND), re.compile(rf"{AROUND}\w++{_REACHING}")
_REST = re.compile(rf"(?:\.\w+|[{QUOTES}]?\]|\[[^\]]*+\])*{AROUND}")
_GOES_ON = re.compile(r"\w")
_AS_TEXT = "; literal text is written {{ '…' }}"
_AS_IT_STANDS = "; literal text goes between {% raw %} and {% endraw %}"


def mistakes_in_reading(tasks: Sequence[TaskConfig], dataset: Items) -> Iterator[tuple[KeyPath, str]]:
    """Find names that are neither a column of the first rows nor an alias, and aliases that hide a column."""
    columns = {name: None for row in dataset.first_rows for name in row}
    for index, task in enumerate(tasks if columns else ()):
        place = ("tasks", index, "configuration")
        others = list(names_in(part for other in tasks if other is not task for part in other.parts))
        if task.name in columns:
            yield ("tasks", index, "alias"), f"`{task.name}` is also a column of the dataset; give the task another alias"
        for name in task.columns.keys() & columns.keys():
            yield (*place, "outputs"), f"`{name}` is also a column of the dataset; give it another alias"
        for reference in compile_template(dict(task.readable), ("tasks", index)).references:
            if _is_unknown(reference, {*columns, *others, task.name}, dataset):
                what = f"`{written(str(reference.field))}` is not a column of the dataset, nor the alias of another task"
                yield reference.path, f"{what}; {name_meant(str(reference.field), [*columns, *others])}"
        names = _Names(frozenset(filter(str.strip, {*columns, *others})))
        for path, value in leaves(task.readable["configuration"], place):
            if isinstance(value, str) and (why := names.unread(value, task, path[3:])) is not None:
                yield path, why


def _is_unknown(reference: Reference, names: set[str], dataset: Items) -> bool:
    name = reference.field
    return name is not None and reference.required and name not in names and not dataset.may_have(name)


def unknown_columns(analysis: AnalysisConfig, dataset: Items) -> Iterator[tuple[KeyPath, str]]:
    """Find columns that `analysis` names and no row has."""
    columns = {name: None for row in dataset.first_rows for name in row}
    said = {"by": analysis.by, "cluster": analysis.cluster} if columns else {}
    for path, locator in leaves(said, ("analysis",)):
        steps = steps_of(locator) if isinstance(locator, str) else None
        if steps and not dataset.may_have(str(steps[0])):
            yield path, f"`{written(str(steps[0]))}` is not a column of the dataset; there is: {', '.join(columns)}"


def asking_the_same(tasks: Sequence[TaskConfig]) -> KeyPath | None:
    """Return the path of the first request if no request reads the dataset, so that all rows would ask the same; else None."""
    aliases = {task.name for task in tasks}
    asking = [index for index, task in enumerate(tasks) if not task.judges]
    reads = (reference for index in asking for reference in compile_template(tasks[index].readable["configuration"]).references)
    if not asking or any(reference.field not in aliases for reference in reads):
        return None
    return "tasks", asking[0], "configuration"


class _Names(Struct, frozen=True):
    """The columns and aliases that a task can read. Finds texts that name one of them without reading it."""

    names: frozenset[str]

    def unread(self, text: str, task: TaskConfig, path: KeyPath) -> str | None:
        """Return why a text in a task's configuration does not read what it names, or None."""
        key = next(step for step in reversed(path) if isinstance(step, str))
        is_value: bool = task.judges and key == path[0] and key in {"candidate", "candidates", "reference"}
        if steps_of(text) is not None or path[0] in _DESCRIBING or (task.judges and not is_value):
            return None
        plain, is_prose = _JINJA.sub("\ufffc", text), key in _PROSE
        if is_prose and (found := self._inside(plain) or self._braced(plain)):
            shown, locator = found
            return f"`{shown}` in a text is sent as it is; write {{{{ {locator} }}}}{_AS_IT_STANDS}"
        begun = _BEGINNING.match(plain)
        if begun and self._at(plain, begun.end()):
            return no_locator(text)
        name = self._alone(plain) if is_value else text.strip() if is_prose and not _is_an_answer(task, path) else None
        if name not in self.names:
            return None
        return f"is the text {shortened(text)!r} for every row; write {written(str(name))}{_AS_TEXT}"

    def _at(self, text: str, place: int) -> str | None:
        """Return the longest name that begins at a position of a text and ends as a whole word."""
        found = [name for name in self.names if text.startswith(name, place) and not _GOES_ON.match(text, place + len(name))]
        return max(found, key=len, default=None)

    def _inside(self, text: str) -> tuple[str, str] | None:
        """Return the first locator in the middle of a text, as it is shown and written."""
        names = (self._at(text, begun.end()) for begun in _INSIDE.finditer(text))
        return next(((written(name), written(name)) for name in names if name), None)

    def _braced(self, text: str) -> tuple[str, str] | None:
        """Return the first name in single braces, as it is shown, and the locator to write."""
        return next(((one[0], written(one[1])) for one in _BRACED.finditer(text) if one[1] in self.names), None)

    def _alone(self, text: str) -> str | None:
        """Return the name that a text consists of, apart from marks around it and accesses to its members."""
        for led in (_AROUND.match(text), _LED.match(text)):
            if led and (name := self._at(text, led.end())) and _REST.fullmatch(text, led.end() + len(name)):
                return name
        return None


def _is_an_answer(task: TaskConfig, path: KeyPath) -> bool:
    """Return whether a text is an answer of the assistant in an example. Such an answer may be as short as a name."""
    message: Any = task.settings.verbatim
    for step in path[:2]:
        message = message[step]
    return isinstance(message, dict) and message.get("role") == "assistant"
