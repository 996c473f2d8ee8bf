"""Finds the plug-ins that a config names, inspects them in a process of their own, and reports mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.keypaths import KeyPath
from runner.plugins import METRICS_GROUP, TASKS_GROUP, Offer, offer_of, offers
from runner.processes.once import call_once
from runner.processes.pool import MEMORY_OF_OTHERS, CallError, NoProcessError
from runner.tasks import TASK_TYPES, task_config
from runner.tasks.base import TaskConfig, tasks_in
from runner.tasks.metric import is_plugged
from runner.tasks.metrics import METRICS
from runner.tasks.plugged import PluggedConfiguration, PlugIn, file_of, settings_in

__all__ = ["FoundPlugIns", "with_installed"]

#: A plug-in may load a slow library.
_LOADED_WITHIN_S = 60.0


class FoundPlugIns:
    """The plug-ins that the tasks of a config name, and all mistakes in them."""

    def __init__(self, tasks: Any, directory: Path) -> None:
        """Take the tasks as the file has them, and its directory, to which the paths of plug-ins are relative."""
        self._directory = directory
        self.mistakes: list[tuple[KeyPath, str]] = []
        self._metrics: dict[int, PlugIn] = {}
        self._tasks: dict[int, Offer] = {}
        for index, task, configuration in tasks_in(tasks):
            self._look_at(index, task.get("task_type"), configuration)
        self.mistakes += _hidden(tasks)

    def _look_at(self, index: int, kind: Any, configuration: Mapping[str, Any]) -> None:
        place: KeyPath = ("tasks", index, "task_type")
        try:
            if kind == "metric":
                metric = configuration.get("type")
                if isinstance(metric, str) and is_plugged(metric):
                    place = ("tasks", index, "configuration", "type")
                    self._metrics[index] = self._metric(metric, configuration, ("tasks", index, "configuration"))
            elif isinstance(kind, str) and kind not in TASK_TYPES and (offer := offer_of(TASKS_GROUP, kind)) is not None:
                self._tasks[index] = offer
        except (ValueError, CallError, NoProcessError) as error:
            self.mistakes.append((place, str(error)))

    def attach(self, tasks: Sequence[TaskConfig]) -> None:
        """Give the tasks the plug-ins that were found for them."""
        for index, plug_in in self._metrics.items():
            configuration: Any = tasks[index].settings
            assert isinstance(configuration, PluggedConfiguration)
            configuration.found_as(plug_in)
            tasks[index].code.update(plug_in.code)
        for index, offer in self._tasks.items():
            tasks[index].code[offer.package] = offer.version

    @property
    def about(self) -> dict[str, dict[str, str]]:
        """The description of each in evaluation.json, by its name in the config."""
        metrics = {plug_in.name: dict(plug_in.about) for plug_in in self._metrics.values()}
        return metrics | {offer.name: _about(offer) for offer in self._tasks.values()}

    def places(self) -> dict[KeyPath, str]:
        """Return the types that name a file, with its absolute path, by their paths in the config."""
        files = {index: plug_in.place for index, plug_in in self._metrics.items() if "file" in plug_in.place}
        return {("tasks", index, "configuration", "type"): f"{place['file']}:{place['name']}" for index, place in files.items()}

    def _metric(self, kind: str, configuration: Mapping[str, Any], place: KeyPath) -> PlugIn:
        """Find and inspect a function. Raises ValueError, CallError and NoProcessError."""
        found = file_of(kind, self._directory)
        if found is not None:
            path, name = found[0].resolve(), found[1]
            if not path.is_file():
                raise ValueError(f"{kind!r}: there is no file {path}; the path is relative to the config's directory")
            where = {"file": str(path), "name": name}
            files = self._described(f"{path}: {name}", where, configuration, place)
            code = {_below(file, path.parent): digest for file, digest in files.items()}
            return PlugIn(name=kind, place=where | {"files": files}, code=code, about=code)
        offer = offer_of(METRICS_GROUP, kind)
        if offer is None:
            raise ValueError(f"{kind!r} should name a function, such as checks.py:score")
        where = {"module": offer.module, "name": offer.attribute}
        self._described(f"{kind} of {offer}", where, configuration, place)
        return PlugIn(name=kind, place=where, code={offer.package: offer.version}, about=_about(offer))

    def _described(
        self, whose: str, where: Mapping[str, Any], configuration: Mapping[str, Any], place: KeyPath
    ) -> Mapping[str, str]:
        """Inspect a function in a process of its own, note settings that do not fit, and return the hashes of its files."""
        settings = settings_in(configuration)
        try:
            found = call_once(
                "runner.foreign.functions:describe", where, list(settings), seconds=_LOADED_WITHIN_S, memory=MEMORY_OF_OTHERS
            )
        except CallError as error:
            raise ValueError(f"{whose} cannot be loaded: {error}") from error
        if found["wrong"] is not None:
            raise ValueError(f"{whose} {found['wrong']}")
        known = f"known are: {', '.join(found['known'])}" if found["known"] else "it takes none"
        self.mistakes += [((*place, key), f"{whose} takes no such setting; {known}") for key in found["unknown"]]
        self.mistakes += [((*place, key), f"is missing; {whose} needs it") for key in found["missing"]]
        files: Mapping[str, str] = found["files"]
        return files


def _hidden(tasks: Any) -> Iterator[tuple[KeyPath, str]]:
    """Find names of a config that are built in, and that a package offers too: it is not clear which is meant."""
    metrics, types = offers(METRICS_GROUP), offers(TASKS_GROUP)
    for index, task, configuration in tasks_in(tasks):
        for place, name, offered, built_in in (
            (("tasks", index, "configuration", "type"), configuration.get("type"), metrics, METRICS),
            (("tasks", index, "task_type"), task.get("task_type"), types, TASK_TYPES),
        ):
            if isinstance(name, str) and name in built_in and name in offered:
                yield place, f"{name!r} is built in, and {offered[name][0]} offers it too; rename the plug-in"


def _about(offer: Offer) -> dict[str, str]:
    return {"package": offer.package, "version": offer.version}


def _below(file: str, directory: Path) -> str:
    path = Path(file)
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else file


def with_installed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a config with the plug-ins of installed packages. Raises ValueError for an invalid task."""
    metrics = sorted(offers(METRICS_GROUP).keys() - METRICS.keys())
    if metrics:
        named = schema["$defs"]["PluggedConfiguration"]["properties"]["type"]
        named["anyOf"] = [*named["anyOf"], {"enum": metrics}]
    tasks = schema["properties"]["tasks"]["items"]
    for name in sorted(offers(TASKS_GROUP).keys() - TASK_TYPES.keys()):
        model = task_config(name).model_json_schema(ref_template="#/$defs/{model}")
        schema["$defs"] |= model.pop("$defs", {})
        schema["$defs"][f"plug-in {name}"] = model
        reference = {"$ref": f"#/$defs/plug-in {name}"}
        tasks["oneOf"].append(reference)
        tasks.get("discriminator", {}).get("mapping", {})[name] = reference["$ref"]
    return schema
