"""Checks the tasks of a client together: their aliases, the results that they read, and the columns of the rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.keypaths import KeyPath
from runner.service.asked import Asked, Made
from runner.service.making import MAKING, METRIC, TEMPLATED, chat_made, questions_in
from runner.service.refusals import Mistake, Refusal, invalid, mistake, not_served
from runner.service.settings import ServiceConfig
from runner.tasks.base import TaskConfig
from runner.tasks.dependencies import inputs_between, names_in, order
from runner.tasks.function import CUSTOM_FUNCTION, column_names
from runner.templates.compile import compile_template

__all__ = ["asked_by", "chat_task", "function_task", "mistakes_of_columns", "names_of", "with_aliases"]

#: The first part of the names of SGP's other task types.
_OF_SGP = frozenset({"application_variant", "agentex_output", "auto_evaluation", "contributor_evaluation"})
#: The name of the function at the start of a source.
_FUNCTION = re.compile(r"(?:[^\S\n]*(?:#[^\n]*)?\n)*+def\s+(\w+)")


def with_aliases(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tasks as they were posted, each with its alias."""
    return [{**task, "alias": task.get("alias") or _alias(task["task_type"], task["configuration"])} for task in tasks]


def _alias(kind: str, said: Mapping[str, Any]) -> str:
    metric, source = said.get("type"), said.get("function_source")
    if kind == METRIC and isinstance(metric, str):
        return metric
    found = _FUNCTION.match(source) if kind == CUSTOM_FUNCTION and isinstance(source, str) else None
    return found[1] if found else kind.replace(".", "_")


def names_of(task: Mapping[str, Any]) -> list[str]:
    """Return the columns that a task adds to an item; the first is its alias."""
    return [task["alias"], *(column_names(task["configuration"]) if task["task_type"] == CUSTOM_FUNCTION else ())]


def asked_by(posted: Sequence[dict[str, Any]], settings: ServiceConfig, questions: Mapping[str, dict[str, Any]]) -> Asked:
    """Return the run tasks of posted tasks with aliases, and every mistake. Raises Refusal (501) for a type that is not served.

    `questions` are the questions that tasks may name, by id.
    """
    asked = Asked(settings, questions=questions_in(posted, questions))
    aliases: set[str] = set()
    for index, task in enumerate(posted):
        place: KeyPath = ("body", "tasks", index)
        kind, configuration, alias = task["task_type"], task["configuration"], task["alias"]
        if kind not in MAKING or "output_rules" in configuration:
            raise _no_type(kind, index)
        if alias in aliases:
            asked.note((*place, "alias"), f"another task has the alias {alias!r}")
        aliases.add(alias)
        before, asked.current = len(asked.mistakes), None
        said = asked.told(configuration, (*place, "configuration"), TEMPLATED.get(kind))
        made = MAKING[kind](asked, said, alias, (*place, "configuration"))
        if made is not None and len(asked.mistakes) == before:
            for name in names_of(task)[1:]:
                if name in aliases:
                    asked.note((*place, "configuration", "outputs"), f"another column is named {name!r}")
                aliases.add(name)
            asked.take(made, index)
    if not asked.mistakes:
        asked.mistakes += _between(asked, aliases)
    return asked


def _no_type(kind: str, index: int) -> Refusal:
    refusal = not_served(f"tasks.{index}: the task type {kind!r:.80}", tuple(MAKING))
    if kind.partition(".")[0] in _OF_SGP:
        return refusal
    return invalid(mistake(("body", "tasks", index, "task_type"), str(refusal.detail), "literal_error"))


def _between(asked: Asked, aliases: set[str]) -> Iterator[Mistake]:
    for taken in asked.serving.keys() & aliases:
        what = f"the alias {taken!r} is reserved for a task that serves another one; choose another alias"
        yield mistake(("body", "tasks"), what)
    inputs = inputs_between(asked.tasks)
    if ring := [name for name in inputs if name not in order(inputs)]:
        yield mistake(("body", "tasks"), f"these tasks wait for each other: {', '.join(ring)}")


def chat_task(said: dict[str, Any], settings: ServiceConfig) -> tuple[str, TaskConfig]:
    """Return the endpoint and the task of a chat completion outside an evaluation. Raises Refusal with every mistake."""
    asked = Asked(settings)
    task = _without_mistakes(asked, chat_made(asked, said, "reply", ("body",)))
    return asked.endpoints[0], task


def function_task(said: dict[str, Any], settings: ServiceConfig) -> TaskConfig:
    """Return the task of a dry run of a function. Raises Refusal with every mistake."""
    asked, place = Asked(settings), ("body", "configuration")
    said = asked.told(said, place, TEMPLATED[CUSTOM_FUNCTION])
    return _without_mistakes(asked, MAKING[CUSTOM_FUNCTION](asked, said, CUSTOM_FUNCTION, place))


def _without_mistakes(asked: Asked, task: Made) -> TaskConfig:
    if task is None or asked.mistakes:
        raise invalid(*asked.mistakes)
    return task


def mistakes_of_columns(asked: Asked, columns: set[str], *, all_seen: bool) -> Iterator[Mistake]:
    """Find aliases that are also columns and, if all columns are known, references that are neither column nor alias."""
    names = names_in(asked.tasks)
    for index, task in zip(asked.indices, asked.tasks, strict=True):
        place: KeyPath = ("body", "tasks", index)
        if task.name in columns:
            yield mistake((*place, "alias"), f"{task.name!r} is also a column of an item")
        for name in task.columns:
            if name in columns:
                yield mistake((*place, "configuration", "outputs"), f"{name!r} is also a column of an item")
        for reference in compile_template(dict(task.readable)).references:
            known = columns | {name for name, alias in names.items() if alias != task.name} - asked.serving.keys()
            path = reference.path
            if task.task_type == "embedding":  # its inputs come from the task that it serves
                path = ("configuration", asked.serving[task.name][int(path[-1])])
            if reference.field is not None and reference.field not in known | asked.serving.keys() and all_seen:
                what = f"`item.{reference.field}` is neither a column of an item nor the alias of another task"
                yield mistake((*place, *path), f"{what}; there is: {', '.join(sorted(known)[:20])}")
