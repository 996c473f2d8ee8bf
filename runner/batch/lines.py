"""The lines of batch files, in the format of OpenAI's batch API: a request as a line, and the meaning of a result line. Pure.

A request's `custom_id` is `RUN:BATCH.ITEM.SAMPLE.DIGEST`, in ASCII and of no more than 64 characters: the run, the number of
its file, the row, the sample, and a digest of the task and the body. So an answer never counts for a request that has changed.

A line of the results has a `response` with a status and a body, or an `error`. vLLM puts its server's message about a refusal
into `error`, beside the status. A request that a service did not reach in time is neither an answer nor a failure: it is asked
again.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from runner import jsontext
from runner.endpoint.answers.refusals import inner_refusal, refusal
from runner.endpoint.answers.responses import read_response
from runner.errors import AttemptError
from runner.structs import Struct, replace
from runner.types import Failure, Request, Response, Unit

__all__ = ["Said", "as_line", "as_sent", "batch_of", "name_of", "read_line", "result_of", "url_of"]

_VERSION = "/v1"
_DIGEST_BYTES = 9
_NAME = re.compile(r"(?P<batch>\d{1,9})\.(?P<name>\d+\.\d+\.[\w-]{12})")
_SUCCESSES = range(200, 300)
#: A line without a status is a failure of the service.
_FAILED = 500
#: With these codes a request was not tried, as if it had never been sent.
_NOT_TRIED = frozenset({"batch_expired", "batch_cancelled"})


def as_sent(request: Request) -> Request:
    """Return a request as a batch sends it: without a stream."""
    if b'"stream' not in request.content:
        return request
    content, shown = (_without_stream(text) for text in (request.content, request.shown.encode()))
    return replace(request, content=content, shown=shown.decode(), stream=False)


def _without_stream(text: bytes) -> bytes:
    body: dict[str, Any] = jsontext.decode(text)
    return jsontext.encode({name: value for name, value in body.items() if name not in {"stream", "stream_options"}})


def name_of(unit: Unit, content: bytes) -> str:
    """Return the name of a request, which is unique in its run and the same in all files."""
    digest = hashlib.blake2b(b"%b\0%b" % (unit.task.encode(), content), digest_size=_DIGEST_BYTES).digest()
    return f"{unit.item_index}.{unit.sample_index}.{base64.urlsafe_b64encode(digest).decode()}"


def url_of(request: Request) -> str:
    """Return the `url` of a request, as batch services name it, whatever the path of their base URL."""
    return f"{_VERSION}{request.path}"


def as_line(run_id: str, batch: int, name: str, request: Request) -> bytes:
    """Return the line of a request in the run's file number `batch`. The request is one that `as_sent` has returned."""
    url = url_of(request).encode()
    custom_id = f"{run_id}:{batch}.{name}".encode()
    return b'{"custom_id":"%b","method":"POST","url":"%b","body":%b}\n' % (custom_id, url, request.content)


def batch_of(custom_id: str, run_id: str) -> tuple[int, str] | None:
    """Return the number of the file that has a request, and the request's name; None if it is not a request of this run."""
    run, _, rest = custom_id.rpartition(":")
    found = _NAME.fullmatch(rest)
    return None if found is None or run != run_id else (int(found["batch"]), found["name"])


class _Replied(msgspec.Struct):
    """The `response` of a line."""

    status_code: int | None = None
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct):
    """The parts of a line that are used."""

    custom_id: str
    response: _Replied | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


class Said(Struct, frozen=True):
    """The content of a line of the results."""

    custom_id: str
    #: The status; None if the service itself says why there is no answer.
    status: int | None
    #: The server's body, or the service's error.
    body: bytes
    #: Whether `body` is the service's error.
    is_error: bool

    @property
    def is_answer(self) -> bool:
        """Whether a server has answered with success."""
        return self.status is not None and self.status in _SUCCESSES and not self.is_error

    @property
    def is_tried(self) -> bool:
        """Whether the request was tried at all."""
        return self.status is not None or _code_in(self.body) not in _NOT_TRIED


def read_line(text: bytes) -> Said:
    """Return the content of a line. Raises ValueError if it is not a line of batch results, JsonError if it is not JSON."""
    line = _decoded(text)
    error = bytes(line.error)
    has_error = error not in {b"null", b"{}"}
    if line.response is None and not has_error:
        raise ValueError("has neither a `response` nor an `error`: give the batch's output and error files, not its requests")
    body, status = (b"null", None) if line.response is None else (bytes(line.response.body), line.response.status_code)
    if line.response is not None and status is None:
        status = _FAILED if has_error else 200
    is_error = body == b"null" and has_error
    return Said(line.custom_id, status, error if is_error else body, is_error)


def _decoded(text: bytes) -> _Line:
    try:
        return _LINE.decode(text)
    except msgspec.MsgspecError:
        pass
    try:
        found = jsontext.decode(text)  # services send values that msgspec refuses, such as NaN
    except jsontext.JsonError as error:
        raise jsontext.JsonError(f"is not JSON: {error}") from error
    response = found.get("response") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("custom_id"), str):
        raise ValueError("has no `custom_id`, so it is not a line of batch results")  # noqa: TRY004  the text is wrong
    if response is not None and not isinstance(response, dict):
        raise ValueError("its `response` should be an object with `status_code` and `body`")
    status = (response or {}).get("status_code")
    replied = None if response is None else _Replied(_as_status(status), _raw(response.get("body")))
    return _Line(found["custom_id"], replied, _raw(found.get("error")))


_LINE = msgspec.json.Decoder(_Line)


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(jsontext.encode(value))


def _as_status(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal()) else None


def result_of(said: Said, request: Request) -> Response | Failure:
    """Return the response or the failure of a request that was tried, from its line."""
    try:
        if said.is_answer:
            return read_response(said.body, request)
        if said.status is None or said.status in _SUCCESSES:
            raise inner_refusal(_error_in(said.body), said.body, request.shown, otherwise=_FAILED)
        raise refusal(said.status, {}, said.body, request.shown)
    except AttemptError as error:
        return error.failure


def _error_in(body: bytes) -> Mapping[str, Any]:
    error = jsontext.decode(body)
    return error if isinstance(error, dict) else {"message": jsontext.as_text(error)}


def _code_in(body: bytes) -> str | None:
    code = _error_in(body).get("code")
    return code if isinstance(code, str) else None
