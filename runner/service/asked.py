"""Collects the run tasks that the tasks of a body become, and their mistakes, while they are checked one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from runner.keypaths import KeyPath
from runner.service.language import in_config, mistakes_in
from runner.service.refusals import Mistake, mistake
from runner.service.settings import ServiceConfig
from runner.structs import Struct, field
from runner.tasks.base import TaskConfig
from runner.templates.compile import is_template

__all__ = ["Asked", "Made"]

#: The task of a run; None if there is a mistake.
Made: TypeAlias = TaskConfig | None


class Asked(Struct):
    """The run tasks of a body, and their mistakes."""

    settings: ServiceConfig
    #: The tasks of the run, and the same as its config file writes them.
    tasks: list[TaskConfig] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    #: The endpoints that are asked, that of the first task first; and the endpoint of the task that is checked now.
    endpoints: list[str] = field(default_factory=list)
    current: str | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    #: For each task that only serves another: the fields of the other task that its inputs come from.
    serving: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: For each of `tasks`, the index of the posted task that it belongs to.
    indices: list[int] = field(default_factory=list)
    #: The questions that tasks name.
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, place: KeyPath, message: str, kind: str = "value_error") -> None:
        """Note a mistake; the arguments are those of `mistake`."""
        self.mistakes.append(mistake(place, message, kind))

    def model(self, name: Any, place: KeyPath) -> str:
        """Return the name of a model at its endpoint, and note the mistake if there is none."""
        if name is None:
            self.note(place, "Field required", "missing")
            return ""
        is_name = isinstance(name, str) and not is_template(name)
        found = self.settings.served(name) if is_name else None
        if found is None:
            why = "is not served here" if is_name else "should be the name of a model"
            self.note(place, f"{name!r:.80} {why}; this service serves: {', '.join(self.settings.models)}")
            return ""
        self.ask(found.endpoint)
        return found.model

    def ask(self, endpoint: str) -> None:
        """Note the endpoint of the task that is checked now."""
        self.current = endpoint
        if endpoint not in self.endpoints:
            self.endpoints.append(endpoint)

    def take(self, task: TaskConfig, index: int) -> None:
        """Add a task without mistakes; its endpoint is named if it differs from that of the first task."""
        said: dict[str, Any] = {"task_type": task.task_type, "alias": task.alias, "configuration": task.settings.verbatim}
        if not task.judges and self.current != self.endpoints[0]:
            task = task.model_copy(update={"endpoint": self.current})
            said["endpoint"] = self.current
        self.tasks.append(task)
        self.said.append(said)
        self.indices.append(index)

    def told(self, said: dict[str, Any], place: KeyPath, only: Sequence[str] | None = None) -> dict[str, Any]:
        """Translate the SGP templates of a configuration, or of some of its keys, for a config; note their mistakes."""
        templated = said if only is None else {name: said[name] for name in only if name in said}
        self.mistakes += mistakes_in(templated, place)
        return {**said, **in_config(templated)}
