"""Plans the requests of a check, and adapts later ones to the first answers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from runner import jsontext
from runner.check.judge import Verdict
from runner.check.needs import Needs
from runner.check.probes import PROBES, Asked, Probe, Stage, body_of
from runner.check.report import Finding
from runner.types import ErrorType, Request, Unit

__all__ = ["Instead", "count_of", "of_stage", "refused_parameters", "why_no_model", "why_no_use"]

#: The parameters that a model refuses, each with the parameter that replaces it, or None.
Instead = Mapping[str, str | None]

_REFUSED_STATUSES = (400, 422, 500)  # some servers send a 500 for every mistake
#: Errors of the first requests that every other request would get too.
_FOR_EVERYBODY = (ErrorType.CONNECT, ErrorType.TIMEOUT, ErrorType.QUOTA, ErrorType.RATE_LIMIT)
_KEY_IS_WRONG = (401, 403)


def of_stage(stage: Stage, needs: Needs, instead: Mapping[str, Instead]) -> Iterator[Asked]:
    """Yield the probes of a stage for every model, without streaming and with it. `instead` is by model."""
    for model in needs.models:
        for probe in PROBES:
            if probe.stage is stage:
                both = (_asked(probe, model, needs, instead.get(model, {}), stream=stream) for stream in _forms(probe))
                yield from (one for one in both if one.needed_by or not needs.only or stage is Stage.LENGTH)


def _forms(probe: Probe) -> Iterator[bool]:
    yield False
    if probe.also_streamed:
        yield True


def count_of(needs: Needs) -> int:
    """Return how many requests a check makes at most, including the list of models."""
    return 1 + sum(1 for stage in Stage for _ in of_stage(stage, needs, {})) + len(needs.own)


def _asked(probe: Probe, model: str, needs: Needs, instead: Instead, *, stream: bool) -> Asked:
    body = body_of(probe, model=model, stream=stream, instead=instead)
    content = jsontext.encode(body)
    request = Request(
        unit=Unit(f"{probe.name}-stream" if stream else probe.name, 0, 0, "check"),
        path=probe.path,
        model=model,
        content=content,
        shown=content.decode(),
        stream=stream,
        chat=probe.chat,
        choices=body.get("n", 1),
    )
    left_out = [name for name in instead if name in probe.body and name not in body]
    return Asked(
        name=probe.name,
        model=model,
        request=request,
        expects=probe.expects,
        needed_by=needs.aliases.get((model, probe.name, stream), ()),
        notes=[f"asked with{_other(instead[name])} {name}, which is refused" for name in left_out],
    )


def _other(name: str | None) -> str:
    return f" {name} instead of" if name else "out"


def why_no_use(first: Sequence[Finding]) -> str | None:
    """Return why the check can stop, if every first request failed for a reason that all later ones would share."""
    hopeless = all(one.error_type in _FOR_EVERYBODY or one.status in _KEY_IS_WRONG for one in first)
    return first[0].message if hopeless else None


def why_no_model(models: Sequence[str], asked: Sequence[Finding]) -> str | None:
    """Return why the check can stop, if each model refused all requests with one message that names the model."""
    said = []
    for model in models:
        refusals = {(one.error_type, one.message) for one in asked if one.model == model}
        error_type, message = next(iter(refusals))
        if len(refusals) > 1 or error_type is None or not _names(message, model):
            return None
        said.append(message)
    return "; ".join(dict.fromkeys(said))


def _names(message: str, model: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(model)}(?![\w-])", message) is not None


def refused_parameters(findings: Sequence[Finding]) -> Instead:
    """Return the parameters that a model refuses. A parameter counts if its probe is refused and another is answered."""
    refused = {one.name for one in findings if one.verdict is Verdict.REFUSED and one.status in _REFUSED_STATUSES}
    answered = {one.name for one in findings if one.error_type is None}
    instead: dict[str, str | None] = {name: None for name in ("temperature", "top_p") if name in refused and answered}
    if "max_tokens" in refused and "max_completion_tokens" in answered:
        instead["max_tokens"] = "max_completion_tokens"
    return instead
