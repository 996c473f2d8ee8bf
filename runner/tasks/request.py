"""A task that asks the endpoint: it renders a body, has it executed, and keeps the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner import jsontext
from runner.errors import RowError
from runner.tasks.base import unit_of, without_request
from runner.templates import Template, compile_template
from runner.types import Execute, Request, Result, Sample, Unit

__all__ = ["RequestTask"]

_CHARACTERS_PER_TOKEN = 4
_USUAL_ANSWER_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTask:
    """A task of type chat_completion or completion."""

    alias: str
    task_type: str
    #: The path below the base URL.
    path: str
    #: Whether the answer is streamed.
    stream: bool
    #: The body for one row; `extra_body` and streaming options are already in their places.
    body: Template
    #: The model, where it is the same for all rows.
    model: str | None
    execute: Execute

    @classmethod
    def from_configuration(
        cls, *, alias: str, task_type: str, path: str, stream: bool, configuration: Mapping[str, Any], execute: Execute
    ) -> RequestTask:
        """Compile a configuration, which is sent exactly as it is named."""
        body = dict(configuration)
        body.update(body.pop("extra_body", None) or {})
        if stream:
            body["stream"] = True
            body.setdefault("stream_options", {"include_usage": True})
        model = configuration.get("model")
        template = compile_template(body, ("configuration",))
        constant = model if isinstance(model, str) and "model" not in _top_level(template) else None
        return cls(alias=alias, task_type=task_type, path=path, stream=stream, body=template, model=constant, execute=execute)

    def render(self, unit: Unit, item: Mapping[str, Any]) -> Request:
        """Return the request of one row. Raises RowError (template)."""
        body = self.body.render(item)
        content = jsontext.encode(body)
        return Request(
            unit=unit,
            path=self.path,
            model=body.get("model"),
            content=content,
            shown=content.decode(),
            stream=self.stream,
            chat=self.task_type == "chat_completion",
            choices=_as_count(body.get("n")),
            token_estimate=_estimate_tokens(content, body),
        )

    async def run(self, sample: Sample, item: Mapping[str, Any]) -> Result:
        """Ask the endpoint for one sample."""
        unit = unit_of(sample, self.alias)
        try:
            request = self.render(unit, item)
        except RowError as error:
            return without_request(sample, self.alias, self.task_type, error.failure)
        outcome = await self.execute(request)
        return Result(unit=unit, task_type=self.task_type, outcome=outcome, item=sample.item, request=request)


def _top_level(template: Template) -> set[str | int]:
    """Return the keys of the body in which the row is read."""
    return {reference.path[1] for reference in template.references if len(reference.path) > 1}


def _as_count(n: object) -> int:
    return n if isinstance(n, int) and n > 0 else 1


def _estimate_tokens(content: bytes, body: Mapping[str, Any]) -> int:
    """Guess what a request will use before the server counts it: a token is about four characters of JSON."""
    allowed = body.get("max_completion_tokens") or body.get("max_tokens")
    answer = allowed if isinstance(allowed, int) else _USUAL_ANSWER_TOKENS
    return len(content) // _CHARACTERS_PER_TOKEN + answer * _as_count(body.get("n"))
