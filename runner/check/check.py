"""The check: probes through the real client and transport, one attempt each, judged and reported.

1  needs      the config's models, what its tasks use, and the first request of each
2  length     `max_tokens` and `max_completion_tokens`; a refused connection or key, or a 429, ends the check here
3  own        the tasks' own first requests, unchanged; an unknown model ends the check here
4  sampling   `temperature` and `top_p`
5  the rest   without the parameters that were refused
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.check.curl import Shell
from runner.check.models import PATH, list_models
from runner.check.needs import Needs, needs_of
from runner.check.probe_plan import count_of, of_stage, refused_parameters, why_no_model, why_no_use
from runner.check.probes import Stage
from runner.check.probing import Asker
from runner.check.report import CheckReport, Finding
from runner.config.model import Config
from runner.endpoint.connect import client_of, headers_of, transport_of
from runner.endpoint.limiting import limiter_of
from runner.endpoint.pacing.rate_limiter import limited
from runner.logs import cleaning, logger
from runner.processes.pool import ProcessPool
from runner.structs import replace
from runner.types import ErrorType

__all__ = ["check_endpoint"]

_log = logger(__name__)
_AT_ONCE = 4


async def check_endpoint(
    config: Config,
    document: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str],
    *,
    save: Path | None = None,
    only_needed: bool = False,
) -> CheckReport:
    """Ask the endpoint of a config for each kind of answer, or only for those that its tasks need.

    `document` is the config with its variables unexpanded, `rows` the first of its dataset; `save` is a directory for the
    request bodies. Nothing is recorded, and the report holds no secrets. Raises UsageError if no request can be made.
    """
    needs = replace(needs_of(config, rows), only=only_needed)
    shell = Shell(config, document, environment)
    name = config.endpoint.name or str(config.endpoint.replay)
    _log.info("asking %s for %s in %d requests", name, ", ".join(needs.models), count_of(needs))
    with cleaning(shell.redactor.text):
        report = await _check(_unrecorded(config), needs, shell, environment, save)
    report = replace(report, endpoint=name)
    return report.cleaned(shell.without_secrets)


def _unrecorded(config: Config) -> Config:
    return config.model_copy(update={"endpoint": config.endpoint.model_copy(update={"record": None})})


async def _check(config: Config, needs: Needs, shell: Shell, environment: Mapping[str, str], save: Path | None) -> CheckReport:
    # A new connection for each request: some servers close a connection that they promised to keep, and there is no retry.
    headers = headers_of(config, environment) | {"Connection": "close"}
    lines = shell if config.endpoint.replay is None else None
    report = CheckReport(models=needs.models)
    transport, calls = transport_of(config, environment), ProcessPool()
    try:
        send = limited(client_of(config, transport, headers).send, limiter_of(config.limits))
        at_once = min(_AT_ONCE, config.limits.most_in_flight)
        asker = Asker(send=send, calls=calls, shell=lines, at_once=at_once, save=save, redactor=shell.redactor)
        first = await asker.all(of_stage(Stage.LENGTH, needs, {}))
        if (stopped := why_no_use(first)) is not None:
            return replace(report, findings=first, stopped=f"{stopped}{_about_the_key(config, environment, first)}")
        models = await list_models(config, transport, headers, needs.models)
        models = replace(models, curl=None if lines is None else lines.line(PATH, None))
        own = await asker.all(needs.own)
        if (stopped := why_no_model(needs.models, [*first, *own])) is not None:
            return replace(report, findings=[models, *first, *own], stopped=f"{stopped} ({models.message})")
        return replace(report, findings=[models, *await _go_on(asker, needs, first), *own])
    finally:
        await transport.close()
        await calls.close()


async def _go_on(asker: Asker, needs: Needs, first: Sequence[Finding]) -> list[Finding]:
    """Make the remaining requests, by the answers to the first ones."""
    instead = {model: refused_parameters(_of(model, first)) for model in needs.models}
    early = [*first, *await asker.all(of_stage(Stage.SAMPLING, needs, instead))]
    instead = {model: refused_parameters(_of(model, early)) for model in needs.models}
    rest = await asker.all(of_stage(Stage.REST, needs, instead))
    return [*early, *_with_seeds_compared(rest)]


def _about_the_key(config: Config, environment: Mapping[str, str], first: Sequence[Finding]) -> str:
    """Return where the key came from, if it may be wrong."""
    if first[0].error_type != ErrorType.AUTH:
        return ""
    if any(name.lower() == "authorization" for name in config.endpoint.headers):
        return " (the key is the one in endpoint.headers)"
    return f" (the key is the one in ${config.endpoint.key_variable})" if config.api_key(environment) else " (no key was sent)"


def _of(model: str, findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.model == model]


def _with_seeds_compared(findings: Sequence[Finding]) -> list[Finding]:
    """Add a note if the same seed gave two answers. It is no fault: no server promises equal answers."""
    answers: dict[str | None, set[str]] = {}
    for finding in findings:
        if finding.name == "seed" and finding.works:
            answers.setdefault(finding.model, set()).add(finding.answer)
    note = "the same seed gave different answers with and without streaming"
    return [
        replace(finding, notes=[*finding.notes, note])
        if finding.name == "seed" and len(answers.get(finding.model, ())) > 1
        else finding
        for finding in findings
    ]
