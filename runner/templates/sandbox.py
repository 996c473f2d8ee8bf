"""The sandbox in which templates run: they cannot leave it, change what they read, or exceed the allowance.

Loops, slices, lists and the operator `~` become filters while a template is compiled, because Jinja2 has no other point where
they can be counted. The names of these filters cannot be written in a template.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import GeneratorType
from typing import Any, cast

from jinja2 import StrictUndefined, Template, nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS as DEFAULT_FILTERS
from jinja2.runtime import LoopContext
from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter, modifies_known_mutable
from jinja2.utils import Namespace, generate_lorem_ipsum
from jinja2.visitor import NodeTransformer

from runner import jsontext
from runner.errors import RowError
from runner.output import PARTS, Output, asked_for_json, json_of
from runner.templates.conversions import CONVERSIONS
from runner.templates.limits import CONTAINERS, MEMBER, Allowance, check_size, check_work, weigh
from runner.templates.locators import what_is_there
from runner.templates.sizes import FILTERS, METHODS, OPERATORS, of_spec, work_of_lorem_ipsum
from runner.types import ErrorType

__all__ = ["Sandbox"]

#: The methods that change their object; for other methods the type need not be checked.
_CHANGING = frozenset(
    name
    for kind in (list, dict, set, deque)
    for name in dir(kind)
    if not name.startswith("_") and modifies_known_mutable(kind(), name)
)
_OF_LOOPS = frozenset({"depth", "depth0", "first", "index", "index0", "last", "length", "revindex", "revindex0"})
_WATCHED, _SLICED, _BUILT, _CONCAT = "(for)", "(slice)", "(literal)", "(~)"
#: Filters that return a part of their input, or a number.
_FREE = {"abs", "attr", "count", "d", "default", "first", "float", "length"}
#: A loop of at most this many rounds is counted before it begins.
_SHORT_LOOP = 16
#: The greatest length of a word of `lipsum`.
_WORD = 20
_SIZED: tuple[Any, ...] = (str, bytes, *CONTAINERS)
#: Part of the comment marks. No text contains it, so there are no comments: `{#` in a prompt is literal text.
_NO_COMMENT = "\ud800"
#: The variable that takes the value of an expression.
_RESULT = "value_of_expression"


class Sandbox(SandboxedEnvironment):
    """Jinja2's sandbox with an allowance. `item.keys` is the column `keys`, not the method of a dict."""

    intercepted_binops = frozenset(OPERATORS)

    def __init__(self, *, finalize: Callable[[Any], Any]) -> None:
        """`finalize` turns printed values into text."""
        self.allowance = Allowance()
        super().__init__(
            undefined=StrictUndefined,
            finalize=finalize,
            keep_trailing_newline=True,
            autoescape=False,
            comment_start_string=f"{_NO_COMMENT}{{#",
            comment_end_string=f"#}}{_NO_COMMENT}",
        )
        filters = {**DEFAULT_FILTERS, **CONVERSIONS, "strip": DEFAULT_FILTERS["trim"]}
        self.filters = {name: self._limited(name, function) for name, function in filters.items()}
        self.filters |= {_WATCHED: self._watched, _SLICED: self._sliced, _BUILT: self.made, _CONCAT: self._concatenated}
        self.filters |= {"join": self._join, "sum": self._sum}
        self.globals |= {"namespace": _Namespace, "lipsum": self._lorem_ipsum, "dict": self._dict}

    def compiled(self, tree: nodes.Template) -> Callable[..., str]:
        """Return a function that renders a parsed template; the parsed tree is changed. Raises TemplateSyntaxError."""
        template = self._compiled(tree)

        def render(**variables: Any) -> str:
            self.allowance.begin()
            return template.render(variables)

        return render

    def computed(self, expression: nodes.Expr) -> Callable[..., Any]:
        """Return a function that computes an expression; its parsed tree is changed. Raises TemplateSyntaxError."""
        assigned = nodes.Assign(nodes.Name(_RESULT, "store"), expression, lineno=1)
        template = self._compiled(nodes.Template([assigned], lineno=1))

        def compute(**variables: Any) -> Any:
            self.allowance.begin()
            context = template.new_context(variables)
            deque(template.root_render_func(context), maxlen=0)
            return context.vars[_RESULT]

        return compute

    def _compiled(self, tree: nodes.Template) -> Template:
        self.allowance.begin()  # constant parts are computed now
        changed = _Watch().visit(tree)
        changed.set_environment(self)
        return self.from_string(changed)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a member of a mapping, or a safe attribute."""
        kind = type(obj)
        if kind is LoopContext and attribute in _OF_LOOPS:
            return getattr(obj, attribute)
        if (kind is dict or (kind is not str and isinstance(obj, Mapping))) and attribute in obj:
            return obj[attribute]
        if issubclass(kind, Output) and attribute not in PARTS and asked_for_json(obj):
            return self._in_answer(obj, attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return the member of a value that brackets ask for."""
        if isinstance(obj, Output) and not isinstance(argument, slice) and argument not in PARTS and asked_for_json(obj):
            return self._in_answer(obj, argument)
        return super().getitem(obj, argument)

    def _in_answer(self, answer: Output, member: Any) -> Any:
        """Return a member of an answer in JSON, or else of its text. Raises RowError (template) if it is not JSON."""
        of_text = isinstance(member, int) or hasattr(str, str(member))
        try:
            value = json_of(answer)
        except jsontext.JsonError as error:
            if not of_text:
                raise RowError(ErrorType.TEMPLATE, f"`{member}` cannot be read: {error}") from error
            value = None
        if isinstance(value, Mapping | list):
            try:
                return value[member]
            except (LookupError, TypeError):
                if not of_text:
                    return self.undefined(f"the answer has no {member!r}; {what_is_there(value)}", name=str(member))
        return super().getitem(answer, member) if isinstance(member, int) else super().getattr(answer, str(member))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether an attribute neither leads out of the sandbox nor changes anything."""
        safe = SandboxedEnvironment.is_safe_attribute(self, obj, attr, value)
        return safe and not (attr in _CHANGING and modifies_known_mutable(obj, attr))

    def made(self, value: Any) -> Any:
        """Count a value that was built, and return it. Raises RowError (template)."""
        if isinstance(value, str):
            self.allowance.build(len(value))
        elif isinstance(value, int | float):
            self.allowance.build(0)
        elif isinstance(value, GeneratorType):
            return self._counted(value)
        elif isinstance(value, _SIZED):
            self.allowance.build(weigh(value))
        else:
            self.allowance.build(0)
        return value

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a macro, a function or a method."""
        self.allowance.step()
        for value in (*args, *kwargs.values()):
            if isinstance(value, CONTAINERS):
                weigh(value)
        if isinstance(obj, LoopContext) and args:  # `loop(children)` of a recursive loop
            args = (self._watched(args[0]), *args[1:])
        if isinstance(owner := getattr(obj, "__self__", None), str | bytes):
            self.allowance.go_through(len(owner))
        if isinstance(owner, str | bytes | int):
            growth = METHODS.get(obj.__name__)
            if obj.__name__ == "join" and len(args) == 1:
                args = (self._gathered(args[0]),)
            if growth is not None:
                check_size(growth(owner, args, kwargs))
        return self.made(super().call(context, obj, *args, **kwargs))

    def call_binop(self, _context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute `+`, `*`, `**` or `%`."""
        check_size(OPERATORS[operator](left, right))
        return self.made(self.binop_table[operator](left, right))

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        """Return the error for an attribute that must not be read."""
        if not modifies_known_mutable(obj, attribute):
            return super().unsafe_undefined(obj, attribute)
        change = f"it would change a {type(obj).__name__} that others read as well; build a new one, such as `list + [value]`"
        what = f"`{attribute}` is unsafe: {change}"
        return self.undefined(what, name=attribute, obj=obj, exc=SecurityError)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return a `format` of a text that respects the sandbox and the allowance; None for any other method."""
        if super().wrap_str_format(value) is None:
            return None
        formatter = _Formatter(self)

        def formatted(*args: Any, **kwargs: Any) -> str:
            if value.__name__ == "format_map":
                (kwargs,), args = args, ()
            return formatter.vformat(str(value.__self__), args, kwargs)

        return formatted

    def concat(self, pieces: Iterable[str]) -> str:
        """Join the pieces of an output."""
        texts = list(pieces)
        self.allowance.build(sum(map(len, texts)))
        return "".join(texts)

    def _limited(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter that checks how much it would build before it does."""
        if name in _FREE:
            return function
        growth = FILTERS.get(name)
        skipped = int(hasattr(function, "jinja_pass_arg"))

        @functools.wraps(function)
        def limited(*args: Any, **kwargs: Any) -> Any:
            value = args[skipped] if len(args) > skipped else None
            if growth is not None:
                check_size(growth(value, args[skipped + 1 :], kwargs))
            if isinstance(value, str | list):
                self.allowance.go_through(len(value))
            return self.made(function(*args, **kwargs))

        return limited

    def _counted(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self.allowance.build(MEMBER)
            yield value

    def _gathered(self, values: Any) -> Any:
        """Return values that come one by one as a list, and count them."""
        return values if isinstance(values, _SIZED) else list(self._counted(values))

    def _watched(self, values: Any) -> Any:
        """Count the rounds of a loop."""
        if (type(values) is list or isinstance(values, _SIZED)) and len(values) <= _SHORT_LOOP:
            self.allowance.step(len(values))
            return values
        return _Watched(values, self.allowance)

    def _sliced(self, value: Any, start: Any, stop: Any, step: Any) -> Any:
        part = value[start:stop:step]
        self.allowance.build(len(part) if isinstance(part, str | bytes) else MEMBER * len(part))
        return part

    def _concatenated(self, *values: Any) -> str:
        texts = [value if isinstance(value, str) else self._text(value) for value in values]
        self.allowance.build(sum(map(len, texts)))
        return "".join(texts)

    def _text(self, value: Any) -> str:
        return str(self.made(str(value)))

    def _join(self, value: Any, d: str = "", attribute: str | int | None = None) -> str:
        """Do what the filter `join` does if nothing is escaped."""
        values = value if type(value) is list else self._gathered(value)
        if attribute is not None:
            values = [self._reached(one, attribute) for one in values]
        texts = [one if isinstance(one, str) else self._text(one) for one in values]
        size = sum(map(len, texts)) + len(texts) * len(d)
        self.allowance.build(size)
        return str(d).join(texts)

    def _reached(self, value: Any, path: str | int) -> Any:
        """Return the value that an `attribute` such as `a.b.0` leads to."""
        for step in str(path).split("."):
            value = self.getitem(value, int(step) if step.isdigit() else step)
        return value

    def _sum(self, iterable: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
        """Do what the filter `sum` does."""
        for one in iterable:
            start = self.call_binop(None, "+", start, one if attribute is None else self._reached(one, attribute))
            self.allowance.build(0)
        return start

    def _dict(self, pairs: Any = (), /, **named: Any) -> dict[Any, Any]:
        """Do what `dict` does, step by step, because keys can be chosen so that each is compared with all before."""
        made: dict[Any, Any] = {}
        for key in pairs if isinstance(pairs, Mapping) else ():
            made[key] = pairs[key]
        for key, value in () if isinstance(pairs, Mapping) else pairs:
            made[key] = value
            self.allowance.build(0)
        return made | named

    def _lorem_ipsum(self, n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:  # noqa: A002  Jinja2's names
        check_size(n * max * _WORD)
        check_work(work_of_lorem_ipsum(n, min, max))
        return generate_lorem_ipsum(n, html, min, max)


class _Namespace(Namespace):
    """A namespace that does not print its content, which may contain itself, or the same value a million times."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Formatter(SandboxedFormatter):
    """Formats as the sandbox does, and counts the result."""

    _env: Sandbox

    def format_field(self, value: Any, format_spec: str) -> Any:
        check_size(of_spec(format_spec))
        return self._env.made(super().format_field(value, format_spec))


class _Watched:
    """The values of a long loop: each round is a step."""

    __slots__ = ("_allowance", "_values")

    def __init__(self, values: Any, allowance: Allowance) -> None:
        self._values, self._allowance = values, allowance

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        for value in self._values:
            self._allowance.step()
            yield value


class _Watch(NodeTransformer):
    """Inserts the counting filters into a parsed template."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  named after the node
        self.generic_visit(node)
        node.iter = _filtered(_WATCHED, cast("nodes.Expr", node.iter))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  named after the node
        self.generic_visit(node)
        return _filtered(_CONCAT, *node.nodes)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802  named after the node
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        ends = (node.arg.start, node.arg.stop, node.arg.step)
        return _filtered(_SLICED, node.node, *(nodes.Const(None, lineno=node.lineno) if end is None else end for end in ends))

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802  named after the node
        return self._literal(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802  named after the node
        return self._literal(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802  named after the node
        return node if node.ctx != "load" else self._literal(node)

    def _literal(self, node: Any) -> nodes.Node:
        """Count a list or dict that holds more than constants."""
        self.generic_visit(node)
        constant = all(isinstance(inner, nodes.Const | nodes.Pair) for inner in node.find_all(nodes.Node))
        return node if constant else _filtered(_BUILT, node)


def _filtered(name: str, value: nodes.Expr, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(args), [], None, None, lineno=value.lineno)
