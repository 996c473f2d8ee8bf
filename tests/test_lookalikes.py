"""What looks as if it read the row and does not is refused at the start, and ordinary prose never is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ConfigError
from runner.evaluation import prepare
from tests.commands import Project, ask, metric

ROW = {"id": "a", "question": "Why?", "Correct Answer": "Paris", "target": "Rome", "A": "x", "image_2": None, "hard(er)": 1}
ROWS = [ROW, {**ROW, "id": "b"}]
READING = ask()


def project(folder: Path, *tasks: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] = ROWS, **more: Any) -> Project:
    return Project(folder, "http://127.0.0.1:1/v1", rows=rows, tasks=tasks, more=more)


def mistakes(folder: Path, *tasks: Mapping[str, Any], **more: Any) -> list[str]:
    """Return what is said of a config, behind the place."""
    try:
        prepare(project(folder, *tasks, **more).config, environment={})
    except ConfigError as error:
        return [mistake.partition(": ")[2] for mistake in error.mistakes]
    return []


# --- values ---


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("target", "item.target"),
        ("Correct Answer", 'item["Correct Answer"]'),
        (" target ", "item.target"),
        ("{target}", "item.target"),
        ("“target”", "item.target"),
        ("$target", "item.target"),
        ("<target>", "item.target"),
        ("row.target", "item.target"),
        ("doc['Correct Answer']", 'item["Correct Answer"]'),
        ("target[0]", "item.target"),
        ("answer", "item.answer"),
        ("answer.reasoning", "item.answer"),
        ("hard(er)", 'item["hard(er)"]'),
        (["Rome", "target"], "item.target"),
        # known without the dataset
        ("item.Correct Answer", 'item["Correct Answer"]'),
        ("Item.target", "item.target"),
        ("items.target", "item.target"),
        ("item.target | upper", "{{ item.target | upper }}"),
        (["item.target", "“item.target”"], "item.target"),
    ],
)
def test_a_reference_that_names_a_column_must_read_it(tmp_path: Path, reference: Any, meant: str) -> None:
    (mistake,) = mistakes(tmp_path, READING, metric(reference=reference))
    assert mistake.startswith("tasks.1.configuration.reference")
    assert "for every row" in mistake
    assert f"write {meant};" in mistake


@pytest.mark.parametrize(
    "reference",
    [
        "Rome",
        "the target",
        "targets",
        "Target",
        "A. Paris",
        "target, or so",
        "{{ 'target' }}",
        "{% raw %}item.target | upper{% endraw %}",
        ["Rome", 7],
        'item["Correct Answer"]',
        "{{ item['Correct Answer'] | upper }}",
    ],
)
def test_other_references_may_be_the_same_for_every_row(tmp_path: Path, reference: Any) -> None:
    assert mistakes(tmp_path, READING, metric(reference=reference)) == []


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ("answer", "reads nothing, so it would be the same for every row; write item.answer"),
        ("reply", "write item.reply"),
        ("The answer.", "reads nothing"),
        (7, "write item.ALIAS"),
        (None, "reads nothing"),
        (["a"], "reads nothing"),
        ("{{ 'answer' }}", "write item.ALIAS"),
        ("“item.answer”", "'“item.answer”' is not a locator, so it would be the same for every row; write item.answer;"),
        ("“{{ item.answer }}”", "the quotation marks around it would be a part of the value"),
    ],
)
def test_a_candidate_reads_something(tmp_path: Path, candidate: Any, said: str) -> None:
    (mistake,) = mistakes(tmp_path, READING, metric(candidate=candidate))
    assert mistake.startswith("tasks.1.configuration.candidate: ")
    assert said in mistake


@pytest.mark.parametrize(
    "candidate", ["item.answer.reasoning", "{{ item.answer | upper }}", {"a": "item.answer"}, "{{ item | tojson }}"]
)
def test_any_way_to_read_is_one(tmp_path: Path, candidate: Any) -> None:
    assert mistakes(tmp_path, READING, metric(candidate=candidate)) == []


# --- prompts ---


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Q: {question} A:", "`{question}` in a text is sent as it is; write {{ item.question }}"),
        ("Q: { Correct Answer }", '`{ Correct Answer }` in a text is sent as it is; write {{ item["Correct Answer"] }}'),
        ("{{ item.target }} {question}", "`{question}` in a text"),
        ("Q item.question", "`item.question` in a text is sent as it is; write {{ item.question }}"),
        ("(item.question)?", "`item.question` in a text"),
        ('Q: item["Correct Answer"]', '`item["Correct Answer"]` in a text is sent'),
        ("{{ item.target }}: item.question.", "`item.question` in a text"),
        ("Item.question", "'Item.question' is not a locator"),
        ("items.question", "'items.question' is not a locator"),
        ("question", "is the text 'question' for every row; write item.question;"),
        ("{{ question }}", "there is no `question`; the row is `item`, so write `item.question`"),
        ("{{ row.question }}", "there is no `row`; the row is `item`, so write `item.question`"),
        ("{{ doc['Correct Answer'] }}", 'so write `item["Correct Answer"]`'),
        ("{{ item.question }} {{ choices | join }}", "there is no `choices`"),
        ("{{ question | default('') }}", "there is no `question`"),
        ("{% for one in choices %}{{ one }}{% endfor %}", "there is no `choices`"),
        ("{{ len(item.question) }}", "there is no function `len`; use a filter instead"),
        (
            "{{ item.qestion }}",
            "`item.qestion` is not a column of the dataset, nor the alias of another task; there is: id, question",
        ),
        ("item['No Column']", '`item["No Column"]` is not a column of the dataset'),
    ],
)
def test_a_prompt_that_names_a_column_must_read_it(tmp_path: Path, content: str, said: str) -> None:
    (mistake,) = mistakes(tmp_path, ask(content=content), ask("other"))
    assert mistake.startswith("tasks.0.configuration.messages.0.content: ")
    assert said in mistake


@pytest.mark.parametrize(
    "content",
    [
        "Look at the item. Answer the question about the item.",
        "Items: the question, the target.",
        "Each item is a question; items.",
        "the items.question of others",
        "my_item.question and this.item.question",
        "item.price is undefined in my code",
        "Put it in \\boxed{target}, \\frac{A}{A} or x^{A}; \\{question\\}.",
        'Answer as {"question": "…", "target": 7} or {question: 1}.',
        "${target} and $${A}",
        "{others} {} {0} {question!r:>3} {question",
        "{% raw %}{question} item.question {{ question }}{% endraw %}",
        "{{ '{question}' }} {{ item.question }}",
        "target it",
        "bash ${#arr[@]} {#1}",
        "{% set x = item.question %}{{ x }}{% for c in item.A %}{{ loop.index }}{{ c }}{% endfor %}",
        "{% macro m(a) %}{{ a }}{{ caller is defined }}{% endmacro %}{{ m(item.A) }}{{ range(3) | list }}",
    ],
)
def test_prose_is_never_doubted(tmp_path: Path, content: str) -> None:
    content = content.replace("${", "$${") if "arr" not in content else content
    assert mistakes(tmp_path, ask(content=content), ask("other")) == []


def test_what_an_example_answers_may_be_as_short_as_a_column_s_name(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Which?"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "item.question"},
    ]
    assert mistakes(tmp_path, ask(configuration={"messages": messages})) == []
    messages[1]["content"] = "{A}"
    assert "`{A}` in a text" in mistakes(tmp_path, ask(configuration={"messages": messages}))[0]


@pytest.mark.parametrize(
    ("configuration", "place"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "{question}"}]}]}, "messages.0.content.0.text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "image_2"}}]}]},
            "0.image_url.url",
        ),
        ({"model": "Item.target"}, "model"),
        ({"extra_body": {"guided_choice": ["items.target"]}}, "extra_body.guided_choice.0"),
    ],
)
def test_every_place_is_looked_at(tmp_path: Path, configuration: dict[str, Any], place: str) -> None:
    (mistake,) = mistakes(tmp_path, ask(configuration=configuration), ask("other"))
    assert f"{place}: " in mistake


def test_what_describes_an_answer_may_have_the_names_of_columns(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"target": {"type": "string", "description": "target"}}, "required": ["target"]}
    tools = [
        {"type": "function", "function": {"name": "items.question", "description": "GET /{question}", "parameters": schema}}
    ]
    task = ask(
        configuration={"tools": tools, "response_format": {"type": "json_schema", "json_schema": schema}, "user": "target"}
    )
    assert mistakes(tmp_path, task, metric(type="json_schema", reference=schema)) == []


# --- nothing reads the dataset ---

FIXED = ask(content="Tell me a joke.")


@pytest.mark.parametrize(
    "tasks",
    [[FIXED], [FIXED, ask("judge", content="Is it funny? {{ item.answer }}")], [FIXED, metric(reference="item.target")]],
)
def test_that_all_rows_ask_the_same_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tasks: list[dict[str, Any]]
) -> None:
    with caplog.at_level(logging.WARNING, "runner"):
        assert mistakes(tmp_path, *tasks) == []
    assert "tasks.0.configuration: no request reads the dataset, so every row asks the same; there is: item.id, " in caplog.text


@pytest.mark.parametrize(
    "tasks", [[FIXED, ask("other")], [ask(content="{{ item }}")], [ask(content="{{ item.nope | default('-') }}")]]
)
def test_one_request_that_reads_the_row_is_enough(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tasks: list[dict[str, Any]]
) -> None:
    with caplog.at_level(logging.WARNING, "runner"):
        assert mistakes(tmp_path, *tasks) == []
    assert "no request reads" not in caplog.text


# --- the dry run ---


@pytest.mark.parametrize(
    "task",
    [ask(content="{question}"), ask(content="{{ question }}"), ask(configuration={"messages": [{"role": "user"}]})],
)
def test_a_dry_run_refuses_in_the_same_words(tmp_path: Path, task: dict[str, Any]) -> None:
    trial = project(tmp_path, task)
    dry, wet = trial.run_here("--dry-run"), trial.run_here("--no-progress")
    assert dry.returncode == wet.returncode == 2
    assert dry.stderr == wet.stderr
    assert f"{trial.config}:" in dry.stderr


def test_a_dry_run_takes_what_stands_in_for_an_answer_as_it_could_be(tmp_path: Path) -> None:
    extraction = ask("extraction", configuration={"response_format": {"type": "json_object"}})
    judge = ask(
        "judge",
        content="{{ item.extraction.age }} {{ item.extraction.names | join }} {{ item.answer | int }}",
        configuration={"temperature": "item.extraction.temperature", "seed": "{{ item.answer.split('=')[-1] | int }}"},
    )
    reads = metric(candidate="item.extraction.age", reference="{{ item.extraction.capital | fromjson }}")
    found = project(tmp_path, READING, extraction, judge, reads).run_here("--dry-run")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "2 rows, 0 of them bad; 6 requests would be sent" in found.stdout
    of_text = project(tmp_path / "b", READING, ask("judge", content="{{ item.answer.age }}"))
    assert "2 of them bad" in of_text.run_here("--dry-run").stdout
