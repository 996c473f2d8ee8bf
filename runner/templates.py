"""Locators and templates: how a task's configuration reads the item.

A whole string `item.field` (dots reach inside, numbers index lists) is a locator: it is replaced by the value with its JSON
type. A string that holds `{{…}}` or `{%…%}` is a Jinja2 template and gives text. Both are compiled once; what is constant is
shared by all rows. Templates are sandboxed, and a name that is not there is that row's error, never an empty string.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from jinja2 import TemplateError, TemplateSyntaxError, Undefined, nodes

from runner import jsontext
from runner.errors import RowError
from runner.output import PARTS, Output
from runner.sandbox import Sandbox
from runner.structs import Struct
from runner.types import Blob, ErrorType

__all__ = ["Template", "TemplateMistake", "compile_template", "is_template"]

_LOCATOR = re.compile(r"item(?:\.[^\s.{}]+)+")
_MARKS = ("{{", "{%")
#: Longer texts are left to the sandbox, which bounds them.
_MOST_FILLED = 1 << 20

Render: TypeAlias = Callable[[Mapping[str, Any]], Any]


class TemplateMistake(ValueError):  # noqa: N818  one of the config's mistakes
    """A template that does not compile; `path` leads to it inside the configuration."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        self.path = path
        super().__init__(message)


class Reference(Struct, frozen=True):
    """One place where a template reads the item."""

    #: Where in the configuration.
    path: tuple[str | int, ...]
    #: The first name after `item.`: a column of the dataset or the alias of an earlier task.
    field: str
    #: False where the template itself copes with its absence (`is defined`, `default`).
    required: bool


class Template(Struct, frozen=True):
    """A compiled configuration value."""

    #: Gives the value for one row; raises RowError (template) for a row that lacks what it reads.
    render: Render
    references: tuple[Reference, ...]

    @property
    def fields(self) -> frozenset[str]:
        """The first names after `item.` that it reads."""
        return frozenset(reference.field for reference in self.references)


def is_template(value: object) -> bool:
    """Whether a configuration value is a locator or a template."""
    return isinstance(value, str) and (_is_locator(value) or any(mark in value for mark in _MARKS))


def _is_locator(text: str) -> bool:
    return _LOCATOR.fullmatch(text) is not None


def _to_text(value: Any) -> Any:
    """Print strings and numbers as they are, other JSON values as JSON; null has no text, and what is no value has none."""
    if value is None:
        raise RowError(ErrorType.TEMPLATE, "a null cannot be printed (use `{{ … or 'text' }}` where it is meant)")
    if isinstance(value, bool | dict | list | tuple):
        return _sandbox.made(jsontext.encode_str(value))
    if isinstance(value, str | int | float | Blob | Undefined):
        return value
    what = "method" if callable(value) else type(value).__name__
    remedy = 'item["…"] reads the column of that name' if callable(value) else "put `| list` or `| join` behind it"
    raise RowError(ErrorType.TEMPLATE, f"a {what} cannot be printed ({remedy})")


_sandbox = Sandbox(finalize=_to_text)


def compile_template(value: Any, path: tuple[str | int, ...] = ()) -> Template:
    """Compile every locator and template inside a configuration value. Raises TemplateMistake."""
    references: list[Reference] = []
    compiled = _compile(value, path, references)
    render = compiled if compiled is not None else lambda _item: value
    return Template(render, tuple(references))


def _compile(value: Any, path: tuple[str | int, ...], references: list[Reference]) -> Render | None:
    """Return how to render a value, or None where it is constant."""
    if isinstance(value, dict):
        return _compile_members(value, value.items(), path, references)
    if isinstance(value, list):
        return _compile_members(value, enumerate(value), path, references)
    if not isinstance(value, str) or not is_template(value):
        return None
    return _compile_locator(value, path, references) if _is_locator(value) else _compile_text(value, path, references)


def _compile_members(
    value: dict[Any, Any] | list[Any],
    members: Iterable[tuple[Any, Any]],
    path: tuple[str | int, ...],
    references: list[Reference],
) -> Render | None:
    """Return how to render a mapping or a list, whose members come with their keys or indexes; None where all are constant."""
    varying = [(key, render) for key, member in members if (render := _compile(member, (*path, key), references)) is not None]
    if not varying:
        return None

    def render_members(item: Mapping[str, Any]) -> Any:
        rendered = value.copy()
        for key, render in varying:
            rendered[key] = render(item)
        return rendered

    return render_members


def _compile_locator(text: str, path: tuple[str | int, ...], references: list[Reference]) -> Render:
    _, *steps = text.split(".")
    references.append(Reference(path, steps[0], required=True))

    def locate(item: Mapping[str, Any]) -> Any:
        value: Any = item
        for step in steps:
            if isinstance(value, Mapping) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            elif isinstance(value, Output) and step in PARTS:
                value = getattr(value, step)
            else:
                raise RowError(ErrorType.TEMPLATE, f"{_dotted(path)}: `{text}` is not there; {_what_is_there(value)}")
        return value

    return locate


def _compile_text(text: str, path: tuple[str | int, ...], references: list[Reference]) -> Render:
    try:
        tree = _sandbox.parse(text)
        names = list(_names_read(tree))
        parts = _plain_parts(tree)
        render_text = _sandbox.compiled(tree)
    except TemplateSyntaxError as error:
        raise TemplateMistake(path, f"the template does not parse: {error.message} (its line {error.lineno})") from error
    except (RecursionError, ValueError) as error:
        raise TemplateMistake(path, f"the template does not parse: {error}") from error
    references.extend(Reference(path, name, required=required) for name, required in names)

    def render(item: Mapping[str, Any]) -> str:
        try:
            found = None if parts is None else _filled(parts, item)
            return jsontext.clean_text(render_text(item=item) if found is None else found)
        except RowError as error:
            raise RowError(ErrorType.TEMPLATE, f"{_dotted(path)}: {error}") from error
        except TemplateError as error:
            message = str(error.message).replace("'dict object'", "`item`")
            raise RowError(ErrorType.TEMPLATE, f"{_dotted(path)}: {message}; {_what_is_there(item)}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RowError(ErrorType.TEMPLATE, f"{_dotted(path)}: {type(error).__name__}: {error}") from error

    return render


def _plain_parts(tree: nodes.Template) -> list[str | list[str]] | None:
    """Return a template as texts and the steps of fields, or None where it is more than texts and fields.

    Most templates are no more, and what Jinja sets up for one rendering costs ten times as much as filling them in.
    """
    parts: list[str | list[str]] = []
    for output in tree.body:
        for piece in output.nodes if isinstance(output, nodes.Output) else [output]:
            node, steps = piece, list[str]()
            while isinstance(node, nodes.Getattr):
                steps.insert(0, node.attr)
                node = node.node
            if isinstance(node, nodes.TemplateData):
                parts.append(node.data)
            elif steps and isinstance(node, nodes.Name) and node.name == "item":
                parts.append(steps)
            else:
                return None
    return parts


def _filled(parts: list[str | list[str]], item: Mapping[str, Any]) -> str | None:
    """Return the text with plain texts and whole numbers in their places, or None where anything else has to be looked at."""
    texts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        value: Any = item
        for step in part:
            if not isinstance(value, dict) or step not in value:
                return None
            value = value[step]
        if type(value) is not str and type(value) is not int:
            return None
        texts.append(str(value))
    return "".join(texts) if sum(map(len, texts)) <= _MOST_FILLED else None


def _names_read(tree: nodes.Template) -> Iterator[tuple[str, bool]]:
    """Yield each `item.NAME` or `item["NAME"]` of a template, and whether its absence would be an error."""
    guarded: set[int] = set()
    for node in tree.find_all((nodes.Test, nodes.Filter, nodes.If, nodes.CondExpr)):
        if _copes(node) or (isinstance(node, nodes.If | nodes.CondExpr) and _tests_definition(node.test)):
            guarded.update(map(id, node.find_all(nodes.Node)))
    for access in tree.find_all((nodes.Getattr, nodes.Getitem)):
        name = _name_read(access)
        if name is not None:
            yield name, id(access) not in guarded


def _name_read(access: nodes.Node) -> str | None:
    if not isinstance(access, nodes.Getattr | nodes.Getitem):
        return None
    if not isinstance(access.node, nodes.Name) or access.node.name != "item":
        return None
    name = access.attr if isinstance(access, nodes.Getattr) else getattr(access.arg, "value", None)
    return name if isinstance(name, str) else None


def _copes(node: nodes.Node) -> bool:
    """Whether a test or filter is made for names that are not there."""
    return isinstance(node, nodes.Test | nodes.Filter) and node.name in {"defined", "undefined", "default", "d"}


def _tests_definition(condition: nodes.Node) -> bool:
    return _copes(condition) or any(map(_copes, condition.find_all(nodes.Test)))


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))


def _what_is_there(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"there is: {', '.join(map(str, value)) or 'nothing'}"
    if value is None:
        return "a null is there"
    if isinstance(value, Output):
        return f"an answer is there, which has: {', '.join(sorted(PARTS))}"
    return f"a {type(value).__name__} is there"
