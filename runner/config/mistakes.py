"""Turns Pydantic's errors into messages that help to mend them: the path, the value, the nearest known key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runner.keypaths import KeyPath
from runner.secrets.redaction import mapped
from runner.tasks import TASK_TYPES, task_config
from runner.tasks.base import NAME_PATTERN
from runner.tasks.conditions import OPERATORS

__all__ = ["explain"]


def explain(error: ValidationError, root: type[BaseModel], redact: Callable[[str], str] = str) -> list[tuple[KeyPath, str]]:
    """Return every mistake as its path in the file and a sentence. Errors of several branches about a value are one mistake.

    Values are first redacted, and then cut to the length of a line.
    """
    found: dict[KeyPath, list[str]] = {}
    for detail in error.errors():
        detail["input"] = mapped(detail["input"], redact)
        path, message = _explain(root, detail)
        found.setdefault(path, []).append(message)
    return [(path, " or ".join(dict.fromkeys(messages))) for path, messages in found.items()]


def _explain(root: type[BaseModel], error: ErrorDetails) -> tuple[KeyPath, str]:
    """Turn one of Pydantic's errors into a path in the file and a sentence."""
    location, kind, context = error["loc"], error["type"], error.get("ctx", {})
    path = tuple(step for step in location if not _is_a_branch(step))
    if kind == "extra_forbidden":  # its last step is the key itself, whatever it looks like
        *around, key = location
        path = (*(step for step in around if not _is_a_branch(step)), key)
        elsewhere = "" if _is_section(error["input"], root, location) else _elsewhere(root, location)
        return path, f"unknown key{elsewhere or _nearest(str(key), _known_keys(root, location))}"
    if kind == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
        key = context["discriminator"].strip("'")
        return (*path, key), f"{context['tag']!r} is not {_TAGS[key]}{_nearest(str(context['tag']), tags)}"
    if kind == "no_plug_in":
        return (*path, "task_type"), error["msg"]
    if kind == "union_tag_not_found":
        return (*path, context["discriminator"].strip("'")), "is missing"
    return path, "is missing" if kind == "missing" else _sentence(path, error)


def _sentence(path: KeyPath, error: ErrorDetails) -> str:
    """Return what a value should be, and what it is."""
    kind, message = error["type"], error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error":
        return message
    message = _BETTER.get(kind, message)
    if kind in {"too_short", "string_too_short"} and error["ctx"]["min_length"] == 1:
        message = "should not be empty"
    if kind == "string_pattern_mismatch" and error["ctx"]["pattern"] == NAME_PATTERN:
        message = "should be letters, digits, `_`, `.` and `-`, and not begin with `.` or `-`"
    if path[:2] == ("endpoint", "headers"):  # the value of a header may be a secret
        return f"{message}{'; put numbers into quotes' * (kind == 'string_type')}"
    if path[:2] == ("endpoint", "api_key_env"):  # as may be a text in place of a name
        return message
    if error["input"] is None:
        return f"{message}, and is empty"
    return f"{message}, got {_shown(error['input'])}{_meant(error)}"


def _meant(error: ErrorDetails) -> str:
    """Return a suggestion, such as `; write 8`: a known word that is similar, or the value as it has to be written."""
    kind, value = error["type"], error["input"]
    if kind == "bool_type" and str(value).lower() in _BOOLEANS:
        return f"; write {_BOOLEANS[str(value).lower()]}"
    if kind == "list_type":
        return f"; write [{value}]" if isinstance(value, str) else "; begin each member with `- `" * isinstance(value, dict)
    if kind in {"model_type", "model_attributes_type"} and error["loc"] == ("endpoint",) and isinstance(value, str):
        return f"; write {{base_url: {value}}}"
    if kind in _NUMBERS and isinstance(value, str):
        number = value.strip().replace(",", ".")
        is_quoted = number == value
        return f"; write {number}{' without quotes' * is_quoted}" if _NUMBERS[kind].fullmatch(number) else ""
    if kind != "literal_error":
        return ""
    near = _similar(str(value), _WORD.findall(error["ctx"]["expected"]))
    return "" if near is None else f"; did you mean {near!r}?"


#: Booleans of older YAML, which are texts now.
_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
#: How numbers are written, by Pydantic's error for a value that is not a number.
_NUMBERS = {"int_type": re.compile(r"[-+]?\d+"), "float_type": re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")}
#: A word among those that Pydantic expects.
_WORD = re.compile(r"'([^']*)'")
#: Messages in place of Pydantic's, which use Python's words for mappings and lists.
_BETTER = {
    "model_type": "should be a mapping of keys",
    "model_attributes_type": "should be a mapping of keys",
    "dict_type": "should be a mapping of keys",
    "list_type": "should be a list",
}
#: From this similarity on, a mistyped word was probably meant to be another.
_ALIKE = 0.7
#: The kind of word that chooses the branch of a union, by its key.
_TAGS = {"task_type": "a task type", "op": "an operator"}
_BRANCHES = {
    *TASK_TYPES,
    *("str", "int", "float", "bool", "nullable"),
    *OPERATORS,
}


def _is_a_branch(step: str | int) -> bool:
    """Return whether a step of Pydantic's location names a branch of a union and not a key of the file."""
    return isinstance(step, str) and (step in _BRANCHES or "[" in step)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004  a line's worth


def _similar(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that a mistyped one probably was meant to be."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=_ALIKE)), None)


def _nearest(word: str, known: Sequence[str]) -> str:
    if (near := _similar(word, known)) is not None:
        return f"; did you mean `{near}`?"
    more = "; other parameters of a server go below `extra_body`" if "extra_body" in known else ""
    return f"; known are: {', '.join(known)}{more}" if known else ""


def _elsewhere(root: type[BaseModel], location: KeyPath) -> str:
    """Return where an unknown key is known: around it, below a key beside it, or elsewhere if no key here is similar."""
    *around, key = location
    for depth, step in reversed(list(enumerate(around))):
        if not isinstance(step, int) and not _is_a_branch(step) and key in _keys(_models_at(root, around[:depth])):
            return f"; it goes beside `{step}`, not below it"
    for name, inner in _fields(_models_at(root, around)):
        if (model := _model_in(inner)) is not None and key in _keys([model]):
            return f"; it goes below `{name}`"
    if _similar(str(key), _known_keys(root, location)):
        return ""
    places = (place for place in _all_keys(root) if place.rpartition(".")[2] == key)
    far = [place for place in places if place.partition("[")[0].partition(".")[0] != location[0]]
    return f"; did you mean `{far[0]}`?" if far else ""


def _is_section(value: object, root: type[BaseModel], location: KeyPath) -> bool:
    """Return whether an unknown key holds a mapping or list and is similar to a known key, such as `limit: {drain: 3}`."""
    return isinstance(value, dict | list) and _similar(str(location[-1]), _known_keys(root, location)) is not None


def _all_keys(root: type[BaseModel]) -> Iterator[str]:
    """Yield every key of a section or of a task by its path, such as `endpoint.timeout` and `tasks[].configuration.model`."""
    for name, inner in _fields([root]):
        if (section := _model_in(inner)) is not None and name != "tasks":
            yield from (f"{name}.{key}" for key in _keys([section]))
    tasks = [task_config(kind) for kind in TASK_TYPES]
    yield from (f"tasks[].{key}" for key in _keys(tasks))
    for name, inner in _fields(tasks):
        if (configuration := _model_in(inner)) is not None:
            yield from (f"tasks[].{name}.{key}" for key in _keys([configuration]))


def _known_keys(root: type[BaseModel], location: KeyPath) -> list[str]:
    """Return the keys that are known in place of an unknown one."""
    return _keys(_models_at(root, location[:-1]))


def _models_at(root: type[BaseModel], steps: Sequence[str | int]) -> list[type[BaseModel]]:
    """Return the models that the mapping at a path of the file may have."""
    models: list[type[BaseModel]] = [root]
    for step in steps:
        if step in TASK_TYPES:
            models = [task_config(str(step))]
            continue
        annotations = [model.model_fields[step].annotation for model in models if step in model.model_fields]
        models = [found for found in map(_model_in, annotations) if found is not None] or models
    return models


def _fields(models: Sequence[type[BaseModel]]) -> Iterator[tuple[str, Any]]:
    for model in models:
        for name, field in model.model_fields.items():
            yield field.alias or name, field.annotation


def _keys(models: Sequence[type[BaseModel]]) -> list[str]:
    return sorted({name for name, _ in _fields(models)})


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in a type, however deep in lists and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner)) is not None), None)
