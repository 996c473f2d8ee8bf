"""The comparison: the items that two runs have in common, and all figures of both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from runner.analysis.compare.reading import Answered, Answers
from runner.analysis.figures import Figure, Pair, Subject, estimate, paired, unpaired
from runner.analysis.gates import Decision
from runner.analysis.scoring import lower_is_better
from runner.analysis.statistics.families import adjusted
from runner.results.scores import Mean, Reduction
from runner.results.summary import PERCENTILES
from runner.structs import Struct, field
from runner.tasks.base import tasks_of

__all__ = ["Comparison", "Flip", "Matching", "adjust", "compare"]


class Matching(Struct):
    """The IDs of the items that are compared, and of those that are not."""

    common: list[str] = field(default_factory=list)
    only_a: list[str] = field(default_factory=list)
    only_b: list[str] = field(default_factory=list)
    #: Items in both runs whose rows differ.
    changed: list[str] = field(default_factory=list)


class Flip(Struct, frozen=True):
    """An item whose value of a metric differs."""

    metric: str
    item_id: str
    a: float
    b: float


class Comparison(Struct, kw_only=True):
    """The comparison of B with A."""

    a: Answers
    b: Answers
    matching: Matching
    #: Whether a column makes items one cluster.
    by_cluster: bool = False
    figures: dict[Subject, Figure] = field(default_factory=dict)
    #: The decisions about the gates, and the p below which B is called better or worse.
    decisions: Sequence[Decision] = ()
    alpha: float = 0.05
    #: Metrics whose configuration differs, tasks in only one run, and paths of the config whose values differ.
    other_metrics: Sequence[str] = ()
    other_tasks: Sequence[str] = ()
    differences: Sequence[str] = ()

    @property
    def metrics(self) -> list[str]:
        """The metrics that both runs have."""
        return [alias for alias in self.a.metrics if alias in self.b.metrics]

    def is_less_better(self, alias: str) -> bool:
        """Return whether a smaller value of a metric is better."""
        return alias in lower_is_better(self.b.document)

    def flips(self, alias: str) -> list[Flip]:
        """Return the items whose value differs: those that B lost, then those it won; the largest changes first."""
        in_a, in_b = self.a.metrics.index(alias), self.b.metrics.index(alias)
        less = self.is_less_better(alias)
        means = (
            (item_id, _mean(self.a.items[item_id].values[in_a]), _mean(self.b.items[item_id].values[in_b]))
            for item_id in self.matching.common
        )
        found = [Flip(alias, item_id, a, b) for item_id, a, b in means if a is not None and b is not None and a != b]
        return sorted(found, key=lambda flip: ((flip.b < flip.a) is less, -abs(flip.b - flip.a)))

    def outputs(self, flip: Flip) -> tuple[str | None, str | None]:
        """Return the answers that the metric read in A and in B; None for a run with several samples."""
        return _output_of(self.a, flip.metric, flip.item_id), _output_of(self.b, flip.metric, flip.item_id)

    def doubt(self, subject: Subject, min_pairs: float) -> str | None:
        """Return why no difference can be told: no common items, or too few pairs for a metric or a sum; None if it can."""
        if not self.matching.common:
            return "the runs have no item in common"
        name, sides = subject[0], [self.a.items, self.b.items]
        if name in self.metrics:
            due = {item_id for items in sides for item_id, item in items.items() if name not in item.not_due}
            pairs, what = self.figures[name, None, None].pairs, "have a value"
        elif subject in _SUMS:
            due = {*self.a.items, *self.b.items}
            pairs, what = sum(all(items[one].answers for items in sides) for one in self.matching.common), "are answered"
        else:
            return None
        if pairs < min_pairs * len(due):
            return f"only {pairs} of {len(due)} items {what} on both sides (--min-pairs {min_pairs:g})"
        return None


def _output_of(answers: Answers, alias: str, item_id: str) -> str | None:
    if answers.samples[alias] > 1:
        return None
    end = answers.ledger.end(answers.items[item_id].item_index, 0, alias)
    return None if end is None else end.output


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def compare(a: Answers, b: Answers, *, by: Sequence[Sequence[str]], by_cluster: bool, keep_changed: bool) -> Comparison:
    """Compare two runs, which were read with the same groups and clusters."""
    comparison = Comparison(a=a, b=b, matching=_matched(a, b, keep_changed=keep_changed), by_cluster=by_cluster)
    comparison.other_metrics, comparison.other_tasks = _other_tasks(a, b)
    before, now = a.ledger.opens[-1].identity, b.ledger.opens[-1].identity
    comparison.differences = sorted(path for path in {*before, *now} if before.get(path) != now.get(path))
    figures = comparison.figures
    everything = _Part([*a.items.values()], [*b.items.values()], comparison.matching.common)
    for alias in comparison.metrics:
        for subject, values in _of_metric(comparison, alias):
            figures[subject] = _figure(comparison, everything, values, less=comparison.is_less_better(alias))
        for index, columns in enumerate(by):
            for name, figure in _of_groups(comparison, alias, index):
                figures[alias, name if len(by) == 1 else f"{', '.join(columns)}: {name}", None] = figure
    for name, of_item in _OF_ITEMS.items():
        if name not in comparison.metrics:  # an alias of the user overrides a built-in name
            figures[name, None, None] = _figure(comparison, everything, (of_item, of_item), less=True)
    comparison.figures = figures | {subject: one for subject, one in _estimates(a, b) if subject not in figures}
    return comparison


def _matched(a: Answers, b: Answers, *, keep_changed: bool) -> Matching:
    matching = Matching(only_b=[item_id for item_id in b.items if item_id not in a.items])
    for item_id, item in a.items.items():
        if (other := b.items.get(item_id)) is None:
            matching.only_a.append(item_id)
        else:
            is_same = item.row == other.row
            if not is_same:
                matching.changed.append(item_id)
            if is_same or keep_changed:
                matching.common.append(item_id)
    return matching


def _other_tasks(a: Answers, b: Answers) -> tuple[list[str], list[str]]:
    settings = [{alias: _settings_of(answers, alias) for alias in answers.samples} for answers in (a, b)]
    both = [alias for alias in a.metrics if alias in b.metrics]
    return [alias for alias in both if settings[0][alias] != settings[1][alias]], sorted(a.samples.keys() ^ b.samples.keys())


def _settings_of(answers: Answers, alias: str) -> object:
    return tasks_of(answers.document).get(alias, {}).get("configuration")


#: Returns the values of an item, one for each sample.
_Values: TypeAlias = Callable[[Answered], Sequence[float]]


def _share(count: int, of: int) -> list[float]:
    return [1.0] * count + [0.0] * (of - count)


def _evenly(counted: tuple[int, float]) -> list[float]:
    """Return equal values with the given number and sum: only these two are known."""
    count, total = counted
    return [total / count] * count if count else []


_OF_ITEMS: Mapping[str, _Values] = {
    "error_rate": lambda item: _share(item.errors, item.results),
    "skipped": lambda item: _share(item.skipped, item.results),
    "truncated": lambda item: _share(item.truncated, item.answers),
    "empty": lambda item: _share(item.empty, item.answers),
    "latency": lambda item: _evenly(item.timed),
    "tokens": lambda item: _evenly(item.counted),
}


def _of_metric(comparison: Comparison, alias: str) -> Iterator[tuple[Subject, tuple[_Values, _Values]]]:
    """Yield functions for the values of a metric, and for each reducer, of an item of A and of one of B."""
    in_a, in_b = comparison.a.metrics.index(alias), comparison.b.metrics.index(alias)
    yield (alias, None, None), (_values_at(in_a), _values_at(in_b))
    reduction = comparison.b.scoring.reductions.get(alias, Reduction())
    for name, kind, k in reduction.of(comparison.b.samples[alias]):
        yield (alias, None, name), (_reduced_at(in_a, reduction, kind, k), _reduced_at(in_b, reduction, kind, k))


def _values_at(index: int) -> _Values:
    return lambda item: item.values[index]


def _reduced_at(index: int, reduction: Reduction, kind: str, k: int) -> _Values:
    def value(item: Answered) -> list[float]:
        found = reduction.value(kind, k, item.values[index], item.outputs[index])
        return [] if found is None else [found]

    return value


class _Part(Struct):
    """All items of both runs, or those of one group: A's, B's, and the IDs of those that are compared."""

    a: list[Answered] = field(default_factory=list)
    b: list[Answered] = field(default_factory=list)
    common: list[str] = field(default_factory=list)


def _figure(comparison: Comparison, part: _Part, values: tuple[_Values, _Values], *, less: bool) -> Figure:
    """Return the figure of both runs over the items that are compared, with B's value over all its items."""
    own = _mean_of(part.b, values[1], by_cluster=comparison.by_cluster)
    if comparison.matching.common:
        figure = paired(list(_pairs(comparison, part.common, values)), by_cluster=comparison.by_cluster, less_is_better=less)
        figure.bounds = _bounds(comparison, part.common, values)
    else:
        figure = unpaired(_mean_of(part.a, values[0], by_cluster=comparison.by_cluster).mean(), own.mean(), less_is_better=less)
    figure.own_b, figure.interval_b = own.mean().mean, own.interval()
    return figure


def _mean_of(items: Iterable[Answered], values: _Values, *, by_cluster: bool) -> Mean:
    mean = Mean(by_column=by_cluster)
    for item in items:
        if found := values(item):
            mean.add(found, item.cluster)
    return mean


def _bounds(comparison: Comparison, item_ids: Sequence[str], values: tuple[_Values, _Values]) -> tuple[float, float] | None:
    """Return the difference if all values that B lacks were 0, or 1, over the items for which A has a value.

    None if B lacks no value, or if a value is not between 0 and 1.
    """
    total, missing, items = 0.0, 0, 0
    for item_id in item_ids:
        one, other = _mean(values[0](comparison.a.items[item_id])), _mean(values[1](comparison.b.items[item_id]))
        if one is None:
            continue
        if not (0 <= one <= 1 and (other is None or 0 <= other <= 1)):
            return None
        items += 1
        missing += other is None
        total += (other or 0.0) - one
    return (total / items, (total + missing) / items) if missing else None


def _pairs(comparison: Comparison, item_ids: Sequence[str], values: tuple[_Values, _Values]) -> Iterator[Pair]:
    for item_id in item_ids:
        one, other = values[0](comparison.a.items[item_id]), values[1](item := comparison.b.items[item_id])
        if one and other:
            yield Pair(sum(one) / len(one), sum(other) / len(other), (len(one), len(other)), item.cluster)


def _of_groups(comparison: Comparison, alias: str, index: int) -> Iterator[tuple[str, Figure]]:
    """Yield the figure of each group of one table, with p adjusted over these groups. B's rows decide the groups of pairs."""
    groups: dict[str, _Part] = {}
    for item in comparison.a.items.values():
        groups.setdefault(item.groups[index], _Part()).a.append(item)
    for item in comparison.b.items.values():
        groups.setdefault(item.groups[index], _Part()).b.append(item)
    for item_id in comparison.matching.common:
        groups[comparison.b.items[item_id].groups[index]].common.append(item_id)
    values = _values_at(comparison.a.metrics.index(alias)), _values_at(comparison.b.metrics.index(alias))
    less = comparison.is_less_better(alias)
    found = {name: _figure(comparison, part, values, less=less) for name, part in sorted(groups.items())}
    for figure, p in zip(found.values(), adjusted([one.p for one in found.values()], "benjamini_hochberg"), strict=True):
        figure.p_adjusted = p
    yield from found.items()


_TOKENS = ("prompt", "completion", "total")
#: Figures that grow with the number of answers.
_SUMS: Collection[Subject] = {("cost", None, None), ("wall", None, None), *(("tokens", None, stat) for stat in _TOKENS)}


def _estimates(a: Answers, b: Answers) -> Iterator[tuple[Subject, Figure]]:
    for name in ("latency", "ttft"):
        for stat, share in PERCENTILES.items():
            yield (name, None, stat), estimate(getattr(a, name).at(share), getattr(b, name).at(share))
    for stat in _TOKENS:
        yield ("tokens", None, stat), estimate(a.tokens[f"{stat}_tokens"], b.tokens[f"{stat}_tokens"])
    yield ("cost", None, None), estimate(a.cost, b.cost)
    yield ("wall", None, None), estimate(a.ledger.wall_s, b.ledger.wall_s)


def adjust(comparisons: Sequence[Comparison]) -> None:
    """Adjust the p of all metrics of all comparisons for their number (Holm)."""
    figures = [comparison.figures[alias, None, None] for comparison in comparisons for alias in comparison.metrics]
    for figure, p in zip(figures, adjusted([figure.p for figure in figures], "holm"), strict=True):
        figure.p_adjusted = p
