"""The statistics and metrics as the tables of right values ask for them: `check.py` holds this module against 18 tables."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

from runner.analysis.statistics import agreement, families, pairs, power, samples, shares
from runner.analysis.statistics.distributions import t_quantile, z_quantile
from runner.analysis.statistics.means import ClusteredMean
from runner.tasks.metrics import METRICS
from runner.tasks.metrics.base import Settings
from runner.types import Value
from tests.calls import InThisProcess

__all__ = [
    "adjust",
    "bleu",
    "clustered_mean",
    "kappa",
    "majority_at_k",
    "mcnemar",
    "mde",
    "paired_binary",
    "paired_difference",
    "pass_at_k",
    "rouge",
    "sign_flip",
    "sign_flip_integer",
    "squad",
    "t_quantile",
    "unpaired",
    "wilson",
    "wilson_clustered",
]

adjust, mde = families.adjusted, power.detectable_difference


def counted(a: Sequence[str], b: Sequence[str]) -> Counter[tuple[str, str]]:
    """Return how often each pair of ratings was given."""
    return Counter(zip(a, b, strict=True))


def alpha_of(units: Sequence[Sequence[str | None]]) -> float | None:
    """Return Krippendorff's alpha of ratings."""
    alpha = agreement.Alpha()
    for unit in units:
        alpha.add(unit)
    return alpha.value


def mean_of(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> ClusteredMean:
    members: defaultdict[Hashable, list[float]] = defaultdict(list)
    for value, cluster in zip(values, range(len(values)) if clusters is None else clusters, strict=True):
        members[cluster].append(value)
    mean = ClusteredMean()
    for group in members.values():
        mean.add(group)
    return mean


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable]) -> dict[str, Any]:
    mean = mean_of(values, clusters)
    return {"mean": mean.mean, "stderr": mean.stderr, "ci95_t": mean.t_interval()}


def wilson(right: int, n: int, level: float) -> tuple[float, float]:
    return shares.wilson(right / n, n, z_quantile((1 + level) / 2))


def wilson_clustered(values: Sequence[float], clusters: Sequence[Hashable]) -> dict[str, Any]:
    return {"ci95": mean_of(values, clusters).interval()}


def mcnemar(only_a: int, only_b: int) -> dict[str, float]:
    return pairs.mcnemar(only_a, only_b)._asdict()


def sign_flip(differences: Sequence[float], clusters: Sequence[Hashable] | None = None) -> dict[str, float]:
    found = pairs.sign_flips(list(map(math.fsum, pairs.grouped(differences, clusters))))
    assert found is not None
    return found._asdict()


def sign_flip_integer(counts: Mapping[int, int]) -> dict[str, float]:
    return pairs.sign_flips_of_integers(counts)._asdict()


def paired_difference(a: Sequence[float], b: Sequence[float], clusters: Sequence[Hashable] | None = None) -> dict[str, Any]:
    differences = [after - before for before, after in zip(a, b, strict=True)]
    found = pairs.paired_difference(pairs.grouped(differences, clusters))
    return {
        "difference": found.difference,
        "stderr": found.stderr,
        "ci95_t": found.interval,
        "t": found.t,
        "p_t": found.p,
        "wins": sum(value > 0 for value in differences),
        "losses": sum(value < 0 for value in differences),
        "ties": sum(value == 0 for value in differences),
    }


def paired_binary(count: int, only_a: int, only_b: int) -> dict[str, Any]:
    return {"difference": (only_b - only_a) / count, "ci95": shares.bonett_price(count, only_a, only_b)}


def unpaired(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    found = pairs.unpaired_difference(mean_of(a), mean_of(b))
    return {"difference": found.difference, "ci95": found.interval, "p": found.p, "df": found.df}


def pass_at_k(n: int, right: int, k: int) -> dict[str, float | None]:
    return {"pass_at_k": samples.pass_at_k(n, right, k), "pass_hat_k": samples.pass_hat_k(n, right, k)}


def majority_at_k(answers: Sequence[str | None], right: Collection[str], k: int, tie: str) -> float | None:
    return samples.majority_at_k(answers, right, k, strict=tie == "strict")


def kappa(a: Sequence[str], b: Sequence[str], _categories: Sequence[str]) -> float | None:
    return agreement.cohen_kappa(counted(a, b)).kappa


def metric(kind: str, candidate: str, references: Sequence[str], **settings: Any) -> float:
    async def judged() -> Value:
        return await METRICS[kind].judge(candidate, list(references), Settings(**settings), InThisProcess())

    value = asyncio.run(judged()).value
    assert value is not None
    return value


def squad(candidate: str, references: Sequence[str]) -> dict[str, float]:
    return {name: metric(f"squad_{name}", candidate, references) for name in ("exact", "f1")}


def rouge(candidate: str, references: Sequence[str], stemmer: bool) -> dict[str, float]:
    return {kind: metric(kind, candidate, references, stemmer=stemmer) for kind in ("rouge1", "rouge2", "rougeL")}


def bleu(row: Mapping[str, Any]) -> float:
    """Return what the library says: of these tables the metric `sacrebleu` has some."""
    from sacrebleu.metrics.bleu import BLEU

    library = BLEU(**row["options"])
    if row["level"] == "sentence":
        return float(library.sentence_score(row["candidate"], row["references"]).score)
    streams = [list(column) for column in zip(*row["references_per_candidate"], strict=True)]
    return float(library.corpus_score(row["candidates"], streams).score)
