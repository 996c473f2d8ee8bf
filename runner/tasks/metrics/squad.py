"""The metrics of SQuAD, `squad_exact` and `squad_f1`, by the rules of its own script.

Case, ASCII punctuation and the articles do not count. A question without an answer has an empty reference, and then an
empty answer is right.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Any

from runner.foreign.overlap import f1_of
from runner.jsontext import as_text
from runner.processes.pool import Calls
from runner.tasks.metrics.base import Metric, Settings, invalid_reference
from runner.tasks.metrics.taking import extracted
from runner.tasks.metrics.text import references_of
from runner.types import Value

__all__ = ["squad_exact", "squad_f1"]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def _of_words(compare: Callable[[list[str], list[str]], float]) -> Metric:
    """Return a metric that compares the words that count, with the best reference."""

    async def judge(candidate: Any, reference: Any, settings: Settings, calls: Calls) -> Value:
        text = await extracted(candidate, settings, calls)
        references = references_of(reference)
        if not references:
            raise invalid_reference('is null, so no answer can be right; a question without an answer has the reference ""')
        found = _words(text or "")
        value = max(compare(found, _words(as_text(one))) for one in references)
        return Value(0.0 if text is None else value, None if text is None else " ".join(found))

    return judge


def _words(text: str) -> list[str]:
    return _ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


squad_exact = _of_words(lambda found, wanted: float(found == wanted))
squad_f1 = _of_words(f1_of)
