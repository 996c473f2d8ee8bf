"""Metrics of the verdicts of judges: `score`, `mean` and `vote`.

A verdict that cannot be read for sure is an error of its row, never a grade. Else a judge that said nothing would count as one
that gave the lowest grade.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from runner import jsontext
from runner.errors import RowError
from runner.output import counts
from runner.processes.pool import Calls
from runner.tasks.metrics.base import Settings, as_label, invalid_reference
from runner.tasks.metrics.taking import extracted
from runner.tasks.metrics.text import normal, references_of
from runner.types import ErrorType, Value

__all__ = ["mean", "score", "vote"]

#: A number. `1,000`, `3.1.4` and `v2` do not match.
_NUMBER = r"(?<![\w.])(?<!\d,)[-+−]?(?:\d++(?:\.\d++)?|\.\d++)(?!\w|[.,]\d)"
#: A grade such as `8`, `8/10`, `8 out of 10`.
_GRADE = rf"(?P<grade>{_NUMBER})(?:\s*+(?:/|out\s++of\b|of\b)\s*+(?P<best>{_NUMBER}))?"
_ANY = re.compile(_GRADE)
#: `score: 8`, `"final_score": 8`, `Rating is **8**`, `Rating: [[8]]`; but not `7 to 8`.
_STATED = re.compile(
    r"(?<![A-Za-z])(?:(?:score|rating|grade|mark)(?![A-Za-z])|overall(?=[\"'*_`\s]*+[:=]))"
    r"[\"'*_`\s]*+(?::|=|is\b|of\b)?+[\"'*_`\s\[]*+"
    rf"{_GRADE}(?!\s*+(?:[-–—]|to\b|or\b)\s*+\d)",
    re.IGNORECASE,
)
_DENIED = re.compile(rf"(?:\bnot|n['’]t)\s++(?:an?\s++)?{_GRADE}", re.IGNORECASE)


async def score(candidate: Any, _reference: Any, settings: Settings, calls: Calls) -> Value:
    """Return the grade that a judge gives: a number from `min` to `max`."""
    number = await _grade(candidate, "candidate", settings, calls)
    return Value(number, as_label(number))


async def mean(candidate: Any, _reference: Any, settings: Settings, calls: Calls) -> Value:
    """Return the mean of the grades that several judges give."""
    grades = [await _grade(one, place, settings, calls) for place, one in _each(candidate)]
    number = math.fsum(grades) / len(grades)
    return Value(number, as_label(number))


async def vote(candidate: Any, reference: Any, settings: Settings, calls: Calls) -> Value:
    """Return the label that more than half of the judges give, and whether it is the reference.

    Without a reference the value is that of their verdict, or the label itself if it is a number.
    """
    labels = [await _label(one, place, settings, calls) for place, one in _each(candidate)]
    winner, votes = Counter(labels).most_common(1)[0]
    if 2 * votes <= len(labels):
        votes_of = ", ".join(f"{jsontext.shown(label)}: {count}" for label, count in Counter(labels).most_common(5))
        raise _no_verdict(f"no label has more than half of the votes: {votes_of}")
    if "reference" not in settings.model_fields_set:
        counted = {counts(one) for one, label in zip(candidate, labels, strict=True) if label == winner}
        if len(counted) == 1 and (value := counted.pop()) is not None:
            return Value(value, winner)
        alone = _ANY.fullmatch(winner)
        return Value(None if alone is None or alone["best"] else _number(alone["grade"]), winner)
    wanted = {normal(as_label(one), settings) for one in references_of(reference)}
    if not wanted or not all(wanted):
        raise invalid_reference("is empty, so no label can be right")
    return Value(float(winner in wanted), winner)


def _each(candidate: Any) -> Iterable[tuple[str, Any]]:
    """Yield the path and the verdict of each judge. Raises RowError if there are none."""
    if not isinstance(candidate, list) or not candidate:
        raise _no_verdict("`candidates` is not a list of the verdicts of several judges")
    return ((f"candidates.{number}", one) for number, one in enumerate(candidate))


async def _label(candidate: Any, place: str, settings: Settings, calls: Calls) -> str:
    said = as_label(candidate) if isinstance(candidate, int | float) else candidate
    label = normal(await extracted(said, settings, calls) or "", settings)
    if not label.strip():
        raise _no_verdict(f"`{place}` is empty")
    return label


async def _grade(candidate: Any, place: str, settings: Settings, calls: Calls) -> float:
    if (counted := counts(candidate)) is not None:
        number = counted
    elif isinstance(candidate, int | float) and not isinstance(candidate, bool):
        number = float(candidate)  # the value of a metric
    else:
        number = _read(await extracted(candidate, settings, calls) or "", place, settings)
    low = -math.inf if settings.min is None else settings.min
    high = math.inf if settings.max is None else settings.max
    if not low <= number <= high or not math.isfinite(number):
        raise _no_verdict(f"{as_label(number)} in `{place}` is not between {low:g} and {high:g}")
    return number


def _read(text: str, place: str, settings: Settings) -> float:
    """Return the one grade that a text states, else the only one that it has. Raises RowError if there are none or several."""
    text = _DENIED.sub(" ", text)
    found = list(_STATED.finditer(text)) or list(_ANY.finditer(text))
    grades = sorted({_number(match["grade"]) for match in found})
    if len(grades) != 1:
        what = f"has several numbers ({', '.join(map(as_label, grades[:5]))})" if grades else "has no number"
        raise _no_verdict(f"`{place}`, {jsontext.shown(text)}, {what}; find the right one with `extract`")
    others = {_number(match["best"]) for match in found if match["best"]} - {settings.max}
    if others and settings.max is not None:
        raise _no_verdict(
            f"`{place}`, {jsontext.shown(text)}, is a grade out of {as_label(max(others))}, but `max` is {settings.max:g}"
        )
    return grades[0]


def _number(text: str) -> float:
    return float(text.replace("−", "-"))


def _no_verdict(what: str) -> RowError:
    return RowError(ErrorType.NO_VERDICT, f"no verdict: {what}")
