"""The scores: the values of a run's metrics, for all items and for groups of them, as means and reduced over samples.

The standard error of a metric is that of a mean of clusters, because the samples of an item belong together. Its interval is
Wilson's if answers are right or wrong, and Student's for other values (`analysis.statistics`).

They are counted item by item. Memory grows with the groups, at most 200 for each table, and with the clusters if a column
names them; otherwise it is constant.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from runner.analysis.statistics.means import ClusteredMean
from runner.analysis.statistics.samples import majority_at_k, pass_at_k, pass_hat_k
from runner.results.grouping import Grouping, group_in
from runner.storage.records import End
from runner.structs import Struct, field
from runner.tasks.base import tasks_of

__all__ = ["Mean", "Reduction", "Scores", "Scoring"]

_REDUCER = re.compile(r"(pass@|pass\^|majority@)(\d+)")


class Reduction(Struct, frozen=True):
    """How the samples of an item are reduced to one value."""

    #: Such as `pass@4`, by their names in the config; None: the default. The mean is always reported.
    reducers: Sequence[str] | None = None
    #: An answer with at least this value is right.
    right: float = 1.0
    #: Whether an answer needs more than half of the votes.
    strict: bool = False

    def of(self, samples: int) -> Iterator[tuple[str, str, int]]:
        """Yield each reducer's name, kind and number of samples; by default those over all samples, if there are several."""
        defaults = [f"pass@{samples}", f"majority@{samples}"] if samples > 1 else []
        for name in defaults if self.reducers is None else self.reducers:
            if (found := _REDUCER.fullmatch(name)) is not None:
                yield name, found[1], int(found[2])

    def value(self, kind: str, k: int, values: Sequence[float], answers: Sequence[Hashable | None]) -> float | None:
        """Return an item's reduced value; `answers` are the answers as they were read. None if there are fewer than k."""
        right = [value >= self.right for value in values]
        if kind == "majority@":
            good = {answer for answer, is_right in zip(answers, right, strict=False) if is_right and answer is not None}
            return majority_at_k(answers, good, k, strict=self.strict)
        return (pass_at_k if kind == "pass@" else pass_hat_k)(len(right), sum(right), k)


class Scoring(Struct, frozen=True):
    """The part of a config that says how scores are counted; it does not change what is asked."""

    #: The tables of groups, each by one column or several, as locators.
    by: Sequence[Sequence[str]] = ()
    #: The column whose value makes items one cluster; by default each item is its own cluster.
    cluster: str | None = None
    #: By the alias of the metric.
    reductions: Mapping[str, Reduction] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Scoring:
        """Return the scoring of a config's document."""
        analysis = document.get("analysis") or {}
        by = [[one] if isinstance(one, str) else list(one) for one in analysis.get("by") or () if one]
        reductions = {
            alias: Reduction(task.get("reduce"), _number(task.get("right"), 1.0), task.get("majority") == "strict")
            for alias, task in tasks_of(document).items()
            if task.get("task_type") == "metric"
        }
        return cls(by, analysis.get("cluster") or None, reductions)


def _number(given: Any, default: float) -> float:
    return default if given in {None, ""} else float(given)  # "": a variable that is no longer set


class Mean:
    """A mean over clusters: each item is one, or all items with the same value in a column."""

    def __init__(self, *, by_column: bool) -> None:
        self._mean = ClusteredMean()
        self._clusters: dict[Hashable, array[float]] | None = {} if by_column else None
        #: The smallest of all values and 0, and the largest of all values and 1.
        self.least, self.largest = 0.0, 1.0

    def add(self, values: Sequence[float], cluster: Hashable) -> None:
        """Add the values of one item."""
        self.least, self.largest = min(self.least, *values), max(self.largest, *values)
        if self._clusters is None:
            self._mean.add(values)
        else:
            self._clusters.setdefault(cluster, array("d")).extend(values)

    def mean(self) -> ClusteredMean:
        """Return the mean of what was added."""
        if self._clusters is None:
            return self._mean
        mean = ClusteredMean()
        for values in self._clusters.values():
            mean.add(values)
        return mean

    @property
    def is_share(self) -> bool:
        """Whether all values lie between 0 and 1, and so does their mean."""
        return (self.least, self.largest) == (0.0, 1.0)

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the mean, within 0 and 1 if all values are; None if no error is known."""
        found = self.mean().interval()
        return found if found is None or not self.is_share else (max(0.0, found[0]), min(1.0, found[1]))

    def report(self) -> dict[str, Any]:
        """Return the mean, its standard error and its 95 % interval with its kind."""
        mean, interval = self.mean(), self.interval()
        return {
            "n": mean.n,
            "mean": mean.mean,
            "stderr": mean.stderr,
            "ci95": None if interval is None else list(interval),
            "interval": None if interval is None else "wilson" if mean.is_binary else "t",
        }


class _Score:
    """The values of one metric, for all items or for those of a group."""

    def __init__(self, reduction: Reduction, samples: int, *, by_column: bool) -> None:
        self._values = Mean(by_column=by_column)
        self._reduction = reduction
        self._reducers = list(reduction.of(samples))
        self._reduced = {name: Mean(by_column=by_column) for name, _, _ in self._reducers}
        #: How many items have fewer answered samples than a reducer needs.
        self._left_out = dict.fromkeys(self._reduced, 0)
        #: Results that are errors, and values that are 0 because no answer was found in the candidate.
        self.missing = self.unread = 0

    def add(self, ends: Sequence[End], cluster: Hashable) -> None:
        """Add the results of one item."""
        judged = [end for end in ends if end.error_type is None]
        self.missing += len(ends) - len(judged)
        self.unread += sum(end.value == 0 and not end.output for end in judged)
        scored = [end for end in judged if end.value is not None]
        if not scored:
            return
        values = [end.value for end in scored if end.value is not None]
        self._values.add(values, cluster)
        answers = [end.output or None for end in scored]
        for name, kind, k in self._reducers:
            value = self._reduction.value(kind, k, values, answers)
            if value is None:
                self._left_out[name] += 1
            else:
                self._reduced[name].add([value], cluster)

    def report(self) -> dict[str, Any]:
        """Return the mean with its standard error, 95 % interval and bounds; no bounds if a value is not between 0 and 1."""
        found = {**self._values.report(), "errors": self.missing, "unread": self.unread, "bounds": self._bounds()}
        if self._reduced:
            found["reduced"] = {
                name: {**mean.report(), "left_out": self._left_out[name]} for name, mean in self._reduced.items()
            }
        return found

    def _bounds(self) -> list[float] | None:
        """Return the mean if every missing result were wrong, and if every one were right."""
        mean = self._values.mean()
        everything = mean.n + self.missing
        if not everything or not self._values.is_share:
            return None
        total = (mean.mean or 0.0) * mean.n
        return [total / everything, (total + self.missing) / everything]


class Scores:
    """All metrics of a run."""

    def __init__(self, scoring: Scoring | None = None, samples: Mapping[str, int] | None = None) -> None:
        """Take the number of samples of each task, by its alias."""
        self._scoring, self._samples = scoring or Scoring(), samples or {}
        self._all: dict[str, _Score] = {}
        self._groups: dict[str, list[dict[str, _Score]]] = {}
        self._grouping = Grouping(self._scoring.by, self._scoring.cluster)

    def add_item(self, ends: Sequence[End]) -> None:
        """Add the results of one item."""
        judged: dict[str, list[End]] = {}
        for end in ends:
            if end.task_type == "metric":
                judged.setdefault(end.task, []).append(end)
        if not judged:
            return
        groups, cluster = self._grouping.of(ends[0])
        for alias, mine in judged.items():
            self._score(self._all, alias, alias).add(mine, cluster)
            tables = self._groups.setdefault(alias, [{} for _ in self._scoring.by])
            for table, group in zip(tables, groups, strict=True):
                self._score(table, group_in(table, group), alias).add(mine, cluster)

    def _score(self, table: dict[str, _Score], name: str, alias: str) -> _Score:
        if (score := table.get(name)) is None:
            reduction = self._scoring.reductions.get(alias, Reduction())
            by_column = self._scoring.cluster is not None
            score = table[name] = _Score(reduction, self._samples.get(alias, 1), by_column=by_column)
        return score

    def report(self) -> dict[str, Any]:
        """Return each metric's figures, by its alias, as they stand in `totals.metrics`: in the order of the tasks."""
        order = [*self._samples, *sorted(self._all.keys() - self._samples)]
        return {alias: self._all[alias].report() | self._report_of_groups(alias) for alias in order if alias in self._all}

    def _report_of_groups(self, alias: str) -> dict[str, Any]:
        if not self._scoring.by:
            return {}
        tables = zip(self._scoring.by, self._groups[alias], strict=True)
        return {"groups": {", ".join(by): {name: table[name].report() for name in sorted(table)} for by, table in tables}}
