"""The YAML text of a config: where each value stands, `--set` overrides and `${VAR}`.

Scalars follow the core schema of YAML 1.2, so `no` is a string and `1e-6` a number. A variable in an unquoted scalar is put
in before the scalar's type is decided (`concurrency: ${N:-8}` is a number), in a quoted one it stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from runner.errors import ConfigError

__all__ = ["ConfigFile", "KeyPath", "dotted", "dump", "expand", "read_config_file"]

KeyPath: TypeAlias = tuple[str | int, ...]

_VARIABLE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_MOST_VALUES = 100_000
_DEEPEST = 64


class Plain(str):
    """An unquoted scalar that holds a `${VAR}`: its type is decided after the variable is put in."""

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
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first]
        )
_CoreSchemaDumper.add_representer(
    Plain, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style="")
)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A config as written: overrides applied, variables not yet put in."""

    path: Path
    #: The text of the file.
    text: str
    #: What it says; scalars with variables are still unexpanded.
    document: dict[str, Any]
    #: The line, from 1, on which each value's key stands.
    lines: Mapping[KeyPath, int]
    #: The overrides given on the command line.
    overrides: Sequence[str] = field(default_factory=tuple)

    def place(self, path: KeyPath) -> str:
        """Return `file:line` of a value, or of the nearest one around it."""
        for length in range(len(path), -1, -1):
            if (line := self.lines.get(path[:length])) is not None:
                return f"{self.path}:{line}"
        return str(self.path)

    def rerunnable_text(self) -> str:
        """Return the config with its overrides applied and its variables unexpanded."""
        if not self.overrides:
            return self.text
        return f"# {self.path} with --set {' --set '.join(self.overrides)}\n{dump(self.document)}"


def dotted(path: KeyPath) -> str:
    """Return a path as it is written in messages and in `--set`."""
    return ".".join(map(str, path))


def dump(document: Any) -> str:
    """Return YAML text."""
    return yaml.dump(document, Dumper=_CoreSchemaDumper, sort_keys=False, allow_unicode=True, width=120)


def read_config_file(path: Path, overrides: Sequence[str] = ()) -> ConfigFile:
    """Read and parse a config and apply `KEY.PATH=VALUE` overrides. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from error
    builder = _Builder(str(path))
    document = builder.build(text)
    if not isinstance(document, dict):
        raise ConfigError([f"{path}:1: a config is a mapping of keys, got {type(document).__name__}"])
    mistakes = list(builder.mistakes)
    for override in overrides:
        try:
            _apply(document, override)
        except ValueError as error:
            mistakes.append(f"--set {override}: {error}")
    if mistakes:
        raise ConfigError(mistakes)
    return ConfigFile(path, text, document, builder.lines, tuple(overrides))


class _Builder:
    """Turns YAML text into plain values and remembers where each stood."""

    def __init__(self, source: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.mistakes: list[str] = []
        self._source = source
        self._count = 0

    def build(self, text: str) -> Any:
        loader = _CoreSchemaLoader(text)
        try:
            node = loader.get_single_node()
            return self._value(loader, node, ()) if node is not None else None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f"{self._source}:{mark.line + 1}:{mark.column + 1}" if mark else self._source
            hint = " (indent with spaces, not tabs)" if "\\t" in str(error.problem) else ""
            raise ConfigError([f"{place}: not YAML: {error.problem}{hint}"]) from error
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError([f"{self._source}: not YAML: {error}"]) from error
        finally:
            loader.dispose()

    def _value(self, loader: _CoreSchemaLoader, node: yaml.Node, path: KeyPath) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES or len(path) > _DEEPEST:
            raise ConfigError(
                [f"{self._source}: more than {_MOST_VALUES:,} values or {_DEEPEST} levels; is an alias nested in itself?"]
            )
        self.lines.setdefault(path, node.start_mark.line + 1)
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
            self.mistakes.append(
                f"{self._source}:{node.start_mark.line + 1}: {dotted(path)}: the tag {node.tag} is not allowed"
            )
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, member, (*path, index)) for index, member in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(loader, node)

    def _mapping(self, loader: _CoreSchemaLoader, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        own = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
        if "<<" in own:
            loader.flatten_mapping(node)
        members: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.mistakes.append(f"{self._source}:{line}: {dotted(path)}: a key must be a plain word")
                continue
            key = key_node.value
            if key in members and "<<" not in own:
                self.mistakes.append(f"{self._source}:{line}: {dotted((*path, key))}: the key stands twice")
            self.lines[(*path, key)] = line
            members[key] = self._value(loader, value_node, (*path, key))
        return members

    @staticmethod
    def _scalar(loader: _CoreSchemaLoader, node: yaml.ScalarNode) -> Any:
        if node.tag == "tag:yaml.org,2002:str":
            return Plain(node.value) if node.style is None and _VARIABLE.search(node.value) else node.value
        return _resolved(loader, node)


def _resolved(loader: _CoreSchemaLoader, node: yaml.ScalarNode) -> Any:
    text = node.value
    if node.tag.endswith(":int") and not text.lower().lstrip("+-").startswith(("0x", "0o")):
        return int(text)
    if node.tag.endswith(":int"):
        return int(text, 0)
    if node.tag.endswith(":float") and "n" not in text.lower():
        return float(text)
    return loader.construct_object(node)


def _apply(document: Any, override: str) -> None:
    """Set one `KEY.PATH=VALUE`; the value is YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError("write KEY.PATH=VALUE")
    value = _Builder("--set").build(text)
    *parents, last = [int(step) if step.isdecimal() else step for step in key.split(".")]
    for step in parents:
        document = _step_into(document, step)
    if isinstance(document, list) and isinstance(last, int) and last < len(document):
        document[last] = value
    elif isinstance(document, dict):
        document[str(last)] = value
    else:
        raise ValueError(f"there is no place `{last}` to set")


def _step_into(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.setdefault(str(step), {})
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    raise ValueError(f"there is no `{step}` to go into")


def expand(document: Any, environment: Mapping[str, str]) -> tuple[Any, list[tuple[KeyPath, str]]]:
    """Put `${VAR}` and `${VAR:-default}` in; `$${VAR}` stays `${VAR}`. Return the values and the mistakes."""
    mistakes: list[tuple[KeyPath, str]] = []
    return _expand(document, environment, (), mistakes), mistakes


def _expand(value: Any, environment: Mapping[str, str], path: KeyPath, mistakes: list[tuple[KeyPath, str]]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(member, environment, (*path, key), mistakes) for key, member in value.items()}
    if isinstance(value, list):
        return [_expand(member, environment, (*path, index), mistakes) for index, member in enumerate(value)]
    if not isinstance(value, str):
        return value

    def put_in(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return match[0][1:]
        found = environment.get(name) or default
        if found is None:
            mistakes.append((path, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"))
        return found or ""

    text = _VARIABLE.sub(put_in, value)
    return _retyped(text) if isinstance(value, Plain) else text


def _retyped(text: str) -> Any:
    """Decide the type of an unquoted scalar: number and boolean as YAML would, everything else text."""
    loader = _CoreSchemaLoader("")
    tag = str(loader.resolve(yaml.ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]
    if tag.endswith((":int", ":float", ":bool")):
        return _resolved(loader, yaml.ScalarNode(tag, text))
    return text
