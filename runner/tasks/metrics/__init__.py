"""The types of metric, each a function from candidate, reference and settings to a value.

Most return 1.0 for a right candidate and 0.0 for a wrong one. Metrics of similar texts, and of grades, keep their usual scale:
0 to 1, 0 to 100, or the judge's own. A missing or malformed answer is wrong, not an error. A reference that the metric cannot
use is an error of that row, because then no answer can be judged. So is a grade that cannot be read. A new metric is one
function in a file of its own, and a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from runner.tasks.metrics.base import Kind
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

__all__ = ["METRICS", "MetricType"]

METRICS: Mapping[str, Kind] = {
    "exact_match": Kind(exact_match),
    "contains": Kind(contains),
    "regex": Kind(regex, check=check_patterns),
    "numeric": Kind(numeric),
    "math": Kind(math, missing=missing),
    "choice": Kind(choice),
    "set_match": Kind(set_match),
    "squad_exact": Kind(squad_exact),
    "tool_call_match": Kind(tool_call_match, check=check_calls),
    "json_schema": Kind(json_schema, check=check_schema),
    "squad_f1": Kind(squad_f1),
    "cosine_similarity": Kind(cosine_similarity, takes_any_candidate=False),
    **{name: Kind(judge, missing=partial(what_is_missing, name)) for name, judge in SIMILARITIES.items()},
    "score": Kind(score, is_of_grades=True, takes_any_candidate=False),
    "mean": Kind(mean, is_of_grades=True, takes_any_candidate=False),
    "vote": Kind(vote, is_of_grades=True, takes_any_candidate=False),
}
if TYPE_CHECKING:
    MetricType: TypeAlias = str
else:  # pydantic needs the names themselves
    MetricType = Literal[tuple(METRICS)]
