"""YAML text: read into plain values with the line of each, and written.

Scalars follow the core schema of YAML 1.2, so `no` is a string and `1e-6` a number. The type of an unquoted scalar with a
`${VAR}` is decided after the variable is expanded (`concurrency: ${N:-8}` is a number). In a quoted scalar it stays text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import yaml

from runner.errors import ConfigError
from runner.keypaths import KeyPath

__all__ = ["VARIABLE", "Builder", "Plain", "check_is_whole", "dump", "retyped"]

#: `${VAR}` with its default, or `$${VAR}`: groups are the second dollar, the name and the default.
VARIABLE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
#: Characters that editors and web pages put in place of spaces and quotes, at positions where YAML has these.
_LOOKALIKES = re.compile(r"(?:^|[:,{\[-])[ ]*([\xa0\u2007\u202f\u3000“”„‘’])")
#: A comment with a template, after a text without quotes: `Answer #1 {{item.question}}`.
_CUT = re.compile(r"[ \t]+#.*\{[{%]")
#: Hints for a syntax error, by the parser's message. The second ones apply if the lines give no better hint.
_SURE = {
    "\\t": "indent with spaces, not tabs",
    "escape character": "put it into single quotes, in which a backslash is a backslash",
    "another document": "a file holds one config; remove the line `---`",
}
_LIKELY = {
    "got ':'": "quote a text that holds a colon",
    "mapping values are not allowed": "quote a text that holds a colon",
    "expected <block end>": "is the line indented as the others of its mapping or list?",
}
#: A value that begins with a template, without a quote before it.
_UNQUOTED = re.compile(r"(?:^|[{,\[])\s*+(?:-\s++)*+(?:[\w.-]++:\s++)?\{[{%]", re.MULTILINE)
_MOST_VALUES = 100_000
_DEEPEST = 64
_MERGE = "tag:yaml.org,2002:merge"
_KINDS = {f"tag:yaml.org,2002:{kind}": kind for kind in ("map", "seq", "str", "int", "float", "bool", "null")}


class Plain(str):
    """An unquoted scalar that holds a `${VAR}`: its type is decided after the variable is expanded."""

    __slots__ = ()


class _CoreSchemaLoader(yaml.SafeLoader):
    yaml_implicit_resolvers: Any = {}  # noqa: RUF012  PyYAML declares it so


class _CoreSchemaDumper(yaml.SafeDumper):
    yaml_implicit_resolvers: Any = {}  # noqa: RUF012  PyYAML declares it so

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  the signature is PyYAML's
        return True


for _class in (_CoreSchemaLoader, _CoreSchemaDumper):
    for _tag, _pattern, _first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", "~nN\0"),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        (
            "float",
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
            "-+.0123456789",
        ),
        ("merge", r"<<", "<"),
    ):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), ["" if c == "\0" else c for c in _first]
        )
_CoreSchemaDumper.add_representer(
    Plain, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style="")
)


def _represent_text(dumper: Any, text: str) -> Any:
    """Quote a text that would be read as something else: a quoted `${VAR}`, and line ends that YAML folds into spaces."""
    style = '"' if _LINE_ENDS.search(text) else "'" if VARIABLE.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_CoreSchemaDumper.add_representer(str, _represent_text)
_RESOLVER = _CoreSchemaLoader("")


def dump(document: Any) -> str:
    """Return YAML text."""
    return yaml.dump(document, Dumper=_CoreSchemaDumper, sort_keys=False, allow_unicode=True, width=120)


def check_is_whole(text: str, value: Any) -> None:
    """Raise ValueError if a comment cuts the text of a value short."""
    end = 0
    for token in yaml.scan(text, _CoreSchemaLoader):
        if "#" in text[end : token.start_mark.index]:
            raise ValueError(_cut_short(value))
        end = token.end_mark.index


def _cut_short(value: Any) -> str:
    return f"a ` #` begins a comment, so the value is {'empty' if value is None else repr(value)}; put it in quotes"


class Builder:
    """Turns YAML text into plain values and remembers the line of each."""

    def __init__(self, source: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.mistakes: list[tuple[KeyPath, str]] = []
        self._source = source
        self._text = ""
        self._count = 0

    def build(self, text: str) -> Any:
        """Return the values of a text; note the line of each, and mistakes. Raises ConfigError if it is not YAML."""
        self._text = text
        try:
            loader = _CoreSchemaLoader(text)
            try:
                node = loader.get_single_node()
            finally:
                loader.dispose()
            return self._value(node, ()) if node is not None else None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f"{self._source}:{mark.line + 1}:{mark.column + 1}" if mark else self._source
            problem = str(error.problem).replace("'<stream end>'", "the end of the text")
            raise ConfigError([f"{place}: not YAML: {problem}{_hint(text, error)}"]) from error
        except yaml.reader.ReaderError as error:
            place = f"{self._source}:{text.count(chr(10), 0, error.position) + 1}"
            character = f"the character U+{ord(text[error.position]):04X}"
            raise ConfigError([f"{place}: not YAML: {character} is not allowed here"]) from error
        except RecursionError as error:
            raise ConfigError([f"{self._source}: not YAML: nested too deeply"]) from error

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._take_one(node, path)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if node.tag not in _KINDS and node.tag != _MERGE:
            self.mistakes.append((path, f"the tag {node.tag} is not allowed"))
            return None
        if isinstance(node, yaml.MappingNode):
            written = " ".join(self._text[node.start_mark.index : node.end_mark.index].split())
            if not written.startswith("{{"):
                return self._mapping(node, path)
            self.mistakes.append((path, f'a template needs quotes around it: "{written}"'))
            return written
        if isinstance(node, yaml.SequenceNode):
            return [self._value(member, (*path, index)) for index, member in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        if node.style is None and _KINDS.get(node.tag) == "str" and _CUT.match(self._text, node.end_mark.index):
            self.mistakes.append((path, _cut_short(node.value)))
        try:
            return _scalar(node)
        except ValueError as error:
            self.mistakes.append((path, str(error)))
            return None

    def _take_one(self, node: yaml.Node, path: KeyPath) -> None:
        self._count += 1
        if self._count > _MOST_VALUES or len(path) > _DEEPEST:
            place = f"{self._source}:{node.start_mark.line + 1}"
            what = f"more than {_MOST_VALUES:,} values or {_DEEPEST} levels"
            raise ConfigError([f"{place}: {what}; is an alias nested in itself? Many rows belong in a dataset file"])

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged = self._merged(value_node, path) | merged
        members: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self.lines[(*path, "?")] = line
                self.mistakes.append(((*path, "?"), "a key must be a plain word"))
                continue
            key = _text(key_node.value)
            self.lines[(*path, key)] = line
            if key in members:
                self.mistakes.append(((*path, key), "the key appears twice"))
            members[key] = self._value(value_node, (*path, key))
        return merged | members

    def _merged(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        """Return the members that `<<:` brings in. If several mappings have a key, the first one gives the value."""
        merged: dict[str, Any] = {}
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            self._take_one(source, path)
            if isinstance(source, yaml.MappingNode):
                merged = self._mapping(source, path) | merged
            else:
                self.lines[(*path, "<<")] = source.start_mark.line + 1
                self.mistakes.append(((*path, "<<"), "takes a mapping, or a list of mappings"))
        return merged


def _hint(text: str, error: yaml.MarkedYAMLError) -> str:
    """Return a hint that may mend a syntax error, from the parser's message or from the lines that it names."""
    problem = str(error.problem)
    said = _said(_SURE, problem) or _seen(text, error) or _said(_LIKELY, problem)
    return f" ({said})" if said else ""


def _said(hints: Mapping[str, str], problem: str) -> str | None:
    return next((hint for words, hint in hints.items() if words in problem), None)


def _seen(text: str, error: yaml.MarkedYAMLError) -> str | None:
    """Return a hint from the lines that an error names, and the lines before."""
    lines, opened = text.split("\n"), error.context_mark
    marks = [mark for mark in (error.problem_mark, opened) if mark is not None]
    if "stream" in str(error.problem) and opened is not None:
        return f"the bracket or quote opened in line {opened.line + 1} is never closed; a ` #` outside quotes begins a comment"
    near = "\n".join(lines[min(mark.line, len(lines) - 1)] for mark in marks)
    if "${" in near:
        return "quote a `${VAR}` inside [ ] or { }"
    if _UNQUOTED.search(near):
        return "quote a text that begins with a template"
    for number, line in enumerate(lines[: marks[0].line + 1] if marks else (), 1):
        if (alike := _LOOKALIKES.search(line)) is not None:
            return f"line {number} has a {unicodedata.name(alike[1])}; write a plain space or quote"
    return None


def _scalar(node: yaml.ScalarNode) -> Any:
    """Return a scalar's value. Raises ValueError."""
    if node.tag not in {"tag:yaml.org,2002:str", _MERGE}:
        return _resolved(_KINDS[node.tag], node.value)
    text = _text(node.value)
    return Plain(text) if node.style is None and VARIABLE.search(text) else text


def _text(text: str) -> str:
    """Join surrogate pairs, with which JSON escapes characters, and replace lone surrogates."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _SURROGATES.search(text) else text


def _resolved(kind: str, text: str) -> Any:
    """Return the value of a scalar that is not text. Raises ValueError."""
    lowered = text.lower()
    try:
        if kind == "int":
            return int(text, 0 if lowered.startswith(("0x", "0o")) else 10)
        if kind == "float":
            return float(lowered.replace(".inf", "inf").replace(".nan", "nan"))
        return None if kind == "null" else {"true": True, "false": False}[lowered]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{text[:40]!r} is not a valid {kind}") from error


def retyped(text: str) -> Any:
    """Return an unquoted scalar as the number or boolean that YAML would read, and else as text."""
    kind = _KINDS.get(str(_RESOLVER.resolve(yaml.ScalarNode, text, (True, False))))  # type: ignore[no-untyped-call]
    if kind not in {"int", "float", "bool"}:
        return text
    try:
        return _resolved(kind, text)
    except ValueError:
        return text
