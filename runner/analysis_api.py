"""Reports and comparisons from Python: the same as the commands `report` and `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.analysis.compare.compared import Compared, Terms
from runner.analysis.compare.documents import as_document
from runner.analysis.compare.texts import as_markdown, as_text
from runner.analysis.files import check_files
from runner.analysis.naming import named_run
from runner.analysis.report.reported import ITEMS, Reported
from runner.errors import UsageError
from runner.results.run import Run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "compare", "report"]


class Comparison:
    """The comparison of runs with the first of them. Frames are made on first use."""

    def __init__(self, compared: Compared) -> None:
        self._compared = compared

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each figure: both values, their difference with its interval and p, and for metrics the outcome."""
        return self._frame("figures")

    @cached_property
    def flips(self) -> pd.DataFrame:
        """A row for each item whose value of a metric differs, with the answers that the metric read."""
        return self._frame("flips", ["metric", "item_id", "a", "b", "output_a", "output_b"])

    @cached_property
    def gates(self) -> pd.DataFrame:
        """A row for each gate: its outcome, and the reason."""
        return self._frame("gates", ["gate", "outcome", "reason"])

    def _frame(self, what: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return rows of all comparisons; the column `run` names the run that is compared with the first."""
        import pandas as pd

        rows = [{"run": Path(one["b"]).name, **row} for one in self._documents for row in one[what]]
        return pd.DataFrame(rows, columns=None if columns is None else ["run", *columns])

    @property
    def outcome(self) -> str | None:
        """The worst outcome of all gates: `holds`, `broken` or `cannot tell`; None if there are none."""
        return None if self._compared.outcome is None else self._compared.outcome.value

    def to_markdown(self) -> str:
        """Return the comparison as Markdown for a comment, of at most 60,000 characters."""
        return as_markdown(self._compared.comparisons)

    def to_html(self) -> str:
        """Return the comparison as a self-contained HTML page."""
        return self._compared.as_html()

    @cached_property
    def _documents(self) -> Sequence[dict[str, Any]]:
        return list(map(as_document, self._compared.comparisons))

    def __repr__(self) -> str:
        """Return the text that the command prints."""
        return as_text(self._compared.comparisons)


def compare(
    a: str | Path | Run,
    b: str | Path | Run,
    *more: str | Path | Run,
    by: str | Sequence[str | Sequence[str]] = (),
    cluster: str | None = None,
    gates: str | Sequence[str] = (),
    min_pairs: float = 0.95,
    alpha: float = 0.05,
    keep_changed: bool = False,
) -> Comparison:
    """Compare runs with the first of them: directories, runs, or names such as NAME~1 and NAME@baseline.

    `keep_changed` also compares items whose row has changed. Raises UsageError for a wrong option, gate or
    column, RunDirError if there is no run, StorageError if one cannot be read.
    """
    terms = Terms(
        by=_tables(by), cluster=cluster, gates=_listed(gates), min_pairs=min_pairs, alpha=alpha, keep_changed=keep_changed
    )
    return Comparison(Compared([named_run(one) for one in (a, b, *more)], terms))


def report(
    run: str | Path | Run,
    *files: str | Path,
    by: str | Sequence[str | Sequence[str]] = (),
    cluster: str | None = None,
    gates: str | Sequence[str] = (),
    items: str = "auto",
) -> str | None:
    """Write the report of a run as files, whose endings decide what is written: .html, .md, .json or .junit.xml.

    Returns the worst outcome of all gates: `holds`, `broken` or `cannot tell`; None if there are none. `items` decides which
    rows have their texts in a page: auto, all or none. Raises UsageError, RunDirError, StorageError.
    """
    paths = [Path(file) for file in files]
    check_files(paths)
    if items not in ITEMS:
        raise UsageError(f"items={items!r}: must be one of {', '.join(ITEMS)}")
    with closing(Reported(named_run(run), by=_tables(by), cluster=cluster, gates=_listed(gates))) as reported:
        reported.write(paths, items=items)
    return None if reported.outcome is None else reported.outcome.value


def _listed(some: Any) -> Any:
    """Return a list, also for a single text: a text is a sequence too, but of characters."""
    return [some] if isinstance(some, str) else some


def _tables(by: str | Sequence[str | Sequence[str]]) -> list[list[str]]:
    return [[one] if isinstance(one, str) else list(one) for one in _listed(by)]
