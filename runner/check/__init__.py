"""Which kinds of request an endpoint answers, and whether those are among them that a config needs."""

from runner.check.check import check_endpoint
from runner.check.report import CheckReport, Finding

__all__ = ["CheckReport", "Finding", "check_endpoint"]
