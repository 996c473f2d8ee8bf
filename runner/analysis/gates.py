"""Gates: conditions that a comparison or a run must meet, and the decisions about them.

    gate     = subject op number ["%"] ["by estimate"]         op = ">=" | "<=" | ">" | "<"
    subject  = ["B."] name [ "[" group "]" ] [ "." stat ]       `B.`: B's own value; else the difference B - A
    name     = an alias | error_rate | skipped | truncated | empty | latency | ttft | tokens | cost | wall
    stat     = mean | p50 | p90 | p99 | prompt | completion | total | pass@K | pass^K | majority@K

A percentage is relative to A. For a single run, as in a report, each gate is about its own value. If the figure has an
interval, a gate holds if all of the interval satisfies the bound, is broken if none of it does, and otherwise the outcome is
`cannot tell`. Without an interval, or with `by estimate`, the estimate alone decides.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import Enum

from runner.analysis.figures import Figure, Subject, label_of
from runner.errors import UsageError
from runner.structs import Struct

__all__ = ["Decision", "Gate", "Outcome", "decide", "gate_lines", "overall", "parse_gate"]

_GATE = re.compile(
    r"""\s*(?P<own>B\.)?(?P<name>[\w-]+(?:\.[\w-]+)*?)(?:\[(?P<group>.*)\])?
        (?:\.(?P<stat>mean|p50|p90|p99|prompt|completion|total|pass[@^]\d+|majority@\d+))?
        \s*(?P<op>>=|<=|>|<)\s*(?P<bound>[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(?P<percent>%)?\s*(?P<estimate>by\s+estimate)?\s*""",
    re.VERBOSE | re.DOTALL,
)
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


class Outcome(Enum):
    """The outcome of a gate."""

    HOLDS = "holds"
    BROKEN = "broken"
    CANNOT_TELL = "cannot tell"


class Gate(Struct, frozen=True, kw_only=True):
    """A bound that a comparison or a run must keep."""

    text: str
    #: Whether it is about B's own value, or that of a single run, and not about the difference.
    is_own: bool
    subject: Subject
    op: str
    bound: float
    is_relative: bool
    by_estimate: bool

    def is_kept_by(self, value: float) -> bool:
        """Return whether a value satisfies the bound; a value that differs only by rounding counts as equal to it."""
        if math.isclose(value, self.bound, rel_tol=1e-9, abs_tol=1e-12):
            return self.op in {">=", "<="}
        return _OPERATORS[self.op](value, self.bound)


class Decision(Struct, frozen=True):
    """The outcome of a gate, and the reason."""

    gate: Gate
    outcome: Outcome
    reason: str

    @property
    def document(self) -> dict[str, str]:
        """The same as values of JSON."""
        return {"gate": self.gate.text, "outcome": self.outcome.value, "reason": self.reason}


def parse_gate(text: str, known: Collection[Subject], *, of_one_run: bool = False) -> Gate:
    """Return the gate in a text. Raises UsageError if it cannot be read, or its subject is not known."""
    found = _GATE.fullmatch(text)
    if found is None:
        examples = "'correct >= 0.8' or 'latency.p90 <= 20'"
        if not of_one_run:
            examples = "'correct >= -0.01', 'latency.p90 <= +20%' or 'B.correct >= 0.8'"
        raise UsageError(f"gate {text!r}: cannot be read; write it as {examples}")
    own, percent = of_one_run or found["own"] is not None, found["percent"] is not None
    if own and percent:
        what = "there is no other run here" if of_one_run else "`B.` is B's own value; leave one of them out"
        raise UsageError(f"gate {text!r}: a percentage is relative to A, and {what}")
    gate = Gate(
        text=" ".join(text.split()),
        is_own=own,
        subject=(found["name"], found["group"], None if found["stat"] == "mean" else found["stat"]),
        op=found["op"],
        bound=float(found["bound"]) / (100 if percent else 1),
        is_relative=percent,
        by_estimate=found["estimate"] is not None,
    )
    if gate.subject not in known:
        raise UsageError(f"gate {text!r}: {'the run has' if of_one_run else 'both runs have'} {_what_is_there(gate, known)}")
    return gate


def _what_is_there(gate: Gate, known: Collection[Subject]) -> str:
    shown = set(map(label_of, known))
    wanted = label_of(gate.subject)
    near = difflib.get_close_matches(wanted, shown, n=1)
    listed = ", ".join(sorted(name for name in shown if "[" not in name))
    hint = f"did you mean {near[0]!r}?" if near else f"there is: {listed}"
    return f"no {wanted!r}; {hint}"


def decide(gate: Gate, figure: Figure, *, doubt: str | None = None) -> Decision:
    """Decide a gate. `doubt` is a reason why no difference can be told."""
    if doubt is not None and not gate.is_own and not gate.by_estimate:
        return Decision(gate, Outcome.CANNOT_TELL, doubt)
    if not gate.is_own and figure.is_unchanged and gate.is_kept_by(0.0):
        return Decision(gate, Outcome.HOLDS, "no item changed")
    value, interval = _value_and_interval(gate, figure)
    if value is None:
        return Decision(gate, Outcome.CANNOT_TELL, _what_is_missing(gate, figure))
    if gate.by_estimate or not figure.has_interval:
        kept = gate.is_kept_by(value)
        return Decision(gate, Outcome.HOLDS if kept else Outcome.BROKEN, f"{_number(value, gate)} by estimate")
    if interval is None:
        return Decision(gate, Outcome.CANNOT_TELL, "there are too few items for an interval")
    return _by_interval(gate, figure, interval)


def _by_interval(gate: Gate, figure: Figure, interval: tuple[float, float]) -> Decision:
    low, high = interval
    ends = [gate.is_kept_by(low), gate.is_kept_by(high)]
    if all(ends):
        end = low if gate.op in {">=", ">"} else high
        return Decision(gate, Outcome.HOLDS, f"{'lower' if end == low else 'upper'} end {_number(end, gate)}")
    said = f"{_number(low, gate)} to {_number(high, gate)}"
    if not any(ends):
        return Decision(gate, Outcome.BROKEN, said)
    needed = figure.items_needed(abs(gate.bound)) if not gate.is_own and not gate.is_relative else None
    more = f"; needs about {needed:,} items" if needed is not None else ""
    return Decision(gate, Outcome.CANNOT_TELL, f"{said}{more}")


def _value_and_interval(gate: Gate, figure: Figure) -> tuple[float | None, tuple[float, float] | None]:
    if gate.is_own:
        return figure.own_b, figure.interval_b
    if not gate.is_relative or figure.difference is None:
        return figure.difference, figure.interval
    if not figure.a:
        return (None, None) if figure.difference else (0.0, None)
    size = abs(figure.a)  # so that an increase is positive even if A is below 0
    interval = None if figure.interval is None else (figure.interval[0] / size, figure.interval[1] / size)
    return figure.difference / size, interval


def _what_is_missing(gate: Gate, figure: Figure) -> str:
    if gate.is_own:
        return "there is no value"
    if figure.difference is not None:
        return "A's value is 0, so there is no percentage of it"
    if figure.has_interval:
        return "no item has a value on both sides"
    missing = [name for name, value in (("A", figure.a), ("B", figure.b)) if value is None]
    return f"{' and '.join(missing)} {'have' if len(missing) > 1 else 'has'} no value"


def _number(value: float, gate: Gate) -> str:
    """Return a value with enough digits to tell it apart from the bound."""
    scale, digits, unit = (100, 1, "%") if gate.is_relative else (1, 4, "")
    value, bound = scale * value, scale * gate.bound
    digits = next((more for more in range(digits, 10) if round(value, more) != round(bound, more)), digits)
    return f"{value:{'' if gate.is_own else '+'}.{digits}f}{unit}"


def overall(decisions: Sequence[Decision]) -> Outcome | None:
    """Return the worst outcome; None if there are no decisions."""
    outcomes = {decision.outcome for decision in decisions}
    return next((one for one in (Outcome.BROKEN, Outcome.CANNOT_TELL, Outcome.HOLDS) if one in outcomes), None)


def gate_lines(decisions: Sequence[Decision]) -> Iterator[str]:
    """Yield a line for each decision, for the output of commands."""
    for one in decisions:
        yield f"gate       {one.gate.text:<34} {one.outcome.value:<12} ({one.reason})"
