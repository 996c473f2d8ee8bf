"""Checks which kinds of request an endpoint answers, and whether it answers the kinds that a config needs."""

from runner.check.check import check_endpoint
from runner.check.report import CheckReport, Finding

__all__ = ["CheckReport", "Finding", "check_endpoint"]
