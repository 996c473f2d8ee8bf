"""Compare runs with the first of them, and decide the gates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.analysis.compare.comparing import Comparison, adjust, compare
from runner.analysis.compare.documents import as_json
from runner.analysis.compare.reading import Answers, read_answers
from runner.analysis.compare.texts import as_markdown
from runner.analysis.files import write_files
from runner.analysis.gates import Decision, Outcome, decide, overall, parse_gate
from runner.analysis.junit import Suite, as_junit
from runner.analysis.scoring import check_found, scoring_of
from runner.errors import UsageError
from runner.results.grouping import Grouping
from runner.results.views import document_of
from runner.storage.rundir import RunDir
from runner.structs import Struct

__all__ = ["Compared", "Terms"]


class Terms(Struct, frozen=True, kw_only=True):
    """The options of a comparison."""

    #: Columns whose values make groups, and the column whose value makes items one cluster; by default those of the first run.
    by: Sequence[Sequence[str]] = ()
    cluster: str | None = None
    #: By default the gates in the config of each compared run.
    gates: Sequence[str] = ()
    #: The share of items that must be pairs; with fewer, a gate on a metric cannot be told.
    min_pairs: float = 0.95
    #: A difference counts if chance alone is less likely than this.
    alpha: float = 0.05
    #: Whether items are compared even if their rows differ.
    keep_changed: bool = False


class Compared:
    """The first run compared with each other run. Ledgers stay open until `close`: texts are looked up when they are shown."""

    def __init__(self, runs: Sequence[RunDir], terms: Terms) -> None:
        """Read and compare. Raises RunDirError, StorageError, and UsageError for a wrong option, gate or column."""
        if not 0 <= terms.min_pairs <= 1:
            raise UsageError(f"--min-pairs {terms.min_pairs:g}: must be a share from 0 to 1")
        if not 0 < terms.alpha < 1:
            raise UsageError(f"--alpha {terms.alpha:g}: must be a probability above 0 and below 1")
        self._terms = terms
        self._answers: list[Answers] = []
        scoring = scoring_of(document_of(runs[0]), terms.by, terms.cluster)
        by, cluster = scoring.by, scoring.cluster
        try:
            for run in runs:
                self._answers.append(read_answers(run, grouping := Grouping(by, cluster)))
                check_found(grouping, terms.by, terms.cluster)
            first, *others = self._answers
            self.comparisons = [
                compare(first, other, by=by, by_cluster=cluster is not None, keep_changed=terms.keep_changed)
                for other in others
            ]
            adjust(self.comparisons)
            for comparison in self.comparisons:
                comparison.decisions, comparison.alpha = self._decided(comparison), terms.alpha
        except BaseException:
            self.close()
            raise

    def _decided(self, comparison: Comparison) -> list[Decision]:
        try:
            gates = [parse_gate(text, comparison.figures) for text in self._terms.gates or comparison.b.gates]
        except UsageError as error:
            if self._terms.gates:
                raise
            raise UsageError(f"{comparison.b.run.config}: analysis.gates: {error}") from error
        return [
            decide(gate, comparison.figures[gate.subject], doubt=comparison.doubt(gate.subject, self._terms.min_pairs))
            for gate in gates
        ]

    def close(self) -> None:
        """Close the ledgers."""
        for answers in self._answers:
            answers.ledger.close()

    @property
    def outcome(self) -> Outcome | None:
        """The worst outcome of all gates; None if there are none."""
        return overall([decision for one in self.comparisons for decision in one.decisions])

    def as_html(self) -> str:
        """Return a page. Raises StorageError."""
        from runner.analysis.compare.page import as_html  # late: only a page needs the template engine

        return as_html(self.comparisons)

    def write(self, files: Sequence[Path], *, cannot_tell_passes: bool = False) -> None:
        """Write files, in the formats of their endings.

        In JUnit XML a gate that cannot be told is a failure, or skipped if it passes. Raises UsageError, StorageError.
        """
        runs = [(one.a.run.path, one.b.run.path, one.decisions) for one in self.comparisons]
        suites = [Suite(f"{a.name} -> {b.name}", b.parent.name, decided) for a, b, decided in runs]
        kinds = {
            ".html": self.as_html,
            ".md": lambda: as_markdown(self.comparisons),
            ".json": lambda: as_json(self.comparisons),
            ".junit.xml": lambda: as_junit(suites, cannot_tell_passes=cannot_tell_passes),
        }
        write_files(files, kinds)
