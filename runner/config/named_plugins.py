"""Whether a config names plug-ins. Hardly any does, so that it costs next to nothing to ask."""

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
    """Return the plug-ins that the tasks of a config name, which lies in a directory; None where all is built in."""
    if not _names_any(tasks):
        return None
    from runner.config.plugging import FoundPlugIns  # only who names one pays for it

    return FoundPlugIns(tasks, directory)


def _names_any(tasks: Any) -> bool:
    """Whether a task or a metric is none that is built in; it may be none at all."""
    return any(
        isinstance(name, str) and name not in known and not is_template(name)
        for task in (tasks if isinstance(tasks, list) else ())
        if isinstance(task, dict)
        for name, known in _named_by(task)
    )


def _named_by(task: Mapping[str, Any]) -> Iterator[tuple[Any, Container[str]]]:
    """Yield what a task names that could be a plug-in, and what of that is built in."""
    yield task.get("task_type"), TASK_TYPES
    configuration = task.get("configuration")
    if task.get("task_type") == "metric" and isinstance(configuration, dict):
        from runner.tasks.metrics import METRICS  # it is loaded already, for the config has a metric

        yield configuration.get("type"), METRICS
