"""The types of metric, each a function from candidate, reference and settings to a value.

A metric is 1.0 for a right candidate and 0.0 for a wrong one. A missing or malformed answer is wrong, not an error; a
reference that makes no sense for the metric is an error of that row, for then nobody can say what is right. A new metric is
one function, listed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from runner.tasks.metrics.base import Metric
from runner.tasks.metrics.choice import choice
from runner.tasks.metrics.json_schema import check_schema, json_schema
from runner.tasks.metrics.math import math, missing
from runner.tasks.metrics.numeric import numeric
from runner.tasks.metrics.text import contains, exact_match, regex
from runner.tasks.metrics.tool_calls import check_calls, tool_call_match

__all__ = ["CHECKS", "METRICS", "MISSING", "MetricType"]

MetricType = Literal["exact_match", "contains", "regex", "numeric", "choice", "tool_call_match", "json_schema", "math"]

METRICS: Mapping[str, Metric] = {
    "exact_match": exact_match,
    "contains": contains,
    "regex": regex,
    "numeric": numeric,
    "choice": choice,
    "tool_call_match": tool_call_match,
    "json_schema": json_schema,
    "math": math,
}

#: What looks at a reference before anything is sent, where it is the same for all rows. Raises RowError.
CHECKS: Mapping[str, Callable[[Any], None]] = {"tool_call_match": check_calls, "json_schema": check_schema}

#: What says which library a metric needs that is not installed.
MISSING: Mapping[str, Callable[[], str | None]] = {"math": missing}
