"""A run, gathered and decided by gates, and what can be written of it."""

from __future__ import annotations

from collections.abc import Sequence

from runner.analysis.gates import Decision, Outcome, decide, overall, parse_gate
from runner.analysis.junit import Suite, as_junit
from runner.analysis.report.documents import as_json, as_markdown
from runner.analysis.report.gathering import gather
from runner.analysis.scoring import check_found
from runner.storage.rundir import RunDir

__all__ = ["ITEMS", "Reported"]

#: Which rows have their texts in a page.
ITEMS = ("auto", "all", "none")


class Reported:
    """A report. The ledger stays open until `close`, for texts are looked up when they are shown."""

    def __init__(
        self, run: RunDir, *, by: Sequence[Sequence[str]] = (), cluster: str | None = None, gates: Sequence[str] = ()
    ) -> None:
        """Read a run. Raises RunDirError, StorageError, and UsageError for a gate that cannot be."""
        self._gathered = gather(run, by=by, cluster=cluster)
        try:
            check_found(self._gathered.grouping, by, cluster)
            figures = self._gathered.figures
            parsed = [parse_gate(text, figures, of_one_run=True) for text in gates]
            self.decisions: list[Decision] = [decide(gate, figures[gate.subject]) for gate in parsed]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the ledger back."""
        self._gathered.ledger.close()

    @property
    def outcome(self) -> Outcome | None:
        """What all gates come to; None where there are none."""
        return overall(self.decisions)

    def as_html(self, *, items: str = "auto") -> str:
        """Return a page; `items` says which rows have their texts: auto, all or none. Raises StorageError."""
        from runner.analysis.report.page import as_html

        return as_html(self._gathered, self.decisions, items=items)

    def as_markdown(self) -> str:
        """Return Markdown for a comment."""
        return as_markdown(self._gathered, self.decisions)

    def as_json(self) -> str:
        """Return everything that is counted."""
        return as_json(self._gathered, self.decisions)

    def as_junit(self, *, cannot_tell_passes: bool = False) -> str:
        """Return the gates as JUnit's XML."""
        path = self._gathered.run.path
        return as_junit([Suite(path.name, path.parent.name, self.decisions)], cannot_tell_passes=cannot_tell_passes)
