"""A run, gathered and decided by gates, and what can be written of it."""

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

    def write(self, files: Sequence[Path], *, items: str = "auto", cannot_tell_passes: bool = False) -> None:
        """Write files as their endings say; `items` are those of which a page has the texts: auto, all or none.

        In JUnit's XML gates that cannot be told are failures, or skipped. Raises UsageError, StorageError.
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
        from runner.analysis.report.page import as_html  # late: it fills in templates, which others have no need of

        return as_html(self._gathered, self.decisions, items=items)
