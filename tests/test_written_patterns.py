"""A regular expression of the config that cannot be what was meant is refused before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.config.loading import load_config
from runner.errors import ConfigError
from runner.tasks.metrics.patterns import check_pattern
from tests.commands import metric


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (
            "\boxed{(.*)}",
            "holds the control character U+0008, which YAML reads from a backslash in double quotes; use single",
        ),
        ("\b42\b", "U+0008"),
        ("\frac{1}{2}", "U+000C"),
        ("\x07lpha", "U+0007"),
        ("\x1b", "U+001B"),
        ("\0", "U+0000"),
        ("a\x85", "U+0085"),
        (r"\boxed{([^}]*)}", r"holds \boxed, which Python does not read as this text; write \\boxed"),
        (r"\boxed\{([^}]*)\}", r"write \\boxed"),
        (r"(?:x|\\\frac{1})", r"write \\frac"),
        (r"\textbf\{(.)\}", r"write \\textbf"),
        ("(", "is not a regular expression: missing )"),
        ("a" * 3 + "{9999999999999999999}", "is not a regular expression"),
    ],
)
def test_what_cannot_be_meant_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"holds|is not a regular expression") as caught:
        check_pattern(pattern)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "pattern",
    [r"\\boxed\{([^}]*)\}", r"\bword\b", "a\tb\nc\r", r"\b(\d+)\b", r"\frac", r"[\b]", "né\u00a0", r"\\\\frac{1}", r"\text"],
)
def test_what_may_be_meant_is_taken(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        (r'type: exact_match, reference: x, extract: "\boxed{(.)}"', "extract"),
        (r"type: exact_match, reference: x, extract: '\boxed{(.)}'", "extract"),
        (r'type: regex, reference: "\b42\b"', "reference"),
        (r'type: regex, reference: [a, "\f"]', "reference"),
        ("type: regex, reference: '('", "reference"),
    ],
)
def test_every_pattern_of_a_config_is_looked_at(tmp_path: Path, settings: str, place: str) -> None:
    config = tmp_path / "eval.yaml"
    task = f"{{task_type: metric, alias: right, configuration: {{candidate: item.text, {settings}}}}}"
    config.write_text(f"name: a\ndata: [{{text: x}}]\nendpoint: {{base_url: http://h}}\ntasks: [{task}]\n")
    with pytest.raises(ConfigError) as caught:
        load_config(config, [], {})
    (mistake,) = caught.value.mistakes
    assert f"tasks.0.configuration.{place}: holds" in mistake or f"{place}: is not a regular expression" in mistake


def test_a_pattern_of_the_row_is_the_row_s(tmp_path: Path) -> None:
    config = tmp_path / "eval.yaml"
    tasks = [metric(type="regex", candidate="item.text", reference="item.pattern")]
    config.write_text(
        json.dumps({"name": "a", "data": [{"text": "x", "pattern": "("}], "endpoint": {"base_url": "http://h"}, "tasks": tasks})
    )
    load_config(config, [], {})
