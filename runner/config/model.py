"""The config, section by section, and its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, field_validator, model_validator

from runner.config.credentials import in_endpoint, in_environment, in_url, key_in, of_stores
from runner.config.dataset import DatasetConfig
from runner.config.endpoint import EndpointConfig, NamedEndpointConfig
from runner.config.file import long_form
from runner.config.paths import PathText
from runner.config.sections import AnalysisConfig, CacheConfig, EngineConfig, LimitsConfig, Price
from runner.datasets.remote import is_remote
from runner.keypaths import KeyPath
from runner.storage.buckets import unfit
from runner.tasks import AnyTask
from runner.tasks.base import NAME_PATTERN, TaskConfig
from runner.tasks.fields import StrictModel
from runner.tasks.mediafiles import MediaFiles

__all__ = ["Config", "schema"]


_Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]


class Config(StrictModel):
    """An evaluation: data, tasks and the endpoint that answers."""

    name: _Name
    """Letters, digits, `-`, `_` and `.`. Results go to `<output>/<name>/<run id>/`."""
    description: str | None = None
    """What the evaluation is for. It is copied into evaluation.json as it is written, like `tags` and `metadata`."""
    tags: list[str] = Field(default_factory=list)
    """Words to find it by."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Any other information about it."""
    dataset: DatasetConfig
    """The rows; `dataset: PATH` is short for `dataset: {path: PATH}`."""
    endpoint: EndpointConfig
    endpoints: dict[_Name, NamedEndpointConfig] = Field(default_factory=dict)
    """More endpoints by name, for tasks that choose one with their key `endpoint`, such as a judge."""
    tasks: Annotated[list[AnyTask], Field(min_length=1)]
    """The requests and metrics for each row; a task reads the row, and other tasks by their aliases."""
    limits: LimitsConfig = LimitsConfig()
    analysis: AnalysisConfig = AnalysisConfig()
    engine: EngineConfig = EngineConfig()
    prices: dict[str, Price] | None = None
    """What models cost, by name or glob, such as `gpt-4o*`: the exact name counts first, then the longest glob.
    `auto`, for one model or for all, takes the prices of the library genai-prices. May change when a run is resumed."""
    cache: CacheConfig | None = None
    """Takes answers of earlier runs to the same requests, instead of asking again."""
    output: PathText = "results"
    """The directory in which `<name>/<run id>/` is made, or a URL in a bucket, such as s3://bucket/results."""
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
        """The reader of the local files of all tasks."""
        root, path = self.dataset.media_root, self.dataset.path
        # A row's own file is known when the row is read; this is for rows in the config, and for those of `check`.
        directory = self._directory if path is None or is_remote(path[0]) else Path(path[0]).parent
        return MediaFiles(root=None if root is None else Path(root), directory=directory, limit=self.dataset.media_limit)

    @property
    def plug_ins(self) -> Mapping[str, Mapping[str, str]]:
        """The plug-ins by their names in the file: each with its package and version, or the SHA-256 of its files."""
        return self._plug_ins

    @property
    def plugged_files(self) -> Mapping[KeyPath, str]:
        """The types of metrics that name a file, with its absolute path, by their paths in the config."""
        return self._plugged_files

    @property
    def run_tasks(self) -> list[TaskConfig]:
        """The tasks as they are run: a task of the config may become several."""
        return [part for task in self.tasks for part in task.parts]

    @property
    def first_metric(self) -> str | None:
        """The task whose values say how good the answers are: the first metric, or without one the first judge."""
        of_metrics = [task.name for task in self.run_tasks if task.judges]
        of_judges = [task.name for task in self.run_tasks if task.task_type.startswith("auto_evaluation.")]
        return next(iter([*of_metrics, *of_judges]), None)

    @model_validator(mode="after")
    def _names_endpoints(self) -> Config:
        known = ", ".join(self.endpoints) or "none"
        for task in self.tasks:
            if task.endpoint is not None and task.endpoint not in self.endpoints:
                raise ValueError(f"the task `{task.name}` asks the endpoint {task.endpoint!r}; `endpoints` has {known}")
        return self

    @property
    def all_endpoints(self) -> Mapping[KeyPath, EndpointConfig]:
        """All endpoints by their paths in the config."""
        return {("endpoint",): self.endpoint, **{("endpoints", name): one for name, one in self.endpoints.items()}}

    @property
    def asking(self) -> Mapping[str | None, Config]:
        """A config for each endpoint that tasks ask, as if it were the only one, by its name; `endpoint` has the name None."""
        used = {task.endpoint for task in self.run_tasks if not task.judges}
        return {name: self if name is None else self._at(name) for name in sorted(used, key=str)} or {None: self}

    @property
    def endpoint_names(self) -> Mapping[str, str | None]:
        """The endpoint of each task that asks, as the results name it; None for recordings."""
        asking = self.asking
        return {task.name: asking[task.endpoint].endpoint.name or None for task in self.run_tasks if not task.judges}

    @property
    def servers(self) -> list[Config]:
        """A config for each server that is asked, as if it were the only one, with the tasks that ask there."""
        found: list[Config] = []
        for name, config in self.asking.items():
            tasks = [task for task in self.tasks if task.judges or task.endpoint == name]
            found += [config.model_copy(update={"endpoint": one, "tasks": tasks}) for one in config.endpoint.members]
        return found

    def _at(self, name: str) -> Config:
        endpoint = self.endpoints[name]
        own = endpoint.limits.model_dump(exclude_none=True)
        if own.keys() & {"requests_per_second", "requests_per_minute"}:
            own = {"requests_per_second": None, "requests_per_minute": None} | own
        return self.model_copy(update={"endpoint": endpoint, "limits": self.limits.model_copy(update=own)})

    def api_key(self, environment: Mapping[str, str]) -> str | None:
        """Return the key to send, or None."""
        return key_in(environment, self.endpoint.api_key_env)

    def passphrase(self, environment: Mapping[str, str]) -> str | None:
        """Return the passphrase of the client certificate's key, or None."""
        cert = self.endpoint.cert
        return None if cert is None or cert.passphrase_env is None else environment.get(cert.passphrase_env) or None

    def secrets(self, environment: Mapping[str, str]) -> list[str]:
        """Return every value that must never reach a file, a log or a message."""
        secrets = set(self._written)
        for endpoint in self.all_endpoints.values():
            secrets |= {one for url in endpoint.urls or [""] for one in in_endpoint(endpoint.headers, url)}
            secrets |= {*in_environment(environment, endpoint.api_key_env)}
            if endpoint.cert is not None and endpoint.cert.passphrase_env is not None:
                secrets.add(environment.get(endpoint.cert.passphrase_env, ""))
        urls = list(filter(is_remote, self.dataset.path or ()))
        secrets |= {secret for url in urls for secret in in_url(url)} | {*(of_stores(environment) if urls else ())}
        return sorted(secrets - {""}, key=len, reverse=True)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the config file, for editors, without plug-ins."""
    found = Config.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "runner config"
    properties = found["properties"]
    dataset = properties["dataset"]
    said = dataset.pop("description")
    short = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    properties["dataset"] = {"anyOf": [dataset, *short], "description": said}
    path = found["$defs"]["DatasetConfig"]["properties"]["path"]
    path["anyOf"] = [{"type": "string"}, *path["anyOf"]]
    for name in ("EndpointConfig", "NamedEndpointConfig"):
        of_endpoint = found["$defs"][name]["properties"]
        of_endpoint["cert"]["anyOf"] = [{"type": "string"}, *of_endpoint["cert"]["anyOf"]]
        several = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/ServerConfig"}]}}
        of_endpoint["base_url"]["anyOf"].append(several)
    properties["prices"]["anyOf"].append({"const": "auto"})
    properties["data"] = {
        "type": "array",
        "items": {"type": "object"},
        "description": "The rows themselves, as in SGP.",
    }
    found["required"] = [name for name in found["required"] if name != "dataset"]
    return found
