"""A report of a run: its data, the decisions about its gates, and the files that can be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.analysis.files import write_files
from runner.analysis.gates import Decision, Outcome, decide, overall, parse_gate
from runner.analysis.junit import Suite, as_junit
from runner.analysis.report.documents import as_json, as_markdown
from runner.analysis.report.gathering import gather
from runner.analysis.scoring import check_found
from runner.storage.rundir import RunDir

__all__ = ["ITEMS", "Reported"]

#: The choices of rows that have their texts in a page.
ITEMS = ("auto", "all", "none")


class Reported:
    """A report. The ledger stays open until `close`, because texts are looked up when they are written."""

    def __init__(self, run: RunDir, *, by: Sequence[Sequence[str]], cluster: str | None, gates: Sequence[str]) -> None:
        """Read a run. Raises RunDirError, StorageError, and UsageError for a wrong gate or column."""
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
        """Close the ledger."""
        self._gathered.ledger.close()

    @property
    def outcome(self) -> Outcome | None:
        """The worst outcome of all gates; None if there are none."""
        return overall(self.decisions)

    def write(self, files: Sequence[Path], *, items: str = "auto", cannot_tell_passes: bool = False) -> None:
        """Write files, in the formats of their endings; `items` decides which rows have texts in a page: auto, all or none.

        In JUnit XML a gate that cannot be told is a failure, or skipped if it passes. Raises UsageError, StorageError.
        """
        path = self._gathered.run.path
        suite = Suite(path.name, path.parent.name, self.decisions)
        kinds = {
            ".html": lambda: self._page(items),
            ".md": lambda: as_markdown(self._gathered, self.decisions),
            ".json": lambda: as_json(self._gathered, self.decisions),
            ".junit.xml": lambda: as_junit([suite], cannot_tell_passes=cannot_tell_passes),
        }
        write_files(files, kinds)

    def _page(self, items: str) -> str:
        from runner.analysis.report.page import as_html  # late: only a page needs the template engine

        return as_html(self._gathered, self.decisions, items=items)
