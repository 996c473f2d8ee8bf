"""Finds out whether a config names plug-ins. Hardly any config does, so the check costs almost nothing."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.tasks import TASK_TYPES
from runner.tasks.base import tasks_in
from runner.templates.compile import is_template

if TYPE_CHECKING:
    from runner.config.plugging import FoundPlugIns

__all__ = ["plug_ins_of"]


def plug_ins_of(tasks: Any, directory: Path) -> FoundPlugIns | None:
    """Return the plug-ins that tasks name, or None if all is built in. `directory` is that of the config."""
    if not any(isinstance(name, str) and name not in known and not is_template(name) for name, known in _named_by(tasks)):
        return None
    from runner.config.plugging import FoundPlugIns  # loaded only if a plug-in is named

    return FoundPlugIns(tasks, directory)


def _named_by(tasks: Any) -> Iterator[tuple[Any, Container[str]]]:
    """Yield each type of a task or a metric, which may not exist at all, with those that are built in."""
    for _, task, configuration in tasks_in(tasks):
        yield task.get("task_type"), TASK_TYPES
        if task.get("task_type") == "metric":
            from runner.tasks.metrics import METRICS  # loaded already, because the config has a metric

            yield configuration.get("type"), METRICS
