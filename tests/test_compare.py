"""Two runs side by side: what is the same, what changed, what a gate makes of it, and what is written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from runner.analysis.figures import Figure, Pair, estimate, paired, unpaired
from runner.analysis.gates import Outcome, decide, parse_gate
from runner.cli.main import main
from runner.errors import UsageError
from runner.evaluation import prepare
from tests.browser import Page, browse, needs_a_browser
from tests.commands import ask, metric
from tests.records import opening, result, write_segment
from tests.serving import Served, chat_answer
from tests.statistics_adapter import mean_of

ROWS = 60
RIGHT = metric(reference="right {{item.n}}")
KNOWN = [
    ("correct", None, None),
    ("correct", "physics", None),
    ("correct", "[é] ", None),
    ("correct", "a] >= 1", None),
    ("correct", None, "pass@4"),
    ("correct", None, "pass^4"),
    ("latency", None, None),
    ("latency", None, "p90"),
    ("error_rate", None, None),
    ("a.b-c", None, None),
]


# --- gates ---


@pytest.mark.parametrize(
    ("text", "subject", "is_own", "bound"),
    [
        ("correct >= -0.01", ("correct", None, None), False, -0.01),
        ("correct>=-1e-2", ("correct", None, None), False, -0.01),
        ("correct[physics] > -0.05", ("correct", "physics", None), False, -0.05),
        ("latency.p90 <= +20%", ("latency", None, "p90"), False, 0.2),
        ("B.correct >= 0.8", ("correct", None, None), True, 0.8),
        ("correct.pass@4 >= 0", ("correct", None, "pass@4"), False, 0.0),
        ("correct.pass^4 < 0 by estimate", ("correct", None, "pass^4"), False, 0.0),
        ("latency.mean <= 5 %", ("latency", None, None), False, 0.05),
        ("a.b-c >= 0", ("a.b-c", None, None), False, 0.0),
        ("correct[[é] ] >= 0", ("correct", "[é] ", None), False, 0.0),
        ("correct[a] >= 1] >= 0", ("correct", "a] >= 1", None), False, 0.0),
    ],
)
def test_a_gate_is_read(text: str, subject: tuple[str, str | None, str | None], is_own: bool, bound: float) -> None:
    gate = parse_gate(text, KNOWN)
    assert (gate.subject, gate.is_own) == (subject, is_own)
    assert gate.bound == pytest.approx(bound)
    assert gate.by_estimate is ("by estimate" in text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corect >= 0", "have no 'corect'; did you mean 'correct'"),
        ("correct[chemistry] >= 0", r"have no 'correct\[chemistry\]'; did you mean 'correct\[physics\]'"),
        ("zzz >= 0", "have no 'zzz'; there is: .*correct, .*latency"),
        ("correct", "cannot be read; write it as"),
        ("correct = 0", "cannot be read"),
        ("correct >= much", "cannot be read"),
        ("B.correct >= 5%", "a percentage is relative to A"),
        ("", "cannot be read"),
    ],
)
def test_a_gate_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_gate(text, KNOWN)


def figure(interval: tuple[float, float] | None, **more: Any) -> Figure:
    given = {"a": 0.5, "b": 0.5, "own_b": 0.5, "difference": 0.0, "pairs": 240, "higher": 3, "lower": 3, "stderr": 0.02}
    return Figure(interval=interval, **(given | more))


@pytest.mark.parametrize(
    ("text", "found", "outcome", "reason"),
    [
        ("correct >= -0.01", figure((-0.005, 0.03)), Outcome.HOLDS, "lower end -0.0050"),
        ("correct >= -0.01", figure((-0.05, -0.02)), Outcome.BROKEN, "-0.0500 to -0.0200"),
        ("correct >= -0.01", figure((-0.05, 0.02)), Outcome.CANNOT_TELL, "needs about 7,535 items"),
        ("correct <= 0.01", figure((-0.05, 0.005)), Outcome.HOLDS, "upper end +0.0050"),
        ("correct >= -0.01", figure((-0.05, 0.02), higher=0, lower=0), Outcome.HOLDS, "no item changed"),
        ("correct >= 0.01", figure((-0.05, 0.02), higher=0, lower=0), Outcome.CANNOT_TELL, "-0.0500 to +0.0200"),
        ("correct >= -0.01", figure(None), Outcome.CANNOT_TELL, "too few items"),
        ("correct >= -0.01 by estimate", figure((-0.05, 0.02)), Outcome.HOLDS, "+0.0000 by estimate"),
        ("B.correct >= 0.4", figure(None, interval_b=(0.41, 0.6)), Outcome.HOLDS, "lower end 0.4100"),
        ("latency <= +10%", figure((0.01, 0.02)), Outcome.HOLDS, "upper end +4.0%"),
        ("latency.p90 <= +10%", estimate(1.0, 1.2), Outcome.BROKEN, "+20.0% by estimate"),
        ("correct >= -10%", figure((-0.3, -0.2), a=-1.0, difference=-0.25), Outcome.BROKEN, "-30.0% to -20.0%"),
        ("latency.p90 <= +10%", estimate(0.0, 1.2), Outcome.CANNOT_TELL, "A's value is 0, so there is no percentage of it"),
        ("latency.p90 <= +10%", estimate(0.0, 0.0), Outcome.HOLDS, "+0.0% by estimate"),
        ("latency.p90 <= +10%", estimate(None, 1.2), Outcome.CANNOT_TELL, "A has no value"),
        ("latency.p90 <= 1", estimate(1.2, None), Outcome.CANNOT_TELL, "B has no value"),
        ("latency.p90 <= 1", estimate(None, None), Outcome.CANNOT_TELL, "A and B have no value"),
        ("B.latency.p90 <= 1", estimate(1.2, None), Outcome.CANNOT_TELL, "there is no value"),
        ("error_rate <= +10%", figure((0.0, 0.0), a=0.0, higher=0, lower=0), Outcome.HOLDS, "no item changed"),
        ("correct >= 0", Figure(a=None, b=None, difference=None), Outcome.CANNOT_TELL, "no item has a value on both sides"),
        # A bound is kept where only rounding sets a value apart from it, and one that is broken does not look like it.
        ("latency.p90 <= 0.2", estimate(0.1, 0.3), Outcome.HOLDS, "+0.2000 by estimate"),
        ("latency.p90 < 0.2", estimate(0.3, 0.5), Outcome.BROKEN, "+0.2000 by estimate"),
        ("latency.p90 <= +10%", estimate(1.0, 1.1), Outcome.HOLDS, "+10.0% by estimate"),
        ("latency.p90 > +10%", estimate(1.0, 1.1), Outcome.BROKEN, "+10.0% by estimate"),
        ("latency.p90 <= +10%", estimate(1.0, 1.1004), Outcome.BROKEN, "+10.04% by estimate"),
        ("B.latency.p90 <= 1.1", estimate(1.0, 1.10002), Outcome.BROKEN, "1.10002 by estimate"),
    ],
)
def test_what_becomes_of_a_gate(text: str, found: Figure, outcome: Outcome, reason: str) -> None:
    decision = decide(parse_gate(text, KNOWN), found)
    assert decision.outcome is outcome
    assert reason in decision.reason


def test_too_few_pairs_leave_every_difference_untold() -> None:
    found = figure((0.1, 0.2), interval_b=(0.5, 0.6))
    assert decide(parse_gate("correct >= 0", KNOWN), found, doubt="only 3").outcome is Outcome.CANNOT_TELL
    assert decide(parse_gate("B.correct >= 0.4", KNOWN), found, doubt="only 3").outcome is Outcome.HOLDS


# --- figures ---


def pairs_of(*values: tuple[float, float], samples: int = 1) -> list[Pair]:
    return [Pair(a, b, (samples, samples), index) for index, (a, b) in enumerate(values)]


@pytest.mark.parametrize("less_is_better", [False, True])
@pytest.mark.parametrize(
    ("won", "lost", "outcome"),
    [(20, 4, "better"), (4, 20, "worse"), (5, 0, "cannot tell"), (0, 0, "unchanged"), (10, 12, "cannot tell")],
)
def test_single_answers_are_judged_by_mcnemars_test(won: int, lost: int, outcome: str, *, less_is_better: bool) -> None:
    pairs = pairs_of(*[(0.0, 1.0)] * won, *[(1.0, 0.0)] * lost, *[(1.0, 1.0)] * (240 - won - lost))
    found = paired(pairs, by_cluster=False, less_is_better=less_is_better)
    found.p_adjusted = found.p
    assert found.test == "McNemar, exact"
    expected = {"better": "worse", "worse": "better"}.get(outcome, outcome) if less_is_better else outcome
    assert found.outcome(0.05) == expected


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60))
def test_samples_are_judged_by_sign_flips(counts: list[tuple[int, int]]) -> None:
    found = paired(pairs_of(*((a / 4, b / 4) for a, b in counts), samples=4), by_cluster=False)
    assert found.test == "sign flips, exact"
    assert found.difference == pytest.approx(sum(b - a for a, b in counts) / 4 / len(counts))
    assert found.p is not None
    assert 0 < found.p <= 1


def test_other_values_of_many_items_are_judged_by_students_t() -> None:
    found = paired(pairs_of(*((math.sin(n), math.sin(n) + 0.1 + math.cos(n) / 9) for n in range(50))), by_cluster=False)
    assert found.test == "Student's t"
    assert found.p is not None
    assert found.p < 1e-9


def test_items_of_one_cluster_are_no_evidence_of_their_own() -> None:
    values = [(0.0, 1.0)] * 12
    alone = paired(pairs_of(*values), by_cluster=False)
    together = paired([Pair(a, b, (1, 1), n // 6) for n, (a, b) in enumerate(values)], by_cluster=True)
    assert alone.p == pytest.approx(2**-11)
    assert together.p == pytest.approx(0.5)


def test_runs_without_a_common_item_are_compared_unpaired() -> None:
    found = unpaired(mean_of([0.0, 1.0, 1.0]), mean_of([1.0, 1.0, 1.0, 0.0]))
    assert not found.is_paired
    assert found.test == "Welch, unpaired"


# --- runs ---


class Model:
    """Answers each question right, but for those that a test names."""

    def __init__(self) -> None:
        self.is_right: Callable[[int], bool] = lambda _: True
        self.fails: Callable[[int], bool] = lambda _: False

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        number = int(body["messages"][-1]["content"])
        if self.fails(number):
            return web.json_response({"error": {"message": "too long"}}, status=400)
        return web.json_response(chat_answer(f"right {number}" if self.is_right(number) else "wrong | `@all` \x1b[2J"))


class Runs:
    """Evaluations against a model that changes, in a directory of their own."""

    def __init__(self, model: Model, url: str, directory: Path) -> None:
        self.model, self.url, self.directory = model, url, directory

    def run(self, rows: range = range(ROWS), *, samples: int = 1, shift: int = 0, name: str = "suite", **more: Any) -> str:
        """Run, and return the run's directory."""
        data = [{"id": f"row-{n}", "n": n, "kind": f"k{n % 3}", "text": n // 10, "shift": shift * (n < 5)} for n in rows]
        config = {
            "name": name,
            "endpoint": {"base_url": self.url},
            "dataset": {"data": data, "id": "id"},
            "tasks": [ask(content="{{item.n}}", samples=samples), RIGHT],
            "limits": {"concurrency": 16, "fail_on_error": 1.0, "max_error_rate": 1.0},
            "output": str(self.directory / "results"),
        } | more
        return str(prepare(config, environment={}).run().run)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture
def runs(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: Served) -> Runs:
    monkeypatch.chdir(tmp_path)
    model.is_right, model.fails = lambda _: True, lambda _: False
    return Runs(model, served.url, tmp_path)


@pytest.fixture(scope="module")
def served(model: Model) -> Any:
    with Served(model.answer) as server:
        yield server


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, dict[str, Any]]:
    """Compare; return the exit code, what was printed, and the document of the first comparison."""
    code = main(["compare", *words, "-o", "found.json"])
    return code, capsys.readouterr().out, json.loads(Path("found.json").read_text())["comparisons"][0]


def metric_of(document: dict[str, Any], group: str | None = None, stat: str | None = None) -> dict[str, Any]:
    (found,) = (one for one in document["figures"] if (one["name"], one["group"], one["stat"]) == ("correct", group, stat))
    return dict(found)


def test_a_run_against_itself_has_not_changed(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs.run()
    code, text, document = said(capsys, run, run, "--gate", "correct >= -0.001", "--gate", "error_rate <= 0")
    assert code == 0
    assert metric_of(document)["outcome"] == "unchanged"
    assert [gate["reason"] for gate in document["gates"]] == ["no item changed"] * 2
    assert "60 of 60 compared" in text
    assert document["flips"] == []


@pytest.mark.long
def test_a_worse_run_breaks_a_gate_and_its_flips_are_told(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    before = runs.run()
    runs.model.is_right = lambda n: n >= 20
    now = runs.run()
    code, text, document = said(capsys, before, now, "--gate", "correct >= -0.05", "-o", "found.md", "-o", "found.junit.xml")
    assert code == 1
    found = metric_of(document)
    assert (found["outcome"], found["higher"], found["lower"]) == ("worse", 0, 20)
    assert found["difference"] == pytest.approx(-1 / 3)
    assert len(document["flips"]) == 20
    assert document["flips"][0]["output_a"].startswith("right ")
    assert "\x1b" not in text
    markdown = Path("found.md").read_text(encoding="utf-8")
    assert markdown.startswith("> [!CAUTION]")
    assert "`wrong ¦ 'All" not in markdown
    assert "@all" not in markdown
    suite = ET.parse("found.junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert suite[0][0].get("type") == "broken"


@pytest.mark.long
def test_what_cannot_be_told_has_a_code_of_its_own(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    before = runs.run()
    runs.model.is_right = lambda n: n != 7
    now = runs.run()
    gate = ["--gate", "correct >= -0.01"]
    code, text, _ = said(capsys, before, now, *gate)
    assert code == 4
    assert "cannot tell" in text
    assert "needs about" in text
    assert main(["compare", before, now, *gate, "--cannot-tell", "pass", "-o", "a.junit.xml"]) == 0
    assert ET.parse("a.junit.xml").getroot()[0].get("skipped") == "1"


def test_a_mistyped_gate_is_refused_before_anything_is_printed(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs.run()
    assert main(["compare", run, run, "--gate", "corect >= 0"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "did you mean 'correct'" in captured.err


@pytest.mark.long
def test_items_that_only_one_has_or_whose_row_changed_are_named(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    before = runs.run(range(ROWS))
    now = runs.run(range(3, ROWS + 2), shift=1)
    _, text, document = said(capsys, before, now)
    assert document["items"]["only_a"] == ["row-0", "row-1", "row-2"]
    assert document["items"]["only_b"] == [f"row-{ROWS}", f"row-{ROWS + 1}"]
    assert document["items"]["changed"] == ["row-3", "row-4"]
    assert document["items"]["compared"] == ROWS - 5
    assert "changed: row-3, row-4" in text
    assert said(capsys, before, now, "--changed-items", "keep")[2]["items"]["compared"] == ROWS - 3


@pytest.mark.long
def test_nothing_in_common_is_unpaired_and_no_gate_can_be_told(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    before, now = runs.run(range(30)), runs.run(range(30, 60))
    gates = ["--gate", "correct >= -0.5", "--gate", "error_rate <= 0.5", "--gate", "B.correct >= 0.5"]
    code, text, document = said(capsys, before, now, *gates)
    assert code == 4
    assert [gate["outcome"] for gate in document["gates"]] == ["cannot tell", "cannot tell", "holds"]
    assert metric_of(document)["test"] == "Welch, unpaired"
    assert "unpaired: no item in common" in text
    runs.model.is_right = lambda n: n % 3 == 1
    of_kinds = said(capsys, before, runs.run(range(60, 90)), "--by", "item.kind")[2]
    assert [(metric_of(of_kinds, kind)["a"], metric_of(of_kinds, kind)["b"]) for kind in ("k0", "k1")] == [(1, 0), (1, 1)]


@pytest.mark.long
def test_errors_on_one_side_leave_the_pair_and_too_many_leave_nothing_to_tell(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    before = runs.run()
    runs.model.fails = lambda n: n < 2
    few = runs.run()
    code, _, document = said(capsys, before, few, "--gate", "correct >= -0.5", "--gate", "error_rate <= 0.2")
    assert (code, metric_of(document)["pairs"]) == (0, ROWS - 2)
    runs.model.fails = lambda n: n % 2 == 1
    code, text, _ = said(capsys, before, runs.run(), "--gate", "correct >= -0.5")
    assert code == 4
    assert "only 30 of 60 items have a value on both sides" in text


@pytest.mark.long
def test_items_that_only_one_run_has_are_no_pairs(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was stopped after three items says nothing of the others."""
    before, now = runs.run(), runs.run(range(3))
    for words in ([before, now], [now, before]):
        assert said(capsys, *words, "--gate", "correct >= 0")[0] == 4
        assert said(capsys, *words, "--gate", "correct >= 0", "--min-pairs", "0.05")[0] == 0
    assert "only 3 of 60 items have a value on both sides" in said(capsys, before, now, "--gate", "correct >= 0")[1]


@pytest.mark.long
def test_a_sum_over_fewer_answers_is_not_known_to_be_smaller(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    before, part = runs.run(), runs.run(range(3))
    runs.model.fails = lambda n: n % 2 == 1
    for now, answered in ((part, 3), (runs.run(), 30)):
        gates = ["tokens.prompt <= 0", "tokens.completion <= 0", "tokens.total <= 0", "wall <= 100", "cost <= 0"]
        _, _, document = said(capsys, before, now, *(word for gate in gates for word in ("--gate", gate)))
        reason = f"only {answered} of 60 items are answered on both sides (--min-pairs 0.95)"
        assert [(one["outcome"], one["reason"]) for one in document["gates"]] == [("cannot tell", reason)] * len(gates)
        for told in (
            ["tokens.total <= 0 by estimate"],
            ["B.tokens.total <= 1000"],
            ["tokens.total <= 0", "--min-pairs", "0.05"],
        ):
            assert said(capsys, before, now, "--gate", *told)[0] == 0, told


@pytest.mark.long
def test_the_value_of_b_is_that_of_its_report(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs.model.fails = lambda n: n % 3 == 0
    before = runs.run()
    runs.model.fails, runs.model.is_right = lambda n: n == 55, lambda n: n % 7 > 0
    now = runs.run(samples=2, analysis={"by": ["item.kind"]})
    gates = ["--gate", "B.correct >= 0.8 by estimate", "--gate", "B.error_rate <= 0.1", "--gate", "B.correct[k1] >= 0.9"]
    document = said(capsys, before, now, *gates, "--by", "item.kind")[2]
    of_report = [word.replace("B.", "") for word in gates]
    assert main(["report", now, "-o", "r.json", *of_report]) in {0, 1, 4}
    report = json.loads(Path("r.json").read_text())
    metric = report["totals"]["metrics"]["correct"]
    assert (metric_of(document)["own_b"], metric_of(document)["interval_b"]) == (metric["mean"], metric["ci95"])
    assert metric_of(document, "k1")["interval_b"] == metric["groups"]["item.kind"]["k1"]["ci95"]
    assert metric_of(document, None, "pass@2")["interval_b"] == metric["reduced"]["pass@2"]["ci95"]
    assert [gate["outcome"] for gate in document["gates"]] == [gate["outcome"] for gate in report["gates"]]
    assert [gate["reason"] for gate in document["gates"]] == [gate["reason"] for gate in report["gates"]]


@pytest.mark.long
def test_unequal_samples_groups_and_reducers(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    before = runs.run(samples=2)
    runs.model.is_right = lambda n: n % 3 != 0
    now = runs.run(samples=3)
    code, _, document = said(
        capsys, before, now, "--by", "item.kind", "--gate", "correct[k1] >= -0.1", "--gate", "correct.pass@3 >= -1"
    )
    assert metric_of(document, "k0")["difference"] == -1
    assert metric_of(document, "k1")["outcome"] == "unchanged"
    assert code == 4, "of two samples nobody knows pass@3"
    assert said(capsys, now, now, "--cluster", "item.text")[0] == 0


@pytest.mark.long
def test_a_smaller_value_is_better_where_the_config_says_so(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    before = runs.run()
    runs.model.is_right = lambda n: n >= 20
    tasks = [ask(content="{{item.n}}"), RIGHT | {"better": "lower"}]
    assert metric_of(said(capsys, before, runs.run(tasks=tasks))[2])["outcome"] == "better"


@pytest.mark.long
def test_p_is_adjusted_for_how_many_metrics_and_groups_there_are(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [ask(content="{{item.n}}"), RIGHT, RIGHT | {"alias": "again"}]
    before = runs.run(tasks=tasks)
    runs.model.is_right = lambda n: n >= 9
    _, _, document = said(capsys, before, runs.run(tasks=tasks), "--by", "item.kind")
    correct = metric_of(document)
    assert correct["p_adjusted"] == pytest.approx(2 * correct["p"]), "Holm, of two that are alike"
    group = metric_of(document, "k1")
    assert group["p_adjusted"] == pytest.approx(group["p"]), "Benjamini and Hochberg, of three that are alike"


def test_a_metric_without_an_alias_has_its_settings_too(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    def tasks(reference: str) -> list[Any]:
        compared = RIGHT["configuration"] | {"reference": reference}
        return [ask(content="{{item.n}}"), {"task_type": "metric", "better": "lower", "configuration": compared}]

    before = runs.run(tasks=tasks("right {{item.n}}"))
    _, text, document = said(capsys, before, runs.run(tasks=tasks("wrong {{item.n}}")))
    (figure,) = (one for one in document["figures"] if one["name"] == "exact_match")
    assert figure["outcome"] == "better"
    assert document["other_metrics"] == ["exact_match"]
    assert "`exact_match` has another configuration in B" in text


@pytest.mark.long
def test_gates_of_the_config_and_of_a_file(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs.run(analysis={"gates": ["B.correct >= 0.99"]})
    code, text, _ = said(capsys, run, run)
    assert code == 4
    assert "B.correct >= 0.99" in text
    Path("gates.yaml").write_text("- correct >= 0\n- B.correct >= 0.5\n")
    assert said(capsys, run, run, "--gates", "gates.yaml")[0] == 0
    mistyped = runs.run(range(3), name="other", analysis={"gates": ["corect >= 0"]})
    assert main(["compare", run, mistyped]) == 2
    assert f"{mistyped}/config.yaml: analysis.gates: gate 'corect >= 0': both runs have no 'corect'" in capsys.readouterr().err
    Path("gates.yaml").write_text("correct: 0\n")
    assert main(["compare", run, run, "--gates", "gates.yaml"]) == 2


@pytest.mark.long
def test_a_gate_on_the_cost(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    cheap, dear, unpriced = (
        runs.run(prices=prices) for prices in ({"m": {"input": 1, "output": 1}}, {"m": {"input": 1, "output": 2}}, {})
    )
    for now, code, reason in (
        (cheap, 0, "+0.0% by estimate"),
        (dear, 1, "+40.0% by estimate"),
        (unpriced, 4, "B has no value"),
    ):
        found, _, document = said(capsys, cheap, now, "--gate", "cost <= +10%")
        assert (found, document["gates"][0]["reason"]) == (code, reason)


@pytest.mark.long
def test_runs_by_name(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = runs.run(), runs.run()
    assert main(["baseline", "suite~1"]) == 0
    assert Path("results/suite/baseline").resolve() == Path(first)
    for words in (["suite~1", "suite"], ["suite@baseline", "suite"], ["suite@baseline", second], ["suite~1", "results/suite"]):
        document = said(capsys, *words)[2]
        assert (Path(document["a"]).resolve(), Path(document["b"]).resolve()) == (Path(first), Path(second))


def written(directory: Path, values: list[float], status: str | None = "completed") -> str:
    """Write a run whose metric has found these values, and return its directory."""
    directory.mkdir(parents=True)
    ends = [result(n, "correct", task_type="metric", request=None, value=value) for n, value in enumerate(values)]
    write_segment(directory / "journal", [opening([("correct", 1)], run_id=directory.name), *ends])
    tasks = [{"task_type": "metric", "alias": "correct", "configuration": {"type": "exact_match"}}]
    (directory / "config.yaml").write_text(json.dumps({"name": "suite", "tasks": tasks}))
    (directory / "evaluation.json").write_text(json.dumps({"status": status}))
    return str(directory)


def test_a_run_that_has_not_finished_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = written(tmp_path / "20261121T021500Z-0001", [1.0] * 9)
    part = written(tmp_path / "20261121T021500Z-0002", [1.0] * 8, "failed")
    nothing = written(tmp_path / "20261121T021500Z-0003", [], None)
    assert main(["compare", whole, part]) == 0
    printed = capsys.readouterr().out
    assert "B has not finished" in printed
    assert "A has not finished" not in printed
    for words in (["compare", whole, nothing], ["compare", nothing, nothing], ["report", nothing, "-o", f"{tmp_path}/r.md"]):
        assert main([*words, "--gate", "correct >= 0.5"]) == 4


def test_comparisons_are_told_apart_in_markdown(tmp_path: Path) -> None:
    """An indented line behind a list would be a part of its last point."""
    runs = [written(tmp_path / f"20261121T021500Z-000{n}", [float(n > place) for place in range(4)]) for n in range(3)]
    assert main(["compare", *runs, "-o", f"{tmp_path}/c.md"]) == 0
    text = (tmp_path / "c.md").read_text()
    assert re.findall(r"^(.+)\n\n    A ", text, re.MULTILINE) == [
        f"## `20261121T021500Z-0000` and `20261121T021500Z-000{n}`" for n in (1, 2)
    ]


def test_small_numbers_are_not_said_to_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [written(tmp_path / f"20261121T021500Z-000{n}", [2e-5 * n] * 30) for n in (1, 2)]
    assert main(["compare", *runs]) == 0
    assert re.search(r"^correct +2e-05 +4e-05 +\+2e-05 .* <0\.0001   better", capsys.readouterr().out, re.MULTILINE)


def test_wrong_usage(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs.run(range(3))
    for words, message in [
        (["suite"], "compare needs two runs or more"),
        (["suite", "gone"], "gone: is neither a run directory nor an evaluation in"),
        (["suite~7", "suite"], "suite~7: only 1 of its runs finished so far; name one as"),
        (["suite@baseline", "suite"], "there is no .*baseline; `python -m runner baseline RUN` makes one"),
        (["suite", "suite", "--min-pairs", "95"], "--min-pairs 95: must be a share from 0 to 1"),
        (["suite", "suite", "--alpha", "nan"], "--alpha nan: must be a probability above 0 and below 1"),
        (["suite", "suite", "-o", "x.pdf"], "the ending decides what is written"),
        (["suite", "suite", "-o", "gone/x.md"], "there is no directory"),
    ]:
        assert main(["compare", *words]) == 2
        assert re.search(message, capsys.readouterr().err), words


# --- the page ---


@pytest.mark.long
@needs_a_browser
def test_a_page_shows_both_answers_side_by_side_and_the_words_that_differ(runs: Runs) -> None:
    before = runs.run()
    runs.model.is_right = lambda n: n >= 20
    runs.model.fails = lambda n: n == 59
    now = runs.run()
    assert main(["compare", before, now, "--gate", "correct >= 0", "-o", "found.html"]) == 1
    count = "document.getElementById('count').textContent"

    async def look(page: Page) -> None:
        await page.until(f"{count} === '20 of 20 rows'")
        await page.press("/", "row-13", "Tab", "Enter")
        await page.until(f"{count} === '1 of 20 rows'")
        assert await page.until("document.querySelector('.sides del')?.textContent") == "right"
        assert await page.value("document.querySelector('.sides ins').textContent") == "wrong"
        told = await page.value("document.body.innerText")
        assert "worse (0 won, 20 lost of 59" in told
        assert "if all values that B lacks were 0 or 1" in told
        assert page.said == []
        assert page.requested == []

    browse(Path("found.html"), look)


@pytest.mark.long
def test_values_that_b_lacks_are_told_as_bounds(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    before = runs.run()
    runs.model.is_right = lambda n: n != 1
    runs.model.fails = lambda n: n in {2, 3, 4}
    document = said(capsys, before, runs.run())[2]
    assert metric_of(document)["difference"] == pytest.approx(-1 / 57)
    assert metric_of(document)["bounds"] == pytest.approx([-4 / 60, -1 / 60])
    assert metric_of(said(capsys, before, before)[2])["bounds"] is None
