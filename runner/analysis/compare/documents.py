"""A comparison as JSON, for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runner.analysis.compare.comparing import Comparison, Flip
from runner.analysis.compare.reading import Answers
from runner.analysis.figures import Figure
from runner.structs import asdict

__all__ = ["as_document", "as_json"]


def as_json(comparisons: Sequence[Comparison]) -> str:
    """Return all figures, gates and flips of all comparisons as JSON."""
    found = {"alpha": comparisons[0].alpha, "comparisons": list(map(as_document, comparisons))}
    return json.dumps(found, indent=1, ensure_ascii=True) + "\n"


def as_document(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as values of JSON."""
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
            {"name": name, "group": group, "stat": stat, **_figure(comparison, name, figure)}
            for (name, group, stat), figure in comparison.figures.items()
        ],
        "gates": [decision.document for decision in comparison.decisions],
        "flips": [_flip(comparison, flip) for alias in comparison.metrics for flip in comparison.flips(alias)],
    }


def _flip(comparison: Comparison, flip: Flip) -> dict[str, Any]:
    output_a, output_b = comparison.outputs(flip)
    return asdict(flip) | {"output_a": output_a, "output_b": output_b}


def _served(answers: Answers) -> list[dict[str, Any]]:
    names = ("model", "system_fingerprint", "answers")
    return [dict(zip(names, (*served, count), strict=True)) for served, count in answers.served.most_common()]


def _figure(comparison: Comparison, name: str, figure: Figure) -> dict[str, Any]:
    found = asdict(figure) | {"detectable": figure.detectable}
    return found | ({"outcome": figure.outcome(comparison.alpha)} if name in comparison.metrics else {})
