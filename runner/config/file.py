"""The YAML text of a config: the line of each value, `--set` overrides and `${VAR}`.

Scalars follow the core schema of YAML 1.2, so `no` is a string and `1e-6` a number. A variable in an unquoted scalar is
expanded before the type of the scalar is decided (`concurrency: ${N:-8}` is a number). In a quoted scalar it stays text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from runner.datasets.formats import FORMATS
from runner.errors import ConfigError
from runner.keypaths import KeyPath, dotted
from runner.meant import path_meant
from runner.secrets.redaction import mapped
from runner.structs import Struct, field, replace

__all__ = [
    "VARIABLE",
    "ConfigFile",
    "Source",
    "Variable",
    "dump",
    "expand",
    "literals",
    "long_form",
    "put_in",
    "read_config",
    "read_config_file",
    "read_list",
]

#: `${VAR}` with its default, or `$${VAR}`: groups are the second dollar, the name and the default.
VARIABLE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
#: `tasks[0]` is short for `tasks.0`.
_INDEX = re.compile(r"\[(\d+)\](?=\.|$)")
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
#: The keys of a config that are copied into evaluation.json, and not used otherwise.
_ONLY_COPIED = frozenset({"description", "tags", "metadata"})
#: Options of a dataset that do not depend on its file.
_OF_ANY_ROWS = ("id", "limit", "shuffle", "media_root", "media_limit")
_MOST_VALUES = 100_000
_DEEPEST = 64
#: The line of a value that an override has set; it sorts last.
_OVERRIDDEN = 1 << 60
_MERGE = "tag:yaml.org,2002:merge"
_KINDS = {f"tag:yaml.org,2002:{kind}": kind for kind in ("map", "seq", "str", "int", "float", "bool", "null")}


#: The path of a config file, or its content.
Source: TypeAlias = str | Path | Mapping[str, object]


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


class ConfigFile(Struct, frozen=True):
    """A config as written: overrides applied, variables not yet expanded."""

    path: Path
    #: The text of the file.
    text: str
    #: The parsed text; scalars with variables are still unexpanded.
    document: dict[str, Any]
    #: The line of each value's key, from 1.
    lines: Mapping[KeyPath, int]
    #: The overrides given on the command line.
    overrides: Sequence[str] = field(default_factory=tuple)
    #: The paths of the values that the overrides have set.
    overridden: frozenset[KeyPath] = frozenset()
    #: Mistakes in a text that could be parsed: doubled keys, tags.
    mistakes: Sequence[tuple[KeyPath, str]] = field(default_factory=tuple)
    #: Messages about overrides that could not be applied.
    not_applied: Sequence[str] = field(default_factory=tuple)

    def place(self, path: KeyPath) -> str:
        """Return `file:line` of a value, or of the nearest value around it; `--set` if an override has set it."""
        line = self._line(path)
        return "--set" if line == _OVERRIDDEN else f"{self.path}:{line}" if line else str(self.path)

    def described(self, mistakes: Sequence[tuple[KeyPath, str]]) -> list[str]:
        """Return mistakes as messages, each with its line and path, in the order of the file."""
        ordered = sorted(mistakes, key=lambda mistake: self._line(mistake[0]))
        return [f"{self.place(path)}: {dotted(path) or 'config'}: {message}" for path, message in ordered]

    def rerunnable_text(self, redact: Callable[[str], str] = str) -> str:
        """Return the config with its overrides applied, its variables unexpanded and its secrets redacted."""
        document = mapped(self.document, redact)
        if not self.overrides and document == self.document and redact(self.text) == self.text:
            return self.text
        note = redact(f"{self.path} with --set {' --set '.join(self.overrides)}" if self.overrides else str(self.path))
        return f"# {''.join(c if c.isprintable() else ' ' for c in note)}\n{dump(document)}"

    def reading(self, **dataset: Any) -> ConfigFile:
        """Return the config with other rows: its dataset keeps only the options that do not depend on a file."""
        document = long_form(self.document)
        before = document.get("dataset")
        kept = {key: before[key] for key in _OF_ANY_ROWS if key in before} if isinstance(before, dict) else {}
        document["dataset"] = kept | dataset
        return replace(self, text=dump(document), document=document)

    def naming(self, values: Mapping[KeyPath, str]) -> ConfigFile:
        """Return the config with other texts at these paths."""
        if not values:
            return self
        document = deepcopy(self.document)
        for path, value in values.items():
            within: Any = document
            for step in path[:-1]:
                within = within[step]
            within[path[-1]] = value
        return replace(self, text=dump(document), document=document)

    def _line(self, path: KeyPath) -> int:
        for length in range(len(path), -1, -1):
            if path[:length] in self.overridden:
                return _OVERRIDDEN
            if (line := self.lines.get(path[:length])) is not None:
                return line
        return 0


def dump(document: Any) -> str:
    """Return YAML text."""
    return yaml.dump(document, Dumper=_CoreSchemaDumper, sort_keys=False, allow_unicode=True, width=120)


def read_config(source: Source, overrides: Sequence[str]) -> ConfigFile:
    """Return a config from its file or its content, `KEY.PATH=VALUE` overrides applied. Raises ConfigError."""
    return _of_mapping(source, overrides) if isinstance(source, Mapping) else read_config_file(Path(source), overrides)


def _of_mapping(content: Mapping[str, object], overrides: Sequence[str]) -> ConfigFile:
    mistakes: list[tuple[KeyPath, str]] = []
    document = _as_yaml_has_it(content, (), mistakes)
    file = ConfigFile(Path("config"), dump(document), document, {}, tuple(overrides))
    if mistakes:
        raise ConfigError(file.described(mistakes))
    return _with_overrides(file)


def _as_yaml_has_it(value: Any, path: KeyPath, mistakes: list[tuple[KeyPath, str]]) -> Any:
    """Return a copy of a value, as a file would give it. A value that no file can hold is a mistake."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            mistakes.append((path, "has a key that is not text"))
        return {str(key): _as_yaml_has_it(member, (*path, str(key)), mistakes) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_as_yaml_has_it(member, (*path, index), mistakes) for index, member in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if value is not None and type(value) not in {str, int, float, bool}:
        mistakes.append((path, f"is {value!r:.100}, a {type(value).__name__}, which a config file cannot hold"))
        return None
    return value


def read_config_file(path: Path, overrides: Sequence[str] = ()) -> ConfigFile:
    """Read and parse a config and apply `KEY.PATH=VALUE` overrides. Raises ConfigError if the file holds no mapping."""
    if path.suffix[1:].lower() in FORMATS.keys() - {"json"}:
        raise ConfigError([f"{path}: is a dataset, by its ending; name a config, which may hold `dataset: {path}`"])
    builder, text = _Builder(str(path)), _text_in(path)
    document = builder.build(text)
    if not isinstance(document, dict):
        builder.mistakes.append(((), f"should be a mapping of keys, and is {_kind_of(document)}"))
        file = ConfigFile(path, text, {}, builder.lines or {(): 1})
        raise ConfigError(file.described(builder.mistakes[:1]))
    if "dataset" not in document:  # the long form of `data:`
        builder.lines |= {("dataset", *known): line for known, line in builder.lines.items() if known[:1] == ("data",)}
    file = ConfigFile(path, text, document, builder.lines, tuple(overrides), mistakes=builder.mistakes)
    return _with_overrides(file)


def _kind_of(document: Any) -> str:
    return "empty" if document is None else "a list" if isinstance(document, list) else "one value"


def read_list(path: Path) -> list[str]:
    """Return the texts of a YAML list. Raises ConfigError."""
    found = _Builder(str(path)).build(_text_in(path))
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ConfigError([f"{path}: should be a list of texts, each on a line such as `- correct >= -0.01`"])
    return found


def _text_in(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(
            [f"{path}: there is no such file (the path is relative to {Path.cwd()}){path_meant(path)}"]
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8: byte 0x{error.object[error.start]:02x}; save it as UTF-8"]) from error
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error


def _with_overrides(file: ConfigFile) -> ConfigFile:
    """Return the file with its overrides applied."""
    document, mistakes, not_applied = file.document, list(file.mistakes), list[str]()
    overridden: set[KeyPath] = set()
    for override in file.overrides:
        key, equals, text = override.partition("=")
        steps = _INDEX.sub(r".\1", key).split(".")
        if not equals or not all(steps):
            not_applied.append(f"--set {override}: write --set KEY.PATH=VALUE")
            continue
        builder = _Builder(f"--set {key}")
        try:
            value = builder.build(text)
            _check_is_whole(text, value)
            if steps[0] == "dataset" and len(steps) > 1:
                document = long_form(document)
            path, made = _put(document, steps, value)
        except ConfigError as error:
            not_applied += error.mistakes
        except ValueError as error:
            not_applied.append(f"--set {key}: {error}")
        else:
            overridden.add(made)
            mistakes += [((*path, *below), message) for below, message in builder.mistakes]
    lines = {path: line for path, line in file.lines.items() if not any(path[: len(one)] == one for one in overridden)}
    return replace(
        file, document=document, lines=lines, overridden=frozenset(overridden), mistakes=mistakes, not_applied=not_applied
    )


def long_form(document: dict[str, Any]) -> dict[str, Any]:
    """Return a config without its short forms `dataset: PATH`, and `data:` at the top as in SGP."""
    document = dict(document)
    if isinstance(document.get("dataset"), str | list):
        document["dataset"] = {"path": document["dataset"]}
    if "data" in document and "dataset" not in document:
        document["dataset"] = {"data": document.pop("data")}
    return document


def _check_is_whole(text: str, value: Any) -> None:
    """Raise ValueError if a comment cuts the text of a value short."""
    end = 0
    for token in yaml.scan(text, _CoreSchemaLoader):
        if "#" in text[end : token.start_mark.index]:
            raise ValueError(_cut_short(value))
        end = token.end_mark.index


def _cut_short(value: Any) -> str:
    return f"a ` #` begins a comment, so the value is {'empty' if value is None else repr(value)}; put it in quotes"


def _put(document: Any, steps: Sequence[str], value: Any) -> tuple[KeyPath, KeyPath]:
    """Set a value at a path, and make the mappings that lead to it. Return its path, and that of the first value made.

    Raises ValueError.
    """
    path: KeyPath = ()
    made: KeyPath | None = None
    for step in steps[:-1]:
        key = _key_in(document, step, path)
        if document[key] is None if isinstance(key, int) else document.get(key) is None:
            document[key] = {}
            made = made or (*path, key)
        document, path = document[key], (*path, key)
    key = _key_in(document, steps[-1], path)
    document[key] = value
    return (*path, key), made or (*path, key)


def _key_in(value: Any, step: str, path: KeyPath) -> str | int:
    if isinstance(value, dict):
        return step
    if not isinstance(value, list):
        raise ValueError(f"`{dotted(path)}` is not a mapping or list, so it has no `{step}`")  # noqa: TRY004  the user's
    if not step.isdecimal() or int(step) >= len(value):
        raise ValueError(f"`{dotted(path)}` is a list of {len(value)}, counted from 0; it has no `{step}`")
    return int(step)


class _Builder:
    """Turns YAML text into plain values and remembers the line of each."""

    def __init__(self, source: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.mistakes: list[tuple[KeyPath, str]] = []
        self._source = source
        self._text = ""
        self._count = 0

    def build(self, text: str) -> Any:
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


def literals(document: Any) -> Any:
    """Return a config with each `${VAR}` left out, and each `${VAR:-default}` replaced by its default."""
    return expand(document, {})[0]


def expand(document: Any, environment: Mapping[str, str]) -> tuple[Any, list[tuple[KeyPath, str]]]:
    """Expand variables, except in keys that are only copied, for anybody to read. Return the values and the mistakes."""
    mistakes: list[tuple[KeyPath, str]] = []
    if not isinstance(document, dict):
        return _expand(document, environment, (), mistakes), mistakes
    expanded = {
        key: member if key in _ONLY_COPIED else _expand(member, environment, (key,), mistakes)
        for key, member in document.items()
    }
    return expanded, mistakes


def _expand(value: Any, environment: Mapping[str, str], path: KeyPath, mistakes: list[tuple[KeyPath, str]]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(member, environment, (*path, key), mistakes) for key, member in value.items()}
    if isinstance(value, list):
        return [_expand(member, environment, (*path, index), mistakes) for index, member in enumerate(value)]
    if not isinstance(value, str):
        return value

    text, variables = put_in(value, environment)
    for name in (one.name for one in variables if one.source is None):
        what = "empty" if name in environment else "not set"
        mistakes.append((path, f"the environment variable {name} is {what}; set it, or write ${{{name}:-default}}"))
    return _retyped(text) if isinstance(value, Plain) else text


class Variable(Struct, frozen=True):
    """A `${VAR}` that was expanded: the range of its value in the text, and the source of the value, None if it has none."""

    name: str
    start: int
    end: int
    source: Literal["environment", "default"] | None


def put_in(text: str, environment: Mapping[str, str]) -> tuple[str, list[Variable]]:
    """Expand `${VAR}` and `${VAR:-default}`; `$${VAR}` becomes `${VAR}`. Return the text and its variables."""
    pieces, variables, length, end = list[str](), list[Variable](), 0, 0
    for found in VARIABLE.finditer(text):
        escaped, name, default = found.groups()
        value = environment.get(name) or default
        pieces += (text[end : found.start()], found[0][1:] if escaped else value or "")
        end = found.end()
        start, length = length + len(pieces[-2]), length + len(pieces[-2]) + len(pieces[-1])
        if not escaped:
            source: Any = None if value is None else "environment" if environment.get(name) else "default"
            variables.append(Variable(name, start, length, source))
    return "".join((*pieces, text[end:])), variables


def _retyped(text: str) -> Any:
    """Return an unquoted scalar as the number or boolean that YAML would read, and else as text."""
    kind = _KINDS.get(str(_RESOLVER.resolve(yaml.ScalarNode, text, (True, False))))  # type: ignore[no-untyped-call]
    if kind not in {"int", "float", "bool"}:
        return text
    try:
        return _resolved(kind, text)
    except ValueError:
        return text
