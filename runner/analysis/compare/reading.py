"""The results of a run, item by item, for a comparison: values and counts, and no texts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from runner.results.grouping import Grouping
from runner.results.scores import Scoring
from runner.results.summary import Quantiles
from runner.results.views import document_of
from runner.storage.ledger import Ledger
from runner.storage.records import End
from runner.storage.rundir import RunDir
from runner.structs import Struct, field
from runner.tasks.base import tasks_of
from runner.tasks.pairing import PAIRWISE

__all__ = ["Answered", "Answers", "read_answers"]


class Answered(NamedTuple):
    """The results of one item."""

    item_index: int
    #: A hash of the row.
    row: bytes
    #: For each metric the values of its samples, without errors.
    values: tuple[tuple[float, ...], ...]
    #: For each metric the answers as it read them, hashed; empty if it has only one sample.
    outputs: tuple[tuple[int | None, ...], ...]
    #: The tasks that were not run in any sample, because their condition did not hold.
    not_due: tuple[str, ...]
    #: How many results there are, errors and skipped tasks among them; how many answers, cut off and empty ones among them.
    results: int
    errors: int
    skipped: int
    answers: int
    truncated: int
    empty: int
    #: How many answers have a latency, and the sum in seconds; the same for completion tokens.
    timed: tuple[int, float]
    counted: tuple[int, float]
    #: The key of its cluster, and the name of its group in each table.
    cluster: Hashable
    groups: tuple[str, ...]


class Answers(Struct, kw_only=True):
    """A run, read for a comparison."""

    run: RunDir
    ledger: Ledger
    document: Mapping[str, Any]
    #: The number of samples of each of its tasks, by alias, and the aliases of its metrics.
    samples: Mapping[str, int]
    metrics: Sequence[str]
    items: dict[str, Answered] = field(default_factory=dict)
    latency: Quantiles = field(default_factory=Quantiles)
    ttft: Quantiles = field(default_factory=Quantiles)
    tokens: Counter[str] = field(default_factory=Counter)
    #: How many answers came from each model and fingerprint, as reported by the server.
    served: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: int = 0
    #: The costs in dollars, and how many answers have no price.
    spent: float = 0.0
    unpriced: int = 0

    @property
    def cost(self) -> float | None:
        """The costs of all answers, in dollars; None if some are unknown, or there are no answers."""
        return None if self.unpriced or not self.served else self.spent

    @property
    def gates(self) -> list[str]:
        """The gates in its config."""
        analysis = self.document.get("analysis") or {}
        return list(analysis.get("gates") or ())

    @property
    def scoring(self) -> Scoring:
        """The scoring in its config."""
        return Scoring.of(self.document)


class _Taken:
    """Collects the results of one item."""

    def __init__(self, first: End, metrics: Sequence[str]) -> None:
        self.first = first
        self.values: dict[str, list[float]] = {alias: [] for alias in metrics}
        self.outputs: dict[str, list[int | None]] = {alias: [] for alias in metrics}
        self.not_run: set[str] = set()
        self.due: set[str] = set()
        self.results = self.errors = self.skipped = self.answers = self.truncated = self.empty = 0
        self.timed, self.seconds = 0, 0.0
        self.counted, self.tokens = 0, 0.0

    def take(self, end: End) -> None:
        self.results += 1
        (self.not_run if end.skipped else self.due).add(end.task)
        if end.error_type is not None:
            self.errors += 1
        elif end.skipped:
            self.skipped += 1
        elif end.task_type == "metric":
            if end.value is not None:
                self.values[end.task].append(end.value)
                self.outputs[end.task].append(hash(end.output) if end.output else None)
        else:
            self.answers += 1
            self.truncated += end.finish_reason == "length"
            self.empty += end.is_empty
            if end.latency_s is not None:
                self.timed += 1
                self.seconds += end.latency_s
            if end.completion_tokens is not None:
                self.counted += 1
                self.tokens += end.completion_tokens


def read_answers(run: RunDir, grouping: Grouping) -> Answers:
    """Read a run, even if it goes on, was killed or is damaged. Raises RunDirError, StorageError.

    The ledger stays open, so that texts can be looked up.
    """
    document = document_of(run)
    ledger = Ledger.read(run.journal, run.files)
    samples = dict(ledger.plan.tasks)
    answers = Answers(run=run, ledger=ledger, document=document, samples=samples, metrics=[])
    kinds = {alias: task.get("task_type") for alias, task in tasks_of(document).items()}
    # The copy of the config may be gone, or a variable in an alias may have changed since.
    if any(alias not in kinds and alias.rpartition(".")[0] not in kinds for alias in samples):
        kinds = {end.task: end.task_type for end in ledger.ends()}
    answers.metrics = [alias for alias in samples if kinds.get(alias) in {"metric", PAIRWISE}]
    for taken in _items(answers):
        item = taken.first
        groups, cluster = grouping.of(item)
        answers.items[item.item_id] = Answered(
            item.item_index,
            hashlib.blake2b(item.item.encode("utf-8", "surrogatepass"), digest_size=8).digest(),
            tuple(tuple(taken.values[alias]) for alias in answers.metrics),
            tuple(tuple(taken.outputs[alias]) if samples[alias] > 1 else () for alias in answers.metrics),
            tuple(taken.not_run - taken.due),
            taken.results,
            taken.errors,
            taken.skipped,
            taken.answers,
            taken.truncated,
            taken.empty,
            (taken.timed, taken.seconds),
            (taken.counted, taken.tokens),
            cluster,
            tuple(groups),
        )
    return answers


def _items(answers: Answers) -> Iterator[_Taken]:
    for _, of_item in groupby(answers.ledger.ends(), lambda end: end.item_index):
        ends = list(of_item)
        taken = _Taken(ends[0], answers.metrics)
        for end in ends:
            taken.take(end)
            _count(answers, end)
        yield taken


def _count(answers: Answers, end: End) -> None:
    """Count a result for the figures of the whole run."""
    if end.error_type is not None:
        answers.errors += 1
        return
    if end.request is None:
        return
    answers.unpriced += end.cost is None
    answers.spent += end.cost or 0.0
    if end.latency_s is not None:
        answers.latency.add(end.latency_s)
    if end.ttft_s is not None:
        answers.ttft.add(end.ttft_s)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        answers.tokens[name] += getattr(end, name) or 0
    answers.served[end.response_model or "", end.system_fingerprint or ""] += 1
