"""Sentences about the judges of a run: their verdicts, how far they agree, and which of them may not be fair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.printable import printable

__all__ = ["said_of_judges"]

_MOST_VERDICTS = 20


def said_of_judges(judges: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield sentences about `totals.judges`, each with its alias; with an empty one if it continues the sentence before."""
    if judges is None:
        return
    for alias, judge in judges["by_task"].items():
        counts = [f"{printable(name)} {count}" for name, count in judge["verdicts"].items()]
        more = [f"{len(counts) - _MOST_VERDICTS} more in evaluation.json"] if len(counts) > _MOST_VERDICTS else []
        without = [f"no verdict {judge['no_verdict']}"] if judge["no_verdict"] else []
        yield alias, " · ".join([*counts[:_MOST_VERDICTS], *more, *without]) or "no verdicts"
        if (agreement := judge.get("agreement")) is not None:
            yield "", f"agrees with {agreement['with']}: {_agreement(agreement)}"
        if (own := judge["own_model"]) is not None:
            what = f"judges {own['judged']} answers of its own model, {printable(str(own['model']))}"
            yield "", f"`{alias}` {what}: models tend to prefer their own answers"
    for alias, pairs in judges["pairwise"].items():
        yield alias, _pairs(pairs)
    for panel in judges["between"]:
        alpha = "undefined" if panel["alpha"] is None else f"{panel['alpha']:.4f}"
        yield "", f"{', '.join(panel['judges'])} agree: Krippendorff's alpha {alpha} (n = {panel['n']})"
        for pair in panel["pairs"]:
            yield "", f"{' and '.join(pair['judges'])}: {_agreement(pair)}"


def _pairs(pairs: Mapping[str, Any]) -> str:
    if not pairs["n"]:
        return "no pairs"
    won, longer = pairs["outcomes"], pairs["longer"]
    said = f"a won {won['a']} · b won {won['b']} · tie {won['tie']}"
    if longer["n"]:
        said += f" · the longer answer won {longer['won']} of {longer['n']}"
    if not pairs["swap"]:
        return f"{said}; asked in one order only, so it is unknown whether the judge prefers one position"
    place = pairs["first_place"]
    if not place["n"]:
        return f"{said}; both orders agree in all {pairs['n']} pairs"
    how_often = f"the first position won {place['won']} of the {place['n']} inconsistent pairs (p = {place['p']:.2g})"
    return f"{said} · inconsistent {won['inconsistent']}; {how_often}"


def _agreement(figures: Mapping[str, Any]) -> str:
    if not figures["n"]:
        return "nothing to compare"
    share = f"{figures['share']:.4f}"
    if figures["kappa"] is None:
        return f"{share}, Cohen's kappa undefined (n = {figures['n']})"
    interval = "" if figures["ci95"] is None else "95 % interval {:.4f} to {:.4f}, ".format(*figures["ci95"])
    return f"{share}, Cohen's kappa {figures['kappa']:.4f} ({interval}n = {figures['n']})"
