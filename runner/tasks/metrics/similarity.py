"""Metrics of how similar two texts are, each computed by the library that gives it its name.

The libraries come with the extra `text`. They are imported only in other processes (`foreign`), because the import is slow, and
a row's text may be slow to compare. A missing library is found before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from runner.errors import RowError
from runner.foreign import wordnet
from runner.jsontext import as_text
from runner.processes.pool import CallError, Calls
from runner.tasks.metrics.base import Metric, Settings, invalid_reference
from runner.tasks.metrics.taking import extracted
from runner.tasks.metrics.text import folded, normal, references_of
from runner.types import ErrorType, Value

__all__ = ["SIMILARITIES", "what_is_missing"]

#: The time limit for two texts. TER needs it for some hundred words each, all other metrics for some thousands.
_SECONDS = 10.0


def _as_it_stands(text: str, settings: Settings) -> str:
    """Return a text as it is, for a library with rules of its own, unless the config says what does not count."""
    says = settings.ignore_case or settings.ignore_punctuation or settings.normalize
    return folded(text, settings) if says else text


class _Library(NamedTuple):
    """The function that computes a metric."""

    #: In `runner.foreign`, as `module:function`: it takes the candidate, the references, and the `settings` below.
    function: str
    #: The packages that it imports.
    packages: tuple[str, ...]
    settings: tuple[str, ...] = ()
    #: Prepares both texts.
    prepare: Callable[[str, Settings], str] = _as_it_stands


#: The metrics of `nltk` and `rouge_score` have the names and settings of Scale SGP, the others those of the field.
_LIBRARIES = {
    "bleu": _Library("words:bleu", ("nltk", "punkt")),
    "f1": _Library("words:f1", ("nltk", "punkt")),
    "meteor": _Library("meteor:meteor", ("nltk", "punkt")),
    "rouge1": _Library("rouge:rouge1", ("rouge_score",), ("stemmer",)),
    "rouge2": _Library("rouge:rouge2", ("rouge_score",), ("stemmer",)),
    "rougeL": _Library("rouge:rouge_l", ("rouge_score",), ("stemmer",)),
    "sacrebleu": _Library("translation:bleu", ("sacrebleu",), ("tokenize",)),
    "chrf": _Library("translation:chrf", ("sacrebleu",), ("word_order",)),
    "ter": _Library("translation:ter", ("sacrebleu",)),
    "edit_similarity": _Library("edits:similarity", ("rapidfuzz",), prepare=normal),
}


def what_is_missing(kind: object) -> str | None:
    """Return what has to be installed before a metric of this type can be computed, or None. Nothing is imported for it."""
    library = _LIBRARIES.get(str(kind))
    if library is None:
        return None
    absent = [package for package in library.packages if find_spec(package) is None]
    if absent:
        return f"{kind} needs {' and '.join(absent)}, which is not installed; pip install 'batch-eval-runner[text]'"
    missing = wordnet.what_is_missing() if kind == "meteor" else None
    return None if missing is None else f"{kind} needs WordNet: {missing}"


def _metric(kind: str, library: _Library) -> Metric:
    async def judge(candidate: Any, reference: Any, settings: Settings, calls: Calls) -> Value:
        text = await extracted(candidate, settings, calls)
        found = None if text is None else library.prepare(text, settings)
        references = [library.prepare(as_text(one), settings) for one in references_of(reference) if one != ""]
        if not references or not all(map(str.strip, references)):
            raise invalid_reference("is empty, so no text can be similar to it")
        more = [getattr(settings, name) for name in library.settings]
        try:
            value = await calls.call(f"runner.foreign.{library.function}", found or "", references, *more, seconds=_SECONDS)
        except CallError as error:
            why = what_is_missing(kind) or f"{kind} cannot be computed for these texts: {error}"
            raise RowError(ErrorType.TEMPLATE, f"configuration.type: {why}") from error
        return Value(value, found)

    return judge


SIMILARITIES: Mapping[str, Metric] = {kind: _metric(kind, library) for kind, library in _LIBRARIES.items()}
