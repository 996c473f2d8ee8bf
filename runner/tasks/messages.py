"""The messages of a row as the API takes them: without nulls, with nested lists spliced, with ShareGPT's turns renamed.

A part of a message whose picture or sound is null is left out. A part with a list of them becomes one part for each. If the
result is not a message, it is the row's error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner import jsontext
from runner.errors import RowError
from runner.keypaths import KeyPath, dotted
from runner.tasks.media import media_of, with_medium
from runner.tasks.members import spliced, without_nulls
from runner.types import ErrorType

__all__ = ["arranged", "why_no_message"]

#: The role for each value of ShareGPT's `from`.
_ROLES: Mapping[str, str] = {
    "system": "system",
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "model", "bot", "bard", "bing"), "assistant"),
}
#: The roles whose messages must have content.
_SPEAKING = frozenset({"system", "developer", "user", "tool"})
_PLAIN = {"role", "content"}
_ONLY_TEXT = {str}
_EXAMPLE = "a message is {role: user, content: …}"


def arranged(messages: Sequence[Any], place: KeyPath) -> list[dict[str, Any]]:
    """Return messages as the API takes them. Raises RowError (template)."""
    if messages and all(map(_is_plain, messages)):
        return list(messages)
    found = [_message(message, where) for where, message in spliced(messages, place)]
    if not found:
        raise _wrong(place, "is empty, and a request needs a message")
    return found


def _is_plain(message: Any) -> bool:
    """Return whether a message is of the usual form, with nothing to change: only role and content, both texts."""
    return type(message) is dict and message.keys() == _PLAIN and set(map(type, message.values())) == _ONLY_TEXT


def _message(message: dict[str, Any], place: KeyPath) -> dict[str, Any]:
    content = message.get("content")
    if set(map(type, message.values())) != _ONLY_TEXT:
        message = {
            key: member if key == "content" else without_nulls(member)
            for key, member in message.items()
            if member is not None or key == "content"
        }
    if "role" not in message and "from" in message:
        message = _from_turn(message, place)
        content = message["content"]
    if isinstance(content, list):
        content = list(_parts(content, (*place, "content")))
        if not content:
            raise _wrong((*place, "content"), "nothing is left of it, because every part of it is null")
        message = {**message, "content": content}
    if (why := why_no_message(message)) is not None:
        raise _wrong((*place, *why[0]), why[1])
    return message


def _from_turn(turn: Mapping[str, Any], place: KeyPath) -> dict[str, Any]:
    """Return a turn of a ShareGPT conversation as a message; its other keys are not sent."""
    speaker = turn["from"]
    role = _ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if role is None:
        raise _wrong((*place, "from"), f"{speaker!r} is not one of {', '.join(_ROLES)}")
    return {"role": role, "content": turn.get("value", turn.get("content"))}


def why_no_message(message: Mapping[str, Any]) -> tuple[KeyPath, str] | None:
    """Return the path of a mistake in a message, and the reason; None if there is no mistake."""
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        known = f"; there is: {', '.join(map(str, message))}" if role is None else f", because {role!r} is not one"
        return (), f"has no `role`{known}; {_EXAMPLE}"
    if content is None and role in _SPEAKING:
        return ("content",), "is null" if "content" in message else f"is missing; {_EXAMPLE}"
    if content is not None and not isinstance(content, str | list):
        what = f"should be a text or a list of parts, and is {jsontext.shown(content)}"
        return ("content",), f"{what}; {{{{ … }}}} prints a value as text"
    return None


def _parts(content: Sequence[Any], place: KeyPath) -> Iterator[Any]:
    """Yield the parts of a message: none for a null medium, and one for each medium of a list."""
    for index, part in enumerate(content):
        where = (*place, index)
        if isinstance(part, list):
            yield from _parts(part, where)
        elif isinstance(part, dict):
            kind, media = media_of(part)
            if kind is None:
                yield _of_text(without_nulls(part), part, where)
            else:
                yield from (without_nulls(with_medium(part, kind, medium)) for medium in media)
        elif part is not None:
            yield part


def _of_text(part: dict[str, Any], written: Mapping[str, Any], place: KeyPath) -> dict[str, Any]:
    if written.get("type") == "text" and written.get("text") is None:
        raise _wrong((*place, "text"), "is null")
    return part


def _wrong(place: KeyPath, what: str) -> RowError:
    return RowError(ErrorType.TEMPLATE, f"{dotted(place)}: {what}")
