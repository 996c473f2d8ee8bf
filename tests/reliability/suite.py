"""All tests, in all their variations, and with many more examples than the test command has time for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.commands import ROOT
from tests.reliability.figures import Measured

__all__ = ["measure_tests"]

#: Examples that Hypothesis draws for a test, and about the seconds that one more for each test takes.
_EXAMPLES, _EXAMPLE_S = 500, 0.4
#: About the seconds that all variations take with few examples.
_VARIATIONS_S = 200


def measure_tests(directory: Path, seconds: float) -> Measured:
    """Run the tests as `tests.variations` has them for the campaign, with as many examples as there is time for."""
    if seconds < _VARIATIONS_S:
        return Measured(f"not measured: that takes {_VARIATIONS_S} s at least", met=None)
    examples = min(_EXAMPLES, 25 + int((seconds - _VARIATIONS_S) / _EXAMPLE_S))
    with (directory / "said").open("w+") as said:
        words = [sys.executable, "-m", "pytest", "-m", "", "--timeout", "900", "-p", "no:cacheprovider"]
        environment = os.environ | {"CAMPAIGN": str(examples)}
        done = subprocess.run(words, cwd=ROOT, env=environment, stdout=said, stderr=said, check=False)
        said.seek(0)
        lines = said.read().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    value = f"{lines[-1] if lines else 'nothing said'}; {examples} examples each{f'; the first: {failed[0]}' if failed else ''}"
    return Measured(value, met=done.returncode == 0)
