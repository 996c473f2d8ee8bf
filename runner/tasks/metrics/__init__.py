"""The types of metric, each a function from candidate, reference and settings to a value.

Most say 1.0 for a right candidate and 0.0 for a wrong one. Those of texts that are more or less alike, and of grades, keep the
scale that they are known by: 0 to 1, 0 to 100, or the judge's own. A missing or malformed answer is wrong, not an error; a
reference that makes no sense for the metric is an error of that row, for then nobody can say what is right, and so is a grade
that cannot be read. A new metric is one function, listed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, get_args

from runner.tasks.metrics.base import Metric
from runner.tasks.metrics.choice import choice
from runner.tasks.metrics.cosine import cosine_similarity
from runner.tasks.metrics.grades import mean, score, vote
from runner.tasks.metrics.json_schema import check_schema, json_schema
from runner.tasks.metrics.math import math, missing
from runner.tasks.metrics.numeric import numeric
from runner.tasks.metrics.sets import set_match
from runner.tasks.metrics.similarity import SIMILARITIES, what_is_missing
from runner.tasks.metrics.squad import squad_exact, squad_f1
from runner.tasks.metrics.text import check_patterns, contains, exact_match, regex
from runner.tasks.metrics.tool_calls import check_calls, tool_call_match

__all__ = ["CHECKS", "METRICS", "MISSING", "OF_GRADES", "MetricType"]

#: 1.0 or 0.0.
_OfText = Literal["exact_match", "contains", "regex", "numeric", "math", "choice", "set_match", "squad_exact"]
_OfForm = Literal["tool_call_match", "json_schema"]
#: How alike two texts are, by the names that Scale's SGP has, and by the field's others.
_AlikeInSgp = Literal["bleu", "rouge1", "rouge2", "rougeL", "meteor", "f1", "cosine_similarity"]
_Alike = Literal["sacrebleu", "chrf", "ter", "squad_f1", "edit_similarity"]
_OfGrades = Literal["score", "mean", "vote"]
MetricType = Literal[_OfText, _OfForm, _AlikeInSgp, _Alike, _OfGrades]

METRICS: Mapping[str, Metric] = {
    "exact_match": exact_match,
    "contains": contains,
    "regex": regex,
    "numeric": numeric,
    "choice": choice,
    "tool_call_match": tool_call_match,
    "json_schema": json_schema,
    "math": math,
    "squad_exact": squad_exact,
    "squad_f1": squad_f1,
    "set_match": set_match,
    "cosine_similarity": cosine_similarity,
    "score": score,
    "mean": mean,
    "vote": vote,
    **SIMILARITIES,
}
if METRICS.keys() != set(get_args(MetricType)):
    raise AssertionError("every type of metric must stand in METRICS")  # pragma: no cover

#: Those that read what judges say: they need no reference.
OF_GRADES: frozenset[str] = frozenset(get_args(_OfGrades))

#: What looks at a reference before anything is sent, where it is the same for all rows. Raises RowError.
CHECKS: Mapping[str, Callable[[Any], None]] = {
    "json_schema": check_schema,
    "regex": check_patterns,
    "tool_call_match": check_calls,
}

#: What says what has to be installed for a metric, or None; nothing is imported for it.
MISSING: Mapping[str, Callable[[], str | None]] = {
    "math": missing,
    **{kind: partial(what_is_missing, kind) for kind in SIMILARITIES},
}
