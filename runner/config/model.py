"""The config: what it may say, section by section, and its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, field_validator, model_validator

from runner.config.credentials import in_endpoint, in_environment, in_url, key_in, of_stores
from runner.config.dataset import DatasetConfig
from runner.config.endpoint import EndpointConfig
from runner.config.file import long_form
from runner.config.sections import AnalysisConfig, CacheConfig, EngineConfig, LimitsConfig, Price
from runner.datasets.remote import is_remote
from runner.keypaths import KeyPath
from runner.storage.buckets import unfit
from runner.tasks import AnyTask
from runner.tasks.base import NAME_PATTERN, TaskConfig
from runner.tasks.fields import StrictModel
from runner.tasks.mediafiles import MediaFiles

__all__ = ["Config", "schema"]


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
    prices: dict[str, Price] | None = None
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
