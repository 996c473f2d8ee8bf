"""The section `endpoint` of a config: who answers, how it is reached, and what the environment has to hold for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, field_validator, model_validator

from runner.config.credentials import looks_like_a_key, without_keys
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
    """Until the connection stands, TLS included."""
    first_byte: Seconds = 600.0
    """From sending to the first byte of the answer."""
    idle: Seconds = 120.0
    """Between two pieces of an answer that carry data."""
    total: Seconds = 1800.0
    """For the whole attempt."""


class CertConfig(StrictModel):
    """The certificate that this client shows a server which asks for one (mTLS)."""

    certificate: PathText
    """A PEM file with the certificate, and those between it and its CA."""
    key: PathText | None = None
    """A PEM file with its private key. Default: the file of the certificate holds it too."""
    passphrase_env: str | None = None
    """The environment variable with the passphrase of an encrypted key."""


class ServerConfig(StrictModel):
    """One of several servers that answer alike."""

    base_url: str
    """The host, its `…/v1`, or the full `…/v1/chat/completions`."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How much of the work it takes beside the others, where all are as quick."""

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return normalise_base_url(value)


class EndpointConfig(StrictModel):
    """The server that answers, or the recordings that stand for it."""

    base_url: str | None = None
    """The host, its `…/v1`, or the full `…/v1/chat/completions`; or a list of servers that answer alike."""
    servers: list[ServerConfig] | None = None
    """Several servers of the same models, with their weights; `base_url: [A, B]` is short for it. The least busy one is asked;
    one that fails is left out until it answers again."""
    affinity: Literal["none", "prefix"] = "none"
    """`prefix`: of several servers, requests that begin alike go to the same one, for its prefix cache."""
    api_key_env: str | None = None
    """The environment variable that holds the key. Default: OPENAI_API_KEY if it is set, else no key is sent."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent with every request."""
    verify: bool | str = True
    """Check the server's TLS certificate: true, false, or the path of a CA bundle."""
    cert: CertConfig | None = None
    """The client's own certificate and key: the path of a PEM file with both, or one path each."""
    timeout: TimeoutConfig = TimeoutConfig()
    record: PathText | None = None
    """Keep every exchange: a directory, or a .jsonl file."""
    replay: PathText | None = None
    """Answer from recordings with the network off: a directory, or a .jsonl file."""

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
            raise ValueError("needs two servers or more; one is named by `base_url`")
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
    def members(self) -> Sequence[EndpointConfig]:
        """The servers, each as an endpoint of its own; mostly only itself."""
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
        """The endpoint as it stands in results: no query, which may hold a secret."""
        return ", ".join(urlunsplit(urlsplit(url)._replace(query="")) for url in self.urls)

    @property
    def asked(self) -> str | None:
        """The base URLs without keys in their queries: what decides whether another run asks the same."""
        return " ".join(sorted(map(without_keys, self.urls))) or None


class RatesConfig(Rates):
    """How hard one of several endpoints may be driven; what is left out is as in `limits`."""

    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Requests in flight at most."""


class NamedEndpointConfig(EndpointConfig):
    """Another endpoint, which tasks name."""

    limits: RatesConfig = RatesConfig()


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


def mistakes_in_asking(endpoint: Any, place: KeyPath, environment: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """Find what the environment lacks before this section's server can be asked, and what no header may hold."""
    for path, what in (*_header_mistakes(endpoint, environment), *_passphrase_mistakes(endpoint, environment)):
        yield (*place, *path), what


def _header_mistakes(endpoint: Any, environment: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """Check what would go into headers; the values are never shown."""
    if not isinstance(endpoint, dict):
        return
    name = endpoint.get("api_key_env")
    if isinstance(name, str) and not _is_variable(name, environment):
        yield ("api_key_env",), "is not the name of an environment variable; name the one that holds the key"
        return
    key = environment.get(str(name or "OPENAI_API_KEY"), "").strip()
    if name is not None and endpoint.get("replay") is None and not key:
        yield ("api_key_env",), f"the environment variable {name} is not set or empty; set it, as by export {name}=…"
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        yield (
            ("api_key_env",),
            f"the key in {name or 'OPENAI_API_KEY'} has characters that no HTTP header may hold",
        )
    headers = endpoint.get("headers")
    for header, value in headers.items() if isinstance(headers, dict) else ():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header) or not re.fullmatch(r"[\t\x20-\x7e]*", str(value)):
            yield ("headers", header), "has characters that no HTTP header may hold"


def _passphrase_mistakes(endpoint: Any, environment: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """Check that a passphrase is there; what may be one is not shown."""
    cert = endpoint.get("cert") if isinstance(endpoint, dict) and endpoint.get("replay") is None else None
    name = cert.get("passphrase_env") if isinstance(cert, dict) else None
    if isinstance(name, str) and not (re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and environment.get(name)):
        yield (
            ("cert", "passphrase_env"),
            "names no environment variable that is set; name the one with the passphrase",
        )


def _is_variable(name: str, environment: Mapping[str, str]) -> bool:
    """Whether this may name a variable: what looks like a key is taken for one, and not shown, unless it is a variable."""
    return bool(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)) and (name in environment or not looks_like_a_key(name))
