"""A dry run estimates what a run will cost, as a range, and says what it does not know."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Project, ask, questions
from tests.serving import Served

PRICES = {"m": {"input": 100, "output": 200}}
UNBOUNDED = "prompt ≈ 170 tokens (4 characters a token), answers of any length"


def dry_run(tmp_path: Path, served: Served, tasks: list[Any], prices: Any) -> subprocess.CompletedProcess[str]:
    return Project(tmp_path / "p", served.url, rows=questions(10), tasks=tasks, more={"prices": prices}).run_here("--dry-run")


@pytest.mark.parametrize(
    ("tasks", "prices", "said"),
    [
        (
            [ask(configuration={"max_tokens": 50}, samples=2)],
            PRICES,
            ["prompt ≈ 420 tokens (4 characters a token), answers at most 1,000 (max_tokens) → $0.0420 to $0.2420"],
        ),
        (
            [ask(configuration={"max_completion_tokens": 5, "n": 2})],
            PRICES,
            ["prompt ≈ 250 tokens (4 characters a token), answers at most 100 (max_tokens) → $0.0250 to $0.0450"],
        ),
        (
            [ask()],
            PRICES,
            [f"{UNBOUNDED} (10 of 10 without max_tokens) → $0.0170 or more"],
        ),
        (
            [ask(configuration={"max_tokens": 50}), ask("b", "{{item.answer}}", configuration={"model": "u", "max_tokens": 5})],
            PRICES,
            [
                "prompt ≈ 410 tokens (4 characters a token), answers at most 550 (max_tokens) → $0.0210 to $0.1210",
                "  without 10 requests whose model has no price",
                "  10 requests read answers that do not exist yet, so their prompts will have another length",
            ],
        ),
        (
            [ask(configuration={"model": "u", "max_tokens": 5})],
            PRICES,
            ["prompt ≈ 200 tokens (4 characters a token), answers at most 50 (max_tokens) → $? (no model has a price)"],
        ),
        ([ask()], None, []),
    ],
)
def test_a_dry_run_says_what_it_would_cost(tmp_path: Path, tasks: list[Any], prices: Any, said: list[str]) -> None:
    with Served() as served:
        dry = dry_run(tmp_path, served, tasks, prices)
        assert served.seen == []
    assert dry.returncode == 0
    lines = dry.stdout.splitlines()
    assert lines[lines.index("}") + 1 : -1] == said


def test_a_dry_run_says_of_what_it_knows_nothing(tmp_path: Path) -> None:
    tasks = [ask(), ask("b", "{{ item.answer | int }}")]
    with Served() as served:
        dry = dry_run(tmp_path, served, tasks, PRICES)
    assert "  without 10 requests that cannot be rendered without a real answer" in dry.stdout.splitlines()
