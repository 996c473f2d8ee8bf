"""A task that asks the endpoint: it renders a body, has it executed, and keeps the outcome."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from runner import jsontext
from runner.errors import RowError
from runner.processes.pool import Calls
from runner.secrets.redaction import REDACTED
from runner.structs import Struct
from runner.tasks.base import Task, TaskConfig, unit_of, without_request
from runner.tasks.fields import Locatable
from runner.tasks.media import Body, Found, Origin, encode_body, encode_plain, find_media, spelled_out
from runner.tasks.mediafiles import MediaFiles
from runner.tasks.wire import Fitting, Wire, types_of
from runner.templates.compile import Template, compile_template
from runner.types import ErrorType, Execute, Request, Result, Sample, Unit
from runner.usage import estimate

__all__ = ["CHAT_PATH", "AskingConfig", "Count", "Foreseen", "Model", "Penalty", "RequestTask", "answer_limit"]

CHAT_PATH = "/chat/completions"
#: The name of a model, as a server knows it.
Model = Locatable[Annotated[str, Field(min_length=1)]]
Count = Annotated[int, Field(ge=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]

_USUAL_ANSWER_TOKENS = 256
#: The tokens of a large picture.
_TOKENS_PER_MEDIUM = 1000
#: The parts of a body that a server's prompt cache covers, in the order of chat templates.
_READ_IN_ORDER = ("model", "tools", "messages", "prompt", "input")
#: The end of a placeholder, which replaces a medium in a kept body.
_STANDS_FOR_MORE = re.compile(r", sha256 [0-9a-f]{16,}>")


class Foreseen(Struct, frozen=True):
    """An estimate of a row's request before it is made."""

    #: The tokens that it may use: of the prompt by its length, of the answer by its limit or the usual number.
    tokens: int = 0
    #: The text that a server reads, in its order: requests that begin alike have texts that begin alike.
    text: bytes = b""


class RequestTask(Struct, frozen=True, kw_only=True):
    """A task that asks: chat_completion, completion, embedding, or a judge."""

    alias: str
    task_type: str
    #: The path below the base URL.
    path: str
    #: Whether the answer is streamed.
    stream: bool
    #: The body for one row; `extra_body` and streaming options are already in their places.
    body: Template
    #: Converts the values of rows to the types of the API.
    fitting: Fitting
    #: The model, if it is the same for all rows.
    model: str | None
    execute: Execute
    #: Reads the local files that messages name.
    files: MediaFiles

    def render(self, unit: Unit, item: Mapping[str, Any]) -> Request:
        """Return the request of one row. It blocks on local files. Raises RowError (template)."""
        return self.request_of(unit, self._body(item))

    def request_of(self, unit: Unit, body: Mapping[str, Any]) -> Request:
        """Return the request of a body that is complete already, without rendering it. Raises RowError."""
        self.files.check_urls(body.get("messages"))
        return self._request(unit, body, self._encoded(body, find_media(body), None))

    def _body(self, item: Mapping[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = self.body.render(item)
        try:
            self.fitting.fit(body)
        except RecursionError as error:
            raise RowError(ErrorType.TEMPLATE, "configuration: a value of the row is nested too deeply") from error
        self.files.check_urls(body.get("messages"))
        return body

    def _encoded(self, body: Mapping[str, Any], found: Sequence[Found], place: str | None) -> Body:
        if found:
            return encode_body(body, found, Origin(self.files, place))
        content = encode_plain(body)
        return Body(content, content.decode())

    def _request(self, unit: Unit, body: Mapping[str, Any], encoded: Body) -> Request:
        # Without media the body is shown as it is sent, so its bytes are counted already.
        length = len(encoded.shown.encode()) if encoded.media else len(encoded.content)
        prompt = _prompt_tokens(length, encoded.media)
        return Request(
            unit=unit,
            path=self.path,
            model=body.get("model"),
            content=encoded.content,
            shown=encoded.shown,
            stream=self.stream,
            chat=self.path == CHAT_PATH,
            embeds=self.task_type == "embedding",
            choices=_as_count(body.get("n")),
            prompt_estimate=prompt,
            token_estimate=self._tokens(body, prompt),
        )

    def foreseen(self, item: Mapping[str, Any]) -> Foreseen:
        """Return an estimate of the request of a row; it reads no file. Raises RowError (template)."""
        body = self._body(item)
        text = jsontext.encode([body.get(key) for key in _READ_IN_ORDER])
        media = find_media(body)
        length = len(text) - sum(len(one.value) for one in media if isinstance(one.value, str))
        return Foreseen(self._tokens(body, _prompt_tokens(length, len(media))), text)

    def _tokens(self, body: Mapping[str, Any], prompt: int) -> int:
        if self.task_type == "embedding":
            return prompt
        limit = answer_limit(body)
        return prompt + (_USUAL_ANSWER_TOKENS * _as_count(body.get("n")) if limit is None else limit)

    def again(self, unit: Unit, shown: str) -> Request | None:
        """Return a request of an earlier start from its kept body; None if that is not exactly what was sent."""
        if _STANDS_FOR_MORE.search(shown) or REDACTED in shown:
            return None
        body = jsontext.decode(shown)
        return self._request(unit, body, Body(shown.encode(), shown)) if isinstance(body, dict) else None

    async def run(self, sample: Sample, item: Mapping[str, Any]) -> Result:
        """Ask the endpoint for one sample; files are read and encoded in a thread."""
        try:
            body = self._body(item)
            found, place = find_media(body), sample.item.place
            if found and any(one.slow for one in found):
                encoded = await asyncio.to_thread(self._encoded, body, found, place)
            else:
                encoded = self._encoded(body, found, place)
            request = self._request(unit_of(sample, self.alias), body, encoded)
        except RowError as error:
            return without_request(sample, self.alias, self.task_type, error.failure)
        outcome = await self.execute(request)
        sent = outcome.sent or request
        return Result(unit=request.unit, task_type=self.task_type, outcome=outcome, item=sample.item, request=sent)


class AskingConfig(TaskConfig):
    """A task whose `configuration` is the body of its request, and is sent exactly as written."""

    #: The path below the base URL.
    path: ClassVar[str]

    def build(self, execute: Execute, files: MediaFiles, calls: Calls) -> Task:  # noqa: ARG002  no call of other processes
        """Return the task, ready to run."""
        body = dict(self.settings.verbatim)
        body.update(body.pop("extra_body", None) or {})
        stream = bool(getattr(self, "stream", False))
        if stream:
            body["stream"] = True
            body.setdefault("stream_options", {"include_usage": True})
        wire = Wire(types_of(type(self.settings)))
        template = compile_template(spelled_out(body), ("configuration",), wire.wanted)
        model = body.get("model")
        return RequestTask(
            alias=self.name,
            task_type=self.task_type,
            path=self.path,
            stream=stream,
            body=template,
            fitting=wire.fitting(template),
            model=model if isinstance(model, str) and "model" not in _top_level(template) else None,
            execute=execute,
            files=files,
        )


def _prompt_tokens(length: int, media: int) -> int:
    """Return an estimate of the tokens of a prompt, by its bytes without media and the number of its media."""
    return estimate(length) + media * _TOKENS_PER_MEDIUM


def _top_level(template: Template) -> set[str | int]:
    """Return the keys of the body that read the row."""
    return {reference.path[1] for reference in template.references if len(reference.path) > 1}


def _as_count(n: object) -> int:
    return n if isinstance(n, int) and n > 0 else 1


def answer_limit(body: Mapping[str, Any]) -> int | None:
    """Return how many tokens all answers to a request may have together; None if it sets no limit."""
    allowed = body.get("max_completion_tokens") or body.get("max_tokens")
    return allowed * _as_count(body.get("n")) if isinstance(allowed, int) else None
