"""The closing summary: the outcome of a run, in lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.printable import printable
from runner.results.concurrency import said_of_found
from runner.results.costs import said_of_cost
from runner.results.judges_said import said_of_judges
from runner.structs import Struct

__all__ = ["Report", "doubts", "notes", "quantiles"]

_ODD = (
    *("truncated", "empty", "without_usage", "text_repaired"),
    *("reasoning_in_text", "cut_off_in_reasoning", "control"),
)

#: The slowest answers are named if they cost at least this many seconds, and this share of the run.
_LONG_WAIT_S, _LONG_SHARE = 1.0, 0.1
_LONGEST_MESSAGE = 200
_MOST_GROUPS = 20
#: From this number on, values that are all 0, or requests that are all the same, are probably a mistake.
_MANY = 10


class Report(Struct, frozen=True):
    """The outcome of a run."""

    run: Path
    #: Why it stopped early; None if it finished.
    stopped: str | None
    totals: Mapping[str, Any]
    results: int
    errors: int
    #: How many results there should be; None if the dataset was not read to its end.
    expected: int | None
    #: As in evaluation.json; also `running` if the run was killed.
    status: str
    #: Lines of the journal with a wrong checksum, as `file: offset`.
    damaged: Sequence[str] = ()
    #: The run whose answers it has reused.
    rescored_from: str | None = None
    #: The outcome of its workers, if the latest start had any.
    workers: str | None = None

    def text(self) -> str:
        """Return the closing summary."""
        return "\n".join(_lines(self))


def _lines(report: Report) -> list[str]:
    totals = report.totals
    head = {"completed": "finished", "failed": "stopped early"}.get(report.status, "so far")
    lines = [f"{head}: {report.results} results, {report.errors} errors{_by_kind(totals['errors'])}"]
    if report.stopped:
        lines.append(f"  reason     {printable(report.stopped)}")
    if report.stopped is None and report.expected is not None:
        skipped = f", of which {totals['skipped']} skipped" if totals["skipped"] else ""
        lines.append(f"  complete   every unit exactly once: {report.results} + {report.errors} = {report.expected}{skipped}")
    if report.damaged:
        lines.append(f"  journal    {len(report.damaged)} damaged lines are left out: {', '.join(report.damaged)}")
    if report.rescored_from is not None:
        lines.append(f"  rescored   {report.rescored_from}")
    if report.workers is not None:
        lines.append(f"  workers    {report.workers}")
    if totals["requests"] or totals["cached"]:
        lines += _request_lines(totals)
    lines += [_doubt(said) for said in _doubts_of_requests(totals)]
    for alias, metric in totals["metrics"].items():
        doubts_of_it = map(_doubt, _doubts_of_metric(alias, metric))
        lines += [_metric_line(alias, metric), *_reduced_lines(metric), *_group_lines(metric), *doubts_of_it]
    lines += [f"  {label:<10} {said}" for label, said in said_of_judges(totals["judges"])]
    lines += [_failures_line(failures) for failures in totals["commonest_errors"]]
    lines.append(f"  results    {report.run}")
    return lines


def _by_kind(errors: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{kind} {count}' for kind, count in errors.items())})" if errors else ""


def _request_lines(totals: Mapping[str, Any]) -> list[str]:
    tokens, latency = totals["tokens"], totals["latency_s"]
    answered = [f"{totals['requests']} answered in {totals['attempts']} attempts"] if totals["requests"] else []
    kept = [f"{totals['cached']} answers reused, nothing sent for them"] if totals["cached"] else []
    lines = [f"  requests   {' · '.join([*answered, *kept, *notes(totals)])}"]
    if not totals["requests"]:
        return lines
    lines += [
        f"  tokens     {_tokens_line(tokens)}",
        *(f"  {label:<10} {said}" for label, said in zip(("cost", ""), said_of_cost(totals.get("cost")), strict=False)),
    ]
    if latency["p50"] is not None:  # it is not measured for batches
        lines.append(f"  latency    {quantiles(latency)}")
    if totals["ttft_s"]["p50"] is not None:
        lines.append(f"  ttft       {quantiles(totals['ttft_s'])}")
    if totals["slots_full"] is not None:
        rate = f"{totals['requests_per_s'] or 0:.1f} requests/s"
        full = f"slots full {totals['slots_full']:.0%} · bound by {totals['bound_by']}"
        lines.append(f"  wall       {totals['wall_s']:.1f} s · {rate} · {full}")
    if "concurrency" in totals:
        lines.append(f"  in flight  {said_of_found(totals['concurrency'])}")
    return [*lines, *_slowest_lines(totals)]


def _slowest_lines(totals: Mapping[str, Any]) -> Iterator[str]:
    """Name the slowest answers, if the run waited long for them at its end."""
    slowest, wall_s = totals.get("slowest"), totals["wall_s"]
    if slowest is None or wall_s - slowest["wall_s_without"] < max(_LONG_WAIT_S, _LONG_SHARE * wall_s):
        return
    first, count = slowest["rows"][0], len(slowest["rows"])
    named = f"{printable(first['item_id'])} of `{first['task']}` with {first['wire_s']:.1f} s"
    yield f"  slowest    {named}; without the {count} slowest the run would have ended after {slowest['wall_s_without']:.1f} s"


def _tokens_line(tokens: Mapping[str, int]) -> str:
    line = f"{tokens.get('prompt_tokens', 0):,} prompt · {tokens.get('completion_tokens', 0):,} completion"
    if estimated := tokens.get("estimated_tokens", 0):
        line += f" · about {estimated:,} more that the server did not report"
    return line


def _failures_line(failures: Mapping[str, Any]) -> str:
    where = f"{failures['count']} {failures['error_type']} of `{failures['task']}`"
    message = printable(str(failures["message"] or ""))
    message = message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}…"
    first = f"{printable(failures['item_id'])}: "  # the message of an unreadable row begins with it
    return f"  errors     {where}, the first {first}{message.removeprefix(first)}"


def _doubt(said: str) -> str:
    return f"  {'':<10} {said}"


def doubts(totals: Mapping[str, Any]) -> Iterator[str]:
    """Name probable mistakes: requests that are all the same, a metric that finds no answer, or no right one."""
    yield from _doubts_of_requests(totals)
    for alias, metric in totals["metrics"].items():
        yield from _doubts_of_metric(alias, metric)


def _doubts_of_requests(totals: Mapping[str, Any]) -> Iterator[str]:
    for task, count in totals["same_request"].items():
        if count >= _MANY:
            yield f"the requests of `{task}` are the same for all {count} items: is this intended?"


def _doubts_of_metric(alias: str, metric: Mapping[str, Any]) -> Iterator[str]:
    n = metric["n"]
    if n and metric["unread"] == n:
        yield f"`{alias}` found no answer in any of {n} candidates (`candidate`, `take`, `extract`): is this intended?"
    elif n >= _MANY and metric["mean"] == 0:
        found = f", and found no answer in {metric['unread']} of them" if metric["unread"] else ""
        yield f"`{alias}` is 0 for all {n} candidates{found}: is this intended?"


def _metric_line(alias: str, metric: Mapping[str, Any]) -> str:
    if metric["mean"] is None:
        return f"  {alias:<10} no values ({metric['errors']} errors)"
    line = f"  {alias:<10} {_mean(metric)}"
    if metric["errors"] and metric["bounds"] is not None:
        low, high = metric["bounds"]
        line += f"; {low:.4f} to {high:.4f} if all {metric['errors']} errors were wrong or right"
    return line


def _mean(figures: Mapping[str, Any]) -> str:
    """Return a mean with its standard error and interval."""
    if figures["mean"] is None:
        return "no values"
    if figures["ci95"] is None:
        return f"{figures['mean']:.4f} (n = {figures['n']})"
    low, high = figures["ci95"]
    kind = {"wilson": "Wilson interval", "t": "t interval"}[figures["interval"]]
    return f"{figures['mean']:.4f} ± {figures['stderr']:.4f} (95 % {kind} {low:.4f} to {high:.4f}, n = {figures['n']})"


def _reduced_lines(metric: Mapping[str, Any]) -> Iterator[str]:
    for name, figures in metric.get("reduced", {}).items():
        left_out = f"; {figures['left_out']} items have too few answers" if figures["left_out"] else ""
        yield f"    {name:<12} {_mean(figures)}{left_out}"


def _group_lines(metric: Mapping[str, Any]) -> Iterator[str]:
    """Yield the means of the first groups of each table; evaluation.json has all groups."""
    for column, groups in metric.get("groups", {}).items():
        yield f"    by {column}:"
        for name in list(groups)[:_MOST_GROUPS]:
            yield f"      {printable(name):<16} {_mean(groups[name])}"
        if len(groups) > _MOST_GROUPS:
            yield f"      and {len(groups) - _MOST_GROUPS} more in evaluation.json"


def notes(totals: Mapping[str, Any]) -> list[str]:
    """Return the number of odd answers of each kind, as texts."""
    return [f"{totals[name]} {name.replace('_', ' ')}" for name in _ODD if totals.get(name)]


def quantiles(seconds: Mapping[str, float | None]) -> str:
    """Return the quantiles of a time as text."""
    return " · ".join(f"{name} {'–' if value is None else f'{value:.3f} s'}" for name, value in seconds.items())
