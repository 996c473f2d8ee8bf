"""The dependencies between tasks: which tasks each one reads, in what order they run, and how often."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from runner.keypaths import KeyPath, leaves
from runner.tasks.base import TaskConfig, alias_in, tasks_in
from runner.tasks.conditions import with_locators
from runner.tasks.pairing import ORDERS, PAIRWISE
from runner.templates.compile import TemplateMistake, compile_template

__all__ = ["effective_samples", "inputs_between", "inputs_of", "mistakes_between_tasks", "names_in", "order"]

#: The index of a task, the task and its alias, before the task is validated.
_Named: TypeAlias = tuple[int, dict[str, Any], str]


def names_in(tasks: Iterable[TaskConfig]) -> dict[str, str]:
    """Return the names that other tasks can read, aliases and columns, each with the alias of the task that gives it."""
    return {name: task.name for task in tasks for name in (task.name, *task.columns)}


def inputs_between(tasks: Sequence[TaskConfig]) -> dict[str, list[str]]:
    """Return, by alias, the aliases of the tasks that each task reads; its own too if it reads its own result."""
    names = names_in(tasks)
    others = [{name: alias for name, alias in names.items() if name not in task.columns} for task in tasks]
    return {task.name: inputs_of(dict(task.readable), known) for task, known in zip(tasks, others, strict=True)}


def inputs_of(readable: Any, names: Mapping[str, str]) -> list[str]:
    """Return the aliases of the tasks that a task, or a part of it, reads by its locators and templates."""
    fields = compile_template(readable).fields
    read = {alias for name, alias in names.items() if name in fields}
    return [alias for alias in dict.fromkeys(names.values()) if alias in read]


def mistakes_between_tasks(tasks: Any) -> list[tuple[KeyPath, str]]:
    """Return the mistakes that no single field shows: in templates, duplicate aliases, cycles, samples that differ."""
    named = [(index, task, alias_in(task)) for index, task, _ in tasks_in(tasks)]
    mistakes: list[tuple[KeyPath, str]] = []
    aliases = [alias for _, _, alias in named]
    owners = dict(_columns_of(named, mistakes))
    inputs: dict[str, list[str]] = {}
    for index, task, alias in named:
        if alias in inputs:
            mistakes.append((("tasks", index, "alias"), f"another task has the alias `{alias}`; rename one of them"))
        fields: set[str] = set()
        for path, leaf in leaves(_readable(task), ("tasks", index)):
            try:
                fields |= compile_template(leaf).fields
            except TemplateMistake as error:
                mistakes.append((path, str(error)))
        read = {field.removesuffix(part) for field in fields for part in ("", *(f".{order}" for order in ORDERS))}
        read |= {owner for name, owner in owners.items() if name in fields and owner != alias}
        inputs[alias] = [known for known in aliases if known in read]
        if alias in inputs[alias]:
            said = f"the task reads `{alias}`, which is its own result; to read a column, give the task another alias"
            mistakes.append((("tasks", index, "alias"), said))
    if not mistakes and len(order(inputs)) < len(inputs):
        ring = [alias for alias in inputs if alias not in order(inputs)]
        mistakes.append((("tasks",), f"these tasks wait for each other: {', '.join(ring)}"))
    return mistakes or _mistakes_of_samples(named, inputs)


def _columns_of(named: Sequence[_Named], mistakes: list[tuple[KeyPath, str]]) -> Iterator[tuple[str, str]]:
    """Yield the columns that functions give, with the aliases of their tasks; a name that is taken is a mistake."""
    taken = {alias for _, _, alias in named}
    for index, task, alias in named:
        configuration = task.get("configuration")
        if not isinstance(configuration, dict) or configuration.get("type") != "custom_function":
            continue
        from runner.tasks.function import column_names  # it is loaded already, because the config has such a task

        for name in column_names(configuration):
            if name in taken:
                mistakes.append((("tasks", index, "configuration", "outputs"), f"another result is named `{name}` already"))
            taken.add(name)
            yield name, alias


def _readable(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a raw task that read the row."""
    configuration = task.get("configuration")
    if task.get("task_type") == PAIRWISE:
        from runner.tasks.pairwise import readable_pair  # it is loaded already, because the config has such a task

        configuration = readable_pair(configuration)
    if isinstance(configuration, dict) and configuration.get("type") == "custom_function":
        from runner.tasks.function import readable_function  # as above

        configuration = readable_function(configuration)
    if isinstance(configuration, dict) and "run_condition" in configuration:
        configuration = configuration | {"run_condition": with_locators(configuration["run_condition"])}
    return {"configuration": configuration, "run_condition": with_locators(task.get("run_condition"))}


def _mistakes_of_samples(named: Sequence[_Named], inputs: Mapping[str, list[str]]) -> list[tuple[KeyPath, str]]:
    given = {alias: task.get("samples") for _, task, alias in named}
    if not all(samples is None or type(samples) is int for samples in given.values()):
        return []
    effective = effective_samples(given, inputs)
    mistakes: list[tuple[KeyPath, str]] = []
    for index, _, alias in named:
        for source in inputs[alias]:
            if effective[source] != effective[alias]:
                message = f"is {effective[alias]}, but its input `{source}` has {effective[source]}; give both the same"
                mistakes.append((("tasks", index, "samples"), message))
    return mistakes


def effective_samples(given: Mapping[str, int | None], inputs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return how often each task runs per item: as the config says, else as often as the tasks that it reads, else once."""
    effective: dict[str, int] = {}
    for alias in order(inputs):
        inherited = max((effective[source] for source in inputs[alias]), default=1)
        effective[alias] = given[alias] or inherited
    return effective


def order(inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the aliases in order, each after the aliases that it reads; without those that are on a cycle or read one."""
    ordered: list[str] = []
    while True:
        ready = [a for a in inputs if a not in ordered and all(source in ordered for source in inputs[a])]
        if not ready:
            return ordered
        ordered.append(ready[0])
