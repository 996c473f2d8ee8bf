"""The section `endpoint` of a config: the server that answers, how to reach it, and the variables that it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, field_validator, model_validator

from runner.config.credentials import DEFAULT_KEY, key_in, looks_like_a_key, without_keys
from runner.config.paths import PathText
from runner.config.sections import Rates, Seconds
from runner.keypaths import KeyPath
from runner.tasks.fields import StrictModel

__all__ = [
    "CertConfig",
    "EndpointConfig",
    "NamedEndpointConfig",
    "RatesConfig",
    "ServerConfig",
    "TimeoutConfig",
    "mistakes_in_asking",
    "normalise_base_url",
]


class TimeoutConfig(StrictModel):
    """Seconds until an attempt is given up."""

    connect: Seconds = 10.0
    """Until the connection is open, TLS included."""
    first_byte: Seconds = 600.0
    """From sending to the first byte of the answer."""
    idle: Seconds = 120.0
    """Between two chunks of an answer that carry data."""
    total: Seconds = 1800.0
    """For the whole attempt."""


class CertConfig(StrictModel):
    """The client's certificate, for a server that asks for one (mTLS)."""

    certificate: PathText
    """A PEM file with the certificate and its intermediate certificates."""
    key: PathText | None = None
    """A PEM file with its private key. Default: the file `certificate` holds the key too."""
    passphrase_env: str | None = None
    """The environment variable with the passphrase of an encrypted key."""


class ServerConfig(StrictModel):
    """One of several servers of the same models."""

    base_url: str
    """The host, its `…/v1`, or the full `…/v1/chat/completions`."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Its share of the work, relative to the other servers, if all are equally fast."""

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return normalise_base_url(value)


class EndpointConfig(StrictModel):
    """The server that answers, or recordings that answer in its place."""

    base_url: str | None = None
    """The host, its `…/v1`, or the full `…/v1/chat/completions`; or a list of servers of the same models."""
    servers: list[ServerConfig] | None = None
    """Several servers of the same models, with their weights; `base_url: [A, B]` is short for it. Each request goes to the
    least busy server. A server that fails is left out until it answers again."""
    affinity: Literal["none", "prefix"] = "none"
    """`prefix`: requests that begin alike go to the same one of several servers, to use its prefix cache."""
    api_key_env: str | None = None
    """The environment variable that holds the key. Default: OPENAI_API_KEY if it is set, else no key is sent."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers that are sent with every request."""
    verify: bool | str = True
    """Check the server's TLS certificate: true, false, or the path of a CA bundle."""
    cert: CertConfig | None = None
    """The client's certificate and key: the path of a PEM file with both, or a path for each."""
    timeout: TimeoutConfig = TimeoutConfig()
    record: PathText | None = None
    """Record every request and answer: in a directory, or in a .jsonl file."""
    replay: PathText | None = None
    """Answer from recordings, without the network: a directory, or a .jsonl file."""

    @model_validator(mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        """`base_url: [A, B]`."""
        if isinstance(value, dict) and isinstance(urls := value.get("base_url"), list) and "servers" not in value:
            servers = [{"base_url": one} if isinstance(one, str) else one for one in urls]
            return {**{name: one for name, one in value.items() if name != "base_url"}, "servers": servers}
        return value

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        return None if value is None else normalise_base_url(value)

    @field_validator("servers")
    @classmethod
    def _are_several(cls, value: list[ServerConfig] | None) -> list[ServerConfig] | None:
        urls = [one.base_url for one in value or ()]
        if value is not None and len(set(urls)) < len(urls):
            raise ValueError("names a server twice; give it a `weight`")
        if value is not None and len(urls) < 2:  # noqa: PLR2004  one is `base_url`
            raise ValueError("needs two servers or more; for one server set `base_url`")
        return value

    @field_validator("cert", mode="before")
    @classmethod
    def _one_file(cls, value: Any) -> Any:
        return {"certificate": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_an_answer(self) -> EndpointConfig:
        if self.base_url is None and self.servers is None and self.replay is None:
            raise ValueError("needs `base_url`, or `replay` with recordings")
        if self.base_url is not None and self.servers is not None:
            raise ValueError("takes `base_url` or `servers`, not both")
        if self.record is not None and self.replay is not None:
            raise ValueError("`record` keeps what a server answers, `replay` answers in its place; leave one of them out")
        return self

    @property
    def key_variable(self) -> str:
        """The environment variable that may hold the key."""
        return self.api_key_env or DEFAULT_KEY

    @property
    def members(self) -> Sequence[EndpointConfig]:
        """The servers, each as an endpoint of its own; without `servers` only this endpoint."""
        if self.servers is None:
            return [self]
        settings = {name: getattr(self, name) for name in EndpointConfig.model_fields} | {"servers": None}
        return [EndpointConfig.model_construct(**settings | {"base_url": one.base_url}) for one in self.servers]

    @property
    def urls(self) -> Sequence[str]:
        """The base URLs of all servers."""
        return [one.base_url for one in self.members if one.base_url is not None]

    @cached_property
    def name(self) -> str:
        """The endpoint as the results name it: without the query, which may hold a secret."""
        return ", ".join(urlunsplit(urlsplit(url)._replace(query="")) for url in self.urls)

    @property
    def asked(self) -> str | None:
        """The base URLs without keys in their queries. Two runs with the same text ask the same endpoint."""
        return " ".join(sorted(map(without_keys, self.urls))) or None


class RatesConfig(Rates):
    """How fast one of several endpoints may be asked. Keys that are left out are as in `limits`."""

    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """The most requests in flight."""


class NamedEndpointConfig(EndpointConfig):
    """Another endpoint, which tasks choose by its name."""

    limits: RatesConfig = RatesConfig()


def normalise_base_url(value: str) -> str:
    """Return the base URL, without `/chat/completions`; a query is kept. Raises ValueError."""
    try:
        url = urlsplit(value.strip())
        _ = url.port  # raises ValueError for a port beyond 65535
    except ValueError as error:
        why = "" if "@" in value else f": {error}"
        raise ValueError(f"{_redacted(value)!r} is not a URL{why}") from error
    if url.scheme not in {"http", "https"} or not url.hostname or re.search(r"[\s\x00-\x20]", url.netloc):
        raise ValueError(f"{_redacted(value)!r} is not a URL; write http://HOST:PORT/v1 or https://HOST/v1")
    if "@" in url.netloc:
        raise ValueError("must not hold a user or password; name the key's environment variable in `api_key_env`")
    path = url.path.rstrip("/") or "/v1"
    for ending in ("/chat/completions", "/completions", "/embeddings"):
        path = path.removesuffix(ending)
    return urlunsplit(url._replace(path=path, fragment=""))


def _redacted(url: str) -> str:
    """Return a text that should be a URL, without the parts that may be a password or a key."""
    return re.sub(r"^(\w+://|//)?.*@", r"\1…@", url).partition("?")[0]


def mistakes_in_asking(endpoint: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """Find variables that must be set before the server of this section can be asked, and invalid header values."""
    yield from _header_mistakes(endpoint, environment)
    yield from _passphrase_mistakes(endpoint, environment)


def _header_mistakes(endpoint: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """Check the key and the headers; their values are never shown."""
    name = endpoint.get("api_key_env")
    if isinstance(name, str) and not _is_variable(name, environment):
        yield ("api_key_env",), "is not the name of an environment variable; name the one that holds the key"
        return
    key = key_in(environment, str(name or "")) or ""
    if name is not None and endpoint.get("replay") is None and not key:
        yield ("api_key_env",), f"the environment variable {name} is not set or empty; set it with export {name}=…"
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        yield (
            ("api_key_env",),
            f"the key in {name or DEFAULT_KEY} has characters that are not allowed in an HTTP header",
        )
    headers = endpoint.get("headers")
    for header, value in headers.items() if isinstance(headers, dict) else ():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header) or not re.fullmatch(r"[\t\x20-\x7e]*", str(value)):
            yield ("headers", header), "has characters that are not allowed in an HTTP header"


def _passphrase_mistakes(endpoint: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """Check that the passphrase is set; a text that may be one is not shown."""
    cert = endpoint.get("cert") if endpoint.get("replay") is None else None
    name = cert.get("passphrase_env") if isinstance(cert, dict) else None
    if isinstance(name, str) and not (re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and environment.get(name)):
        yield (
            ("cert", "passphrase_env"),
            "is not the name of an environment variable that is set; name the one with the passphrase",
        )


def _is_variable(name: str, environment: Mapping[str, str]) -> bool:
    """Return whether this may name a variable: a text that looks like a key does not, unless such a variable is set."""
    return bool(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)) and (name in environment or not looks_like_a_key(name))
