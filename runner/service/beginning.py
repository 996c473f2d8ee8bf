"""How an evaluation of a client becomes a run: its values are taken as they are, and nothing of the environment comes in."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from pydantic import PrivateAttr

from runner.config.dataset import DatasetConfig
from runner.config.file import ConfigFile, dump
from runner.config.model import Config
from runner.datasets import ReadingOptions, open_dataset
from runner.evaluation import Evaluation
from runner.secrets.redaction import Redactor
from runner.service.language import escaped
from runner.service.media import NoFiles
from runner.service.settings import ServiceConfig
from runner.service.store import Record
from runner.service.tasks import asked_by
from runner.tasks.mediafiles import MediaFiles

__all__ = ["evaluation_of", "served_config"]


class _ServedConfig(Config):
    """A config that a client had a part in: it was checked by the service, and opens no file."""

    _media: MediaFiles = PrivateAttr(default_factory=MediaFiles)

    @cached_property
    def media_files(self) -> MediaFiles:
        """What refuses to read local files."""
        return self._media


def served_config(settings: ServiceConfig, endpoint: str, **said: Any) -> Config:
    """Return a config that asks an endpoint of the service, and what else is said of it."""
    chosen = settings.endpoints[endpoint]
    config = _ServedConfig.model_construct(
        description=None,
        tags=[],
        metadata={},
        endpoint=chosen,
        limits=chosen.limits,
        output=settings.output,
        **said,
    )
    config._written = settings.secrets(os.environ)  # noqa: SLF001  what neither the journal nor any other file may hold
    config._media = NoFiles(settings.media_urls)  # noqa: SLF001  its own class
    return config


def evaluation_of(record: Record, settings: ServiceConfig) -> Evaluation:
    """Return the run of an evaluation. No `${NAME}` of it is put in: its values are taken as they are. Raises UsageError."""
    asked = asked_by(record.tasks, settings, record.questions)
    endpoint = asked.endpoint or next(iter(settings.endpoints))
    chosen = settings.endpoints[endpoint]
    environment = settings.environment_of(endpoint, os.environ)
    path = str(record.path / "data.jsonl")
    config = served_config(settings, endpoint, name=record.id, dataset=DatasetConfig(path=[path]), tasks=asked.tasks)
    said = chosen.model_dump(exclude_defaults=True, exclude={"limits", "guided"})
    document = {
        "name": record.name,
        "description": record.description,
        "tags": record.tags or [],
        "metadata": record.metadata or {},
        "dataset": {"path": [path]},
        "endpoint": said,
        "tasks": escaped(asked.said),
    }
    dataset = open_dataset(
        path=[path], data=None, id_column=None, limit=None, shuffle=None, options=ReadingOptions.of(config.dataset)
    )
    return Evaluation(
        config=config,
        file=ConfigFile(record.path / "config.yaml", dump(document), document, {}),
        dataset=dataset,
        environment=environment,
        redactor=Redactor(config.secrets(environment)),
        source={},
        bar=None,
        made=record.path,
        views=False,
    )
