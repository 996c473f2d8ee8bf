"""What the tasks of a config need: their models, the probes for the features they use, and a request of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from runner import jsontext
from runner.check.probes import PARAMETERS, Asked, Expect
from runner.config.model import Config
from runner.errors import RowError, UsageError
from runner.output import JUDGE, stand_in
from runner.pipeline.rehearsal import NoCalls, send_nothing
from runner.structs import Struct, field
from runner.tasks.request import RequestTask
from runner.types import Request, Unit

__all__ = ["Needs", "needs_of"]

#: How many rows are rendered to see which features the tasks use, because a row may decide them.
_ROWS = 10
_PARTS = {"image_url": "image", "audio_url": "audio_url", "input_audio": "input_audio"}
_FORMATS = ("json_object", "json_schema")


class Needs(Struct):
    """The needs of the tasks."""

    models: list[str] = field(default_factory=list)
    #: The aliases that need a probe, by model, name of the probe, and whether it is streamed.
    aliases: dict[tuple[str, str, bool], list[str]] = field(default_factory=dict)
    #: The first request of each task, as a run would send it.
    own: list[Asked] = field(default_factory=list)
    #: Whether only the needed probes are asked.
    only: bool = False

    def add(self, alias: str, model: str, name: str, *, stream: bool) -> None:
        """Note that a task needs a probe."""
        aliases = self.aliases.setdefault((model, name, stream), [])
        if alias not in aliases:
            aliases.append(alias)


def needs_of(config: Config, rows: Sequence[Mapping[str, Any]]) -> Needs:
    """Render the tasks' requests for the first rows and see what they use. Raises UsageError if no task has a model.

    If a task takes its model from the row, the model of the first row is asked. Values that it reads from earlier tasks are
    replaced by `<alias>`. If no row of a task can be rendered, its configuration as written decides.
    """
    needs = Needs()
    stand_ins = {task.name: 1.0 if task.judges else stand_in(task.name, is_json=True) for task in config.run_tasks}
    for task_config in config.run_tasks:
        task = task_config.build(send_nothing, config.media_files, NoCalls())
        if isinstance(task, RequestTask):
            requests = list(islice(_rendered(task, [{**row, **stand_ins} for row in rows]), _ROWS))
            _look_at(needs, task, requests, dict(task_config.settings.verbatim))
    if not needs.models:
        raise UsageError("no task names a model that could be asked; there is nothing to check")
    return needs


def _rendered(task: RequestTask, items: Sequence[Mapping[str, Any]]) -> Iterator[Request]:
    for index, item in enumerate(items):
        try:
            yield task.render(Unit(str(index), index, 0, task.alias), item)
        except RowError:
            continue  # a dry run says which rows are bad


def _look_at(needs: Needs, task: RequestTask, requests: Sequence[Request], configuration: Mapping[str, Any]) -> None:
    bodies = [jsontext.decode(request.content) for request in requests]
    models = [task.model, *(body.get("model") for body in bodies)]
    model = next((found for found in models if isinstance(found, str)), None)
    if model is None:
        return
    if model not in needs.models:
        needs.models.append(model)
    if requests:
        name, request = f"task:{task.alias}", requests[0]
        needs.own.append(Asked(name=name, model=model, request=request, expects=Expect.OWN, needed_by=[task.alias]))
    if (used_in := _USED_IN.get(task.task_type)) is None:  # no probe fits this type: the task's own request covers it
        return
    for body in bodies or [{**configuration, **(configuration.get("extra_body") or {})}]:
        for name in used_in(body):
            needs.add(task.alias, model, name, stream=task.stream and name not in PARAMETERS)


def _used_in_chat(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the probes for the features that a chat body uses."""
    yield "chat"
    yield from (name for name in PARAMETERS if body.get(name) is not None)
    if isinstance(body.get("n"), int) and body["n"] > 1:
        yield "n"
    if body.get("seed") is not None:
        yield "seed"
    if body.get("logprobs"):
        yield "logprobs"
    if body.get("tools"):
        yield "tools_whole"
    form = body.get("response_format")
    yield from (name for name in _FORMATS if isinstance(form, dict) and form.get("type") == name)
    yield from (_PARTS[kind] for kind in _kinds_of_parts(body.get("messages")) if kind in _PARTS)


def _used_in_completion(body: Mapping[str, Any]) -> Iterator[str]:
    yield "completions"
    if body.get("echo") and body.get("logprobs") is not None:
        yield "completions_logprobs"


#: The functions that yield the names of the probes, by type of task.
_USED_IN = {
    "chat_completion": _used_in_chat,
    JUDGE: _used_in_chat,
    "completion": _used_in_completion,
}


def _kinds_of_parts(messages: Any) -> Iterator[str]:
    """Yield the types of all parts of all messages."""
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and isinstance(part.get("type"), str):
                yield part["type"]
