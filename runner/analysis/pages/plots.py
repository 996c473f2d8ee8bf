"""Plots as SVG text: bars, means with their intervals, and lines over time.

They need no script and no style: everything is drawn in the colour of the text around it, so they fit light and dark pages.
Each has a text that says what it shows, and every mark has its value in a `<title>`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from markupsafe import Markup

from runner.analysis.pages.characters import escaped
from runner.analysis.pages.scales import Scale, shown
from runner.structs import Struct

__all__ = ["Interval", "Line", "Plot", "forest", "histogram", "lines"]

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 56, 16, 12, 34
_HEIGHT = 190
_ROW = 22
_LONGEST_LABEL = 30
#: The width for labels on the left of a forest plot, and for numbers on its right.
_LABELS, _NUMBERS = 210, 130
_DASHES = ("", "6 3", "2 3")


class Interval(Struct, frozen=True):
    """A mean with its interval, as a row of a forest plot."""

    label: str
    mean: float | None
    low: float | None
    high: float | None
    n: int


class Plot(Struct, frozen=True):
    """A plot, its caption, and its numbers as a table."""

    svg: Markup
    caption: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


class Line(Struct, frozen=True):
    """Values over time; None is a gap."""

    label: str
    points: Sequence[tuple[float, float | None]]


def _svg(height: float, said: str, parts: Sequence[str]) -> Markup:
    head = f'<svg class="plot" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img"'
    style = 'fill="currentColor" font-family="sans-serif" font-size="12"'
    return Markup(f'{head} aria-label="{escaped(said)}" {style}>{"".join(parts)}</svg>')  # noqa: S704  foreign text is escaped


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escaped(words)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, opacity: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="currentColor" stroke-opacity="{opacity}"/>'


def _axis_below(scale: Scale, top: float, y: float, unit: str, *, is_whole: bool = False) -> Iterator[str]:
    for mark in scale.marks():
        if is_whole and mark != int(mark):
            continue
        x = scale.at(mark)
        yield _rule(x, top, x, y, 0.12)
        yield _text(x, y + 15, shown(mark))
    if unit:
        yield _text(scale.end, y + 30, unit, "end")


def _axis_beside(scale: Scale, unit: str) -> Iterator[str]:
    for mark in scale.marks():
        y = scale.at(mark)
        yield _rule(_LEFT, y, _WIDTH - _RIGHT, y, 0.12)
        yield _text(_LEFT - 6, y + 4, shown(mark), "end")
    if unit:
        yield _text(_LEFT + 4, _TOP + 8, unit, "start")


def histogram(bins: Sequence[tuple[float, float, int]], *, said: str, unit: str, is_log: bool) -> Markup:
    """Return a bar for each `(low, high, count)`; `said` describes the plot."""
    bottom = _HEIGHT - _BOTTOM
    across = Scale(bins[0][0], bins[-1][1], _LEFT, _WIDTH - _RIGHT, is_log)
    up = Scale(0, max(count for *_, count in bins), bottom, _TOP)
    is_whole = all(high - low == 1 for low, high, _ in bins)
    parts = [*_axis_beside(up, "answers"), *_axis_below(across, _TOP, bottom, unit, is_whole=is_whole)]
    for low, high, count in bins:
        if count:
            left, right, top = across.at(low), across.at(high), up.at(count)
            width, height = round(max(1.0, right - left - 1), 1), round(max(1.0, bottom - top), 1)
            values = shown((low + high) / 2) if is_whole else f"{shown(low, 3)} to {shown(high, 3)}"
            bar = f'<rect x="{left}" y="{round(bottom - height, 1)}" width="{width}" height="{height}" fill-opacity="0.6">'
            parts.append(f"{bar}<title>{escaped(f'{values} {unit}: {count:,}')}</title></rect>")
    return _svg(_HEIGHT, said, [*parts, _rule(_LEFT, bottom, _WIDTH - _RIGHT, bottom, 0.6)])


def forest(rows: Sequence[Interval], *, said: str, low: float, high: float, reference: float | None = None) -> Markup:
    """Return a row for each mean, with its interval; `reference` is a line across all of them."""
    bottom = _TOP + len(rows) * _ROW + 6
    across = Scale(low, high, _LABELS, _WIDTH - _NUMBERS)
    parts = list(_axis_below(across, _TOP, bottom, ""))
    if reference is not None:
        x = across.at(reference)
        parts.append(f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}" stroke="currentColor" stroke-dasharray="4 3"/>')
    for number, row in enumerate(rows):
        parts += _row_of_forest(row, _TOP + number * _ROW + _ROW / 2, across)
    return _svg(bottom + 24, said, parts)


def _row_of_forest(row: Interval, y: float, across: Scale) -> Iterator[str]:
    label = row.label if len(row.label) <= _LONGEST_LABEL else f"{row.label[: _LONGEST_LABEL - 1]}…"
    yield f"<g><title>{escaped(_said_of(row))}</title>"
    yield _text(_LABELS - 12, y + 4, label, "end")
    if row.low is not None and row.high is not None:
        left, right = across.at(row.low), across.at(row.high)
        yield f'<line x1="{left}" y1="{y}" x2="{right}" y2="{y}" stroke="currentColor" stroke-width="2"/>'
        for x in (left, right):
            yield _rule(x, y - 4, x, y + 4, 1.0)
    if row.mean is not None:
        yield f'<circle cx="{across.at(row.mean)}" cy="{y}" r="4"/>'
    yield _text(_WIDTH - 4, y + 4, f"{shown(row.mean, 3)} · {row.n:,}", "end") + "</g>"


def _said_of(row: Interval) -> str:
    interval = "" if row.low is None else f" ({shown(row.low)} to {shown(row.high)})"
    return f"{row.label}: {shown(row.mean)}{interval}, n = {row.n:,}"


def lines(series: Sequence[Line], *, said: str, unit: str, unit_below: str = "s", pauses: Sequence[float] = ()) -> Markup:
    """Return lines over seconds, or over the unit in `unit_below`, told apart by their dashes.

    `pauses` are the seconds at which later starts of the run began.
    """
    values = [value for line in series for _, value in line.points if value is not None]
    seconds = [at for line in series for at, _ in line.points]
    bottom = _HEIGHT - _BOTTOM
    across = Scale(0, max(seconds), _LEFT, _WIDTH - _RIGHT)
    up = Scale(0, max(values) or 1, bottom, _TOP + 16)
    parts = [*_axis_beside(up, unit), *_axis_below(across, _TOP, bottom, unit_below)]
    for at in pauses:
        x = across.at(at)
        parts.append(
            f"<g><title>{escaped(f'the run was resumed at {shown(at, 3)} s')}</title>{_rule(x, _TOP, x, bottom, 0.9)}</g>"
        )
    for number, line in enumerate(series):
        dashes = _DASHES[number % len(_DASHES)]
        parts += _strokes(line, dashes, across.at, up.at)
        if len(series) > 1:
            x = _WIDTH - _RIGHT - 90 * (len(series) - number)
            parts.append(f'<line x1="{x}" y1="{_TOP}" x2="{x + 26}" y2="{_TOP}" {_stroke(dashes)}/>')
            parts.append(_text(x + 32, _TOP + 4, line.label, "start"))
    return _svg(_HEIGHT, said, [*parts, _rule(_LEFT, bottom, _WIDTH - _RIGHT, bottom, 0.6)])


def _stroke(dashes: str) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'fill="none" stroke="currentColor" stroke-width="1.5"{dashed}'


def _strokes(line: Line, dashes: str, x: Callable[[float], float], y: Callable[[float], float]) -> Iterator[str]:
    stretch: list[tuple[float, float]] = []
    for at, value in [*line.points, (math.inf, None)]:
        if value is not None:
            stretch.append((x(at), y(value)))
        elif stretch:
            if len(stretch) == 1:
                yield f'<circle cx="{stretch[0][0]}" cy="{stretch[0][1]}" r="1.5"/>'
            else:
                places = " ".join(f"{left},{top}" for left, top in stretch)
                yield f'<polyline points="{places}" {_stroke(dashes)}><title>{escaped(line.label)}</title></polyline>'
            stretch = []
