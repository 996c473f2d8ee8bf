"""The shipped configs: each is a page long, passes a dry run, and those with recordings run offline to the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import runner
from runner.cli.main import main

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if path.stem != "service")
OFFLINE = [path for path in CONFIGS if "replay" in yaml.safe_load(path.read_text())["endpoint"]]
VALIDATOR = Draft202012Validator(json.loads((ROOT / "configs" / "schema.json").read_text()))
#: What each score is, of a small model whose answers were recorded: another figure means that a metric reads otherwise now.
SCORES: dict[str, dict[str, float]] = {
    "eval": {"correct": 78 / 240},
    "gsm8k": {"correct": 5 / 24},
    "humaneval": {"has_function": 1.0, "returns": 1.0},
    "json": {"fits": 1.0, "right_year": 2 / 8, "right_city": 5 / 8},
    "judge": {"share": 0.0875},
    "mmlu": {"correct": 2 / 16},
    "nightly": {"correct": 78 / 240},
    "pass_at_k": {"correct": 22 / 64},
}


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("AZURE_RESOURCE", "AZURE_DEPLOYMENT"):
        monkeypatch.setenv(name, "some")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "5f0c-not-a-key-9b1d-of-anybody")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.stem))
def test_a_shipped_config_passes_a_dry_run(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path.relative_to(ROOT)), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert " rows, 0 of them bad; " in said
    assert "9b1d" not in said


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.stem))
def test_a_shipped_config_is_a_page_that_fits_the_schema_and_explains_itself(path: Path) -> None:
    text = path.read_text()
    VALIDATOR.validate(yaml.safe_load(text))
    assert text.startswith("# yaml-language-server: $schema=./schema.json\n")
    assert yaml.safe_load(text)["name"] in {path.stem, "primer"}
    assert len(text.splitlines()) <= 66
    assert text.count(" # ") + text.count("\n#") >= 2


@pytest.mark.parametrize("path", OFFLINE, ids=lambda path: str(path.stem))
def test_what_was_recorded_is_scored_as_ever(path: Path, tmp_path: Path) -> None:
    run = runner.evaluate(path, overrides=[f"output={tmp_path}"])
    assert run.status == "completed"
    metrics: Any = run.totals["metrics"]
    assert {name: metrics[name]["mean"] for name in SCORES[path.stem]} == pytest.approx(SCORES[path.stem])
