"""`compare`: whether a run is worse than one before, and whether that is more than chance."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.command import ERRORS, FINISHED, UNTOLD, Command, do_without_numpy, print_text
from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.analysis.compare.comparing import Comparison
    from runner.analysis.compare.gates import Decision
    from runner.analysis.compare.reading import Answers

__all__ = ["COMPARE"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="A and B, or more: a run directory, NAME, NAME~1 or NAME@baseline"
    )
    parser.add_argument(
        "-o", metavar="FILE", dest="files", action="append", type=Path, default=[], help=".md, .json or .junit.xml"
    )
    parser.add_argument("--by", metavar="item.COLUMN", action="append", default=[], help="by groups (repeatable)")
    parser.add_argument("--cluster", metavar="item.COLUMN", help="the column whose value makes items one cluster")
    parser.add_argument("--gate", metavar="EXPR", action="append", default=[], help="'correct >= -0.01' (repeatable)")
    parser.add_argument("--gates", metavar="FILE", type=Path, help="a YAML list of gates")
    parser.add_argument(
        "--cannot-tell", choices=["fail", "pass"], default="fail", help="what becomes of a gate that cannot be told"
    )
    parser.add_argument("--min-pairs", metavar="SHARE", type=float, default=0.95, help="share of items that must be pairs")
    parser.add_argument("--alpha", metavar="P", type=float, default=0.05, help="how likely chance may be")
    parser.add_argument("--changed-items", choices=["keep", "leave"], default="leave", help="items whose row is another")


def _compare(arguments: argparse.Namespace) -> int:
    from runner.analysis.compare.comparing import adjust, compare

    if len(arguments.runs) < 2:  # noqa: PLR2004  A and B
        raise UsageError("compare needs two runs or more: python -m runner compare NAME~1 NAME")
    _check_files(arguments.files)
    if arguments.own_process:
        do_without_numpy()
    with ExitStack() as stack:
        first, *others = _read(arguments, stack)
        by = [[one] for one in arguments.by] or first.scoring.by
        by_cluster = (arguments.cluster or first.scoring.cluster) is not None
        keep_changed = arguments.changed_items == "keep"
        comparisons = [compare(first, other, by=by, by_cluster=by_cluster, keep_changed=keep_changed) for other in others]
        adjust(comparisons)
        decisions = [_decided(comparison, arguments) for comparison in comparisons]
        _write(arguments, comparisons, decisions)
    return _exit_code(decisions, cannot_tell_passes=arguments.cannot_tell == "pass")


def _check_files(files: Sequence[Path]) -> None:
    for file in files:
        if not file.name.endswith((".md", ".json", ".junit.xml")):
            raise UsageError(f"-o {file}: the ending says what is written; known are .md, .json and .junit.xml")
        if not file.absolute().parent.is_dir():
            raise UsageError(f"-o {file}: there is no directory {file.absolute().parent}")


def _read(arguments: argparse.Namespace, stack: ExitStack) -> Iterator[Answers]:
    from runner.analysis.compare.reading import read_answers, scoring_of
    from runner.analysis.naming import named_run

    runs = [named_run(word) for word in arguments.runs]
    scoring = scoring_of(runs[0])
    by = [[one] for one in arguments.by] or scoring.by
    for run in runs:
        answers = read_answers(run, by=by, cluster=arguments.cluster or scoring.cluster)
        stack.callback(answers.ledger.close)
        yield answers


def _decided(comparison: Comparison, arguments: argparse.Namespace) -> list[Decision]:
    from runner.analysis.compare.gates import decide, parse_gate

    texts = [*arguments.gate, *_from_file(arguments.gates)] or comparison.b.gates
    gates = [parse_gate(text, comparison.figures) for text in texts]
    return [
        decide(
            gate,
            comparison.figures[gate.subject],
            doubt=comparison.doubt(gate.name, arguments.min_pairs) if gate.name in comparison.metrics else None,
        )
        for gate in gates
    ]


def _from_file(path: Path | None) -> list[str]:
    if path is None:
        return []
    from runner.config.file import read_list

    return read_list(path)


def _write(arguments: argparse.Namespace, comparisons: Sequence[Comparison], decisions: Sequence[Sequence[Decision]]) -> None:
    from runner.analysis.compare.documents import as_json, as_junit
    from runner.analysis.compare.texts import as_markdown, as_text

    alpha, passes = arguments.alpha, arguments.cannot_tell == "pass"
    kinds: dict[str, Callable[[], str]] = {
        ".md": lambda: as_markdown(comparisons, decisions, alpha),
        ".json": lambda: as_json(comparisons, decisions, alpha),
        ".junit.xml": lambda: as_junit(comparisons, decisions, cannot_tell_passes=passes),
    }
    for file in arguments.files:
        text = next(write for ending, write in kinds.items() if file.name.endswith(ending))()
        try:
            file.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UsageError(f"-o {file}: cannot be written: {error.strerror}") from error
    print_text(as_text(comparisons, decisions, alpha))


def _exit_code(decisions: Sequence[Sequence[Decision]], *, cannot_tell_passes: bool) -> int:
    from runner.analysis.compare.gates import Outcome

    outcomes = {decision.outcome for decided in decisions for decision in decided}
    if Outcome.BROKEN in outcomes:
        return ERRORS
    return UNTOLD if Outcome.CANNOT_TELL in outcomes and not cannot_tell_passes else FINISHED


COMPARE = Command(
    name="compare",
    help="compare runs with the first of them, and hold gates against what is found",
    modules=["runner.analysis.compare.comparing"],
    add_arguments=_add_arguments,
    run=_compare,
)
