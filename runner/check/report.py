"""The results of a check: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runner.check.curl import NO_FILE
from runner.check.judge import Verdict
from runner.secrets.redaction import mapped
from runner.structs import Struct, asdict, replace

__all__ = ["CheckReport", "Finding"]

_HEAD = ("", "request", "verdict", "status", "seconds", "finish", "present", "what it said")
_NARROWEST = 100
_CUT = "…"


class Finding(Struct, frozen=True, kw_only=True):
    """The outcome of one request."""

    #: The name of the probe, or `task:<alias>` for a task's own first request.
    name: str
    #: The model asked; None for the list of models.
    model: str | None
    #: The path below the base URL.
    path: str
    stream: bool
    #: The aliases of the tasks that need it.
    needed_by: Sequence[str]
    verdict: Verdict
    #: The HTTP status; None if none came.
    status: int | None
    #: The kind of error, as in errors.parquet; None for an answer.
    error_type: str | None
    latency_s: float = 0.0
    #: Seconds to the first content of a stream.
    ttft_s: float | None = None
    finish_reason: str | None = None
    #: What came besides the text: usage, reasoning, tool_calls, logprobs, choices.
    present: Sequence[str] = ()
    #: What is wrong, or the server's message.
    message: str = ""
    #: The beginning of the answer.
    answer: str = ""
    #: Remarks in addition to the verdict.
    notes: Sequence[str] = ()
    #: The line that repeats the request; None if only recordings answer.
    curl: str | None = None

    @property
    def title(self) -> str:
        """The name as people see it."""
        alias = self.name.removeprefix("task:")
        name = f"task {alias}" if alias != self.name else self.name
        return f"{name}, stream" if self.stream else name

    @property
    def works(self) -> bool:
        """Whether the verdict is that it works."""
        return self.verdict is Verdict.WORKS


class CheckReport(Struct, frozen=True, kw_only=True):
    """The results of a check."""

    endpoint: str = ""
    models: Sequence[str]
    findings: Sequence[Finding] = ()
    #: Why the check ended before everything was asked, or None.
    stopped: str | None = None

    @property
    def needed(self) -> list[Finding]:
        """The findings of the requests that the config's tasks need."""
        return [finding for finding in self.findings if finding.needed_by]

    @property
    def works(self) -> bool:
        """Whether everything that the config's tasks need works."""
        return self.stopped is None and all(finding.works for finding in self.needed)

    def cleaned(self, clean: Callable[[str], str]) -> CheckReport:
        """Return the report with every text put through `clean`: any text may hold words of the server."""
        findings = [replace(one, **mapped(asdict(one), clean)) for one in self.findings]
        return replace(self, findings=findings, stopped=self.stopped and clean(self.stopped))

    def document(self) -> dict[str, Any]:
        """Return the report for programs, as in `--json`."""
        return {
            "endpoint": self.endpoint,
            "models": list(self.models),
            "works": self.works,
            "stopped": self.stopped,
            "requests": [asdict(finding) for finding in self.findings],
        }

    def text(self, *, width: int | None, every_line: bool) -> str:
        """Return the report for people, in lines of at most `width` characters, if given.

        The curl lines of failing requests follow the table; with `every_line`, those of all requests.
        """
        if self.stopped is not None:
            return f"{self.endpoint}: {self.stopped}\nthe check ended there"
        shown = self.findings if every_line else _failing_once(self.findings)
        tables = (self._table(model, width) for model in self.models)
        parts = [*tables, *map(_in_full, shown), self._verdict(every_line=every_line)]
        return "\n\n".join(part for part in parts if part)

    def _table(self, model: str, width: int | None) -> str:
        """Return the table of a model, headed by the list of models."""
        findings = [finding for finding in self.findings if finding.model in {None, model}]
        rows = [_HEAD, *map(_row, findings)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD) - 1)]
        lines = (_line(row, widths, width) for row in rows)
        return "\n".join([f"{model} at {self.endpoint}", *lines])

    def _verdict(self, *, every_line: bool) -> str:
        needed = self.needed
        failing = [f"{one.title} ({one.verdict})" for one in needed if not one.works]
        tasks = ", ".join(dict.fromkeys(alias for one in needed for alias in one.needed_by))
        lines = [f"* needed by the tasks of this config ({tasks}): {len(needed) - len(failing)} of {len(needed)} work"]
        if failing:
            lines.append(f"  does not work: {', '.join(failing)}")
        if not every_line:
            lines.append("  --curl prints a curl line for each request, --json prints everything as JSON")
        if any(f"@{NO_FILE}" in (one.curl or "") for one in self.findings):
            lines.append(f"  {NO_FILE} is a body too long for a line: --save DIR writes all bodies to files for the lines")
        return "\n".join(lines)


def _failing_once(findings: Sequence[Finding]) -> list[Finding]:
    """Return what does not work, without streams that fail with the same message as without streaming."""
    shown: dict[tuple[Any, ...], Finding] = {}
    for finding in findings:
        if not finding.works:
            shown.setdefault((finding.model, finding.name, finding.verdict, finding.message), finding)
    return list(shown.values())


def _row(finding: Finding) -> tuple[str, ...]:
    said = finding.answer
    if finding.message:
        said = f"{finding.message}: {finding.answer!r}" if finding.answer else finding.message
    if finding.notes:
        said = f"{said} [{'; '.join(finding.notes)}]"
    return (
        "*" if finding.needed_by else "",
        finding.title,
        finding.verdict.upper() if finding.verdict is Verdict.WRONG else finding.verdict.value,
        str(finding.status or "-"),
        f"{finding.latency_s:.2f}",
        finding.finish_reason or "-",
        " ".join(finding.present) or "-",
        " ".join(said.split()),
    )


def _line(row: Sequence[str], widths: Sequence[int], width: int | None) -> str:
    *cells, said = row
    line = "  ".join([*(cell.ljust(space) for cell, space in zip(cells, widths, strict=True)), said]).rstrip()
    if width is None or len(line) <= max(width, _NARROWEST):
        return line
    return line[: max(width, _NARROWEST) - len(_CUT)] + _CUT


def _in_full(finding: Finding) -> str:
    """Return the full message as a shell comment, and the line that repeats the request."""
    words = [finding.message, *finding.notes]
    heading = f"# {finding.title}: {finding.verdict}"
    said = ": ".join([heading, " ".join("; ".join(filter(None, words)).split())]) if any(words) else heading
    return f"{said}\n{finding.curl}" if finding.curl else said
