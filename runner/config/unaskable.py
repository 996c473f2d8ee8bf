"""Finds mistakes in requests that no server takes, whatever the row is, before anything is sent.

Only values that the config itself spells out are checked, not values that a row gives. A word that the API does not know may
be a server's own, and is left to it, unless it is nearly a word of the API.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from runner import jsontext
from runner.config.misspelt import shortened
from runner.keypaths import KeyPath, leaves
from runner.tasks import TASK_TYPES, task_config
from runner.tasks.base import tasks_in
from runner.tasks.media import MEMBERS
from runner.tasks.messages import why_no_message
from runner.tasks.vocabulary import CHOICES_OF_TOOLS, EFFORTS, FORMATS, MODALITIES, PARTS, ROLES, TIERS, TOOLS, meant
from runner.tasks.wire import Types, types_of, what_takes
from runner.templates.compile import is_template
from runner.templates.locators import steps_of

__all__ = ["mistakes_in_requests"]

_Mistakes = Iterator[tuple[KeyPath, str]]

#: The beginning and the end of a text that stands for a list or an object.
_BRACKETS: Mapping[type, tuple[str, str]] = {list: ("[", "]"), dict: ("{", "}")}
#: A text that stands for a part of a number.
_NUMBER = re.compile(r"[-+.\deE]*")
#: The part of a template from its first expression to its last.
_MARKED = re.compile(r"\{[{%#].*[}%#]\}", re.DOTALL)
#: A text with the ending of a file, and without the scheme of a URL.
_LOCAL = re.compile(r"(?!data:|file:)(?!.*://).*\.\w{2,4}", re.DOTALL | re.IGNORECASE)
_FUNCTION = "write {type: function, function: {name: …}}"


def mistakes_in_requests(tasks: Any) -> _Mistakes:
    """Find mistakes in the requests of tasks that hold for every row. The tasks may be malformed."""
    for index, task, settings in tasks_in(tasks):
        kind, place = task.get("task_type"), ("tasks", index, "configuration")
        if not isinstance(kind, str) or kind not in TASK_TYPES or kind == "metric":
            continue
        model = task_config(kind).model_fields["configuration"].annotation
        yield from _in_request(settings, model, place)
        arguments = settings.get("inference_args")
        if isinstance(arguments, dict):
            from runner.tasks.guided_decoding import InferenceArgs  # loaded already, because the config has a judge

            yield from _in_request(arguments, InferenceArgs, (*place, "inference_args"))


def _in_request(settings: Mapping[str, Any], model: Any, place: KeyPath) -> _Mistakes:
    types = types_of(model)
    yield from _in_templates(settings, types, place)
    for key, look in _LOOKS.items():
        if key in settings and key in types:
            yield from look(settings[key], (*place, key), settings)


def _in_templates(settings: Mapping[str, Any], types: Mapping[str, Types], place: KeyPath) -> _Mistakes:
    """Find templates that give a text, whatever the row is, in parameters that take no text."""
    for key, taken in types.items():
        value = settings.get(key)
        if str not in taken and key != "messages" and isinstance(value, str) and _is_only_text(value, taken):
            yield (*place, key), f"should be {what_takes(taken)}, and {shortened(value)!r} is a text for every row"


def _is_only_text(value: str, types: Types) -> bool:
    """Return whether the text before and after a template's expressions cannot be part of a value of these types."""
    if not is_template(value) or steps_of(value) is not None or (marked := _MARKED.search(value)) is None:
        return False
    before, behind = value[: marked.start()].strip(), value[marked.end() :].strip()
    if types.isdisjoint(_BRACKETS):
        return not (_NUMBER.fullmatch(before) and _NUMBER.fullmatch(behind))
    begins, ends = zip(*(_BRACKETS[one] for one in types & _BRACKETS.keys()), strict=True)
    return bool(before and not before.startswith(begins)) or bool(behind and not behind.endswith(ends))


# --- messages ---


def _in_messages(messages: Any, place: KeyPath, _settings: Mapping[str, Any]) -> _Mistakes:
    if isinstance(messages, str):
        if not is_template(messages) or _is_only_text(messages, frozenset({list})):
            said = jsontext.encode_str(shortened(messages))
            yield place, f"should be a list, and is a text for every row; write [{{role: user, content: {said}}}]"
    elif isinstance(messages, dict):
        yield place, f"should be a list, and is {jsontext.shown(messages)}; write - before each message"
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        where = (*place, index)
        if isinstance(message, dict):
            yield from _in_message(message, where)
        elif isinstance(message, str) and (not is_template(message) or _is_only_text(message, frozenset({list, dict}))):
            said = jsontext.encode_str(shortened(message))
            yield where, f"should be a message, and is a text for every row; write {{role: user, content: {said}}}"


def _in_message(message: Mapping[str, Any], place: KeyPath) -> _Mistakes:
    role, content = message.get("role"), message.get("content")
    misspelt = [(key, near) for key in message if (near := meant(str(key), ("role", "content"))) and near not in message]
    if misspelt:
        yield from (((*place, key), f"unknown key; did you mean `{near}`?") for key, near in misspelt)
    elif (why := why_no_message(message)) is not None:
        yield (*place, *why[0]), why[1]
    elif isinstance(role, str) and not is_template(role):
        yield from _in_word(role, ROLES, (*place, "role"))
    if content == []:
        yield (*place, "content"), "is empty; a content is a text or a list of parts"
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, dict):
            yield from _in_part(part, (*place, "content", index))


def _in_part(part: Mapping[str, Any], place: KeyPath) -> _Mistakes:
    kind = part.get("type")
    if kind is None:
        if not any(name in part for name in PARTS if name != "text"):  # a server may infer the type from it
            yield place, "has no `type`; a part is {type: text, text: …} or {type: image_url, image_url: {url: …}}"
        return
    if not isinstance(kind, str):
        yield (*place, "type"), f"should be a text, and is {jsontext.shown(kind)}"
    elif kind not in PARTS:
        if kind not in part and not is_template(kind):  # else it is a server's own
            yield from _in_word(kind, PARTS, (*place, "type"))
    elif kind not in part:
        yield place, f"has no `{kind}`, which a part of this type needs; there is: {', '.join(map(str, part))}"
    elif kind == "text":
        if not isinstance(part["text"], str):
            yield (*place, "text"), f"should be a text, and is {jsontext.shown(part['text'])}; put it into quotes"
    elif kind in MEMBERS:
        yield from _in_medium(part[kind], MEMBERS[kind], (*place, kind))


def _in_medium(member: Any, key: str, place: KeyPath) -> _Mistakes:
    """Find a medium that is missing, and the path of a file in place of content or a URL."""
    if isinstance(member, dict):
        if key not in member and "file_id" not in member:
            yield place, f"has no `{key}`; there is: {', '.join(map(str, member)) or 'nothing'}"
        member, place = member.get(key), (*place, key)
    if isinstance(member, str) and not is_template(member) and _LOCAL.fullmatch(member):
        yield place, f"{shortened(member)!r} is not a URL; a local file is written file:{shortened(member)}"


# --- other parameters ---


def _in_word(word: Any, known: Sequence[str], place: KeyPath) -> _Mistakes:
    near = meant(word, known) if isinstance(word, str) and not is_template(word) else None
    if near is not None:
        yield place, f"is {word!r}; did you mean {near!r}? A server's own word is written {{{{ {word!r} }}}}"


def _of_words(known: Sequence[str]) -> Callable[[Any, KeyPath, Mapping[str, Any]], _Mistakes]:
    return lambda word, place, _settings: _in_word(word, known, place)


def _in_modalities(words: Any, place: KeyPath, _settings: Mapping[str, Any]) -> _Mistakes:
    for index, word in enumerate(words if isinstance(words, list) else ()):
        yield from _in_word(word, MODALITIES, (*place, index))


def _in_tools(tools: Any, place: KeyPath, _settings: Mapping[str, Any]) -> _Mistakes:
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        where = (*place, index)
        if not isinstance(tool, dict):
            continue
        kind, function = tool.get("type"), tool.get("function")
        yield from _in_word(kind, TOOLS, (*where, "type"))
        if kind != "function":
            continue
        if not isinstance(function, dict | str):
            what = f"has no `function`; {_FUNCTION}" if function is None else f"should be {{name: …}}, and is {function!r}"
            yield where if function is None else (*where, "function"), what
        elif isinstance(function, dict):
            if not function.get("name"):
                yield (*where, "function"), "has no `name`, by which the model calls it"
            yield from _in_schema(function.get("parameters"), (*where, "function", "parameters"))


def _in_choice_of_tool(choice: Any, place: KeyPath, settings: Mapping[str, Any]) -> _Mistakes:
    names = _names(settings.get("tools"))
    if isinstance(choice, dict):
        function = choice.get("function")
        yield from _in_word(choice.get("type"), (*TOOLS, "allowed_tools"), (*place, "type"))
        if choice.get("type") != "function":
            return
        if not isinstance(function, dict | str) or (isinstance(function, dict) and not function.get("name")):
            yield place, f"names no function; {_FUNCTION}"
            return
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str) and not is_template(name) and names and name not in names:
            yield (*place, "function", "name"), f"{name!r} is not one of the `tools`; {_instead(name, names)}"
    elif names and choice in names:
        yield place, f"{choice!r} is a tool; write {{type: function, function: {{name: {choice}}}}}"
    else:
        yield from _in_word(choice, CHOICES_OF_TOOLS, place)


def _instead(name: str, names: Sequence[str]) -> str:
    near = meant(name, names)
    return f"did you mean {near!r}?" if near else f"there is: {', '.join(names)}"


def _names(tools: Any) -> list[str] | None:
    """Return the names of tools; None if only the row or the server decides them."""
    names: list[str] = []
    for tool in tools if isinstance(tools, list) else [tools]:
        function = tool.get("function", tool.get("custom")) if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or is_template(name):
            return None
        names.append(name)
    return names


def _in_format(form: Any, place: KeyPath, settings: Mapping[str, Any]) -> _Mistakes:
    if not isinstance(form, dict) or "choices" in settings or "prompt" in settings:  # in a judge it may be a plain schema
        return
    kind, within = form.get("type"), form.get("json_schema")
    yield from _in_word(kind, FORMATS, (*place, "type"))
    if kind is None:
        yield place, "has no `type`; known are: text, json_object, json_schema"
    if kind == "json_schema":
        if within is None and "schema" not in form:
            yield place, "has no `json_schema`; write {type: json_schema, json_schema: {name: …, schema: {…}}}"
        elif isinstance(within, dict):
            yield from _in_schema(within.get("schema"), (*place, "json_schema", "schema"))


def _in_schema(schema: Any, place: KeyPath) -> _Mistakes:
    if schema is None or any(is_template(value) for _, value in leaves(schema, place)):
        return
    from runner.foreign.schemas import check  # hardly any config has a schema

    try:
        check(jsontext.encode_str(schema))
    except ValueError as error:
        yield place, str(error)


def _in_extra_body(more: Any, place: KeyPath, settings: Mapping[str, Any]) -> _Mistakes:
    if not isinstance(more, dict):
        return
    for key in (key for key in more if key in settings and key != "extra_body"):
        yield (*place, key), "is also set beside `extra_body`; leave one of them out"
    if more.get("stream") is True:
        yield (*place, "stream"), "goes beside `configuration`, as `stream: true`: it also says how an answer is read"


def _in_prompt(prompt: Any, place: KeyPath, _settings: Mapping[str, Any]) -> _Mistakes:
    if prompt == []:
        yield place, "should not be empty"
    for index, one in enumerate(prompt if isinstance(prompt, list) else ()):
        if not isinstance(one, str | int | list):
            yield (*place, index), f"should be a text, or tokens, and is {jsontext.shown(one)}"


#: The check of each parameter.
_LOOKS: Mapping[str, Callable[[Any, KeyPath, Mapping[str, Any]], _Mistakes]] = {
    "messages": _in_messages,
    "prompt": _in_prompt,
    "tools": _in_tools,
    "tool_choice": _in_choice_of_tool,
    "response_format": _in_format,
    "reasoning_effort": _of_words(EFFORTS),
    "service_tier": _of_words(TIERS),
    "modalities": _in_modalities,
    "extra_body": _in_extra_body,
}
