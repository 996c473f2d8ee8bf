"""A comparison for machines: everything as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runner.analysis.compare.comparing import Comparison, Flip
from runner.analysis.compare.reading import Answers
from runner.analysis.figures import Figure
from runner.analysis.gates import Decision
from runner.structs import asdict

__all__ = ["as_documents", "as_json"]


def as_json(comparisons: Sequence[Comparison], decisions: Sequence[Sequence[Decision]], alpha: float) -> str:
    """Return everything: all figures, all gates, all flips."""
    found = as_documents(comparisons, decisions, alpha)
    return json.dumps({"alpha": alpha, "comparisons": found}, indent=1, ensure_ascii=True) + "\n"


def as_documents(
    comparisons: Sequence[Comparison], decisions: Sequence[Sequence[Decision]], alpha: float
) -> list[dict[str, Any]]:
    """Return the same as values of JSON."""
    return [_document(comparison, decided, alpha) for comparison, decided in zip(comparisons, decisions, strict=True)]


def _document(comparison: Comparison, decided: Sequence[Decision], alpha: float) -> dict[str, Any]:
    matching = comparison.matching
    return {
        "a": str(comparison.a.run.path),
        "b": str(comparison.b.run.path),
        "items": {
            "compared": len(matching.common),
            "only_a": matching.only_a,
            "only_b": matching.only_b,
            "changed": matching.changed,
        },
        "config_differs": list(comparison.differences),
        "other_metrics": list(comparison.other_metrics),
        "other_tasks": list(comparison.other_tasks),
        "served": [_served(comparison.a), _served(comparison.b)],
        "figures": [
            {"name": name, "group": group, "stat": stat, **_figure(figure, alpha, is_metric=name in comparison.metrics)}
            for (name, group, stat), figure in comparison.figures.items()
        ],
        "gates": [
            {"gate": decision.gate.text, "outcome": decision.outcome.value, "reason": decision.reason} for decision in decided
        ],
        "flips": [_flip(comparison, flip) for alias in comparison.metrics for flip in comparison.flips(alias)],
    }


def _flip(comparison: Comparison, flip: Flip) -> dict[str, Any]:
    output_a, output_b = comparison.outputs(flip)
    return asdict(flip) | {"output_a": output_a, "output_b": output_b}


def _served(answers: Answers) -> list[dict[str, Any]]:
    names = ("model", "system_fingerprint", "answers")
    return [dict(zip(names, (*served, count), strict=True)) for served, count in answers.served.most_common()]


def _figure(figure: Figure, alpha: float, *, is_metric: bool) -> dict[str, Any]:
    found = asdict(figure) | {"detectable": figure.detectable}
    return found | ({"outcome": figure.outcome(alpha)} if is_metric else {})
