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
    untold = ("skipped", {}) if cannot_tell_passes else ("failure", {"type": "cannot-tell"})
    marks = {Outcome.BROKEN: ("failure", {"type": "broken"}), Outcome.CANNOT_TELL: untold}
    root = ET.Element("testsuites", name="runner")
    for suite in suites:
        element = ET.SubElement(root, "testsuite", name=_legal(suite.name), tests=str(len(suite.decisions)))
        for decision in suite.decisions:
            name = {"classname": _legal(suite.evaluation), "name": _legal(decision.gate.text)}
            case = ET.SubElement(element, "testcase", name)
            if decision.outcome in marks:
                mark, kind = marks[decision.outcome]
                ET.SubElement(case, mark, {"message": _legal(decision.reason)} | kind)
        element.set("failures", str(len(element.findall("*/failure"))))
        element.set("skipped", str(len(element.findall("*/skipped"))))
        element.set("errors", "0")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
