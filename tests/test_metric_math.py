"""`math` says whether an answer is mathematically the same as the reference; no expression makes it compute for ever."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runner.config.loading import load_config
from runner.errors import ConfigError, RowError
from runner.processes.pool import ProcessPool
from runner.tasks.metrics import METRICS
from runner.tasks.metrics.base import Settings
from tests.test_metric import refused

RIGHT = [
    ("x^2 + 2x + 1", "(x+1)^2"),
    (r"The answer is $\frac{1}{2}$.", 0.5),
    (r"So $x = 3$, and then \boxed{\frac{1}{2}}", "1/2"),
    (r"\boxed{\{2, 1\}}", r"\{1, 2\}"),
    ("[0,1)", r"$[0, 1)$"),
    ("x = 5", "5"),
    (r"The answer is 3\pi.", r"3\pi"),
    ("**Answer:** 3/4", ["1", "0.75"]),
    ("So she has 7 apples.", 7),
    (r"\boxed{\text{Eve}}", r"\text{Eve}"),
    (r"\boxed{Eve}", r"\text{Eve}"),
    (r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"\boxed{\$1,500}", r"\$1,\!500"),
    ("10,000", 10000),
    (r"\boxed{\text{May 12}}", r"\text{May 12}"),
    (r"$-2 \leq y \leq 4$", r"-2 \leq y\leq 4"),
    ("So $y = 6$.\n\n**Check:** $2(6) + 3 = 15$ ✓", "6"),
    ("Let me check: $2(6) + 3 = 15$. The answer is $6$.", "6"),
    (r"Let me verify the sum. It is \boxed{6}", "6"),
]
WRONG = [
    ("x^2 + 2x + 2", "(x+1)^2"),
    (r"\frac{1}{3}", "1/2"),
    ("[0,1]", "[0,1)"),
    (r"\boxed{1} or 5", "5"),
    (r"\boxed{5", "5"),
    ("I do not know", "5"),
    ("", "5"),
    (None, "5"),
    ("x = 5", "y = 5"),
    (r"\boxed{\text{May 21}}", r"\text{May 12}"),
    ("So $y = 5$.\n\nCheck: $2(5) + 3 = 13$.\n\nSo $y = 6$.", "5"),
    (r"\boxed{\text{Bob}}", r"\text{Eve}"),
    (r"\boxed{\begin{pmatrix} 1 \\ 3 \end{pmatrix}}", r"\begin{pmatrix} 2 \\ 3 \end{pmatrix}"),
    (r"$\frac{$", "5"),
]
UNREADABLE = ["Paris", r"\frac{", "four apples", r"\boxed{5", ["1", "Paris"]]
#: The module; the package calls the metric itself `math`.
MODULE = sys.modules["runner.tasks.metrics.math"]
HOSTILE = "$9^{9^{9^{9}}}$"


async def judged_by(pool: ProcessPool, candidate: object, reference: object) -> tuple[float, str | None]:
    found = await METRICS["math"].judge(candidate, reference, Settings(), pool)
    assert found.value is not None
    return found.value, found.output


@pytest.mark.long
async def test_an_answer_is_the_same_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """One test, for each process loads the library for some seconds."""
    pytest.importorskip("math_verify")
    pool = ProcessPool(processes=1)
    try:
        for pairs, value in ((RIGHT, 1.0), (WRONG, 0.0)):
            assert [pair for pair in pairs if (await judged_by(pool, *pair))[0] != value] == []
        assert await judged_by(pool, r"Thus $\frac12$.", 0.5) == (1.0, r"\frac{1}{2}")
        assert await judged_by(pool, "none", 5) == (0.0, None)
        for reference in UNREADABLE:
            with pytest.raises(RowError, match="cannot be read as mathematics"):
                await judged_by(pool, "5", reference)
        monkeypatch.setattr(MODULE, "_SECONDS", 0.2)
        assert await judged_by(pool, HOSTILE, 5) == (0.0, "not decided: it takes more than 0.2 s")
    finally:
        await pool.close()


@pytest.fixture
def _no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "find_spec", lambda _name: None)


CONFIG = """\
dataset: {{path: data.jsonl}}
endpoint: {{base_url: "http://127.0.0.1:9"}}
tasks:
  - task_type: metric
    configuration: {{type: {kind}, candidate: "5", reference: item.a}}
"""


@pytest.mark.usefixtures("_no_library")
def test_a_library_that_is_missing_is_a_mistake_of_the_config(tmp_path: Path) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text(CONFIG.format(kind="math"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"needs the library math-verify: pip install 'batch-eval-runner\[math\]'"):
        load_config(file)


@pytest.mark.usefixtures("_no_library")
async def test_where_rows_ask_for_it_a_library_that_is_missing_is_their_error() -> None:
    message = await refused({"candidate": "5", "reference": "5", "kind": "math"}, type="item.kind")
    assert message.endswith("math needs the library math-verify: pip install 'batch-eval-runner[math]'")
