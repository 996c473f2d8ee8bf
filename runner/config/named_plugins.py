"""Finds out whether a config names plug-ins. Hardly any config does, so the check costs almost nothing."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.tasks import TASK_TYPES
from runner.templates.compile import is_template

if TYPE_CHECKING:
    from runner.config.plugging import FoundPlugIns

__all__ = ["plug_ins_of"]


def plug_ins_of(tasks: Any, directory: Path) -> FoundPlugIns | None:
    """Return the plug-ins that tasks name, or None if all is built in. `directory` is that of the config."""
    if not _names_any(tasks):
        return None
    from runner.config.plugging import FoundPlugIns  # loaded only if a plug-in is named

    return FoundPlugIns(tasks, directory)


def _names_any(tasks: Any) -> bool:
    """Return whether a task names a type or a metric that is not built in; it may not exist at all."""
    return any(
        isinstance(name, str) and name not in known and not is_template(name)
        for task in (tasks if isinstance(tasks, list) else ())
        if isinstance(task, dict)
        for name, known in _named_by(task)
    )


def _named_by(task: Mapping[str, Any]) -> Iterator[tuple[Any, Container[str]]]:
    """Yield each name of a task that may be a plug-in, with the names that are built in there."""
    yield task.get("task_type"), TASK_TYPES
    configuration = task.get("configuration")
    if task.get("task_type") == "metric" and isinstance(configuration, dict):
        from runner.tasks.metrics import METRICS  # loaded already, because the config has a metric

        yield configuration.get("type"), METRICS
