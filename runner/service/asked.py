"""What the tasks of a body come to, gathered while they are looked at one by one; and all that is wrong with them."""

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

#: The task of a run; None where something is wrong.
Made: TypeAlias = TaskConfig | None


class Asked(Struct):
    """What the tasks of a body come to."""

    #: For the run, and as its config says them.
    tasks: list[TaskConfig] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    #: The endpoints that are asked, the one of the first task first; and that of the task that is looked at now.
    endpoints: list[str] = field(default_factory=list)
    current: str | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    #: By the name of a task that only serves another: what of the other each of its inputs is.
    serving: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: Which of the posted tasks each one of `tasks` is of.
    indices: list[int] = field(default_factory=list)
    #: The questions that tasks name.
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)

    def model(self, name: Any, place: KeyPath, settings: ServiceConfig) -> str:
        """Return how the endpoint calls a model; what is wrong with it is noted."""
        is_name = isinstance(name, str) and not is_template(name)
        found = settings.served(name) if is_name else None
        if found is None:
            why = "is not served here" if is_name else "should be the name of a model"
            what = f"{name!r:.80} {why}; served are: {', '.join(settings.models)}"
            self.mistakes.append(mistake(place, "Field required", "missing") if name is None else mistake(place, what))
            return ""
        self.ask(found.endpoint)
        return found.model

    def ask(self, endpoint: str) -> None:
        """Have an endpoint asked by the task that is looked at now."""
        self.current = endpoint
        if endpoint not in self.endpoints:
            self.endpoints.append(endpoint)

    def take(self, task: TaskConfig, index: int) -> None:
        """Take a task that is as it should be, for the endpoint that it asks."""
        said: dict[str, Any] = {"task_type": task.task_type, "alias": task.alias, "configuration": task.settings.verbatim}
        if not task.judges and self.current != self.endpoints[0]:
            task = task.model_copy(update={"endpoint": self.current})
            said["endpoint"] = self.current
        self.tasks.append(task)
        self.said.append(said)
        self.indices.append(index)

    def told(self, said: dict[str, Any], place: KeyPath, only: Sequence[str] | None = None) -> dict[str, Any]:
        """Return a configuration as a config says it: in it, or in these keys of it, templates are SGP's."""
        templated = said if only is None else {name: said[name] for name in only if name in said}
        self.mistakes += mistakes_in(templated, place)
        return {**said, **in_config(templated)}
