"""How an evaluation of a client becomes a run: its values are taken literally, and no environment variable is inserted."""

from __future__ import annotations

import os

from runner.config.dataset import DatasetConfig
from runner.config.file import ConfigFile
from runner.config.yaml_text import dump
from runner.datasets import ReadingOptions, open_dataset
from runner.evaluation import Evaluation
from runner.secrets.redaction import Redactor
from runner.service.language import escaped
from runner.service.served import served_config
from runner.service.settings import ServiceConfig
from runner.service.store import Record
from runner.service.tasks import asked_by

__all__ = ["evaluation_of"]


def evaluation_of(record: Record, settings: ServiceConfig) -> Evaluation:
    """Return the run of an evaluation. A `${NAME}` in its values is kept as text. Raises UsageError."""
    asked = asked_by(record.tasks, settings, record.questions)
    endpoint, *others = asked.endpoints or [next(iter(settings.endpoints))]
    environment = settings.environment_of(os.environ, endpoint, *others)
    path = str(record.path / "data.jsonl")
    config = served_config(settings, endpoint, *others, name=record.id, dataset=DatasetConfig(path=[path]), tasks=asked.tasks)
    document = {
        "name": record.name,
        "description": record.description,
        "tags": record.tags or [],
        "metadata": record.metadata or {},
        "dataset": {"path": [path]},
        "endpoint": config.endpoint.model_dump(exclude_defaults=True, exclude={"limits", "guided"}),
        "endpoints": {name: one.model_dump(exclude_defaults=True) for name, one in config.endpoints.items()},
        "tasks": escaped(asked.said),
    }
    return Evaluation(
        config=config,
        file=ConfigFile(record.path / "config.yaml", dump(document), document, {}),
        dataset=open_dataset(path=[path], options=ReadingOptions.of(config.dataset)),
        environment=environment,
        redactor=Redactor(config.secrets(environment)),
        source={},
        bar=None,
        made=record.path,
        views=False,
    )
