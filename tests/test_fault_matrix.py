"""The table of faults, the tests and the matrix that they come from agree."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.matrix import MATRIX, name_of_test
from tests.misbehaving import FAULTS, Misbehaving
from tests.shared import SHARED, needs_shared


def _names_of_tests() -> Iterator[str]:
    for path in sorted(Path(__file__).parent.glob("test_faults_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_fault_"):
                yield node.name


def test_every_row_of_the_table_is_one_test() -> None:
    found = Counter(_names_of_tests())
    assert found == Counter(name_of_test(number) for number in MATRIX)


@needs_shared
def test_the_table_has_every_row_of_the_matrix() -> None:
    text = (SHARED / "faults.md").read_text(encoding="utf-8")
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} <= set(MATRIX)


def test_every_fault_of_the_endpoint_is_tried() -> None:
    """A fault that no test names is one that nobody knows to work."""
    texts = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_faults_*.py"))
    assert [name for name in FAULTS if not re.search(rf"[\"']{re.escape(name)}[\"':@]", texts)] == []


def test_an_unknown_fault_is_no_answer() -> None:
    with Misbehaving() as endpoint:
        assert endpoint.at("no-such").endswith("/no-such/v1")
        assert "no-such" not in FAULTS
