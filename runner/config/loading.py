"""Reads a config and checks all of it: every mistake in it at once.

A config passes three checks before anything is sent: its YAML (`file`), the types and ranges of its sections (`model`),
and the links between tasks (templates that compile, aliases that exist, no cycle). The messages of all three come together.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from runner.config.credentials import brought_in, in_document, in_environment, sections
from runner.config.endpoint import mistakes_in_asking
from runner.config.file import ConfigFile, Source, expand, literals, read_config
from runner.config.misspelt import mistakes_of_metrics
from runner.config.mistakes import explain
from runner.config.model import Config
from runner.config.named_plugins import plug_ins_of
from runner.config.unaskable import mistakes_in_requests
from runner.errors import ConfigError
from runner.keypaths import KeyPath, leaves
from runner.secrets.redaction import Redactor
from runner.tasks.dependencies import mistakes_between_tasks

if TYPE_CHECKING:
    from runner.config.plugging import FoundPlugIns

__all__ = ["lacking", "load_config"]


def load_config(
    source: Source,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    *,
    rows: Sequence[Mapping[str, object]] | None = None,
    asks: bool = True,
) -> tuple[Config, ConfigFile]:
    """Read a config and check all of it; `rows` replace its dataset. Raises ConfigError with every mistake.

    If nothing will be asked (`asks`), no key has to be set.
    """
    file = read_config(source, overrides)
    if rows is not None:
        file = file.reading(data=[])
    return _checked(file, os.environ if environment is None else environment, asks=asks), file


def _checked(file: ConfigFile, environment: Mapping[str, str], *, asks: bool) -> Config:
    """Check all of a config. Raises ConfigError with every mistake."""
    if "models" in file.document and "tasks" not in file.document:
        raise ConfigError([f"{file.path}: is the config of a service; `python -m runner serve {file.path}` starts it"])
    document, unset = expand(file.document, environment)
    unset = [mistake for mistake in unset if asks or not _is_of_asking(mistake[0])]
    written = [*in_document(document), *in_document(literals(file.document)), *brought_in(file.document, environment)]
    shown = _shown_by(written, document, environment)
    mistakes = [*file.mistakes, *unset, *_not_json(document.get("tasks"), ("tasks",)), *_written_key(document)]
    mistakes += mistakes_in_requests(document.get("tasks"))
    config: Config | None = None
    try:
        config = Config.model_validate(document)
        config._directory, config._written = file.path.parent, written  # noqa: SLF001  not in the document
    except ValidationError as error:
        known = {path for path, _ in mistakes}
        mistakes += [mistake for mistake in explain(error, Config, shown) if mistake[0] not in known]
    mistakes += () if config is None else _undone_shuffle(config)
    mistakes += mistakes_between_tasks(document.get("tasks"))
    mistakes += mistakes_of_metrics(document.get("tasks"))
    if (plug_ins := plug_ins_of(document.get("tasks"), file.path.parent)) is not None:
        mistakes += _plugged_into(config, plug_ins, {path for path, _ in mistakes})
    if asks:
        mistakes += _mistakes_in_asking(document, environment)
    if mistakes or file.not_applied or config is None:
        raise ConfigError([shown(message) for message in (*file.described(mistakes), *file.not_applied)])
    return config


def _undone_shuffle(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Find a shuffle that another order would undo. With a limit the shuffle still decides which rows are asked."""
    order, dataset = config.limits.order, config.dataset
    if order != "as_is" and dataset.shuffle is not None and dataset.limit is None:
        what = f"{order!r} would undo the order that `dataset.shuffle` draws; leave one of them out"
        yield ("limits", "order"), f"{what}, or set `dataset.limit` to ask only some of the shuffled rows"


def _plugged_into(config: Config | None, plug_ins: FoundPlugIns, known: Container[KeyPath]) -> list[tuple[KeyPath, str]]:
    """Give a valid config its plug-ins. Return the mistakes in them that are not known yet."""
    if config is not None and not plug_ins.mistakes:
        plug_ins.attach(config.tasks)
        config._plug_ins, config._plugged_files = plug_ins.about, plug_ins.places()  # noqa: SLF001  not in the document
    return [mistake for mistake in plug_ins.mistakes if mistake[0] not in known]


def lacking(file: ConfigFile, environment: Mapping[str, str]) -> list[str]:
    """Return messages about variables that must be set before anything is asked, such as a key or a passphrase."""
    document, unset = expand(file.document, environment)
    of_headers = [mistake for mistake in unset if _is_of_asking(mistake[0])]
    return file.described([*of_headers, *_mistakes_in_asking(document, environment)])


def _is_of_asking(path: KeyPath) -> bool:
    """Return whether a value is needed only to send requests: a variable in a header mostly holds a key."""
    return str(path[0]).startswith("endpoint") and "headers" in path


def _mistakes_in_asking(document: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    for place, section in sections(document):
        yield from (((*place, *path), what) for path, what in mistakes_in_asking(section, environment))


def _shown_by(written: Sequence[str], document: Mapping[str, Any], environment: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that redacts messages about a config that may be invalid."""
    names = [section.get("api_key_env") for _, section in sections(document)]
    keys = [in_environment(environment, name if isinstance(name, str) else None) for name in names or [None]]
    return Redactor([*written, *(key for found in keys for key in found)]).text


def _not_json(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Find numbers that JSON cannot express, so that no request could hold them."""
    for place, leaf in leaves(value, path):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            yield place, f"should be a finite number, got {leaf}"


def _written_key(document: Any) -> Iterator[tuple[KeyPath, str]]:
    """Find a key in `api_key`, where many other programs expect it."""
    for place, section in sections(document):
        if "api_key" in section:
            remedy = "put it into an environment variable, and name that in `api_key_env`"
            yield (*place, "api_key"), f"do not write the key here: {remedy}"
