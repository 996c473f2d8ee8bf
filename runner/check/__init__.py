"""Which kinds of request an endpoint answers, and whether those are among them that a config needs."""

from runner.check.check import check_endpoint
from runner.check.report import Finding, Report

__all__ = ["Finding", "Report", "check_endpoint"]
