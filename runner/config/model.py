"""The config: what it may say, and every mistake in it at once.

A config passes three checks before anything is sent: its YAML (`file`), the types and ranges below, and what lies
between tasks (templates that compile, aliases that exist, no cycle). The messages of all three come together.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from encodings import aliases
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Discriminator, Field, PrivateAttr, Tag, ValidationError, field_validator, model_validator

from runner.config.credentials import (
    brought_in,
    in_document,
    in_endpoint,
    in_environment,
    in_url,
    key_in,
    looks_like_a_key,
    of_stores,
    without,
    without_keys,
)
from runner.config.file import ConfigFile, Source, expand, literals, long_form, read_config
from runner.config.misspelt import mistakes_of_metrics
from runner.config.mistakes import explain
from runner.config.named_plugins import PlugIns, plug_ins_of
from runner.datasets.remote import is_remote, what_is_wrong
from runner.durations import seconds_in
from runner.errors import ConfigError
from runner.keypaths import KeyPath, leaves
from runner.storage.buckets import unfit
from runner.tasks import AnyTask
from runner.tasks.base import NAME_PATTERN, TaskConfig
from runner.tasks.dependencies import mistakes_between_tasks
from runner.tasks.fields import StrictModel
from runner.tasks.mediafiles import DEFAULT_LIMIT, MediaFiles
from runner.templates.locators import steps_of

__all__ = [
    "CacheConfig",
    "Config",
    "DatasetConfig",
    "EndpointConfig",
    "EngineConfig",
    "LimitsConfig",
    "TimeoutConfig",
    "lacking",
    "load_config",
    "schema",
]

_Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]


class DatasetConfig(StrictModel):
    """Where the rows come from."""

    path: list[str] | None = None
    """A file, a glob, or a list of them: .jsonl .ndjson .json .csv .tsv .parquet .arrow, text also with .gz .bz2 .xz .zst.
    Also elsewhere: s3:// gs:// hf:// http:// https://."""
    data: list[dict[str, Any]] | None = None
    """The rows themselves."""
    runs: dict[Literal["a", "b"], str] | None = None
    """Two runs, as `{a: results/x/latest, b: results/y/latest}`: the rows of `a` with the answers of both as `a` and `b`."""
    task: str | None = None
    """Of `runs` the alias of the task whose answers are taken."""
    id: str | None = None
    """The column that names a row, or the path of a value inside it, as `meta.id`. Default: a hash of the row."""
    encoding: str | None = None
    """The encoding of text files, as `cp1252`; a byte-order mark in a file goes first. Default: UTF-8."""
    delimiter: str | None = None
    """What stands between the cells of CSV files, as `;`. Default: a comma, of .tsv a tab."""
    quoting: bool | None = None
    """Whether quotes in CSV files hold cells together (true) or are text (false).
    Default: true; with tabs between cells, as the file shows, and where it is not clear, an error."""
    types: dict[str, Literal["int", "float", "bool", "json"]] = Field(default_factory=dict)
    """What the cells of a CSV column are, by its name. An empty one is null. Default: text."""
    field: str | None = None
    """The key of the list of rows, where a .json file is one object."""
    limit: Annotated[int, Field(ge=0)] | None = None
    """Only the first so many rows."""
    shuffle: int | None = None
    """A seed: the rows are taken in an order drawn from it, which reads the dataset once before the start."""
    media_root: str | None = None
    """The directory to which `file:` values are relative, and below which those of rows must lie.
    Default: the directory of the dataset's file; of rows in the config, the directory of the config."""
    media_limit: Annotated[int, Field(ge=1)] = DEFAULT_LIMIT
    """The largest picture, sound, video or document that is sent, in bytes before base64."""

    @field_validator("path", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("path")
    @classmethod
    def _can_be_read(cls, value: list[str] | None) -> list[str] | None:
        if wrong := [what for one in value or () if (what := what_is_wrong(one)) is not None]:
            raise ValueError("; ".join(wrong))
        return value

    @field_validator("encoding")
    @classmethod
    def _is_encoding(cls, value: str | None) -> str | None:
        try:
            if value is None or "a".encode(value).decode(value) == "a":
                return value
        except (LookupError, ValueError):
            pass
        near = difflib.get_close_matches(str(value).lower().replace("-", "_"), aliases.aliases, n=1)
        what = f"did you mean {near[0]!r}?" if near else "known are those of Python, as utf-8, utf-16, cp1252, latin-1, gb18030"
        raise ValueError(f"{value!r} is no encoding of text; {what}")

    @field_validator("delimiter")
    @classmethod
    def _is_delimiter(cls, value: str | None) -> str | None:
        value = "\t" if value == r"\t" else value
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError(f"{value!r} cannot stand between cells; it is one character, as ';', '|' or '\\t'")
        return value

    @field_validator("media_root")
    @classmethod
    def _is_directory(cls, value: str | None) -> str | None:
        if value is not None and not Path(value).is_dir():
            raise ValueError(f"{value!r} is no directory (the path is taken from {Path.cwd()})")
        return value

    @model_validator(mode="after")
    def _has_rows(self) -> DatasetConfig:
        if [self.path, self.data, self.runs].count(None) != 2:  # noqa: PLR2004  all but one
            raise ValueError("needs either `path` or `data`, or `runs`")
        if self.runs is not None and (len(self.runs) != 2 or self.task is None):  # noqa: PLR2004  one for each side
            raise ValueError("`runs` needs both `a` and `b`, and `task`, the alias of the answers")
        if self.runs is None and self.task is not None:
            raise ValueError("`task` is for `runs`")
        return self


class TimeoutConfig(StrictModel):
    """Seconds until an attempt is given up."""

    connect: _Seconds = 10.0
    """Until the connection stands, TLS included."""
    first_byte: _Seconds = 600.0
    """From sending to the first byte of the answer."""
    idle: _Seconds = 120.0
    """Between two pieces of an answer that carry data."""
    total: _Seconds = 1800.0
    """For the whole attempt."""


class CertConfig(StrictModel):
    """The certificate that this client shows a server which asks for one (mTLS)."""

    certificate: str
    """A PEM file with the certificate, and those between it and its CA."""
    key: str | None = None
    """A PEM file with its private key. Default: the file of the certificate holds it too."""
    passphrase_env: str | None = None
    """The environment variable with the passphrase of an encrypted key."""


class EndpointConfig(StrictModel):
    """The server that answers, or the recordings that stand for it."""

    base_url: str | None = None
    """The host, its `…/v1`, or the full `…/v1/chat/completions`."""
    api_key_env: str | None = None
    """The environment variable that holds the key. Default: OPENAI_API_KEY if it is set, else no key is sent."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent with every request."""
    verify: bool | str = True
    """Check the server's TLS certificate: true, false, or the path of a CA bundle."""
    cert: CertConfig | None = None
    """The client's own certificate and key: the path of a PEM file with both, or one path each."""
    timeout: TimeoutConfig = TimeoutConfig()
    record: str | None = None
    """Keep every exchange: a directory, or a .jsonl file."""
    replay: str | None = None
    """Answer from recordings with the network off: a directory, or a .jsonl file."""

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        return None if value is None else normalise_base_url(value)

    @field_validator("cert", mode="before")
    @classmethod
    def _one_file(cls, value: Any) -> Any:
        return {"certificate": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_an_answer(self) -> EndpointConfig:
        if self.base_url is None and self.replay is None:
            raise ValueError("needs `base_url`, or `replay` with recordings")
        if self.record is not None and self.replay is not None:
            raise ValueError("`record` and `replay` exclude each other")
        return self

    @cached_property
    def name(self) -> str:
        """The endpoint as it stands in results: no query, which may hold a secret."""
        return "" if self.base_url is None else urlunsplit(urlsplit(self.base_url)._replace(query=""))

    @property
    def asked(self) -> str | None:
        """The base URL without keys in its query: what decides whether another run asks the same."""
        return None if self.base_url is None else without_keys(self.base_url)


class LimitsConfig(StrictModel):
    """How hard the endpoint may be driven, and when to give up. May change freely when a run is resumed."""

    concurrency: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Requests in flight at most."""
    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[int, Field(gt=0)] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 5
    """Failed attempts that make a row an error; what fails while the endpoint is down is none.
    Fewer do where the server refuses (3) or its answers are of no use (2); of answers of 429, ten while others are answered."""
    max_row_time: _Seconds = 7200.0
    """Seconds of attempts and back-offs after which a row that only fails is an error."""
    max_wall_time: _Seconds | None = None
    """Seconds after which a start of the run stops by itself; a resume has as many again."""
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens of all starts, prompts and completions together, after which the run stops by itself; to go on, raise it."""
    max_cost: Annotated[float, Field(gt=0)] | None = None
    """Dollars of all starts, by `prices`, after which the run stops by itself; to go on, raise it."""
    max_error_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The run stops by itself when more than this share of its last 200 rows are errors; 1.0: never.
    Rows that fail while the endpoint works for others (5xx, 401, 403, 404, 429, timeouts, broken connections) do not count."""
    give_up_after: _Seconds = 600.0
    """Seconds for which the endpoint may be down before the run stops by itself, to be resumed."""
    drain: Annotated[float, Field(ge=0)] = 25.0
    """Seconds for which requests in flight may finish after a signal, `max_wall_time`, or a stop because of the endpoint."""
    fail_on_error: Annotated[int | float, Field(ge=0)] = 0.05
    """The share (0.0 to 1.0) or count of results that may be errors before the exit code is 1."""

    @field_validator("fail_on_error")
    @classmethod
    def _share_or_count(cls, value: float) -> float:
        if type(value) is float and value > 1:
            raise ValueError("is a share from 0.0 to 1.0, or a whole number of rows")
        return value

    @model_validator(mode="after")
    def _one_rate(self) -> LimitsConfig:
        if self.requests_per_second is not None and self.requests_per_minute is not None:
            raise ValueError("takes requests_per_second or requests_per_minute, not both")
        return self


def _is_column(value: str) -> str:
    if steps_of(value) is None:
        raise ValueError(f"{value!r} is no column of the row; write it as item.category")
    return value


_Column = Annotated[str, AfterValidator(_is_column)]


_Dollars = Annotated[float, Field(ge=0)]


class PriceConfig(StrictModel):
    """What the tokens of a model cost, in $ per million."""

    input: _Dollars
    """Of the prompt."""
    cached_input: _Dollars | None = None
    """Of what the server had cached of the prompt. Default: the same as `input`."""
    output: _Dollars | None = None
    """Of the answer, reasoning included. Default: not known, so that only embeddings have a price."""
    batch: Annotated[float, Field(ge=0, le=1)] | None = None
    """What an answer of a batch costs of that, as 0.5. Nothing asks in batches yet."""


#: The tags are no keys of the file, so they look like none.
_Price = Annotated[
    Annotated[Literal["auto"], Tag("[auto]")] | Annotated[PriceConfig, Tag("[price]")],
    Discriminator(lambda value: "[auto]" if isinstance(value, str) else "[price]"),
]


class AnalysisConfig(StrictModel):
    """How the scores are counted. May change freely: it is no part of what is asked."""

    by: list[_Column | Annotated[list[_Column], Field(min_length=1)]] = Field(default_factory=list)
    """Groups of items by a column, as `item.category`, or by several that are crossed, as `[item.category, item.level]`."""
    cluster: _Column | None = None
    """The column whose value makes items one cluster, as questions about one text. Default: each item is one of its own."""
    gates: list[str] = Field(default_factory=list)
    """What `compare` holds a run against where no `--gate` is given, as `correct >= -0.01`."""


class EngineConfig(StrictModel):
    """Where a run goes on. No part of the evaluation: it may be another at every start."""

    kind: Literal["local", "processes", "ray"] = "local"
    """`local`: in this process; `processes`: in worker processes of this machine; `ray`: in workers on a Ray cluster."""
    workers: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """How many; by default as many as there are CPUs, of this machine or the cluster. `limits` are those of all together."""
    address: str = "auto"
    """Of a Ray cluster: `auto` finds the one that runs here, `local` starts one on this machine for the run."""


class CacheConfig(StrictModel):
    """Answers of earlier runs to the very same requests. No part of the evaluation: it may be another at every start."""

    path: str = ".runner-cache/responses.sqlite"
    """The file, which many runs may share."""
    mode: Literal["read_write", "read", "write", "off"] = "read_write"
    """`read`: nothing new is kept; `write`: all is asked, and kept for later."""
    max_age: str | None = "30d"
    """How old an answer may be, as `30d` or `12h`; null: of any age."""

    @field_validator("path")
    @classmethod
    def _is_here(cls, value: str) -> str:
        if is_remote(value):
            raise ValueError(f"{value!r} is not on this machine, as the file of a cache has to be")
        return value

    @field_validator("max_age")
    @classmethod
    def _is_duration(cls, value: str | None) -> str | None:
        if value is not None:
            seconds_in(value)
        return value

    @property
    def max_age_s(self) -> int | None:
        """How old an answer may be, in seconds; None: of any age."""
        return None if self.max_age is None else seconds_in(self.max_age)

    @property
    def reads(self) -> bool:
        """Whether answers are taken."""
        return self.mode in {"read_write", "read"}

    @property
    def writes(self) -> bool:
        """Whether answers are kept."""
        return self.mode in {"read_write", "write"}


class Config(StrictModel):
    """An evaluation: data, tasks and the endpoint that answers."""

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]
    """Results go to `<output>/<name>/<run id>/`: letters, digits, `-`, `_` and `.`."""
    description: str | None = None
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    dataset: DatasetConfig
    endpoint: EndpointConfig
    tasks: Annotated[list[AnyTask], Field(min_length=1)]
    limits: LimitsConfig = LimitsConfig()
    analysis: AnalysisConfig = AnalysisConfig()
    engine: EngineConfig = EngineConfig()
    prices: dict[str, _Price] | None = None
    """What models cost, by name or glob, as `gpt-4o*`: the exact name counts first, then the longest glob.
    `auto`, of one or as all of it: as the library genai-prices knows. May change freely."""
    cache: CacheConfig | None = None
    """Answers of earlier runs to the same requests, in place of asking again."""
    output: str = "results"
    _directory: Path = PrivateAttr(default_factory=Path)
    _plug_ins: dict[str, dict[str, str]] = PrivateAttr(default_factory=dict)
    _plugged_files: dict[KeyPath, str] = PrivateAttr(default_factory=dict)
    #: Secrets that the file holds as text, or that its variables bring in.
    _written: list[str] = PrivateAttr(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """`dataset: PATH`, and `data:` at the top as in SGP."""
        return long_form(value) if isinstance(value, dict) else value

    @field_validator("output")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        if (wrong := unfit(value)) is not None:
            raise ValueError(wrong)
        return value

    @field_validator("prices", mode="before")
    @classmethod
    def _all_auto(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "auto":
            raise ValueError(f"should be `auto`, or a mapping of models to prices, got {value!r}")
        return {"*": "auto"} if value == "auto" else value

    @cached_property
    def media_files(self) -> MediaFiles:
        """What reads the local files of all tasks."""
        root, path = self.dataset.media_root, self.dataset.path
        # A row's own file is known when it is read; this is for rows in the config, and for those of a `check`.
        directory = self._directory if path is None or is_remote(path[0]) else Path(path[0]).parent
        return MediaFiles(root=None if root is None else Path(root), directory=directory, limit=self.dataset.media_limit)

    @property
    def plug_ins(self) -> Mapping[str, Mapping[str, str]]:
        """The plug-ins by their names in the file: each with its package and version, or the SHA-256 of its files."""
        return self._plug_ins

    @property
    def plugged_files(self) -> Mapping[KeyPath, str]:
        """The types of metrics that name a file, by their places, as they are named from any directory."""
        return self._plugged_files

    @property
    def run_tasks(self) -> list[TaskConfig]:
        """The tasks as they are run: one of the config may be several."""
        return [part for task in self.tasks for part in task.parts]

    def api_key(self, environment: Mapping[str, str]) -> str | None:
        """Return the key to send, or None."""
        return key_in(environment, self.endpoint.api_key_env)

    def passphrase(self, environment: Mapping[str, str]) -> str | None:
        """Return what opens the key of the client's certificate, or None."""
        cert = self.endpoint.cert
        return None if cert is None or cert.passphrase_env is None else environment.get(cert.passphrase_env) or None

    def secrets(self, environment: Mapping[str, str]) -> list[str]:
        """Return every value that must never reach a file, a log or a message."""
        endpoint = self.endpoint
        secrets = {*self._written, *in_endpoint(endpoint.headers, endpoint.base_url or "")}
        secrets |= {*in_environment(environment, endpoint.api_key_env), self.passphrase(environment) or ""}
        urls = list(filter(is_remote, self.dataset.path or ()))
        secrets |= {secret for url in urls for secret in in_url(url)} | {*(of_stores(environment) if urls else ())}
        return sorted(secrets - {""}, key=len, reverse=True)


def normalise_base_url(value: str) -> str:
    """Return the base URL below which `/chat/completions` lies; a query stays. Raises ValueError."""
    try:
        url = urlsplit(value.strip())
        _ = url.port  # raises ValueError for a port beyond 65535
    except ValueError as error:
        why = "" if "@" in value else f": {error}"
        raise ValueError(f"{_redacted(value)!r} is no URL{why}") from error
    if url.scheme not in {"http", "https"} or not url.hostname or re.search(r"[\s\x00-\x20]", url.netloc):
        raise ValueError(f"{_redacted(value)!r} is no URL; write http://HOST:PORT/v1 or https://HOST/v1")
    if "@" in url.netloc:
        raise ValueError("must not hold a user or password; name the key's environment variable in `api_key_env`")
    path = url.path.rstrip("/") or "/v1"
    for ending in ("/chat/completions", "/completions", "/embeddings"):
        path = path.removesuffix(ending)
    return urlunsplit(url._replace(path=path, fragment=""))


def _redacted(url: str) -> str:
    """Return a URL, or what was meant as one, without what may be a password or key."""
    return re.sub(r"^(\w+://|//)?.*@", r"\1…@", url).partition("?")[0]


def load_config(
    source: Source,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    *,
    rows: Sequence[Mapping[str, object]] | None = None,
    asks: bool = True,
) -> tuple[Config, ConfigFile]:
    """Read a config and check all of it; `rows` take the place of its dataset. Raises ConfigError with every mistake.

    Where nothing is to be asked (`asks`), no key has to be there.
    """
    file = read_config(source, overrides)
    if rows is not None:
        file = file.reading(data=[])
    return _checked(file, os.environ if environment is None else environment, asks=asks), file


def _checked(file: ConfigFile, environment: Mapping[str, str], *, asks: bool) -> Config:
    """Check all of a config. Raises ConfigError with every mistake."""
    document, unset = expand(file.document, environment)
    written = [*in_document(document), *in_document(literals(file.document)), *brought_in(file.document, environment)]
    shown = _shown_by(written, document, environment)
    mistakes = [*file.mistakes, *unset, *_not_json(document.get("tasks"), ("tasks",)), *_written_key(document)]
    config: Config | None = None
    try:
        config = Config.model_validate(document)
        config._directory, config._written = file.path.parent, written  # noqa: SLF001  what the document cannot say
    except ValidationError as error:
        known = {path for path, _ in mistakes}
        mistakes += [mistake for mistake in explain(error, Config, shown) if mistake[0] not in known]
    mistakes += mistakes_between_tasks(document.get("tasks"))
    mistakes += mistakes_of_metrics(document.get("tasks"))
    if (plug_ins := plug_ins_of(document.get("tasks"), file.path.parent)) is not None:
        mistakes += _plugged_into(config, plug_ins, {path for path, _ in mistakes})
    if asks:
        mistakes += _mistakes_in_asking(document.get("endpoint"), environment)
    if mistakes or file.not_applied or config is None:
        raise ConfigError([shown(message) for message in (*file.described(mistakes), *file.not_applied)])
    return config


def _plugged_into(config: Config | None, plug_ins: PlugIns, known: Container[KeyPath]) -> list[tuple[KeyPath, str]]:
    """Tell a config that is well of its plug-ins. Return what is wrong with them."""
    if config is not None and not plug_ins.mistakes:
        plug_ins.attach(config.tasks)
        config._plug_ins, config._plugged_files = plug_ins.about, plug_ins.places()  # noqa: SLF001  what the document cannot say
    return [mistake for mistake in plug_ins.mistakes if mistake[0] not in known]


def lacking(file: ConfigFile, environment: Mapping[str, str]) -> list[str]:
    """Return what the environment lacks before anything can be asked, as lines of mistakes: a key, a passphrase."""
    document, _ = expand(file.document, environment)
    return file.described(list(_mistakes_in_asking(document.get("endpoint"), environment)))


def _mistakes_in_asking(endpoint: Any, environment: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    yield from _header_mistakes(endpoint, environment)
    yield from _passphrase_mistakes(endpoint, environment)


def _shown_by(written: Sequence[str], document: Mapping[str, Any], environment: Mapping[str, str]) -> Callable[[str], str]:
    """Return what takes secrets out of what is said of a config that may be no good."""
    endpoint = document.get("endpoint")
    name = endpoint.get("api_key_env") if isinstance(endpoint, dict) else None
    return without([*written, *in_environment(environment, name if isinstance(name, str) else None)])


def _not_json(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Find numbers that JSON has no word for, and that a request could not say."""
    for place, leaf in leaves(value, path):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            yield place, f"should be a finite number, got {leaf}"


def _header_mistakes(endpoint: Any, environment: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """Check what would go into headers; the values are never shown."""
    if not isinstance(endpoint, dict):
        return
    name = endpoint.get("api_key_env")
    if isinstance(name, str) and not _is_variable(name, environment):
        yield ("endpoint", "api_key_env"), "is not the name of an environment variable; name the one that holds the key"
        return
    key = environment.get(str(name or "OPENAI_API_KEY"), "").strip()
    if name is not None and endpoint.get("replay") is None and not key:
        yield ("endpoint", "api_key_env"), f"the environment variable {name} is not set or empty"
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        yield (
            ("endpoint", "api_key_env"),
            f"the key in {name or 'OPENAI_API_KEY'} has characters that no HTTP header may hold",
        )
    headers = endpoint.get("headers")
    for header, value in headers.items() if isinstance(headers, dict) else ():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header) or not re.fullmatch(r"[\t\x20-\x7e]*", str(value)):
            yield ("endpoint", "headers", header), "has characters that no HTTP header may hold"


def _passphrase_mistakes(endpoint: Any, environment: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """Check that a passphrase is there; what may be one is not shown."""
    cert = endpoint.get("cert") if isinstance(endpoint, dict) and endpoint.get("replay") is None else None
    name = cert.get("passphrase_env") if isinstance(cert, dict) else None
    if isinstance(name, str) and not (re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and environment.get(name)):
        yield (
            ("endpoint", "cert", "passphrase_env"),
            "names no environment variable that is set; name the one with the passphrase",
        )


def _is_variable(name: str, environment: Mapping[str, str]) -> bool:
    """Whether this may name a variable: what looks like a key is taken for one, and not shown, unless it is a variable."""
    return bool(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)) and (name in environment or not looks_like_a_key(name))


def _written_key(document: Any) -> Iterator[tuple[KeyPath, str]]:
    """Find a key where many other programs have it."""
    endpoint = document.get("endpoint")
    if isinstance(endpoint, dict) and "api_key" in endpoint:
        remedy = "put it into an environment variable, and name that in `api_key_env`"
        yield ("endpoint", "api_key"), f"a key is not written here: {remedy}"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the config file, for editors: of what is built in."""
    found = Config.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "runner config"
    properties = found["properties"]
    dataset = properties["dataset"]
    properties["dataset"] = {"anyOf": [dataset, {"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    path = found["$defs"]["DatasetConfig"]["properties"]["path"]
    path["anyOf"] = [{"type": "string"}, *path["anyOf"]]
    cert = found["$defs"]["EndpointConfig"]["properties"]["cert"]
    cert["anyOf"] = [{"type": "string"}, *cert["anyOf"]]
    properties["prices"]["anyOf"].append({"const": "auto"})
    properties["data"] = {
        "type": "array",
        "items": {"type": "object"},
        "description": "The rows themselves, as in SGP.",
    }
    found["required"] = [name for name in found["required"] if name != "dataset"]
    return found
