"""Gates as JUnit XML, which CI systems show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET

from runner.analysis.gates import Decision, Outcome

__all__ = ["Suite", "as_junit"]

#: Characters that XML 1.0 does not allow.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Suite(NamedTuple):
    """The decisions about one run, or about one comparison."""

    name: str
    #: The evaluation's name.
    evaluation: str
    decisions: Sequence[Decision]


def as_junit(suites: Sequence[Suite], *, cannot_tell_passes: bool) -> str:
    """Return a test suite for each run or comparison, with a test case for each gate."""
    root = ET.Element("testsuites", name="runner")
    for suite in suites:
        untold = sum(decision.outcome is Outcome.CANNOT_TELL for decision in suite.decisions)
        broken = sum(decision.outcome is Outcome.BROKEN for decision in suite.decisions)
        attributes = {
            "name": _legal(suite.name),
            "tests": str(len(suite.decisions)),
            "failures": str(broken + (0 if cannot_tell_passes else untold)),
            "skipped": str(untold if cannot_tell_passes else 0),
            "errors": "0",
        }
        element = ET.SubElement(root, "testsuite", attributes)
        for decision in suite.decisions:
            name = {"classname": _legal(suite.evaluation), "name": _legal(decision.gate.text)}
            case, said = ET.SubElement(element, "testcase", name), {"message": _legal(decision.reason)}
            if decision.outcome is Outcome.BROKEN:
                ET.SubElement(case, "failure", said | {"type": "broken"})
            elif decision.outcome is Outcome.CANNOT_TELL and cannot_tell_passes:
                ET.SubElement(case, "skipped", said)
            elif decision.outcome is Outcome.CANNOT_TELL:
                ET.SubElement(case, "failure", said | {"type": "cannot-tell"})
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
