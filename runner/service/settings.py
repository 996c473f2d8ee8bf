"""SERVICE.yaml: the address of the service, its clients, endpoints and models, and the limits of requests."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from runner.config.credentials import key_in
from runner.config.endpoint import EndpointConfig
from runner.config.file import expand, read_config_file
from runner.config.mistakes import explain
from runner.config.sections import LimitsConfig
from runner.errors import ConfigError
from runner.keypaths import KeyPath
from runner.structs import Struct
from runner.tasks.fields import StrictModel
from runner.tasks.guides import Guide

__all__ = ["Client", "Served", "ServiceConfig", "ServiceEndpoint", "ServiceLimits", "load_service"]

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ServiceEndpoint(EndpointConfig):
    """An endpoint, and its limits for all evaluations together."""

    limits: LimitsConfig = LimitsConfig()
    guided: Guide = "json_schema"
    """How the endpoint is told which answers a judge may give."""


class ServedModel(StrictModel):
    """The endpoint of a model that clients name, and the name of the model there."""

    endpoint: str
    model: str | None = None
    """The name that is sent. Default: the text that `*` matched; without a `*`, the name itself."""


class Embeddings(StrictModel):
    """The endpoint and the model of embeddings, for the metric `cosine_similarity`."""

    endpoint: str
    model: Annotated[str, Field(min_length=1)]


class ServiceLimits(StrictModel):
    """The limits of a request, and of evaluations."""

    body: Annotated[int, Field(ge=1)] = 256 << 20
    """The most bytes of a request, also as `256MiB`."""
    items: Annotated[int, Field(ge=1)] = 1_000_000
    item: Annotated[int, Field(ge=1)] = 1 << 20
    """The most bytes of one item, also as `1MiB`."""
    tasks: Annotated[int, Field(ge=1)] = 50
    running: Annotated[int, Field(ge=1, le=64)] = 8
    """How many evaluations run at a time; further evaluations wait."""
    evaluations_per_account: Annotated[int, Field(ge=1)] = 10_000

    @field_validator("body", "item", mode="before")
    @classmethod
    def _bytes(cls, value: object) -> object:
        for unit, size in _UNITS.items():
            if isinstance(value, str) and value.endswith(unit) and value.removesuffix(unit).isdecimal():
                return int(value.removesuffix(unit)) * size
        return value


class Served(Struct, frozen=True):
    """The endpoint of a model that a client has named, and the name of the model there."""

    endpoint: str
    model: str


class Client(Struct, frozen=True):
    """A client, by its key."""

    name: str
    #: The accounts that its key is bound to; if empty, any account.
    accounts: frozenset[str] = frozenset()


class ServiceConfig(StrictModel):
    """The config of the service."""

    listen: str = "127.0.0.1:5003"
    output: str = "results/service"
    """The directory in which each evaluation has a directory of its own."""
    keys_env: str | None = None
    """The environment variable with the clients' keys, `name=key,name@account=key`. Without it any key is accepted, on loopback
    only."""
    endpoints: Annotated[dict[str, ServiceEndpoint], Field(min_length=1)]
    models: Annotated[dict[str, ServedModel], Field(min_length=1)]
    """The only models that clients may name; a `*` stands for any text."""
    limits: ServiceLimits = ServiceLimits()
    media_urls: list[str] = Field(default_factory=list)
    """Hosts whose URLs of images and audio are sent on. From other hosts, clients send the file as a `data:` URL."""
    embeddings: Embeddings | None = None
    """The embeddings for `cosine_similarity` of texts; without them that metric is refused."""
    custom_function: bool = False
    """Whether clients may send Python functions. They run in processes that can do very little, and in a sandbox if `bwrap` is
    installed. Still, do not rely on this against hostile code."""

    @field_validator("listen")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isdecimal() and int(port) < 1 << 16):
            raise ValueError(f"{value!r} is not HOST:PORT, for example 127.0.0.1:5003")
        return value

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    def served(self, model: str) -> Served | None:
        """Return the endpoint of a model, or None. An exact name is preferred, then the longest pattern."""
        for pattern in sorted(self.models, key=lambda one: ("*" in one, -len(one))):
            start, star, end = pattern.partition("*")
            found = self.models[pattern]
            if not star and model == pattern:
                return Served(found.endpoint, found.model or model)
            if star and len(model) > len(start) + len(end) and model.startswith(start) and model.endswith(end):
                return Served(found.endpoint, found.model or model[len(start) : len(model) - len(end)])
        return None

    def environment_of(self, environment: Mapping[str, str], *endpoints: str) -> dict[str, str]:
        """Return the environment variables that requests to these endpoints need, and no others."""
        names = set[str]()
        for settings in map(self.endpoints.__getitem__, endpoints):
            names.add(settings.key_variable)
            if settings.cert is not None and settings.cert.passphrase_env is not None:
                names.add(settings.cert.passphrase_env)
        return {name: value for name, value in environment.items() if name in names or name.lower().endswith("_proxy")}

    def secrets(self, environment: Mapping[str, str]) -> list[str]:
        """Return the keys of all endpoints and clients, which no item may hold even if an answer does. Raises ConfigError."""
        of_endpoints = [key_in(environment, one.api_key_env) for one in self.endpoints.values()]
        return [one for one in dict.fromkeys((*of_endpoints, *self.keys(environment))) if one]

    def keys(self, environment: Mapping[str, str]) -> dict[str, Client]:
        """Return the clients by their keys. Raises ConfigError."""
        if self.keys_env is None:
            return {}
        keys: dict[str, Client] = {}
        for one in filter(None, map(str.strip, environment.get(self.keys_env, "").split(","))):
            who, equals, key = one.partition("=")
            name, _, account = who.partition("@")
            if not (name and equals and key):
                raise ConfigError([f"{self.keys_env}: should be NAME=KEY,NAME@ACCOUNT=KEY"])
            before = keys.get(key, Client(name))
            keys[key] = Client(name, before.accounts | ({account} if account else frozenset()))
        if not keys:
            raise ConfigError([f"{self.keys_env}: the environment variable is not set or empty; it holds NAME=KEY,NAME=KEY"])
        return keys


def client_of(keys: Mapping[str, Client], given: str) -> Client | None:
    """Return the client of a key, or None. Every key is compared, each in constant time."""
    found = [client for key, client in keys.items() if hmac.compare_digest(key.encode(), given.encode())]
    return found[0] if found else None


def load_service(path: Path, environment: Mapping[str, str] | None = None, *, listen: str | None = None) -> ServiceConfig:
    """Read and check SERVICE.yaml. Raises ConfigError with every mistake."""
    environment = os.environ if environment is None else environment
    file = read_config_file(path)
    if "tasks" in file.document and "models" not in file.document:
        raise ConfigError([f"{path}: is the config of an evaluation; `python -m runner {path}` runs it"])
    document, mistakes = expand(file.document, environment)
    if listen is not None:
        document = {**document, "listen": listen}
    config: ServiceConfig | None = None
    try:
        config = ServiceConfig.model_validate(document)
    except ValidationError as error:
        mistakes += explain(error, ServiceConfig)
    if config is not None:
        named: dict[KeyPath, str] = {("models", name, "endpoint"): model.endpoint for name, model in config.models.items()}
        if config.embeddings is not None:
            named["embeddings", "endpoint"] = config.embeddings.endpoint
        known = ", ".join(config.endpoints)
        mistakes += [(path, f"{one!r} is none of {known}") for path, one in named.items() if one not in config.endpoints]
        if config.keys_env is None and config.address[0] not in LOOPBACK:
            mistakes.append((("listen",), "other machines can reach it, so clients need keys: set `keys_env`"))
    if mistakes or file.mistakes or config is None:
        raise ConfigError(file.described([*file.mistakes, *mistakes]))
    return config
