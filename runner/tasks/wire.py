"""The types that the API takes, and how the values of rows are converted to them.

Rows of CSV files hold texts, and rows of Parquet files hold nulls for missing keys. If a parameter takes no text, a text is
read as JSON: `0.7`, `true`, a list of messages. If it takes only text, a number is printed. In a list or an object, nulls are
left out. A value that still does not fit is the row's error, before anything is sent. Values that are written in the config
itself are sent as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from runner import jsontext
from runner.errors import RowError
from runner.keypaths import KeyPath, dotted
from runner.structs import Struct
from runner.tasks.fields import VerbatimModel
from runner.tasks.media import is_medium
from runner.tasks.members import spliced, without_nulls
from runner.tasks.messages import arranged
from runner.templates.compile import Template, Wanted
from runner.types import ErrorType

__all__ = ["Types", "Wire", "types_of", "what_takes"]

Types = frozenset[type]
_NAMES: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}
#: Keys below a message that hold more than text.
_HOLDING = {"tool_calls", "function_call"}
_LIST: Types = frozenset({list})
_TEXT: Types = frozenset({str})
#: Parameters that may be lists, but are texts if templates give them.
_PROMPTS = {"input", "prompt"}
#: Parameters that are lists of objects.
_OF_OBJECTS = {"functions", "tools"}


def types_of(model: type[VerbatimModel]) -> dict[str, Types]:
    """Return the types that each parameter may have, by its name."""
    return {name: frozenset(_types(field.annotation)) - {NoneType} for name, field in model.model_fields.items()}


def _types(annotation: Any) -> Iterator[type]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _types(get_args(annotation)[0])
    elif origin in {Union, UnionType}:
        for one in get_args(annotation):
            yield from _types(one)
    elif origin is Literal:
        yield from map(type, get_args(annotation))
    else:
        yield origin or annotation


class Wire(Struct, frozen=True):
    """The types of the parameters of one kind of request."""

    types: Mapping[str, Types]

    def wanted(self, path: KeyPath) -> Wanted:
        """Return what a path of the body takes; the path begins with `configuration`."""
        key, inner = path[1], path[2:]
        if key == "messages":
            if not inner or isinstance(inner[-1], int) or inner[-1] in _HOLDING:
                return "value"
            return "medium" if is_medium(inner) else "text"
        only_text = self.types.get(str(key)) == _TEXT or key in _PROMPTS or (key == "metadata" and inner)
        return "text" if only_text else "value"

    def fitting(self, template: Template) -> Fitting:
        """Return the Fitting for the bodies that a template renders."""
        typed = [one.path[1:] for one in template.references if one.typed]
        keys = dict.fromkeys(str(path[0]) for path in typed if path[0] in self.types and path[0] != "messages")
        of_messages = [path[1:] for path in typed if path[0] == "messages"]
        may_hold_more = any(self.wanted(("", "messages", *path)) == "value" for path in of_messages)
        texts = [path for path in of_messages if not may_hold_more]
        return Fitting([(key, self.types[key]) for key in keys], bool(of_messages), may_hold_more, texts)


class Fitting(Struct, frozen=True):
    """The parts of a body that have to be converted or checked."""

    #: The parameters that rows give, and their types.
    keys: Sequence[tuple[str, Types]]
    #: Whether rows give values of the messages that are not always texts.
    messages: bool
    #: Whether these may be whole messages or parts.
    whole: bool
    #: If not, their paths: if all of these values are texts, as is usual, nothing has to be done.
    texts: Sequence[KeyPath]

    def fit(self, body: dict[str, Any]) -> None:
        """Convert a rendered body to the types of the API. Raises RowError (template)."""
        for key, types in self.keys:
            place = ("configuration", key)
            value = _fitted(body[key], types, place)
            if isinstance(value, dict) or (isinstance(value, list) and str not in types):
                value = _unpadded(value, place)
            body[key] = value
        if self.messages and (self.whole or not self._are_texts(body["messages"])):
            place = ("configuration", "messages")
            body["messages"] = arranged(_fitted(body["messages"], _LIST, place) or [], place)

    def _are_texts(self, messages: Any) -> bool:
        for path in self.texts:
            value = messages
            for step in path:
                value = value[step]
            if not isinstance(value, str):
                return False
        return True


def _fitted(value: Any, types: Types, place: KeyPath) -> Any:
    """Return a value in a type that the API takes; a null is left to the server. Raises RowError (template)."""
    if isinstance(value, str):
        return value if str in types else _read(value, types, place)
    if value is None or (type(value) in types and not isinstance(value, float)):
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number and float in types:
        return value
    if number and int in types and isinstance(value, float) and value.is_integer():
        return int(value)
    if str in types and isinstance(value, int | float):
        return jsontext.encode_str(value)
    raise _wrong(value, types, place)


def _unpadded(value: Any, place: KeyPath) -> Any:
    if place[-1] in _OF_OBJECTS:
        return [without_nulls(one) for _, one in spliced(value, place)]
    return without_nulls(value)


def _read(text: str, types: Types, place: KeyPath) -> Any:
    """Return the value in a text: JSON, a boolean as pandas writes it, or a number as Python reads it. Raises RowError."""
    readings: list[Callable[[str], Any]] = [jsontext.decode]
    readings += [lambda text: jsontext.decode(text.lower())] if bool in types else []
    readings += [float] if types & {int, float} else []
    for read in readings:
        try:
            found = read(text)
            if found is not None and not isinstance(found, str):
                return _fitted(found, types, place)
        except (ValueError, RowError):
            continue
    raise _wrong(text, types, place)


def what_takes(types: Types) -> str:
    """Return the types of a parameter in words."""
    return " or ".join(name for kind, name in _NAMES.items() if kind in types)


def _wrong(value: Any, types: Types, place: KeyPath) -> RowError:
    example = ", such as [{role: user, content: …}]" if place[-1] == "messages" else ""
    return RowError(
        ErrorType.TEMPLATE, f"{dotted(place)}: should be {what_takes(types)}{example}, and is {jsontext.shown(value)}"
    )
