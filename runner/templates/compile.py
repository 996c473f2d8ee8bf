"""Locators and templates: how a task's configuration reads the item.

A whole string `item.field` is a locator (`locators`): it is replaced by the value with its JSON type. A string that contains
`{{…}}` or `{%…%}` is a Jinja2 template and gives text. A template that is only a single `{{ … }}` which computes something
gives the result with its JSON type: `"{{ item.n | int }}"` is a number and `"{{ item.refs.split(';') }}"` a list. This applies
where the API takes such values. Where it takes text, such as a message's `content`, numbers are printed, and lists and objects
are written as JSON. `{{ item.field }}` alone does the same everywhere. The caller says what each place of the configuration
takes.

Both are compiled once, and constant parts are shared by all rows. Templates are sandboxed. A missing name is an error of that
row, never an empty string. A name that no row could have, such as `{{ question }}`, is a mistake of the config.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from jinja2 import TemplateError, TemplateSyntaxError, Undefined, nodes

from runner import jsontext
from runner.errors import RowError
from runner.keypaths import KeyPath, dotted
from runner.structs import Struct
from runner.templates.conversions import beyond_json
from runner.templates.locators import NotThereError, PastTheEndError, Step, located, steps_of, what_is_there, written
from runner.templates.sandbox import Sandbox
from runner.types import Blob, ErrorType

__all__ = ["Reference", "Template", "TemplateMistake", "Wanted", "compile_template", "is_template"]

_MARKS = ("{{", "{%")
#: Longer texts are left to the sandbox, which limits them.
_MOST_FILLED = 1 << 20
_MEANT = "; literal text goes between {% raw %} and {% endraw %}"

Render: TypeAlias = Callable[[Mapping[str, Any]], Any]
#: What a place takes: text; a value of any type; or a medium, which is missing without an error if its list is too short.
Wanted: TypeAlias = Literal["text", "value", "medium"]


class TemplateMistake(ValueError):  # noqa: N818  a mistake of the config
    """A template that does not compile; `path` leads to it inside the configuration."""

    def __init__(self, path: KeyPath, message: str) -> None:
        self.path = path
        super().__init__(message)


class Reference(Struct, frozen=True):
    """One place where a template reads the item."""

    #: Where in the configuration.
    path: KeyPath
    #: The first name after `item.`: a column of the dataset or the alias of an earlier task. None if the whole item is read.
    field: str | None
    #: False if the template itself handles its absence (`is defined`, `default`).
    required: bool
    #: Whether it may give a value of any type, or the place takes one.
    typed: bool = False


class Template(Struct, frozen=True):
    """A compiled configuration value."""

    #: Returns the value for one row; raises RowError (template) if the row lacks what it reads.
    render: Render
    references: tuple[Reference, ...]

    @property
    def fields(self) -> frozenset[str]:
        """The names that it reads: columns of the dataset and aliases of earlier tasks."""
        return frozenset(reference.field for reference in self.references if reference.field is not None)


def is_template(value: object) -> bool:
    """Return whether a configuration value is a locator or a template."""
    return isinstance(value, str) and (any(mark in value for mark in _MARKS) or steps_of(value) is not None)


def _to_text(value: Any) -> Any:
    """Print strings and numbers as they are, other JSON values as JSON."""
    if isinstance(value, bool | dict | list | tuple):
        return _sandbox.made(jsontext.encode_str(value))
    return _printable(value)


def _printable(value: Any) -> Any:
    """Return the value if it can be printed. A null cannot, nor can a method or a generator."""
    if value is None:
        raise RowError(ErrorType.TEMPLATE, "a null cannot be printed (use `{{ … or 'text' }}` if a null is expected)")
    if isinstance(value, str | int | float | Blob | Undefined):
        return value
    what = "method" if callable(value) else type(value).__name__
    remedy = 'item["…"] reads the column of that name' if callable(value) else "put `| list` or `| join` after it"
    raise RowError(ErrorType.TEMPLATE, f"a {what} cannot be printed ({remedy})")


def _to_value(value: Any) -> Any:
    """Return the result of an expression as a JSON value."""
    if isinstance(value, str | Blob | Undefined):
        return jsontext.clean_text(str(value))
    return _members(value) if isinstance(value, dict | list | tuple) else _printable(value)


def _members(value: Any) -> Any:
    """Return a copy of a list or dict that holds only JSON values, and bytes, which may be a medium."""
    if isinstance(value, dict):
        return {jsontext.clean_text(str(key)): _members(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_members(member) for member in value]
    if isinstance(value, str):
        return jsontext.clean_text(value)
    return value if value is None or isinstance(value, int | float | Blob) else beyond_json(value)


_sandbox = Sandbox(finalize=_to_text)


def _text_everywhere(_path: KeyPath) -> Wanted:
    return "text"


def compile_template(value: Any, path: KeyPath = (), wanted: Callable[[KeyPath], Wanted] = _text_everywhere) -> Template:
    """Compile every locator and template inside a configuration value; `wanted` says what each place takes.

    Raises TemplateMistake.
    """
    compiler = _Compiler(wanted)
    compiled = compiler.compile(value, path)
    render = compiled if compiled is not None else lambda _item: value
    return Template(render, tuple(compiler.references))


class _Compiler:
    """Compiles a value, and notes which parts of the item it reads."""

    def __init__(self, wanted: Callable[[KeyPath], Wanted]) -> None:
        self.references: list[Reference] = []
        self._wanted = wanted

    def compile(self, value: Any, path: KeyPath) -> Render | None:
        """Return how to render a value, or None if it is constant."""
        if isinstance(value, dict):
            return self._holding(value, value.items(), path)
        if isinstance(value, list):
            return self._holding(value, enumerate(value), path)
        if not isinstance(value, str) or not is_template(value):
            return None
        steps = steps_of(value)
        return self._template(value, path) if steps is None else self._locator(value.strip(), steps, path)

    def _holding(self, value: Any, members: Iterable[tuple[Any, Any]], path: KeyPath) -> Render | None:
        """Return how to render a mapping or a list, whose members come with keys or indexes; None if it is constant."""
        varying = [(key, render) for key, member in members if (render := self.compile(member, (*path, key))) is not None]
        if not varying:
            return None

        def render_members(item: Mapping[str, Any]) -> Any:
            rendered = value.copy()
            for key, render in varying:
                rendered[key] = render(item)
            return rendered

        return render_members

    def _locator(self, text: str, steps: list[Step], path: KeyPath) -> Render:
        self.references.append(Reference(path, str(steps[0]), required=True, typed=True))
        may_end_before = self._wanted(path) == "medium"

        def locate(item: Mapping[str, Any]) -> Any:
            try:
                return located(item, steps)
            except NotThereError as error:
                if may_end_before and isinstance(error, PastTheEndError):
                    return None
                raise RowError(ErrorType.TEMPLATE, f"{dotted(path)}: `{text}` is not there; {error}") from error
            except jsontext.JsonError as error:
                raise RowError(ErrorType.TEMPLATE, f"{dotted(path)}: `{text}` cannot be read: {error}") from error

        return locate

    def _template(self, text: str, path: KeyPath) -> Render:
        takes_text = self._wanted(path) == "text"
        try:
            tree = _sandbox.parse(text)
            names, unknown = list(_names_read(tree)), list(dict.fromkeys(_unknown_names(tree)))
            only = None if takes_text else _computed(tree)
            parts = _plain_parts(tree) if only is None else None
            compute = _sandbox.compiled(tree) if only is None else _sandbox.computed(only)
        except TemplateSyntaxError as error:
            what = f"the template does not parse: {error.message} (line {error.lineno} of the template){_MEANT}"
            raise TemplateMistake(path, what) from error
        except (RecursionError, ValueError) as error:
            raise TemplateMistake(path, f"the template does not parse: {error}") from error
        if unknown:
            raise TemplateMistake(path, "; ".join(unknown) + _MEANT)
        self.references.extend(Reference(path, name, required=required, typed=not takes_text) for name, required in names)
        finish: Callable[[Any], Any] = jsontext.clean_text if only is None else _to_value

        def render(item: Mapping[str, Any]) -> Any:
            try:
                found = None if parts is None else _filled(parts, item)
                return finish(compute(item=item) if found is None else found)
            except RowError as error:
                raise RowError(ErrorType.TEMPLATE, f"{dotted(path)}: {error}") from error
            except TemplateError as error:
                message = str(error.message).replace("'dict object'", "`item`")
                raise RowError(ErrorType.TEMPLATE, f"{dotted(path)}: {message}; {what_is_there(item)}") from error
            except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
                raise RowError(ErrorType.TEMPLATE, f"{dotted(path)}: {type(error).__name__}: {error}") from error

        return render


def _computed(tree: nodes.Template) -> nodes.Expr | None:
    """Return the only expression of a template, ignoring white space around it; None for more, and for a plain field."""
    pieces = [piece for output in tree.body for piece in (output.nodes if isinstance(output, nodes.Output) else [output])]
    telling = [piece for piece in pieces if not (isinstance(piece, nodes.TemplateData) and not piece.data.strip())]
    only = telling[0] if len(telling) == 1 else None
    return only if isinstance(only, nodes.Expr) and not isinstance(only, nodes.TemplateData) and not _is_field(only) else None


def _is_field(node: nodes.Expr) -> bool:
    while isinstance(node, nodes.Getattr) or (isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const)):
        node = node.node
    return isinstance(node, nodes.Name)


def _plain_parts(tree: nodes.Template) -> list[str | list[str]] | None:
    """Return a template as texts and the steps of fields, or None if it has more than texts and fields.

    Most templates have no more. Filling these in costs a tenth of what Jinja needs only to prepare a rendering.
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
    """Return the text with strings and whole numbers filled in, or None if a value is of another kind or missing."""
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


def _names_read(tree: nodes.Template) -> Iterator[tuple[str | None, bool]]:
    """Yield each `item.NAME` of a template, and whether its absence is an error; None if the whole `item` is read."""
    guarded: set[int] = set()
    for node in tree.find_all((nodes.Test, nodes.Filter, nodes.If, nodes.CondExpr)):
        if _copes(node) or (isinstance(node, nodes.If | nodes.CondExpr) and _tests_definition(node.test)):
            guarded.update(map(id, node.find_all(nodes.Node)))
    by_name: set[int] = set()
    for access in _accesses(tree):
        name = _name_read(access)
        if name is not None:
            by_name.add(id(access.node))
            yield name, id(access) not in guarded
    if any(name.name == "item" and id(name) not in by_name for name in tree.find_all(nodes.Name)):
        yield None, False


def _unknown_names(tree: nodes.Template) -> Iterator[str]:
    """Yield a message for each name that is neither `item` nor the template's own: it could never have a value."""
    known = {"item", "self", *_sandbox.globals, *(macro.name for macro in tree.find_all(nodes.Macro))}
    known.update(imported.target for imported in tree.find_all(nodes.Import))
    known.update(name.name for name in tree.find_all(nodes.Name) if name.ctx != "load")
    known.update(("loop",) if tree.find(nodes.For) else (), ("caller", "varargs", "kwargs") if tree.find(nodes.Macro) else ())
    called = {id(call.node) for call in tree.find_all(nodes.Call)}
    inner = {id(access.node): access for access in _accesses(tree)}
    for name in tree.find_all(nodes.Name):
        if name.name in known or name.ctx != "load":
            continue
        below = _constant_name(inner[id(name)]) if id(name) in inner else None
        if id(name) in called:
            yield f"there is no function `{name.name}`; use a filter instead, such as `{{{{ item.list | length }}}}`"
        else:
            yield f"there is no `{name.name}`; the row is `item`, so write `{written(below or name.name)}`"


def _accesses(tree: nodes.Template) -> Iterator[nodes.Getattr | nodes.Getitem]:
    yield from tree.find_all(nodes.Getattr)
    yield from tree.find_all(nodes.Getitem)


def _name_read(access: nodes.Getattr | nodes.Getitem) -> str | None:
    is_item = isinstance(access.node, nodes.Name) and access.node.name == "item"
    return _constant_name(access) if is_item else None


def _constant_name(access: nodes.Getattr | nodes.Getitem) -> str | None:
    name = access.attr if isinstance(access, nodes.Getattr) else getattr(access.arg, "value", None)
    return name if isinstance(name, str) else None


def _copes(node: nodes.Node) -> bool:
    """Return whether a test or filter handles missing names."""
    return isinstance(node, nodes.Test | nodes.Filter) and node.name in {"defined", "undefined", "default", "d"}


def _tests_definition(condition: nodes.Node) -> bool:
    return _copes(condition) or any(map(_copes, condition.find_all(nodes.Test)))
