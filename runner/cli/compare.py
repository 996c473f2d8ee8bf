"""`compare`: whether a run is worse than one before, and whether that is more than chance."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING

from runner.cli import decisions
from runner.cli.command import Command, do_without_numpy, print_text
from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.analysis.compare.comparing import Comparison
    from runner.analysis.compare.reading import Answers
    from runner.analysis.gates import Decision

__all__ = ["COMPARE"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="A and B, or more: a run directory, NAME, NAME~1 or NAME@baseline"
    )
    decisions.add_arguments(parser, gate="correct >= -0.01")
    parser.add_argument("--min-pairs", metavar="SHARE", type=float, default=0.95, help="share of items that must be pairs")
    parser.add_argument("--alpha", metavar="P", type=float, default=0.05, help="how likely chance may be")
    parser.add_argument("--changed-items", choices=["keep", "leave"], default="leave", help="items whose row is another")


def _compare(arguments: argparse.Namespace) -> int:
    from runner.analysis.compare.comparing import adjust, compare

    if len(arguments.runs) < 2:  # noqa: PLR2004  A and B
        raise UsageError("compare needs two runs or more: python -m runner compare NAME~1 NAME")
    decisions.check_files(arguments.files)
    if arguments.own_process:
        do_without_numpy()
    with ExitStack() as stack:
        first, *others = _read(arguments, stack)
        by = decisions.by_of(arguments) or first.scoring.by
        by_cluster = (arguments.cluster or first.scoring.cluster) is not None
        keep_changed = arguments.changed_items == "keep"
        comparisons = [compare(first, other, by=by, by_cluster=by_cluster, keep_changed=keep_changed) for other in others]
        adjust(comparisons)
        decided = [_decided(comparison, arguments) for comparison in comparisons]
        _write(arguments, comparisons, decided)
    return decisions.exit_code(chain(*decided), cannot_tell_passes=arguments.cannot_tell == "pass")


def _read(arguments: argparse.Namespace, stack: ExitStack) -> Iterator[Answers]:
    from runner.analysis.compare.reading import read_answers, scoring_of
    from runner.analysis.naming import named_run

    runs = [named_run(word) for word in arguments.runs]
    scoring = scoring_of(runs[0])
    by = decisions.by_of(arguments) or scoring.by
    for run in runs:
        answers = read_answers(run, by=by, cluster=arguments.cluster or scoring.cluster)
        stack.callback(answers.ledger.close)
        yield answers


def _decided(comparison: Comparison, arguments: argparse.Namespace) -> list[Decision]:
    from runner.analysis.gates import decide, parse_gate

    texts = decisions.texts_of_gates(arguments) or comparison.b.gates
    gates = [parse_gate(text, comparison.figures) for text in texts]
    return [
        decide(
            gate,
            comparison.figures[gate.subject],
            doubt=comparison.doubt(gate.name, arguments.min_pairs) if gate.name in comparison.metrics else None,
        )
        for gate in gates
    ]


def _write(arguments: argparse.Namespace, comparisons: Sequence[Comparison], decided: Sequence[Sequence[Decision]]) -> None:
    from runner.analysis.compare.documents import as_json
    from runner.analysis.compare.texts import as_markdown, as_text
    from runner.analysis.junit import Suite, as_junit

    alpha, passes = arguments.alpha, arguments.cannot_tell == "pass"
    suites = [
        Suite(f"{one.a.run.path.name} -> {one.b.run.path.name}", one.b.run.path.parent.name, of_it)
        for one, of_it in zip(comparisons, decided, strict=True)
    ]

    def as_page() -> str:
        from runner.analysis.compare.page import as_html

        return as_html(comparisons, decided, alpha)

    kinds = {
        ".html": as_page,
        ".md": lambda: as_markdown(comparisons, decided, alpha),
        ".json": lambda: as_json(comparisons, decided, alpha),
        ".junit.xml": lambda: as_junit(suites, cannot_tell_passes=passes),
    }
    decisions.write_files(arguments.files, kinds)
    print_text(as_text(comparisons, decided, alpha))


COMPARE = Command(
    name="compare",
    help="compare runs with the first of them, and hold gates against what is found",
    modules=["runner.analysis.compare.comparing"],
    add_arguments=_add_arguments,
    run=_compare,
)
