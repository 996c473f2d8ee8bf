"""Reads the bodies of requests without delaying others: another process splits a large body.

A body may hold many rows, but each row is small, and so is the rest of the body. These functions block, so they are called in a
thread.
"""

from __future__ import annotations

import asyncio
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec
from aiohttp import web
from pydantic import BaseModel

from runner.foreign.bodies import has_more_values
from runner.processes.once import call_once
from runner.processes.pool import CallError, NoProcessError
from runner.service.api.bodies import validated
from runner.service.asking import body_of
from runner.service.refusals import Mistake, Refusal, invalid, mistake
from runner.service.rows import DEEPEST, MOST_VALUES, depth_of

__all__ = ["LONGEST_CHAT", "Data", "Slices", "asked_in", "read_object", "read_rows"]

_T = TypeVar("_T", bound=BaseModel)

#: A larger body is split by another process; and the most bytes of a body without its rows.
_LARGE, LONGEST = 1 << 18, 1 << 20
#: A chat may hold images: OpenAI accepts 50 MB of them, which are a third longer in base64.
LONGEST_CHAT = 70 << 20
_SECONDS, _MEMORY = 60.0, 4 << 30
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_ITEMS = 10_000_000


class Slices:
    """Slices of a body, by their offsets."""

    def __init__(self, body: bytes | bytearray, places: array[int]) -> None:
        self._body, self._places = body, places

    def __len__(self) -> int:
        return len(self._places) // 2

    def __iter__(self) -> Iterator[bytes]:
        places = iter(self._places)
        return (bytes(self._body[start:end]) for start, end in zip(places, places, strict=True))


#: The rows of a body as they arrived: not parsed yet, or split already; None if there are none.
Data: TypeAlias = msgspec.Raw | Slices | None


def read_object(raw: bytes | bytearray, longest: int = LONGEST) -> tuple[dict[str, Any], Data]:
    """Return the members of a body without `data`, which have at most `longest` bytes, and raw `data`. Raises Refusal."""
    members, data = _apart(raw, longest) if len(raw) > _LARGE else _members(raw, longest)
    said: dict[str, Any] = {}
    wrong: list[Mistake] = []
    for name, member in members.items():
        try:
            said[name] = msgspec.json.decode(member)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            wrong.append(mistake(("body", name), f"cannot be read: {error}", "json_invalid"))
    if wrong:
        raise invalid(*wrong)
    if depth_of(said) > DEEPEST:
        raise invalid(mistake(("body",), f"has more than {DEEPEST} levels"))
    return said, data


def _members(raw: bytes | bytearray, longest: int) -> tuple[dict[str, msgspec.Raw], Data]:
    try:
        members = _MEMBERS.decode(raw)
    except msgspec.ValidationError:
        raise invalid(mistake(("body",), "Input should be a valid dictionary", "dict_type")) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(mistake(("body",), f"JSON decode error: {error}", "json_invalid")) from None
    data = members.pop("data", None)
    if data is not None and bytes(data) == b"null":
        data = None
    if any(has_more_values(member, MOST_VALUES) for member in members.values()):
        raise _too_large(longest)
    return members, data


def _too_large(longest: int) -> Refusal:
    return Refusal(413, f"without its rows, a request may have at most {longest} bytes and {MOST_VALUES} values")


def _apart(raw: bytes | bytearray, longest: int) -> tuple[dict[str, msgspec.Raw], Data]:
    """Read a body in another process, so that other requests do not wait."""
    with tempfile.TemporaryDirectory(prefix="runner-body-") as folder:
        path = Path(folder) / "body"
        path.write_bytes(raw)
        limits = (_ITEMS, longest, MOST_VALUES)
        try:
            found = call_once("runner.foreign.bodies:places", str(path), limits, seconds=_SECONDS, memory=_MEMORY)
        except CallError as error:
            raise invalid(mistake(("body",), f"cannot be read: {error}")) from error
        except NoProcessError as error:
            raise Refusal(503, str(error), {"Retry-After": "5"}) from error
        if "wrong" in found:
            wrong = mistake(("body",), found["wrong"], found["kind"])
            raise _too_large(longest) if found["kind"] == "too_long" else invalid(wrong)
        places = array("Q")
        if found["count"] is not None:
            places.frombytes(path.with_suffix(".places").read_bytes())
    members = _MEMBERS.decode(found["said"])
    if found["count"] is not None:
        return members, Slices(raw, places)
    return members, None if found["other"] is None else msgspec.Raw(found["other"].encode())


def read_rows(data: Data, most: int) -> Slices | list[msgspec.Raw]:
    """Return the members of `data`, not parsed yet. Raises Refusal."""
    place = ("body", "data")
    if data is None:
        raise invalid(mistake(place, "Field required", "missing"))
    try:
        rows = data if isinstance(data, Slices) else _ROWS.decode(data)
    except msgspec.MsgspecError:
        raise invalid(mistake(place, "Input should be a valid list", "list_type")) from None
    if not 1 <= len(rows) <= most:
        raise invalid(mistake(place, f"List should have from 1 to {most} items, not {len(rows)}", "too_short"))
    return rows


async def asked_in(request: web.Request, model: type[_T]) -> _T:
    """Return the body of a request without rows. Raises Refusal with every mistake."""
    body, _ = await body_of(request)
    return await asyncio.to_thread(lambda: validated(model, read_object(body)[0]))
