"""What the README shows must be true: its configs load, its commands and options exist, its code runs, its figures are real."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from runner.cli import main as cli
from runner.cli.words import parsed, parser_of
from runner.config.dataset import DatasetConfig
from runner.config.endpoint import EndpointConfig, TimeoutConfig
from runner.config.loading import load_config
from runner.config.model import Config
from runner.config.sections import AnalysisConfig, EngineConfig, LimitsConfig
from runner.evaluation import prepare
from runner.storage.columns import COLUMNS
from runner.tasks import TASK_TYPES, task_config
from runner.types import ErrorType

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.is_file(), reason="there is no README yet")

TEXT = README.read_text(encoding="utf-8") if README.is_file() else ""
#: Keys for every variable that a config may name.
ENVIRONMENT = {"OPENAI_API_KEY": "sk-dummy-key"}


def blocks(*languages: str) -> list[str]:
    """Return the fenced blocks of some languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    return [content for language, content in found if language in languages]


def inline() -> list[str]:
    """Return what stands between single backticks outside of blocks."""
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", prose)


def commands() -> Iterator[list[str]]:
    """Yield the words of every command in a block."""
    for block in blocks("console", "sh", "bash", "shell"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.removeprefix("$ ").split("&&"):
                if words := shlex.split(part, comments=True):
                    yield words


def runner_commands() -> list[list[str]]:
    """Return the arguments of every call of the runner."""
    calls = [words for words in commands() if "-m runner" in " ".join(words)]
    return [words[words.index("runner") + 1 :] for words in calls]


def test_there_is_something_to_check() -> None:
    assert len(blocks("yaml")) >= 1
    assert len(blocks("python")) >= 1
    assert len(runner_commands()) >= 3


def test_every_fence_is_closed_and_says_its_language() -> None:
    fences = re.findall(r"^```(.*)$", TEXT, re.MULTILINE)
    assert len(fences) % 2 == 0
    assert all(opening and not closing for opening, closing in zip(fences[::2], fences[1::2], strict=True))


# --- configs ---


@pytest.mark.parametrize("content", blocks("yaml"))
def test_every_config_loads(content: str, tmp_path: Path) -> None:
    document = yaml.safe_load(content)
    if "tasks" not in document:
        pytest.skip("it shows a part of a config without tasks")
    document = {
        "name": "part",
        "dataset": "datasets/primer.jsonl",
        "endpoint": {"base_url": "http://127.0.0.1:9/v1"},
    } | document
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    config, _ = load_config(path, environment=ENVIRONMENT)
    assert config.name == document["name"]
    for file in config.dataset.path or ():
        assert (ROOT / file).is_file(), file


def field_of(model: type[BaseModel], name: str) -> tuple[Any, type[BaseModel] | None]:
    """Return the default of a model's field, and the model that it holds, if it holds one."""
    field = model.model_fields[name]
    models = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)]
    inner = [one for one in models if issubclass(one, BaseModel)]
    return field.get_default(call_default_factory=False), inner[0] if inner else None


def reference_rows() -> list[tuple[list[str], str]]:
    """Return the keys of each row of the config reference, written out, and the text of its default."""
    rows = []
    for line in TEXT.partition("## Config reference")[2].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        keys = re.findall(r"`([\w.\[\]]+)`", cells[0]) if len(cells) == 3 else []
        for number, key in enumerate(keys):
            if key.startswith("."):
                keys[number] = keys[0].rpartition(".")[0] + key
        if keys:
            rows.append((keys, cells[1]))
    return rows


@pytest.mark.parametrize(("keys", "default"), reference_rows(), ids=str)
def test_every_key_of_the_reference_exists_and_has_that_default(keys: list[str], default: str) -> None:
    for key in keys:
        model: type[BaseModel] | None = Config
        real: Any = None
        for name in key.split("."):
            assert model is not None
            if name == "tasks[]":
                model = next(one for one in map(task_config, TASK_TYPES) if key.split(".")[1] in one.model_fields)
                continue
            real, model = field_of(model, name)
        if len(keys) == 1 and model is None and re.fullmatch(r"`?(true|false|[\d.]+|results)`?", default):
            assert yaml.safe_load(default.strip("`")) == real


@pytest.mark.parametrize(
    "model", [Config, DatasetConfig, EndpointConfig, TimeoutConfig, LimitsConfig, AnalysisConfig, EngineConfig]
)
def test_every_key_is_named_somewhere(model: type[BaseModel]) -> None:
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    assert [name for name in model.model_fields if not re.search(rf"`[^`]*\b{name}\b", prose)] == []


@pytest.mark.parametrize("kind", list(ErrorType))
def test_every_kind_of_error_is_named(kind: ErrorType) -> None:
    assert f"`{kind}`" in TEXT.partition("Kinds of errors:")[2].partition("\n\n")[0]


# --- commands ---


@pytest.mark.parametrize("arguments", runner_commands(), ids=" ".join)
def test_every_command_is_understood(arguments: list[str]) -> None:
    said = StringIO()
    try:
        with redirect_stderr(said):
            parsed(arguments, cli.COMMANDS)
    except SystemExit:
        pytest.fail(said.getvalue())
    for word in arguments:
        if word.startswith("configs/"):
            assert (ROOT / word).is_file(), word


def options_of(parser: Any) -> set[str]:
    """Return the options of a parser and of its commands."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action.choices, dict):
            found = found.union(*map(options_of, action.choices.values()))
    return found


def test_every_option_in_the_prose_exists() -> None:
    options = {word for text in inline() for word in re.findall(r"(?<!\S)--[a-z][a-z-]*", text)}
    assert options
    assert options <= options_of(parser_of(cli.COMMANDS)[0])


def test_every_override_in_the_prose_is_one(tmp_path: Path) -> None:
    overrides = [text.removeprefix("--set ") for text in inline() if text.startswith("--set ")]
    path = tmp_path / "config.yaml"
    path.write_text(blocks("yaml")[0], encoding="utf-8")
    load_config(path, overrides, environment=ENVIRONMENT)


def test_every_extra_that_is_installed_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for words in commands() for word in words for name in re.findall(r"\.\[([\w,]+)\]", word)]
    assert extras
    assert {name for one in extras for name in one.split(",")} <= project["optional-dependencies"].keys()


def test_every_file_that_is_named_exists() -> None:
    names = [
        text for text in inline() if re.fullmatch(r"[\w-]+(/[\w-]+)*/[\w-]+\.\w+", text) and not text.startswith("results/")
    ]
    assert [name for name in names if not (ROOT / name).is_file()] == []


# --- what it prints, and what can be read of it ---


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the shipped config as the README says, in a directory of its own; stay in it and return the summary."""
    folder, before = tmp_path_factory.mktemp("readme"), Path.cwd()
    (folder / "datasets").symlink_to(ROOT / "datasets")
    (folder / "configs").symlink_to(ROOT / "configs")
    os.chdir(folder)
    try:
        yield prepare(Path("configs/eval.yaml"), environment={}).run().text()
    finally:
        os.chdir(before)


def test_the_summary_is_the_one_that_the_default_config_prints(default_run: str) -> None:
    """All but what depends on time, which the shown run spent on a real model."""
    (shown,) = (block for block in blocks("text") if block.startswith("finished:"))
    real = {line.split()[0]: line for line in default_run.splitlines()}
    for line in shown.splitlines():
        word = line.split()[0]
        assert word in real, word
        if word not in {"latency", "wall", "results"}:
            assert line == real[word]
    assert [line.split()[0] for line in shown.splitlines()] == list(real)


@pytest.mark.long
@pytest.mark.parametrize("source", blocks("python"))
def test_python_runs_and_gives_frames(source: str, default_run: str) -> None:
    code = compile(source, str(README), "exec")
    assert default_run.startswith("finished: 480 results")
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    frames = [value for value in namespace.values() if hasattr(value, "index")]
    assert frames
    assert all(len(frame) > 0 for frame in frames)


@pytest.mark.parametrize("source", [text for text in inline() if text.startswith("runner.load(")])
def test_load_gives_what_is_said_of_it(source: str, default_run: str) -> None:
    import runner

    frame = eval(source, {"runner": runner})
    assert default_run
    assert len(frame) == 240
    assert {"question", "answer", "reply", "correct"} <= set(frame.columns)


def test_every_column_of_the_files_is_named() -> None:
    files = {(True, True): "both", (True, False): "results", (False, True): "errors"}
    expected = [f"| `{column.name}` | {files[column.files]} | {column.about} |" for column in COLUMNS]
    section = README.read_text(encoding="utf-8").partition("\n## Columns\n")[2].partition("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == expected
