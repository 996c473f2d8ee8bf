"""How alike two texts are is what the libraries say; what is missing is found out at the start, and no text holds up a run."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from runner.config.loading import load_config
from runner.errors import ConfigError, RowError
from runner.output import Output
from runner.processes.pool import CallError, ProcessPool
from runner.tasks.metric import MetricConfiguration
from runner.tasks.metrics import METRICS
from runner.tasks.metrics import similarity as module
from runner.tasks.metrics.similarity import SIMILARITIES
from runner.types import Value
from tests.calls import InThisProcess
from tests.shared import SHARED
from tests.test_metric import judged, refused

REFERENCE = SHARED / "reference"
needs_tables = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the tables of right values are not at hand")
needs_text = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("nltk", "punkt", "rouge_score", "sacrebleu", "rapidfuzz")),
    reason="the extra `text` is not installed",
)

#: METEOR is the only one with data of its own.
WITHOUT_DATA = sorted(SIMILARITIES.keys() - {"meteor"})
#: Words that mean the same, by part of speech.
SYNONYMS = {
    "noun": [("car", "automobile"), ("doctor", "physician")],
    "verb": [("buy", "purchase")],
    "adj": [],
    "adv": [],
}


async def value_of(kind: str, candidate: object, reference: object, **settings: Any) -> float:
    found = await judged({"candidate": candidate, "reference": reference}, type=kind, **settings)
    assert isinstance(found, Value), found
    assert found.value is not None
    return found.value


def table(name: str) -> Any:
    return json.loads((REFERENCE / f"{name}.json").read_text(encoding="utf-8"))


def six_digits(value: float) -> str:
    return f"{value:.6g}"


@needs_text
@pytest.mark.parametrize(
    ("kind", "candidate", "reference", "settings", "value"),
    [
        # unsmoothed, and by words as written
        ("bleu", "The cat sat on the mat.", "The cat sat on the mat.", {}, 1.0),
        ("bleu", "the cat sat on the mat.", "The cat sat on the mat.", {}, 0.809107),
        ("bleu", "the cat sat on the mat.", "The cat sat on the mat.", {"ignore_case": True}, 1.0),
        ("bleu", "Blue", "Blue", {}, 1.82183e-231),
        ("bleu", "the cat is on the mat", ["no", "the cat is on the mat"], {}, 1.0),
        ("f1", "He didn't go.", "he did not go", {}, 0.666667),
        ("f1", "a a b", "a b b", {}, 0.666667),
        ("f1", "b", ["a", "b c"], {}, 0.666667),
        ("rouge1", "the cat", "The cat sat on the mat.", {}, 0.5),
        ("rouge2", "the cat", ["no", "The cat sat"], {}, 0.666667),
        ("rougeL", "sat the cat", "the cat sat", {}, 0.666667),
        ("rouge1", "running foxes", "run fox", {}, 0.0),
        ("rouge1", "running foxes", "run fox", {"stemmer": True}, 1.0),
        ("sacrebleu", "one", "one", {}, 100.0),
        ("sacrebleu", "我喜欢吃苹果和香蕉。", "我喜欢吃苹果与香蕉。", {}, 0.0),
        ("sacrebleu", "我喜欢吃苹果和香蕉。", "我喜欢吃苹果与香蕉。", {"tokenize": "zh"}, 65.8037),
        ("chrf", "cats", "cat", {}, 89.8438),
        ("chrf", "the cats", "the cat", {"word_order": 2}, 76.2968),
        ("ter", "a b c x", "a b c d", {}, 25.0),
        ("ter", "a b c d e f g h", "a", {}, 700.0),
        ("edit_similarity", "kitten", "sitting", {}, 0.571429),
        ("edit_similarity", " kitten\n", ["x", "kitten"], {}, 1.0),
        ("edit_similarity", "Kitten!", "kitten", {"ignore_case": True, "ignore_punctuation": True}, 1.0),
        ("edit_similarity", "a  b", "a b", {"ignore_whitespace": False}, 0.75),
        # what is no text is its JSON
        ("edit_similarity", 12, 123, {}, 0.666667),
        ("edit_similarity", {"a": 1}, ['{"a":2}', {"b": 2}], {}, 0.857143),
        ("f1", True, "true", {}, 1.0),
        ("edit_similarity", "so: 7", "7", {"extract": r"\d"}, 1.0),
        ("edit_similarity", "none", "7", {"extract": r"\d"}, 0.0),
    ],
)  # fmt: skip
async def test_a_value_is_the_librarys(
    kind: str, candidate: object, reference: object, settings: dict[str, Any], value: float
) -> None:
    assert six_digits(await value_of(kind, candidate, reference, **settings)) == six_digits(value)


@needs_text
@needs_tables
async def test_scales_own_metrics_are_those_of_its_documentation() -> None:
    rows = table("sgp_metrics")
    kinds = ("bleu", "f1", "rouge1", "rouge2", "rougeL")
    found = [[six_digits(await value_of(kind, row["candidate"], row["reference"])) for kind in kinds] for row in rows]
    assert found == [[six_digits(row[kind]) for kind in kinds] for row in rows]


SETTINGS_OF = {"lowercase": "ignore_case", "tokenize": "tokenize"}
KINDS = {"bleu": ("sacrebleu", {}), "chrf": ("chrf", {}), "chrf++": ("chrf", {"word_order": 2}), "ter": ("ter", {})}


@needs_text
@needs_tables
async def test_translations_are_measured_as_sacrebleu_does() -> None:
    compared = 0
    for row in table("bleu")["rows"]:
        options = {name: value for name, value in row["options"].items() if name != "effective_order"}
        if row["level"] == "sentence" and options.keys() <= SETTINGS_OF.keys():
            kind, settings = KINDS[row.get("metric", "bleu")]
            named = {SETTINGS_OF[name]: value for name, value in options.items()}
            found = await value_of(kind, row["candidate"], row["references"], **settings, **named)
            assert found == pytest.approx(row["expected"]["score"], abs=1e-9), row
            compared += 1
    assert compared == 108


@needs_text
@needs_tables
async def test_summaries_are_measured_as_rouge_score_does() -> None:
    for row in table("rouge")["rows"]:
        for kind in ("rouge1", "rouge2", "rougeL"):
            found = await value_of(kind, row["candidate"], row["references"], stemmer=row["stemmer"])
            assert found == pytest.approx(row["expected"][kind]["f1"], abs=1e-12), row


@needs_tables
async def test_squad_is_measured_as_its_own_script_does() -> None:
    for row in table("squad")["rows"]:
        for kind, name in (("squad_exact", "exact"), ("squad_f1", "f1")):
            found = await judged(row, type=kind, reference="item.references")
            assert isinstance(found, Value)
            assert found.value == pytest.approx(row["expected"][name], abs=1e-12), row
            assert found.output == row["normalized"], row


@pytest.mark.parametrize(
    ("candidate", "reference", "exact", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0, 1.0),
        ("the cat sat", ["dog", "A cat stood"], 0.0, 0.5),
        ("", "", 1.0, 1.0),
        ("", "cat", 0.0, 0.0),
        ("cat", "", 0.0, 0.0),
        (None, "", 0.0, 0.0),
        ("1", 1, 1.0, 1.0),
    ],
)
async def test_squad(candidate: object, reference: object, exact: float, f1: float) -> None:
    assert await value_of("squad_exact", candidate, reference) == exact
    assert await value_of("squad_f1", candidate, reference) == pytest.approx(f1)


@pytest.mark.parametrize("kind", ["squad_exact", "squad_f1"])
@pytest.mark.parametrize("reference", [None, [], [None]])
async def test_squad_needs_a_reference(kind: str, reference: object) -> None:
    row = {"candidate": "a", "reference": reference}
    assert (await refused(row, type=kind)).startswith("configuration.reference: is null")


@needs_text
@pytest.mark.parametrize("kind", WITHOUT_DATA)
async def test_a_missing_answer_is_as_unlike_as_can_be_and_a_missing_reference_an_error(kind: str) -> None:
    worst = 100.0 if kind == "ter" else 0.0  # each word of the reference has to be put in
    for candidate in ("", None, " "):
        assert await value_of(kind, candidate, "some words") == worst
    for reference in (None, "", " ", [], [None, ""], ["a", " "]):
        for candidate in ("a", None):
            row = {"candidate": candidate, "reference": reference}
            assert (await refused(row, type=kind)).startswith("configuration.reference: is empty")


@needs_text
@pytest.mark.parametrize("kind", WITHOUT_DATA)
async def test_what_is_kept_is_the_text_as_it_was_compared(kind: str) -> None:
    row = {"candidate": Output("A  b "), "reference": ["a", None]}
    for settings, output in (({}, "A  b "), ({"ignore_case": True}, "a  b ")):
        found = await judged(row, type=kind, **settings)
        assert isinstance(found, Value)
        assert type(found.output) is str
        assert found.output == (" ".join(output.split()) if kind == "edit_similarity" else output)


def write_wordnet(directory: Path) -> None:
    """Write a WordNet of a few words in the format of its database."""
    letters = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
    for name, sets in SYNONYMS.items():
        data, index = "", []
        for words in sets:
            index += [f"{word} {letters[name]} 1 0 1 0 {len(data):08}" for word in words]
            listed = " ".join(f"{word} 0" for word in words)
            data += f"{len(data):08} 03 {letters[name]} {len(words):02x} {listed} 000 | the same thing\n"
        (directory / f"data.{name}").write_text(data)
        (directory / f"index.{name}").write_text("".join(f"{line}\n" for line in sorted(index)))
        (directory / f"{name}.exc").write_text("bought buy\n" if name == "verb" else "")


@needs_text
async def test_meteor_knows_stems_and_synonyms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is computed in a process of its own, which finds WordNet where the environment says."""
    write_wordnet(tmp_path)
    monkeypatch.setenv("WORDNET_DIR", str(tmp_path))
    settings = MetricConfiguration(type="meteor", candidate="", reference="")
    pool = ProcessPool(processes=1)

    async def meteor(candidate: str, reference: str | list[str]) -> str:
        return six_digits((await METRICS["meteor"].judge(candidate, reference, settings, pool)).value or 0.0)

    try:
        assert await meteor("The cat sat on the mat.", "The cat sat on the mat.") == "0.998542"
        assert await meteor("the cat is on the mat", ["no", "The cat sat on the mat."]) == "0.701449"
        assert await meteor("running quickly", "run fast") == "0.25"
        assert (
            await meteor("The automobile was purchased by a physician in 1999.", "A doctor bought the car in 1999.")
            == "0.685976"
        )
        assert await meteor("", "something") == "0"
    finally:
        await pool.close()


def mistakes_of(directory: Path, kind: str) -> list[str]:
    metric = {"type": kind, "candidate": "item.a", "reference": "item.b"}
    config = {
        "name": "trial",
        "data": [{"a": "x", "b": "x"}],
        "endpoint": {"base_url": "http://127.0.0.1:9"},
        "tasks": [{"task_type": "metric", "configuration": metric}],
    }
    (directory / "config.yaml").write_text(json.dumps(config))
    try:
        load_config(directory / "config.yaml")
    except ConfigError as error:
        return error.mistakes
    return []


@pytest.mark.parametrize(
    ("kind", "package"),
    [("bleu", "nltk and punkt"), ("rougeL", "rouge_score"), ("ter", "sacrebleu"), ("edit_similarity", "rapidfuzz")],
)
def test_a_package_that_is_missing_is_a_mistake_of_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, package: str
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    (mistake,) = mistakes_of(tmp_path, kind)
    assert mistake.endswith(
        f"tasks.0.configuration.type: {kind} needs {package}, which is not installed; pip install 'batch-eval-runner[text]'"
    )
    assert mistakes_of(tmp_path, "squad_f1") == []
    assert mistakes_of(tmp_path, "item.kind") == []


@needs_text
def test_a_wordnet_that_is_missing_is_a_mistake_of_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDNET_DIR", str(tmp_path))
    (mistake,) = mistakes_of(tmp_path, "meteor")
    assert f"meteor needs WordNet: WORDNET_DIR is {str(tmp_path)!r}, which has no file index.noun; set WORDNET_DIR" in mistake
    write_wordnet(tmp_path)
    assert mistakes_of(tmp_path, "meteor") == []
    monkeypatch.delenv("WORDNET_DIR")
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "wordnet.zip").touch()
    assert mistakes_of(tmp_path, "meteor") == []


class Failing(InThisProcess):
    """Calls that fail."""

    def __init__(self, error: CallError) -> None:
        self.error = error

    async def call(self, function: str, *args: Any, seconds: float = 1.0, within: float | None = None) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("is_there", "message"),
    [
        (True, "ter cannot be computed for these texts: No module named 'sacrebleu'"),
        (False, "ter needs sacrebleu, which is not installed; pip install 'batch-eval-runner[text]'"),
    ],
)
async def test_where_rows_say_the_type_they_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, is_there: bool, message: str
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: name if is_there else None)
    failing = Failing(CallError("raised", "No module named 'sacrebleu'", raised="ModuleNotFoundError"))
    settings = MetricConfiguration.model_validate({"type": "item.kind", "candidate": "", "reference": ""})
    with pytest.raises(RowError, match=r"^configuration\.type: ") as caught:
        await METRICS["ter"].judge("a", "b", settings, failing)
    assert str(caught.value).endswith(message)


@needs_text
async def test_texts_that_take_too_long_are_an_error_of_their_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.02)
    settings = MetricConfiguration(type="edit_similarity", candidate="", reference="")
    pool = ProcessPool(processes=1)
    try:
        with pytest.raises(RowError, match="edit_similarity cannot be computed for these texts: it takes more than"):
            await METRICS["edit_similarity"].judge("ab" * 100_000, "ba c" * 50_000, settings, pool)
        monkeypatch.undo()
        assert await METRICS["edit_similarity"].judge("ab", "ab", settings, pool) == Value(1.0, "ab")
    finally:
        await pool.close()


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"type": "bleu", "candidate": "item.a"}, "bleu needs a `reference`"),
        ({"type": "exact_match", "reference": "item.a"}, "needs either `candidate`, as item.ALIAS, or"),
        (
            {"type": "vote", "candidate": "item.a", "candidates": ["item.b"]},
            "needs either `candidate`, as item.ALIAS, or",
        ),
        ({"type": "score", "candidates": ["item.b"]}, "score takes one `candidate`; `candidates` are for mean and vote"),
        ({"type": "score", "candidate": "item.b", "min": 10, "max": 1}, "`min` is 10, which is more than `max`, 1"),
        ({"type": "score", "candidate": "item.b", "min": 1, "max": 1}, None),
        ({"type": "mean", "candidates": "item.b"}, None),
        ({"type": "vote", "candidates": ["item.b"], "reference": "item.c"}, None),
        ({"type": "item.kind", "candidate": "item.b"}, None),
    ],
)
def test_a_metric_is_given_what_it_compares(configuration: dict[str, Any], message: str | None) -> None:
    if message is None:
        MetricConfiguration.model_validate(configuration)
    else:
        with pytest.raises(ValueError, match=r"(?s).*" + message.replace("(", r"\(")):
            MetricConfiguration.model_validate(configuration)
