"""The scoring in a run's config, and the options of an analysis that replace parts of the scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from runner.errors import UsageError
from runner.results.grouping import Grouping
from runner.results.scores import Scoring
from runner.tasks.base import tasks_of
from runner.templates.locators import steps_of

__all__ = ["check_found", "lower_is_better", "scoring_of"]


def scoring_of(document: Mapping[str, Any], by: Sequence[Sequence[str]], cluster: str | None) -> Scoring:
    """Return how scores are counted. Raises UsageError for a text that cannot name a column of a row."""
    for column in _columns(by, cluster):
        if steps_of(column) is None:
            raise UsageError(f"{column!r}: is not a column of the row; write it as item.category")
    scoring = Scoring.of(document)
    return Scoring(by or scoring.by, cluster or scoring.cluster, scoring.reductions)


def check_found(grouping: Grouping, by: Sequence[Sequence[str]], cluster: str | None) -> None:
    """Raise UsageError for a column that was asked for, and that no row of the run has."""
    for column in _columns(by, cluster):
        if column in grouping.absent:
            raise UsageError(f"{column!r}: no row of the run has this column")


def lower_is_better(document: Mapping[str, Any]) -> frozenset[str]:
    """Return the aliases of the metrics whose smaller values are better."""
    return frozenset(alias for alias, task in tasks_of(document).items() if task.get("better") == "lower")


def _columns(by: Sequence[Sequence[str]], cluster: str | None) -> list[str]:
    return [*chain.from_iterable(by), *([] if cluster is None else [cluster])]
