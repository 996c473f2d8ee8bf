"""The recorder: it passes calls on and keeps every exchange on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from runner import jsontext
from runner.endpoint.answers.refusals import error_object
from runner.endpoint.answers.sse import EventReader, is_stream
from runner.endpoint.answers.streams import StreamAssembler
from runner.endpoint.http.transport import Call, Reply, Transport
from runner.endpoint.recordings.names import BROKEN_CLASSES, TYPES, path_below_base, request_hash, shared_name
from runner.errors import AttemptError, StorageError
from runner.secrets.redaction import Redactor
from runner.structs import Struct
from runner.types import ErrorType

__all__ = ["Recorder"]

_OK = 200
_SUCCESSES = range(200, 300)
_ERROR_CLASSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    **dict.fromkeys(range(500, 600), "InternalServerError"),
}


class Recorder:
    """Passes calls on and keeps every exchange, including errors."""

    def __init__(self, inner: Transport, path: Path, *, secrets: Sequence[str] = ()) -> None:
        self._inner = inner
        self._path = path
        self._redactor = Redactor(secrets)
        self._failure: StorageError | None = None
        (path.parent if path.suffix == ".jsonl" else path).mkdir(parents=True, exist_ok=True)
        #: Whether the directory already held recordings, perhaps of the same units.
        self._has_others = path.is_dir() and any(path.glob("*.json"))

    async def send(self, call: Call) -> Reply:
        """Send a call; its exchange is kept when the reply is closed. Raises AttemptError.

        Raises StorageError if an earlier exchange could not be kept. That call returned its answer, which was paid for.
        """
        if self._failure is not None:
            raise self._failure
        try:
            reply = await self._inner.send(call)
        except AttemptError as error:
            self._keep(call, _exception(None, error.failure.message, None, kind=error.failure.error_type))
            raise
        return _RecordedReply(reply, call, self._keep)

    def make_room(self, connections: int) -> None:
        """Allow this many open connections."""
        self._inner.make_room(connections)

    async def close(self) -> None:
        """Close the inner transport. Raises StorageError if an exchange could not be kept."""
        await self._inner.close()
        if self._failure is not None:
            raise self._failure

    def _keep(self, call: Call, response: dict[str, Any]) -> None:
        body = jsontext.decode(call.content)
        path = urlsplit(call.url).path
        if response["is_streaming"]:
            _clean_joined(response["body"], self._redactor.text)
        recording = {
            "test_id": call.label,
            "request": {
                "method": call.method,
                "url": call.url.partition("?")[0],
                "headers": {},
                "body": body,
                "endpoint": path,
                "model": body.get("model"),
            },
            "response": response,
            "id_normalization_mapping": {},
        }
        text = self._redactor.json(jsontext.encode(recording))
        try:
            if self._path.suffix == ".jsonl":
                _write(self._path, os.O_APPEND, text + b"\n")
            else:
                _write(self._place(call, body, text), os.O_TRUNC, msgspec.json.format(text, indent=2) + b"\n")
        except OSError as error:
            self._failure = StorageError(f"{self._path}: the recording cannot be written: {error.strerror}")

    def _place(self, call: Call, body: Mapping[str, Any], text: bytes) -> Path:
        """Return the file of a recording. The first unit with a body gets the file that llama-stack looks up.

        Other units with an equal body get files of their own. An earlier recording of the same unit is replaced.
        """
        shared = self._path / f"{shared_name(call.method, call.url, path_below_base(call.url), body)}.json"
        is_taken = shared.exists() and _label_of(shared.read_bytes()) != _label_of(text)
        if not (is_taken or self._has_others):
            return shared
        own = self._path / f"{request_hash(call.method, call.url, body, call.label)}.json"
        return own if is_taken or own.exists() else shared


def _write(path: Path, flags: int, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600), "wb") as file:
        file.write(content)


class _Labelled(Struct):
    test_id: Any = None


def _label_of(text: bytes) -> str | None:
    """Return the label in a recording; None if it has none, or is not a recording."""
    try:
        label = msgspec.json.decode(text, type=_Labelled).test_id
    except msgspec.MsgspecError:
        return None
    return label if isinstance(label, str) else None


class _RecordedReply:
    """A reply that keeps its body as it is read."""

    def __init__(self, inner: Reply, call: Call, keep: Any) -> None:
        self._inner, self._call, self._keep = inner, call, keep
        self._body = bytearray()
        self._broken: str | None = None
        self._complete = False
        self.status: int = inner.status
        self.headers: Mapping[str, str] = inner.headers

    async def read(self) -> bytes:
        try:
            piece = await self._inner.read()
        except AttemptError as error:
            self._broken = error.failure.message
            raise
        self._body += piece
        self._complete = self._complete or not piece
        return piece

    def close(self, *, answered: bool = False) -> None:
        self._inner.close(answered=answered)
        response = self._response(answered=answered)
        if response is not None:
            self._keep(self._call, response)

    def _response(self, *, answered: bool) -> dict[str, Any] | None:
        """Return the recorded response, or None if the exchange was dropped before its end."""
        body = bytes(self._body)
        if self.status not in _SUCCESSES:
            return _exception(self.status, None, body)
        if is_stream(self.headers, body):
            return self._streamed(body, answered=answered)
        if not (answered or self._complete or self._broken is not None):
            return None
        if not answered and (self.status != _OK or self._broken is not None):
            return _exception(self.status if self._broken is None else None, self._broken, body)
        try:
            data = jsontext.decode(body)
        except jsontext.JsonError:
            return _exception(None, "the body is not JSON", body)
        response = {"body": {"__type__": _types(self._call.url)[0], "__data__": data}, "is_streaming": False}
        return response if self.status == _OK else response | {"status": self.status}

    def _streamed(self, body: bytes, *, answered: bool) -> dict[str, Any] | None:
        """Return the recorded stream, without events after a complete answer or after an event that ended it."""
        chat = path_below_base(self._call.url) == "/chat/completions"
        answer = StreamAssembler(chat=chat, choices=jsontext.decode(self._call.content).get("n") or 1)
        reader, failed, data = EventReader(), False, []
        for event in filter(None, [*reader.feed(body), *reader.finish()]):
            try:
                answer.take([event])
            except AttemptError:
                failed = True
            if answer.done:
                break
            try:
                data.append(jsontext.decode(event))
            except jsontext.JsonError:
                return _exception(None, "an event of the stream is not JSON", body)
            if failed:
                break
        if not (answered or answer.done or self._complete or self._broken is not None):
            return None
        chunks = [{"__type__": _types(self._call.url)[1], "__data__": chunk} for chunk in data]
        if not (answered or failed or answer.done or answer.finished):
            return _exception(None, self._broken or "it ended without a finish reason and without [DONE]", None, chunks)
        return {"body": chunks, "is_streaming": True}


def _clean_joined(chunks: Sequence[Any], clean: Callable[[str], str]) -> None:
    """Redact texts that are spread over chunks. A redacted text stands whole in its first chunk; the rest become empty."""
    texts: dict[tuple[Any, ...], list[tuple[Any, Any]]] = {}
    for chunk in chunks:
        data = chunk["__data__"]
        for place, piece in _pieces(data.get("choices") if isinstance(data, dict) else None, ()):
            texts.setdefault(place, []).append(piece)
    for pieces in texts.values():
        whole = "".join(holder[key] for holder, key in pieces)
        if (cleaned := clean(whole)) != whole:
            for number, (holder, key) in enumerate(pieces):
                holder[key] = "" if number else cleaned


def _pieces(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], tuple[Any, Any]]]:
    """Yield each string in a value with its path and its container; choices and tool calls count by their `index`."""
    for key, member in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        index = member.get("index") if isinstance(member, dict) else None
        below = (*place, index if isinstance(index, int) else key)
        if isinstance(member, str):
            yield below, (value, key)
        else:
            yield from _pieces(member, below)


def _types(url: str) -> tuple[str, str]:
    """Return the names of the SDK's classes for a whole answer and for a chunk."""
    return TYPES.get(path_below_base(url), ("", ""))


def _exception(
    status: int | None,
    message: str | None,
    body: bytes | None,
    chunks: Sequence[Any] = (),
    kind: ErrorType = ErrorType.INVALID_RESPONSE,
) -> dict[str, Any]:
    """Return a failed exchange in llama-stack's format: the SDK's exception, with the wire's JSON inside its message."""
    decoded: Any = None
    if body:
        try:
            decoded = jsontext.decode(body)
        except jsontext.JsonError:
            decoded = body[:4096].decode("utf-8", "replace")
    name = BROKEN_CLASSES.get(kind) if status is None else _ERROR_CLASSES.get(status, "APIStatusError")
    error = dict(error_object(decoded)) or None
    said = message or f"Error code: {status} - {decoded!r}"
    return {
        "body": list(chunks) or None,
        "is_streaming": bool(chunks),
        "is_exception": True,
        "exception_data": {
            "category": "unknown" if status is None else "provider_sdk",
            "provider": "openai",
            "type": name,
            "message": said,
            "status_code": status,
            "body": error,
        },
        "exception_message": said,
    }
