"""Markdown for a comment: untrusted text is harmless in it, and it is never too long for a comment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.analysis.gates import Decision, Outcome, overall
from runner.printable import printable

__all__ = ["alert", "as_comment", "code", "table"]

_LONGEST = 60_000
_CUT = "\n\n… cut at 60,000 characters\n"
_LONGEST_CODE = 60
_ALERTS = {Outcome.BROKEN: "CAUTION", Outcome.CANNOT_TELL: "WARNING", Outcome.HOLDS: "NOTE"}


def code(text: str, longest: int = _LONGEST_CODE) -> str:
    """Return a text between backticks, which cannot break a table or notify anybody."""
    shown = printable(text)[:longest].replace("`", "'").replace("|", "¦").replace("@", "@\u200b")
    return f"`{shown or ' '}`"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table; cells are not escaped."""
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def alert(decided: Sequence[Decision]) -> Iterator[str]:
    """Yield the worst outcome of the gates, as a note that GitHub and others show in a colour."""
    if (outcome := overall(decided)) is not None:
        yield f"> [!{_ALERTS[outcome]}]"
        yield f"> {sum(decision.outcome is outcome for decision in decided)} of {len(decided)} gates: {outcome.value}"
        yield ""


def as_comment(lines: Sequence[str]) -> str:
    """Join lines to a text of at most 60,000 characters."""
    text = "\n".join(lines).rstrip() + "\n"
    if len(text) <= _LONGEST:
        return text
    return text[: text.rfind("\n", 0, _LONGEST - len(_CUT))] + _CUT
