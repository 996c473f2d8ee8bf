"""Finds the parts of a config that cannot be in a batch, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner import jsontext
from runner.config.model import Config
from runner.keypaths import KeyPath
from runner.secrets.redaction import Redactor

__all__ = ["unfit_for_batches", "without_limits"]

_FREE: Mapping[str, Any] = {"max_tokens": None, "max_cost": None, "max_error_rate": 1.0, "max_wall_time": None}


def without_limits(config: Config) -> Config:
    """Return a config without the limits that stop a run: the answers of a batch are paid already."""
    return config.model_copy(update={"limits": config.limits.model_copy(update=_FREE)})


def unfit_for_batches(config: Config, redactor: Redactor) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path of each part of a config that cannot be in a batch, and why."""
    names = {task.endpoint for task in config.tasks if not task.judges}
    if not names:
        yield ("tasks",), "no task sends requests, so there is nothing for a batch"
    for place, endpoint in config.all_endpoints.items():
        if endpoint.replay is not None and (place[-1] if len(place) > 1 else None) in names:
            yield (*place, "replay"), "answers from recordings, and not from a batch; leave it out"
    for index, task in enumerate(config.tasks):
        if not task.judges:
            text = jsontext.encode(task.settings.verbatim)
            if redactor.json(text) != text:
                what = "holds a secret, which no batch file may hold; send it as a header, or ask directly"
                yield ("tasks", index, "configuration"), what
