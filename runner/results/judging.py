"""Figures of the judges of a run: their verdicts, how often there is none, how far they agree with people and each other.

They are counted item by item. Memory grows with the choices, and not with the items.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from runner import jsontext
from runner.analysis.statistics.agreement import Alpha, cohen_kappa, weighted_kappa
from runner.analysis.statistics.distributions import z_quantile
from runner.output import JUDGE
from runner.reading.verdicts import plain_choice
from runner.results.pairs import Pairs
from runner.storage.records import End
from runner.structs import Struct, field
from runner.tasks.base import tasks_of
from runner.tasks.pairing import Pairing, pairing_of
from runner.templates.compile import TemplateMistake, compile_template
from runner.templates.locators import NotThereError, Step, located, steps_of
from runner.types import ErrorType

__all__ = ["Judge", "Judges", "judges_of"]

#: The most different verdicts of a judge, or labels of people; further ones are counted as `(others)`.
_MOST_LABELS = 50
_OTHERS = "(others)"
_THIRDS = 3
_STEP = math.log(1.02)


class Judge(Struct, frozen=True, kw_only=True):
    """A judge, as the config defines it."""

    alias: str
    #: The tasks that it reads.
    inputs: Sequence[str]
    #: None if they come with the rows, or if its verdict is JSON.
    choices: Sequence[str] | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    #: The choices, by their plain form (`plain_choice`).
    named: Mapping[str, str] = field(default_factory=dict)
    #: The column with the labels of people, and the steps to it.
    agree_with: str | None = None
    column: Sequence[Step] = ()
    #: Whether its verdict is JSON, and a member of it is the value.
    counts_json: bool = False
    #: Whether it is one of the two orders of a pairwise task; their verdicts are compared in another way.
    is_of_a_pair: bool = False

    @property
    def order(self) -> list[str] | None:
        """The choices from the lowest to the highest; None if neither scores nor numbers give them an order."""
        try:
            ranks = {choice: self.scores[choice] if self.scores else float(choice) for choice in self.choices or ()}
        except (KeyError, ValueError):
            return None
        return sorted(ranks, key=lambda choice: ranks[choice]) if len(set(ranks.values())) == len(ranks) > 1 else None

    def label(self, end: End) -> str | None:
        """Return a verdict as it is counted; None if it has no value."""
        if not self.counts_json:
            return end.output
        return None if end.value is None else f"{end.value:.15g}"

    def label_of(self, said: Any) -> str | None:
        """Return a person's label as the judge would say it: a choice, or the choice with that score; None if it is neither."""
        if self.counts_json:
            return f"{float(said):.15g}" if isinstance(said, int | float) else None
        text = jsontext.as_text(said)
        text = f"{said:.15g}" if isinstance(said, float) else text
        if self.choices is None:
            return text
        if (found := self.named.get(plain_choice(text))) is not None or not isinstance(said, int | float):
            return found
        scored = [choice for choice, score in self.scores.items() if score == said]
        return scored[0] if len(scored) == 1 else None


def judges_of(document: Mapping[str, Any]) -> list[Judge]:
    """Return the judges of a config's document."""
    tasks = {alias: task for alias, task in tasks_of(document).items() if isinstance(task.get("configuration"), dict)}
    return [judge for alias, task in tasks.items() for judge in _judges(task, alias, list(tasks))]


def _judges(task: Mapping[str, Any], alias: str, aliases: Sequence[str]) -> Iterator[Judge]:
    if task.get("task_type") == JUDGE:
        yield _judge(task, alias, aliases)
    elif (pairing := pairing_of(alias, task)) is not None:
        inputs = [one for one in aliases if one in pairing.answers.fields]
        for judge in pairing.judges:
            yield Judge(alias=judge, inputs=inputs, choices=pairing.choices, is_of_a_pair=True)


def _judge(task: Mapping[str, Any], alias: str, aliases: Sequence[str]) -> Judge:
    settings = task["configuration"]
    given, scores, column = settings.get("choices"), settings.get("scores") or {}, task.get("agree_with")
    choices = [str(one) for one in given] if isinstance(given, list) else None
    return Judge(
        alias=alias,
        inputs=_read_by([settings.get("prompt"), settings.get("system_prompt")], aliases),
        choices=choices,
        named={plain_choice(choice): choice for choice in choices or ()},
        scores={str(choice): float(score) for choice, score in scores.items()},
        agree_with=column,
        column=() if column is None else steps_of(column) or [column],
        counts_json=settings.get("value") is not None,
    )


def _read_by(texts: Any, aliases: Sequence[str]) -> list[str]:
    """Return the aliases that templates read."""
    try:
        fields = compile_template(texts).fields
    except TemplateMistake:  # the text may contain `${…}`, which is not expanded here
        return []
    return [alias for alias in aliases if alias in fields]


class _Counted:
    """The counts of one judge."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.verdicts: Counter[str] = Counter()
        self.without = self.errors = self.skipped = self.judged = 0
        #: By length: how many were judged, and how many of them got no verdict.
        self.lengths: dict[int, list[int]] = {}
        self.length_of: set[str] = set()
        #: How often each pair of a person's label and its verdict occurs; and how many verdicts have no usable label.
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.unlabelled = 0
        #: Verdicts on answers of its own model.
        self.own = 0
        self.own_model: str | None = None

    def add(self, end: End, beside: Mapping[str, End], human: Any) -> str | None:
        """Count a result; `beside` has all results of the same sample. Return the verdict."""
        if end.skipped:
            self.skipped += 1
            return None
        is_without = end.error_type == ErrorType.NO_VERDICT
        if end.error_type is not None and not is_without:
            self.errors += 1
            return None
        self.judged += 1
        self.without += is_without
        self._add_length(end, beside, is_without=is_without)
        if any(end.model is not None and end.model == beside[name].model for name in self.judge.inputs if name in beside):
            self.own += 1
            self.own_model = end.model
        label = None if is_without else self.judge.label(end)
        if label is None:
            return None
        self.verdicts[self._known(label)] += 1
        if self.judge.agree_with is not None:
            said = None if human is None else self.judge.label_of(human)
            self.unlabelled += said is None
            if said is not None:
                self.pairs[self._known(said), self._known(label)] += 1
        return label

    def _known(self, label: str) -> str:
        is_known = label in self.verdicts or len(self.verdicts) < _MOST_LABELS or label in (self.judge.choices or ())
        return label if is_known else _OTHERS

    def _add_length(self, end: End, beside: Mapping[str, End], *, is_without: bool) -> None:
        answers = [beside[name] for name in self.judge.inputs if name in beside and beside[name].request is not None]
        length = sum(len(one.output or "") for one in answers) if answers else len(end.request or "")
        self.length_of.update([one.task for one in answers] or ["request"])
        counts = self.lengths.setdefault(round(math.log(max(length, 1)) / _STEP), [0, 0])
        counts[0] += 1
        counts[1] += is_without

    def report(self) -> dict[str, Any]:
        """Return the figures, as they stand in `totals.judges.by_task`."""
        choices = [] if self.judge.choices is None else list(self.judge.choices)
        names = [*choices, *sorted(self.verdicts.keys() - set(choices))]
        found: dict[str, Any] = {
            "n": self.judged - self.without,
            "verdicts": {name: self.verdicts[name] for name in names},
            "no_verdict": self.without,
            "errors": self.errors,
            "skipped": self.skipped,
            "no_verdict_by_length": {"of": sorted(self.length_of), "thirds": list(self._thirds())},
            "own_model": {"judged": self.own, "model": self.own_model} if self.own else None,
        }
        if self.judge.agree_with is not None:
            table: dict[str, dict[str, int]] = {}
            for (said, verdict), count in sorted(self.pairs.items()):
                table.setdefault(said, {})[verdict] = count
            figures = agreement_of(self.pairs, self._order())
            found["agreement"] = {"with": self.judge.agree_with, **figures, "unlabelled": self.unlabelled, "confusion": table}
        return found

    def _order(self) -> list[str] | None:
        if not self.judge.counts_json:
            return self.judge.order
        labels = {label for pair in self.pairs for label in pair}
        return None if _OTHERS in labels else sorted(labels, key=float)

    def _thirds(self) -> Iterator[dict[str, Any]]:
        """Yield the figures of the shortest third of the judged texts, the middle one and the longest."""
        seen = 0
        thirds = [{"longest": 0, "n": 0, "no_verdict": 0} for _ in range(_THIRDS)]
        for bucket, (count, without) in sorted(self.lengths.items()):
            third = thirds[min(_THIRDS - 1, int(_THIRDS * (seen + count / 2) / self.judged))]
            seen += count
            third["longest"] = round(math.exp(bucket * _STEP))
            third["n"] += count
            third["no_verdict"] += without
        for third in thirds:
            yield {**third, "share": third["no_verdict"] / third["n"] if third["n"] else None}


class Judges:
    """All judges of a run."""

    def __init__(self, judges: Sequence[Judge] = (), pairings: Sequence[Pairing] = ()) -> None:
        """Take the judges and the pairwise tasks of the config."""
        self._pairs = [Pairs(pairing) for pairing in pairings]
        self._counted = [_Counted(judge) for judge in judges]
        by_choices: dict[frozenset[str], list[str]] = {}
        for judge in judges:
            if judge.choices is not None and not judge.is_of_a_pair:
                by_choices.setdefault(frozenset(judge.choices), []).append(judge.alias)
        self._reads_rows = bool(pairings) or any(judge.agree_with is not None for judge in judges)
        self._panels = [_Panel(aliases) for aliases in by_choices.values() if len(aliases) > 1]

    def add_item(self, ends: Sequence[End]) -> None:
        """Add the results of one item."""
        if not self._counted:
            return
        samples: dict[int, dict[str, End]] = {}
        for end in ends:
            samples.setdefault(end.sample_index, {})[end.task] = end
        row = jsontext.decode(ends[0].item) if self._reads_rows else {}
        for beside in samples.values():
            said: dict[str, str | None] = {}
            for counted in self._counted:
                judge = counted.judge
                if judge.alias in beside:
                    human = None if judge.agree_with is None else _value_at(row, judge.column)
                    said[judge.alias] = counted.add(beside[judge.alias], beside, human)
            for panel in self._panels:
                panel.add(said)
            for pairs in self._pairs:
                pairs.add(beside, row)

    def report(self) -> dict[str, Any] | None:
        """Return the figures, as they stand in `totals.judges`; None if there are no judges."""
        if not self._counted:
            return None
        return {
            "by_task": {counted.judge.alias: counted.report() for counted in self._counted},
            "between": [panel.report() for panel in self._panels],
            "pairwise": {pairs.alias: pairs.report() for pairs in self._pairs},
        }


class _Panel:
    """Judges with the same choices."""

    def __init__(self, aliases: Sequence[str]) -> None:
        self._aliases = aliases
        self._alpha = Alpha()
        self._pairs: dict[tuple[str, str], Counter[tuple[str, str]]] = {pair: Counter() for pair in combinations(aliases, 2)}

    def add(self, said: Mapping[str, str | None]) -> None:
        """Count the verdicts of one sample."""
        self._alpha.add([said.get(alias) for alias in self._aliases])
        for (one, other), counts in self._pairs.items():
            if (first := said.get(one)) is not None and (second := said.get(other)) is not None:
                counts[first, second] += 1

    def report(self) -> dict[str, Any]:
        """Return how far they agree, two by two and together."""
        pairs = [{"judges": list(pair), **agreement_of(counts, None)} for pair, counts in self._pairs.items()]
        return {"judges": list(self._aliases), "n": self._alpha.units, "alpha": self._alpha.value, "pairs": pairs}


def agreement_of(pairs: Mapping[tuple[str, str], int], order: Sequence[str] | None) -> dict[str, Any]:
    """Return how far two agree: the share, kappa with its 95 % interval, and weighted kappa if the labels have an order."""
    n = sum(pairs.values())
    found: dict[str, Any] = {"n": n, **dict.fromkeys(("share", "kappa", "stderr", "ci95", "weighted"))}
    if not n:
        return found
    found["share"], found["kappa"], found["stderr"] = cohen_kappa(pairs)
    if found["kappa"] is not None and found["stderr"]:  # no interval if the error is 0: a few that agree prove nothing
        half = z_quantile(0.975) * found["stderr"]
        found["ci95"] = [max(-1.0, found["kappa"] - half), min(1.0, found["kappa"] + half)]
    if order is not None and all(label in order for pair in pairs for label in pair):
        found["weighted"] = {
            "linear": weighted_kappa(pairs, order),
            "quadratic": weighted_kappa(pairs, order, squared=True),
        }
    return found


def _value_at(row: Mapping[str, Any], column: Sequence[Step]) -> Any:
    try:
        return located(row, column)
    except NotThereError:
        return None
