"""The report of a run: what it says, that it says the same each time, and that nothing breaks out of its page."""

from __future__ import annotations

import base64
import errno
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from aiohttp import web

from runner.analysis.gates import Decision, Outcome, parse_gate
from runner.analysis.junit import Suite, as_junit
from runner.analysis.pages.markdown import as_comment
from runner.analysis.pages.plots import Interval, Line, forest, histogram, lines
from runner.analysis.pages.scales import Scale, bins_of, shown
from runner.analysis.pages.tables import packed
from runner.analysis.report import items
from runner.analysis.report.timeline import Timeline
from runner.cli.main import main
from runner.evaluation import prepare
from tests.browser import Page, browse, needs_a_browser
from tests.commands import ROOT, ask, metric
from tests.serving import Served, chat_answer

RIGHT = metric(reference="right {{item.question}}")
#: What tries to break out of a page: each is a question and an answer of its own.
HOSTILE = (
    "<script>document.title='broken out'</script>",
    "</script><script>document.title='broken out'</script>",
    "<img src=x onerror=\"document.title='broken out'\">",
    "]]><svg onload=document.title='broken-out'>",
    "\u2028\u2029 line separators",
    "a NUL \x00 and \x1b[2J and \x85",
    "\u202eright to left\u202c",
    "{{ 7 * 7 }} {% raw %} ${7*7} #{7*7}",
    "' onmouseover='document.title=1' \" autofocus onfocus=alert(1)",
    "javascript:alert(1) data:text/html,<script>alert(1)</script>",
    "<!-- --> <style>*{display:none}</style> &lt;b&gt;",
)


class Model:
    """Answers each question right, but for those that a test names."""

    def __init__(self) -> None:
        self.answer_of: Callable[[str], str] = lambda question: f"right {question}"
        self.fails: Callable[[str], bool] = lambda _: False
        self.fingerprint_of: Callable[[str], str | None] = lambda _: None

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        question = str(body["messages"][-1]["content"])
        if self.fails(question):
            return web.json_response({"error": {"message": f"no answer to {question}"}}, status=400)
        return web.json_response(chat_answer(self.answer_of(question)) | {"system_fingerprint": self.fingerprint_of(question)})


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def served(model: Model) -> Iterator[Served]:
    with Served(model.answer) as server:
        yield server


Run = Callable[..., Path]


@pytest.fixture
def run(model: Model, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs an evaluation over questions."""
    monkeypatch.chdir(tmp_path)
    model.answer_of, model.fails = lambda question: f"right {question}", lambda _: False
    model.fingerprint_of = lambda _: None

    def run(questions: Sequence[Any], *, samples: int = 1, **more: Any) -> Path:
        rows = [{"id": f"row-{n}", "question": str(one), "kind": f"k{n % 3}"} for n, one in enumerate(questions)]
        config = {
            "name": "suite",
            "description": "What the <b>suite</b> is.",
            "endpoint": {"base_url": served.url},
            "dataset": {"data": rows, "id": "id"},
            "tasks": [ask(samples=samples), RIGHT],
            "analysis": {"by": ["item.kind"]},
            "limits": {"concurrency": 16, "fail_on_error": 1.0, "max_error_rate": 1.0},
        } | more
        return prepare(config, environment={}).run().run

    return run


def reported(*words: str) -> tuple[int, str, dict[str, Any]]:
    """Report; return the exit code, the page and the JSON."""
    code = main(["report", *words, "-o", "r.html", "-o", "r.json"])
    return code, Path("r.html").read_text(encoding="utf-8"), json.loads(Path("r.json").read_text(encoding="utf-8"))


class Outline(HTMLParser):
    """What stands in a page: its headings in order, its tags, and its text outside of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.text = ""
        self._is_code = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._is_code = tag in {"script", "style"}
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag: str) -> None:
        self._is_code = self._is_code and tag not in {"script", "style"}

    def handle_data(self, data: str) -> None:
        self.text += "" if self._is_code else data


def test_a_report_says_what_the_run_found(run: Run, model: Model) -> None:
    model.answer_of = lambda question: "wrong" if int(question) % 4 == 0 else f"right {question}"
    model.fails = lambda question: question in {"7", "9"}
    code, page, document = reported(str(run(range(40))))
    assert code == 0
    metric = document["totals"]["metrics"]["correct"]
    assert (metric["n"], metric["errors"]) == (38, 2)
    text = Outline(page).text
    assert f"{metric['mean']:.4f}" in text
    assert "What the <b>suite</b> is." in text
    assert "no answer to 7" in text
    assert "k1" in text
    assert document["errors"]["request"]["count"] == 2
    assert [group for group in metric["groups"]["item.kind"]] == ["k0", "k1", "k2"]  # noqa: C416


def test_the_same_run_gives_the_same_bytes(run: Run) -> None:
    path = str(run(range(30), samples=4))
    _, first, _ = reported(path)
    _, second, _ = reported(path)
    assert first == second
    assert len(first) < 150_000
    assert "pass@2" in first


def test_a_page_loads_nothing_and_is_in_order(run: Run, model: Model) -> None:
    model.fails = lambda question: question == "3"
    outline = Outline(reported(str(run(range(12))))[1])
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    for tag, attributes in outline.tags:
        assert not {name for name in attributes if name.startswith("on")}, tag
        assert not {"src", "href"} & attributes.keys(), tag
        if tag == "th":
            assert attributes.get("scope") in {"row", "col"}
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    policy = next(attributes["content"] for tag, attributes in outline.tags if attributes.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert "unsafe-inline" not in policy.split("script-src")[1]


@pytest.mark.parametrize(
    ("gate", "code", "outcome"),
    [
        ("correct >= 0.5", 0, "holds"),
        ("correct >= 0.99 by estimate", 1, "broken"),
        ("correct[k0] >= 0.9", 4, "cannot tell"),
        ("error_rate <= 0.2", 0, "holds"),
        ("latency.p50 <= 60", 0, "holds"),
    ],
)
def test_gates_speak_of_the_run_itself(run: Run, model: Model, gate: str, code: int, outcome: str) -> None:
    model.answer_of = lambda question: "wrong" if int(question) % 10 == 0 else f"right {question}"
    path = str(run(range(60)))
    found, page, document = reported(path, "--gate", gate)
    assert found == code
    assert [one["outcome"] for one in document["gates"]] == [outcome]
    assert gate in Outline(page).text
    assert main(["report", path, "--gate", gate, "-o", "r.junit.xml", "--cannot-tell", "pass"]) == code % 4
    suite = ET.parse("r.junit.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("skipped")) == (str(code % 4), str(code // 4))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gate", "corect >= 0"], "the run has no 'corect'; did you mean 'correct'"),
        (["--gate", "correct >= 5%"], "there is no other run here"),
        (["--gate", "correct"], "cannot be read; write it as 'correct >= 0.8'"),
        (["-o", "r.pdf"], "the ending decides what is written; use .html, .md, .json or .junit.xml"),
        (["-o", "nowhere/r.html"], "there is no directory"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_written(
    run: Run, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    path = str(run(range(3)))
    capsys.readouterr()
    assert main(["report", path, *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert not list(Path().glob("*.html"))


def test_the_cost_is_told(run: Run) -> None:
    path = str(run(range(10), prices={"m": {"input": 1.0, "output": 2.0}}))
    code, page, document = reported(path, "--gate", "cost <= 0.00008", "--gate", "cost <= 0.00001")
    assert code == 1
    assert [gate["outcome"] for gate in document["gates"]] == ["holds", "broken"]
    assert "$0.000070 of 10 answers" in Outline(page).text


def test_a_rescored_run_tells_whose_answers_it_has(run: Run) -> None:
    path = run(range(10))
    assert main(["rescore", str(path), str(path / "config.yaml")]) == 0
    _, page, document = reported("suite")
    assert document["totals"]["cached"] == 10
    text = Outline(page).text
    assert "10 answers reused" in text
    assert f"its answers come from {path.resolve()}" in text
    assert "Latency" not in text


def test_judges_and_skipped_tasks_are_told(run: Run, model: Model) -> None:
    model.answer_of = lambda question: '{"verdict": "Yes"}' if question.startswith("judge 1") else '{"verdict": "No"}'
    judge = {
        "task_type": "auto_evaluation.guided_decoding",
        "alias": "verdict",
        "agree_with": "item.kind",
        "configuration": {
            "model": "m",
            "prompt": "judge {{item.question}}",
            "choices": ["Yes", "No"],
            "run_condition": {
                "op": "ne",
                "left": {"op": "var", "path": "item.question"},
                "right": {"op": "const", "value": "5"},
            },
        },
    }
    code, page, document = reported(str(run(range(20), tasks=[judge], analysis={})), "--gate", "skipped <= 0.3")
    assert code == 0
    assert document["shares"]["skipped"]["mean"] == 0.05
    assert document["totals"]["judges"]["by_task"]["verdict"]["verdicts"] == {"Yes": 11, "No": 8}
    text = Outline(page).text
    assert "Yes 11 · No 8" in text
    assert "item.kind in the rows, verdicts in the columns" in text
    assert "1 skipped" in text
    assert main(["report", "suite", "-o", "r.md"]) == 0
    assert "| `verdict` | Yes 11 · No 8 |" in Path("r.md").read_text(encoding="utf-8")


def test_markdown_is_harmless(run: Run, model: Model) -> None:
    model.fails = lambda _: True
    path = run(["@all | `x` <b>", *HOSTILE])
    assert main(["report", str(path), "-o", "r.md"]) == 0
    text = Path("r.md").read_text(encoding="utf-8")
    assert "@all" not in text
    assert "\x1b" not in text
    assert "errors `request`" in text


def test_a_run_that_has_not_finished_says_so(run: Run) -> None:
    path = run(range(10))
    evaluation = json.loads((path / "evaluation.json").read_text())
    (path / "evaluation.json").write_text(json.dumps(evaluation | {"status": "running"}))
    (segment,) = (path / "journal").glob("*.jsonl")
    text = segment.read_bytes()
    segment.write_bytes(text[: int(len(text) * 0.6)])
    for index in (path / "journal").glob("*.index"):
        index.unlink()
    _, page, document = reported(str(path))
    assert "This run has not finished" in Outline(page).text
    assert 0 < document["totals"]["results"] < 20


@pytest.mark.long
def test_items_all_and_none(run: Run) -> None:
    path = str(run(range(120)))
    assert "120 of 120 rows are in this page, 120 of them with their texts" in re.sub(r"\s+", " ", reported(path)[1])
    none = reported(path, "--items", "none")[1]
    assert 'class="texts"' not in none
    assert ".wide</code>" in none
    assert reported(path, "--items", "all")[1].count('class="texts"') == 2


# --- what is odd ---


def test_a_run_whose_config_is_gone_keeps_its_metrics(run: Run) -> None:
    path = run(range(6))
    (path / "config.yaml").unlink()
    (path / "evaluation.json").unlink()
    _, page, document = reported(str(path))
    assert document["totals"]["metrics"]["correct"]["mean"] == 1
    assert columns_of(page)["values"] == {"correct": [1] * 6}
    assert main(["compare", str(path), str(path)]) == 0


def columns_of(page: str) -> dict[str, Any]:
    found = re.search(r'id="columns">([^<]*)<', page)
    assert found is not None
    columns: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return columns


@pytest.mark.parametrize("alias", ["tokens", "error_rate", "latency"])
def test_a_metric_may_have_the_name_of_a_figure(run: Run, alias: str) -> None:
    path = str(run(range(20), tasks=[ask(), RIGHT | {"alias": alias}]))
    assert main(["report", path, "--gate", f"{alias} >= 0.999 by estimate", "-o", "r.md"]) == 0
    assert main(["compare", path, path, "--gate", f"B.{alias} >= 0.999 by estimate"]) == 0


@pytest.mark.long
def test_many_groups_are_counted_as_others(run: Run) -> None:
    _, page, document = reported(str(run(range(230))), "--by", "item.id")
    names = columns_of(page)["groups"][0]["names"]
    assert len(names) == len(document["totals"]["metrics"]["correct"]["groups"]["item.id"]) == 201
    assert "(others)" in names


def test_shares_take_the_column_of_clusters_too(run: Run, model: Model) -> None:
    model.fails = lambda question: int(question) % 3 == 0
    path = str(run(range(30)))
    alone = reported(path)[2]["shares"]["error_rate"]
    clustered = reported(path, "--cluster", "item.kind")[2]["shares"]["error_rate"]
    assert clustered["mean"] == alone["mean"]
    assert clustered["stderr"] > 2 * alone["stderr"]


@pytest.mark.parametrize("words", [["--by", "kind"], ["--by", ""], ["--by", "item.a,b"], ["--cluster", "kind"]])
def test_what_is_no_column_is_refused(run: Run, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    path = str(run(range(3)))
    for command in (["report", path], ["compare", path, path]):
        assert main([*command, *words]) == 2
        assert "is not a column of the row; write it as item.category" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--by", "item.kind,item.gone"], ["--cluster", "item.gone"]])
def test_a_column_that_no_row_has_is_refused(run: Run, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    path = str(run(range(3)))
    for command in (["report", path], ["compare", path, path]):
        assert main([*command, *words]) == 2
        assert "'item.gone': no row of the run has this column" in capsys.readouterr().err


def test_a_change_of_the_model_is_told_with_its_time(run: Run, model: Model) -> None:
    _, page, _ = reported(str(run(range(4))))
    assert "The model or its fingerprint changed" not in page
    model.fingerprint_of = lambda question: f"fp-{int(question) // 2}"
    _, page, document = reported(str(run(range(4), limits={"concurrency": 1})))
    assert f"The model or its fingerprint changed at {document['served'][1]['first']}" in page


def test_the_same_bytes_from_everywhere(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run(range(5)).resolve()
    _, first, _ = reported(str(path))
    monkeypatch.chdir(path)
    out = path.parent / "elsewhere.html"
    assert main(["report", ".", "-o", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == first


def test_commands_can_be_pasted_wherever_results_lie(run: Run) -> None:
    path = run(range(3), output="my results; echo")
    assert f"runner rescore 'my results; echo/suite/{path.name}' " in Outline(reported(str(path))[1]).text


def test_reporting_leaves_the_run_as_it_is(run: Run) -> None:
    path = run(range(5))
    for index in (path / "journal").glob("*.index"):
        index.unlink()
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    reported(str(path))
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_file_that_cannot_be_written_leaves_nothing_behind(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(run(range(3)))
    Path("r.html").mkdir()
    assert main(["report", path, "-o", "r.html"]) == 2
    assert "r.html: cannot be written" in capsys.readouterr().err
    assert not list(Path().glob(".r.html*"))


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_can_be_read_in_light_and_dark() -> None:
    style = (ROOT / "runner/analysis/pages/style.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)]
    assert len(schemes) == 2
    on_paper = [(ink, paper) for ink in ("ink", "soft", "good", "bad", "doubt", "accent") for paper in ("paper", "shade")]
    for colours in schemes:
        for ink, paper in [*on_paper, ("ink", "gone"), ("ink", "new")]:
            dark, light = sorted((luminance(colours[ink]), luminance(colours[paper])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)


# --- what has a place in the page ---


@pytest.mark.long
def test_errors_and_wrong_answers_come_first_where_not_all_have_a_place(
    run: Run, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.answer_of = lambda question: "wrong" if question in {"150", "151"} else f"right {question}"
    model.fails = lambda question: question in {"190", "199"}
    path = str(run(range(200)))
    monkeypatch.setattr(items, "MOST_LETTERS", 20_000)
    monkeypatch.setattr(items, "_ROWS_IN_A_BLOCK", 5)
    monkeypatch.setattr(items, "_SLOWEST", 0)
    monkeypatch.setattr(items, "_LONGEST", 0)
    columns = columns_of(reported(path)[1])
    texts = {name for name, block in zip(columns["id"], columns["block"], strict=True) if block == 0}
    assert {"row-190", "row-199", "row-150", "row-151"} < texts
    assert -1 in columns_of(reported(path)[1])["block"]
    monkeypatch.setattr(items, "_MOST_ROWS", 4)
    _, page, document = reported(path)
    assert columns_of(page)["id"] == ["row-150", "row-151", "row-190", "row-199"]
    assert "4 of 200 rows are in this page" in page
    assert document["totals"]["metrics"]["correct"]["n"] == 198


def test_the_first_errors_of_a_kind_are_told_and_the_others_counted(run: Run, model: Model) -> None:
    model.fails = lambda question: int(question) >= 5
    _, page, document = reported(str(run(range(30))))
    assert (document["errors"]["request"]["count"], len(document["errors"]["request"]["first"])) == (25, 20)
    assert "and 5 more" in page
    assert document["totals"]["metrics"]["correct"]["bounds"] == [5 / 30, 1.0]
    assert "0.1667 to 1.0000 if all were wrong or right" in page


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings_in(one)


def test_no_character_stands_in_a_page_that_it_has_no_place_for(run: Run, model: Model) -> None:
    model.answer_of = lambda question: question
    model.fails = lambda question: "onerror" in question or "escape" in question
    _, page, _ = reported(str(run([*HOSTILE, "an escape \x1b[2J"], description="a NUL \x00, \x85 and \ufffe")))
    (block,) = re.findall(r'class="texts">([^<]*)<', page)
    for text in (page, *strings_in(json.loads(gzip.decompress(base64.b64decode(block))))):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe]", text)


@pytest.mark.long
def test_long_answers_are_cut_in_the_page(run: Run, model: Model) -> None:
    model.answer_of = lambda _: "x" * 3_000_000
    page = reported(str(run(range(2))))[1]
    (block,) = re.findall(r'class="texts">([^<]*)<', page)
    assert len(gzip.decompress(base64.b64decode(block))) < 200_000
    assert "2,980,000 more characters" in gzip.decompress(base64.b64decode(block)).decode("ascii", "replace")


def test_what_is_packed_has_no_time_in_it() -> None:
    assert base64.b64decode(packed(["x"]))[4:8] == bytes(4)


def test_where_a_smaller_value_is_better_one_is_wrong(run: Run) -> None:
    never = RIGHT["configuration"] | {"reference": "never"}
    tasks = [ask(), {"task_type": "metric", "better": "lower", "configuration": never}]
    assert columns_of(reported(str(run(range(4), tasks=tasks)))[1])["wrong"] == {"exact_match": 1.0}


def test_damage_is_told(run: Run) -> None:
    path = run(range(10))
    (segment,) = (path / "journal").glob("*.jsonl")
    text = bytearray(segment.read_bytes())
    text[-200] ^= 1
    segment.write_bytes(text)
    for index in (path / "journal").glob("*.index"):
        index.unlink()
    assert "1 damaged lines are left out" in reported(str(path))[1]


def test_times_are_drawn_of_runs_that_took_some(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run(range(10), samples=4)
    page = reported(str(path))[1]
    assert "(pass@k)" in page
    assert "Latency of answers" in page
    assert "over the time of the run" not in page
    monkeypatch.setattr("runner.analysis.report.page._SHORTEST_S", 0)
    assert "over the time of the run" in reported(str(path))[1]
    config = path / "config.yaml"
    config.write_text(config.read_text().replace("endpoint:", "endpoint:\n  replay: recordings", 1))
    assert "Latency of" not in reported(str(path))[1]


def test_an_old_file_stays_until_the_new_one_is_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(run(range(3)))
    reported(path)
    old = Path("r.html").read_bytes()

    def fills_the_disk(file: Path, text: str, **_: Any) -> int:
        file.write_bytes(text[:100].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fills_the_disk)
    assert main(["report", path, "-o", "r.html"]) == 2
    assert Path("r.html").read_bytes() == old
    assert not list(Path().glob(".r.html*"))


def test_junit_has_no_characters_that_xml_has_no_place_for() -> None:
    gate = parse_gate("a[b] >= 1", {("a", "b", None)}, of_one_run=True)
    text = as_junit([Suite("s\x00", "e\ud800", [Decision(gate, Outcome.BROKEN, "\x1b \ufffe")])], cannot_tell_passes=False)
    assert ET.fromstring(text)[0].get("name") == "s\ufffd"


def test_comments_are_short_enough() -> None:
    text = as_comment([f"line {n} {'x' * 100}" for n in range(1000)])
    assert 59_000 < len(text) <= 60_000
    assert text.endswith("cut at 60,000 characters\n")


def test_nothing_is_drawn_where_nothing_finished() -> None:
    plot = lines([Line("p50", [(0, 1.0), (1, 2.0), (2, None), (3, 1.0), (4, 2.0)])], said="a gap", unit="s")
    assert plot.count("<polyline") == 2


# --- plots ---


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([], []),
        ([(9.0, 5)], [(n - 0.5, n + 0.5, 5 if n == 9 else 0) for n in range(6, 13)]),
        ([(1.0, 2), (3.0, 1)], [(n - 0.5, n + 0.5, {1: 2, 3: 1}.get(n, 0)) for n in range(6)]),
        ([(0.5, 4)], [(0.495, 0.505, 4)]),
    ],
)
def test_bars(counts: list[tuple[float, int]], expected: list[tuple[float, float, int]]) -> None:
    assert bins_of(counts) == [pytest.approx(bar) for bar in expected]


@pytest.mark.parametrize("counts", [[(0.001 * 1.07**n, n + 1) for n in range(150)], [(0.0, 3), (0.5, 1), (70.0, 2)]])
def test_bars_hold_every_value_once(counts: list[tuple[float, int]]) -> None:
    bars = bins_of(counts)
    assert len(bars) == 40
    assert sum(count for *_, count in bars) == sum(count for _, count in counts)


def test_bars_of_whole_numbers_have_a_place_for_none() -> None:
    bars = bins_of([(0, 3), (1, 1), (5000, 2)])
    assert (bars[0][0], sum(count for *_, count in bars), bars[0][2]) == (0.5, 6, 3)


def test_bars_begin_and_end_where_the_values_do() -> None:
    counts = [(0.001 * 1.07**n, n + 1) for n in range(150)]
    bars = bins_of(counts)
    assert bars[0][0] == pytest.approx(counts[0][0])
    assert bars[-1][1] == pytest.approx(counts[-1][0])


@pytest.mark.parametrize(
    ("scale", "marks"),
    [
        (Scale(0, 1, 0, 100), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Scale(0, 7, 0, 100), [0, 2, 4, 6]),
        (Scale(0.03, 2, 0, 100, is_log=True), [0.05, 0.1, 0.2, 0.5, 1, 2]),
        (Scale(0.001, 1000, 0, 100, is_log=True), [0.001, 0.01, 0.1, 1, 10, 100, 1000]),
    ],
)
def test_marks_are_round(scale: Scale, marks: list[float]) -> None:
    assert scale.marks() == pytest.approx(marks)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (3.0, "3"), (1234567.0, "1,234,567"), (0.12345, "0.1235"), (12345.6, "12,346"), (0.0, "0")]
)
def test_numbers_are_written_as_people_do(value: float | None, text: str) -> None:
    assert shown(value) == text


def plots() -> Iterator[str]:
    for label in HOSTILE:
        yield forest([Interval(label, 0.5, 0.4, 0.6, 10), Interval("x", None, None, None, 0)], said=label, low=0, high=1)
        yield lines([Line(label, [(0, 1.0), (1, None), (2, 3.0), (3, 2.0)])] * 2, said=label, unit="s", pauses=[1.5])
        yield histogram([(0.5, 1.5, 0), (1.5, 2.5, 3)], said=label, unit=label, is_log=False)
    yield lines([Line("none", [(0, 0.0)])], said="one point", unit="s")
    yield forest([Interval("same", 1e9, 1e9, 1e9, 1)], said="no width", low=1e9, high=1e9)


def test_every_plot_is_sound_xml_whatever_its_words() -> None:
    for plot in plots():
        root = ET.fromstring(str(plot).replace('class="plot"', 'xmlns="http://www.w3.org/2000/svg"'))
        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
            *("svg", "g", "title", "text", "line", "rect", "circle", "polyline"),
        }
        assert "nan" not in plot
        assert "inf" not in plot


def test_time_is_the_runs_own(run: Run) -> None:
    timeline = Timeline([(1_000_000, 10.0), (86_401_000_000, 30.0)])
    timeline.add(3_000_000, latency_s=0.5, is_error=False)
    timeline.add(86_411_000_000, latency_s=None, is_error=True)
    timeline.add(1, latency_s=None, is_error=False)
    timeline.add(99_999_000_000, latency_s=None, is_error=False)
    assert timeline.seconds == 40
    assert timeline.width_s == 0.5
    ended = {at: (one.results, one.errors) for at, one in timeline.buckets() if one is not None}
    assert ended == {0.0: (1, 0), 2.0: (1, 0), 20.0: (1, 1), 40.0: (1, 0)}


# --- in a browser ---

ROWS_SHOWN = "document.querySelectorAll('#page > tr').length"
COUNT = "document.getElementById('count').textContent"


@pytest.mark.long
@needs_a_browser
def test_items_are_found_and_opened_by_keyboard_alone(run: Run, model: Model) -> None:
    model.answer_of = lambda question: "wrong" if int(question) % 10 == 0 else f"right {question}"
    reported(str(run(range(130))))

    async def look(page: Page) -> None:
        await page.until(f"{COUNT} === '130 of 130 rows'")
        assert await page.value(ROWS_SHOWN) == 50
        await page.value("document.getElementById('forth').focus()")
        await page.press("Enter", "Enter", "Enter")  # the focus stays where it is on the last page
        assert await page.value("document.getElementById('where-in-pages').textContent") == "page 3 of 3"
        assert await page.value("document.activeElement.id") == "forth"
        await page.press("/", "row-7")
        await page.until(f"{COUNT} === '11 of 130 rows'")
        await page.press("0")
        await page.until(f"{COUNT} === '1 of 130 rows'")
        await page.press("Tab", "Tab", "Tab", "Enter")
        texts = await page.until("document.querySelector('#page td[colspan]')?.textContent")
        assert "question" in texts
        assert "wrong" in texts
        assert await page.value("document.activeElement.getAttribute('aria-expanded')") == "true"
        await page.press("Enter")
        await page.until("document.querySelector('#page td[colspan]') === null")
        assert page.said == []
        assert page.requested == []

    browse(Path("r.html"), look)


@pytest.mark.long
@needs_a_browser
def test_items_are_filtered_and_sorted(run: Run, model: Model) -> None:
    model.answer_of = lambda question: "wrong" if int(question) % 10 == 0 else f"right {question}"
    model.fails = lambda question: question == "13"
    reported(str(run(range(60))))

    def choose(name: str, value: str) -> str:
        place = f"document.querySelector({name!r})"
        return f"{place}.value = {value!r}; {place}.dispatchEvent(new Event('input', {{bubbles: true}})); true"

    async def look(page: Page) -> None:
        await page.until(f"{COUNT} === '60 of 60 rows'")  # before, there is nothing to choose from
        for value, count in (("wrong", 6), ("right", 53), ("error", 1), ("texts", 60), ("all", 60)):
            await page.value(choose("#show", value))
            await page.until(f"{COUNT} === '{count} of 60 rows'")
        await page.value(choose("#groups select", "1"))
        await page.until(f"{COUNT} === '20 of 60 rows'")
        await page.value(choose("#groups select", ""))
        await page.value(choose("#order", "lowest"))
        await page.until("document.querySelector('#page button').textContent === 'row-0'")
        await page.value(choose("#where", "text"))
        await page.value(choose("#words", "NO ANSWER TO 13"))
        await page.until(f"{COUNT} === '1 of 60 rows'")
        assert page.said == []

    browse(Path("r.html"), look)


@pytest.mark.long
@needs_a_browser
def test_nothing_breaks_out_of_the_page(run: Run, model: Model) -> None:
    model.answer_of = lambda question: question
    model.fails = lambda question: "NUL" in question or "RTL" in question or "onerror" in question
    rows = [{"id": text, "question": text, "kind": text} for text in HOSTILE]
    path = run([], dataset={"data": rows, "id": "id"}, description=HOSTILE[1])
    reported(str(path), "--gate", "correct >= 0")

    async def look(page: Page) -> None:
        await page.until(f"{COUNT} === '{len(HOSTILE)} of {len(HOSTILE)} rows'")
        await page.value("document.querySelectorAll('#page button').forEach((button) => button.click()); true")
        await page.until(f"document.querySelectorAll('#page td[colspan] pre').length >= {2 * len(HOSTILE)}")
        await page.value("new Promise((resume) => setTimeout(resume, 50))")
        assert await page.value("document.title") == "suite"
        shown_texts = await page.value("document.body.innerText")
        assert await page.value("document.querySelectorAll('main script, main img, main style, main a').length") == 0
        for text in HOSTILE:
            assert re.sub(r"[\x00-\x1f\x7f-\x9f]", "\ufffd", text).split("\u2028")[0] in shown_texts
        assert "49" not in await page.value("document.querySelector('#page').innerText")
        assert page.said == []
        assert page.requested == []

    browse(Path("r.html"), look)


@pytest.mark.long
@needs_a_browser
def test_a_page_can_be_read_without_its_script(run: Run) -> None:
    reported(str(run(range(12))))
    text = Path("r.html").read_text(encoding="utf-8")
    Path("r.html").write_text(re.sub(r"sha256-[\w+/=]+", "sha256-none", text), encoding="utf-8")

    async def look(page: Page) -> None:
        assert await page.value("document.getElementById('items').hidden")
        assert "correct" in await page.value("document.body.innerText")
        assert await page.value("document.querySelectorAll('svg').length") >= 2

    browse(Path("r.html"), look)


@pytest.mark.long
@needs_a_browser
def test_a_run_without_metrics_has_its_items_too(run: Run) -> None:
    reported(str(run(range(5), tasks=[ask()], analysis={})))

    async def look(page: Page) -> None:
        await page.until(f"{COUNT} === '5 of 5 rows'")
        assert page.said == []

    browse(Path("r.html"), look)


@pytest.mark.long
@needs_a_browser
def test_a_printed_page_names_its_items(run: Run) -> None:
    reported(str(run(range(5))))

    async def look(page: Page) -> None:
        await page.until(f"{COUNT} === '5 of 5 rows'")
        await page.tell("Emulation.setEmulatedMedia", media="print")
        assert "row-3" in await page.value("document.body.innerText")
        assert "Previous" not in await page.value("document.body.innerText")

    browse(Path("r.html"), look)


@pytest.mark.long
@needs_a_browser
def test_names_of_javascripts_own_are_names_here(run: Run) -> None:
    aliases = ("__proto__", "constructor", "toString", "valueOf")
    tasks = [ask(), *(RIGHT | {"alias": alias} for alias in aliases)]
    reported(str(run(range(5), tasks=tasks)))

    async def look(page: Page) -> None:
        await page.until(f"{COUNT} === '5 of 5 rows'")
        head = await page.value("document.querySelector('#head').innerText")
        assert all(alias in head for alias in aliases)
        assert await page.value("document.querySelector('#page tr').innerText.split('1').length") > len(aliases)
        assert page.said == []

    browse(Path("r.html"), look)
