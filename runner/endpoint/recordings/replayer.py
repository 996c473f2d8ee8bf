"""The replayer: it answers calls from recordings, without a network."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from runner import jsontext
from runner.endpoint.http.transport import Call, Reply
from runner.endpoint.recordings.names import BROKEN_CLASSES, path_below_base
from runner.errors import AttemptError, DatasetError
from runner.structs import Struct, field
from runner.types import ErrorType, Failure

__all__ = ["Replayer"]

_OK = 200


class _Found(Struct):
    """The recordings of one request body, in the order in which they were made."""

    #: Each one's file, and the offset and length of its line; a length of 0 means the whole file.
    places: list[tuple[Path, int, int]] = field(default_factory=list)
    #: The indexes in `places` of each label.
    by_label: dict[str, list[int]] = field(default_factory=dict)
    #: How many were replayed so far, by label.
    played: dict[str, int] = field(default_factory=dict)

    def next(self, label: str) -> tuple[Path, int, int]:
        """Return the next recording for a label; the last one repeats for ever."""
        choice = self.by_label.get(label) or list(range(len(self.places)))
        count = self.played.get(label, 0)
        self.played[label] = count + 1
        return self.places[choice[min(count, len(choice) - 1)]]


class Replayer:
    """Answers calls from recordings. A request is matched by its path below the base URL and its body.

    If several recordings match, those of the same unit are used, else all of them, in the order in which they were made.
    """

    def __init__(self, path: Path) -> None:
        """Index a directory of recordings, or a .jsonl file. Raises DatasetError."""
        self._path = path
        self._found: dict[bytes, _Found] = {}
        for place, text in _texts(path):
            self._index(place, text)
        if not self._found:
            raise DatasetError(f"{path}: holds no recordings")

    def _index(self, place: tuple[Path, int, int], text: bytes) -> None:
        try:
            recording = jsontext.decode(text)
            request = recording["request"]
            key = _key(request.get("endpoint") or request["url"], _sent_body(request["body"]))
        except (jsontext.JsonError, KeyError, TypeError, AttributeError) as error:
            if place[2] == 0:
                return  # other JSON files may lie in the directory
            what = f"is not a recording ({type(error).__name__}: {error})"
            raise DatasetError(f"{place[0]}: offset {place[1]}: {what}") from error
        found = self._found.setdefault(key, _Found())
        found.by_label.setdefault(recording.get("test_id") or "", []).append(len(found.places))
        found.places.append(place)

    async def send(self, call: Call) -> Reply:
        """Answer a call. Raises AttemptError if no recording matches, or if the recording is of a broken connection."""
        body = jsontext.decode(call.content)
        found = self._found.get(_key(call.url, body))
        if found is None:
            what = f"{path_below_base(call.url)} with this body (model {body.get('model')!r})"
            message = f"replay: there is no recording of {what} in {self._path}; record it first, or ask a server"
            raise AttemptError(Failure(error_type=ErrorType.REQUEST, message=message), retry=False)
        path, offset, length = found.next(call.label)
        with path.open("rb") as file:
            file.seek(offset)
            recording = jsontext.decode(file.read(length) if length else file.read())
        return _reply(recording["response"])

    def make_room(self, connections: int) -> None:
        """Do nothing: there are no connections."""

    async def close(self) -> None:
        """Do nothing: nothing is open."""


class _ReplayedReply(Struct):
    """A reply made from a recording."""

    status: int
    headers: Mapping[str, str]
    body: list[bytes]
    #: The error that ended the exchange, if any.
    broken: AttemptError | None = None

    async def read(self) -> bytes:
        if self.body:
            return self.body.pop(0)
        if self.broken is not None:
            raise self.broken
        return b""

    def close(self, *, answered: bool = False) -> None:
        pass


def _reply(response: Mapping[str, Any]) -> _ReplayedReply:
    """Return the reply as it came over the wire. Raises AttemptError if none came."""
    data = _unwrapped(response.get("body"))
    json_headers = {"content-type": "application/json"}
    if response.get("is_exception"):
        status, body = _wire_error(response)
        if status is not None:
            # Text is sent as text, and an empty body stays empty: a gateway's page is not JSON.
            text = body.encode("utf-8", "replace") if isinstance(body, str) else jsontext.encode(body)
            return _ReplayedReply(status, json_headers, [] if body is None else [text])
        if not data:
            raise _broken(response)
    if not isinstance(response.get("body"), list):
        return _ReplayedReply(int(response.get("status") or _OK), json_headers, [jsontext.encode(data)])
    events = [b"data: %b\n\n" % jsontext.encode(chunk) for chunk in data]
    broken = _broken(response) if response.get("is_exception") else None
    if broken is None:
        events.append(b"data: [DONE]\n\n")
    return _ReplayedReply(_OK, {"content-type": "text/event-stream"}, [b"".join(events)], broken)


def _broken(response: Mapping[str, Any]) -> AttemptError:
    """Return the error of a recorded exchange without a status."""
    name = (response.get("exception_data") or {}).get("type")
    kind = next((kind for kind, known in BROKEN_CLASSES.items() if known == name), ErrorType.CONNECT)
    return AttemptError(Failure(error_type=kind, message=f"recorded: {response.get('exception_message')}"), retry=True)


def _wire_error(response: Mapping[str, Any]) -> tuple[int | None, Any]:
    """Return the status and JSON of a recorded refusal. The wire's JSON is inside the SDK's message, as a Python literal."""
    data = response.get("exception_data") or {}
    status = data.get("status_code")
    if status is None:
        return None, None
    said = str(response.get("exception_message") or "")
    _, mark, printed = said.partition(f"Error code: {status} - ")
    if mark:
        try:
            return int(status), ast.literal_eval(printed)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    return int(status), {"error": data.get("body") or {"message": data.get("message") or said, "type": data.get("type")}}


def _unwrapped(body: Any) -> Any:
    """Return recorded objects as they were on the wire: without the wrapper, and without the nulls that the SDK adds."""
    if isinstance(body, list):
        return [_unwrapped(member) for member in body]
    if isinstance(body, dict):
        return _without_nulls(body.get("__data__", body))
    return body


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_nulls(member) for member in value]
    return value


def _texts(path: Path) -> Iterator[tuple[tuple[Path, int, int], bytes]]:
    """Yield each recording's place and text."""
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield (file, 0, 0), file.read_bytes()
        return
    try:
        offset = 0
        with path.open("rb") as lines:
            for line in lines:
                if not line.isspace():
                    yield (path, offset, len(line)), line
                offset += len(line)
    except OSError as error:
        raise DatasetError(f"endpoint.replay: {path}: cannot be read: {error.strerror}") from error


# --- how replay tells requests apart ---


def _key(url_or_path: str, body: Any) -> bytes:
    # The body as it is: two prompts may differ only in a score or a decimal, which the file-name hash ignores.
    identity = msgspec.json.encode([path_below_base(url_or_path), body], order="sorted")
    return hashlib.sha256(identity).digest()


def _sent_body(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that the SDK sends for recorded arguments: some stay off the wire, `extra_body` is merged in."""
    body = {
        name: value
        for name, value in arguments.items()
        if name not in {"extra_headers", "extra_query", "extra_body", "timeout"}
    }
    return body | (arguments.get("extra_body") or {})
