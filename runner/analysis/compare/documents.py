"""A comparison for machines: everything as JSON, and its gates as JUnit's XML, which CI systems show."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from runner.analysis.compare.comparing import Comparison
from runner.analysis.compare.figures import Figure
from runner.analysis.compare.gates import Decision, Outcome
from runner.analysis.compare.reading import Answers
from runner.structs import asdict

__all__ = ["as_json", "as_junit"]

#: What XML 1.0 has no place for.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_json(comparisons: Sequence[Comparison], decisions: Sequence[Sequence[Decision]], alpha: float) -> str:
    """Return everything: all figures, all gates, all flips."""
    found = [_document(comparison, decided, alpha) for comparison, decided in zip(comparisons, decisions, strict=True)]
    return json.dumps({"alpha": alpha, "comparisons": found}, indent=1, ensure_ascii=True) + "\n"


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
        "flips": [asdict(flip) for alias in comparison.metrics for flip in comparison.flips(alias)],
    }


def _served(answers: Answers) -> list[dict[str, Any]]:
    names = ("model", "system_fingerprint", "answers")
    return [dict(zip(names, (*served, count), strict=True)) for served, count in answers.served.most_common()]


def _figure(figure: Figure, alpha: float, *, is_metric: bool) -> dict[str, Any]:
    found = asdict(figure) | {"detectable": figure.detectable}
    return found | ({"outcome": figure.outcome(alpha)} if is_metric else {})


def as_junit(comparisons: Sequence[Comparison], decisions: Sequence[Sequence[Decision]], *, cannot_tell_passes: bool) -> str:
    """Return a suite for each comparison with a test case for each gate."""
    suites = ET.Element("testsuites", name="runner compare")
    for comparison, decided in zip(comparisons, decisions, strict=True):
        untold = sum(decision.outcome is Outcome.CANNOT_TELL for decision in decided)
        broken = sum(decision.outcome is Outcome.BROKEN for decision in decided)
        attributes = {
            "name": _legal(f"{comparison.a.run.path.name} -> {comparison.b.run.path.name}"),
            "tests": str(len(decided)),
            "failures": str(broken + (0 if cannot_tell_passes else untold)),
            "skipped": str(untold if cannot_tell_passes else 0),
            "errors": "0",
        }
        suite = ET.SubElement(suites, "testsuite", attributes)
        for decision in decided:
            name = {"classname": _legal(comparison.b.run.path.parent.name), "name": _legal(decision.gate.text)}
            case, said = ET.SubElement(suite, "testcase", name), {"message": _legal(decision.reason)}
            if decision.outcome is Outcome.BROKEN:
                ET.SubElement(case, "failure", said | {"type": "broken"})
            elif decision.outcome is Outcome.CANNOT_TELL and cannot_tell_passes:
                ET.SubElement(case, "skipped", said)
            elif decision.outcome is Outcome.CANNOT_TELL:
                ET.SubElement(case, "failure", said | {"type": "cannot-tell"})
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
