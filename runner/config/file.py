"""A config as it is written, in a file or from Python; its `--set` overrides, and its variables: `${VAR}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, TypeAlias

from runner.config.yaml_text import VARIABLE, Builder, Plain, check_is_whole, dump, retyped
from runner.datasets.formats import FORMATS
from runner.errors import ConfigError
from runner.keypaths import KeyPath, dotted
from runner.meant import path_meant
from runner.secrets.redaction import mapped
from runner.structs import Struct, field, replace

__all__ = [
    "ConfigFile",
    "Source",
    "Variable",
    "expand",
    "literals",
    "long_form",
    "put_in",
    "read_config",
    "read_config_file",
    "read_list",
]

#: `tasks[0]` is short for `tasks.0`.
_INDEX = re.compile(r"\[(\d+)\](?=\.|$)")
#: The keys of a config that are copied into evaluation.json, and not used otherwise.
_ONLY_COPIED = frozenset({"description", "tags", "metadata"})
#: Options of a dataset that do not depend on its file.
_OF_ANY_ROWS = ("id", "limit", "shuffle", "media_root", "media_limit")
#: The line of a value that an override has set; it sorts last.
_OVERRIDDEN = 1 << 60


#: The path of a config file, or its content.
Source: TypeAlias = str | Path | Mapping[str, object]


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
    builder, text = Builder(str(path)), _text_in(path)
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
    found = Builder(str(path)).build(_text_in(path))
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
        builder = Builder(f"--set {key}")
        try:
            value = builder.build(text)
            check_is_whole(text, value)
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


# --- variables ---


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
    return retyped(text) if isinstance(value, Plain) else text


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
