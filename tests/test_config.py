"""A config says every mistake at once, each with its place, and never shows a secret; what it says is what is used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config.endpoint import normalise_base_url
from runner.config.file import ConfigFile, expand, read_config_file
from runner.config.loading import load_config
from runner.config.model import Config, schema
from runner.config.yaml_text import Plain, dump
from runner.errors import ConfigError
from runner.tasks.dependencies import effective_samples, order

ROOT = Path(__file__).parent.parent
VALIDATOR = jsonschema.Draft202012Validator(schema())

HEAD = """\
name: capitals
dataset: capitals.jsonl
endpoint:
  base_url: http://localhost:8000
"""
TASKS = """\
tasks:
  - task_type: chat_completion
    alias: answer
    configuration:
      model: m
      messages: [{role: user, content: "{{item.question}}"}]
"""
GOOD = HEAD + TASKS


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "eval.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def loaded(folder: Path, text: str, *overrides: str, environment: Mapping[str, str] | None = None) -> Config:
    return load_config(written(folder, text), overrides, environment or {})[0]


def mistakes(folder: Path, text: str | bytes, *overrides: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the mistakes of a config that is refused, with the folder's name taken out."""
    with pytest.raises(ConfigError) as caught:
        load_config(written(folder, text), overrides, environment or {})
    return [mistake.replace(f"{folder}/", "") for mistake in caught.value.mistakes]


def with_configuration(*lines: str) -> str:
    return GOOD + "".join(f"      {line}\n" for line in lines)


def with_metric(**configuration: object) -> str:
    settings = {"type": "exact_match", "candidate": "item.answer", "reference": "item.capital"} | configuration
    return f"{GOOD}  - {{task_type: metric, alias: correct, configuration: {json.dumps(settings)}}}\n"


def test_a_good_config_is_read(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD)
    assert config.name == "capitals"
    assert config.dataset.path == ["capitals.jsonl"]
    assert config.endpoint.base_url == "http://localhost:8000/v1"
    assert [task.name for task in config.tasks] == ["answer"]
    assert config.limits.concurrency == 32


# Mistakes of one value


@pytest.mark.long
def test_the_schema_says_of_every_key_what_it_is_for() -> None:
    """But of those that are sent as named: what they mean is the server's to say."""
    sent = ("Configuration", "InferenceArgs", "_")
    undescribed = [
        f"{where}.{name}"
        for where, model in {"Config": schema(), **schema()["$defs"]}.items()
        for name, field in model.get("properties", {}).items()
        if not where.endswith(sent) and not where.startswith(sent) and not {"description", "$ref", "const"} & field.keys()
        if (where, name) != ("MetricConfig", "configuration")  # its own keys say it
    ]
    assert undescribed == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("limits: {concurency: 8}", "eval.yaml:11: limits.concurency: unknown key; did you mean `concurrency`?"),
        ("limts: {}", "eval.yaml:11: limts: unknown key; did you mean `limits`?"),
        ("limit: 8", "eval.yaml:11: limit: unknown key; it goes below `dataset`"),
        ("concurrency: 8", "eval.yaml:11: concurrency: unknown key; it goes below `limits`"),
        ("limits: {tasks: 8}", "eval.yaml:11: limits.tasks: unknown key; it goes beside `limits`, not below it"),
        ("limits: {timeout: 3}", "eval.yaml:11: limits.timeout: unknown key; did you mean `endpoint.timeout`?"),
        ("model: m", "eval.yaml:11: model: unknown key; did you mean `tasks[].configuration.model`?"),
        ("limits: {alias: a}", "eval.yaml:11: limits.alias: unknown key; did you mean `tasks[].alias`?"),
        ("metrics: [a]", "eval.yaml:11: metrics: unknown key; known are: analysis, cache, dataset, "),
        ("limits: {order: longest-first}", "got 'longest-first'; did you mean 'longest_first'?"),
        ("limits: {order: random}", "should be 'as_is', 'longest_first' or 'prefix', got 'random'"),
        ("metric: 1", "eval.yaml:11: metric: unknown key; known are: analysis, cache, dataset, "),
        ("float: 1", "eval.yaml:11: float: unknown key; known are: "),
        ("'a[0]': 1", "eval.yaml:11: a[0]: unknown key; known are: "),
        ("limits: {concurrency: 0}", "limits.concurrency: should be greater than or equal to 1, got 0"),
        ("limits: {concurrency: -1}", "limits.concurrency: should be greater than or equal to 1, got -1"),
        ("limits: {concurrency: ten}", "limits.concurrency: should be a number or `auto`, got 'ten'"),
        ("limits: {concurrency: yes}", "limits.concurrency: should be a number or `auto`, got 'yes'"),
        ("limits: {concurrency: True}", "limits.concurrency: should be a valid integer, got True"),
        ("limits: {concurrency: 1.5}", "limits.concurrency: should be a valid integer, got 1.5"),
        ('limits: {concurrency: "8"}', "limits.concurrency: should be a valid integer, got '8'; write 8 without quotes"),
        ('limits: {requests_per_second: "0,5"}', "should be a valid number, got '0,5'; write 0.5"),
        ("limits: {max_attempts: 1k}", "limits.max_attempts: should be a valid integer, got '1k'"),
        ("limits: {requests_per_second: .nan}", "limits.requests_per_second: should be a finite number, got nan"),
        ("limits: {requests_per_second: 1e999}", "limits.requests_per_second: should be a finite number, got inf"),
        ("limits: {tokens_per_minute: 0}", "limits.tokens_per_minute: should be greater than 0, got 0"),
        ("limits: {max_attempts: 0}", "limits.max_attempts: should be greater than or equal to 1, got 0"),
        ("limits: {fail_on_error: 1.5}", "limits.fail_on_error: is a share from 0.0 to 1.0, or a whole number of rows"),
        ("limits: {fail_on_error: -1}", "limits.fail_on_error: should be greater than or equal to 0, got -1"),
        ("limits: {fail_on_error: x}", "limits.fail_on_error: should be a valid integer, got 'x' or should be a valid number"),
        (
            "limits: {requests_per_second: 1, requests_per_minute: 1}",
            "limits: takes requests_per_second or requests_per_minute",
        ),
        ("limits: [1]", "limits: should be a mapping of keys, got [1]"),
        ("tags: nightly", "tags: should be a list, got 'nightly'"),
        ("tags: [1]", "tags.0: should be a valid string, got 1"),
        ("metadata: x", "metadata: should be a mapping of keys, got 'x'"),
        ("output: 7", "output: should be a valid string, got 7"),
        ("data: [{a: 1}]", "data: unknown key"),
    ],
)
def test_a_wrong_value_is_named_with_its_line_and_path(tmp_path: Path, more: str, message: str) -> None:
    (mistake,) = mistakes(tmp_path, f"{GOOD}{more}\n")
    assert mistake.startswith("eval.yaml:11: ")
    assert message in mistake


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("temprature: 1", "tasks.0.configuration.temprature: unknown key; did you mean `temperature`?"),
        ("stream: true", "tasks.0.configuration.stream: unknown key; it goes beside `configuration`, not below it"),
        ("min_p: 0.1", "other parameters of a server go below `extra_body`"),
        ("best_of: 2", "tasks.0.configuration.best_of: unknown key; known are: audio, "),
        ("temperature: hot", "tasks.0.configuration.temperature: should be a valid number, got 'hot'"),
        ("temperature: .nan", "tasks.0.configuration.temperature: should be a finite number, got nan"),
        ("temperature: -0.1", "tasks.0.configuration.temperature: should be greater than or equal to 0, got -0.1"),
        ("temperature: true", "tasks.0.configuration.temperature: should be a valid number, got True"),
        ("top_p: 1.1", "tasks.0.configuration.top_p: should be less than or equal to 1, got 1.1"),
        ("presence_penalty: 3", "tasks.0.configuration.presence_penalty: should be less than or equal to 2, got 3"),
        ("max_tokens: 0", "tasks.0.configuration.max_tokens: should be greater than or equal to 1, got 0"),
        ("stop: [1]", "tasks.0.configuration.stop"),
        ("tools: {}", "tasks.0.configuration.tools: should be a list, got {}"),
        ("extra_body: {x: .inf}", "tasks.0.configuration.extra_body.x: should be a finite number, got inf"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path: Path, line: str, message: str) -> None:
    found = mistakes(tmp_path, with_configuration(line))
    assert message in found[0]
    assert all(mistake.startswith("eval.yaml:11: ") for mistake in found)


def test_the_nearest_known_key_is_one_of_this_task_type(tmp_path: Path) -> None:
    (mistake,) = mistakes(tmp_path, with_configuration("promt: hi"))
    assert "`prompt`" not in mistake


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TASKS, "endpoint: is missing"),
        (HEAD, "eval.yaml:1: tasks: is missing"),
        (HEAD + "tasks: []\n", "eval.yaml:5: tasks: should not be empty, got []"),
        (HEAD + "tasks: [7]\n", "tasks.0: should be a mapping of keys, got 7"),
        (HEAD + "tasks: {a: b}\n", "tasks: should be a list"),
        (GOOD.replace("name: capitals\n", ""), "name: is missing"),
        (GOOD.replace("dataset: capitals.jsonl\n", ""), "dataset: is missing"),
        (
            GOOD.replace("dataset: capitals.jsonl", "dataset: {}"),
            "eval.yaml:2: dataset: needs exactly one of `path`, `data` and `runs`",
        ),
        (GOOD.replace("  base_url: http://localhost:8000", "  verify: true"), "eval.yaml:3: endpoint: needs `base_url`, or"),
        (GOOD.replace("      model: m\n", ""), "eval.yaml:8: tasks.0.configuration.model: is missing"),
        (GOOD.replace("task_type: chat_completion\n    ", ""), "eval.yaml:6: tasks.0.task_type: is missing"),
        (GOOD.replace("task_type: chat_completion", "task_type: chat_completions"), "did you mean `chat_completion`?"),
        (
            GOOD.replace("task_type: chat_completion", "task_type: zzz"),
            "'zzz' is not a task type; known are: chat_completion, ",
        ),
        (GOOD.replace("name: capitals", "name: a/b"), "eval.yaml:1: name: should be letters, digits, `_`, `.` and `-`"),
        (GOOD.replace("name: capitals", "name: .."), "eval.yaml:1: name: should be letters, digits, `_`, `.` and `-`"),
        (GOOD.replace("alias: answer", "alias: a b"), "eval.yaml:7: tasks.0.alias: should be letters, digits"),
        (GOOD.replace("alias: answer", "samples: 0"), "tasks.0.samples: should be greater than or equal to 1, got 0"),
        (
            GOOD.replace("http://localhost:8000", "http://h\n  record: a\n  replay: b"),
            "`record` keeps what a server answers, `replay` answers in its place; leave one of them out",
        ),
        (with_metric(type="exakt"), "tasks.1.configuration.type: should be 'exact_match', 'contains', "),
        (with_metric(extract="("), "tasks.1.configuration.extract: is not a regular expression: "),
        (with_metric(letters="ABa"), "tasks.1.configuration.letters: should name each letter once, got 'ABa'"),
        (with_metric(tolerance=-1), "tasks.1.configuration.tolerance: should be greater than or equal to 0, got -1"),
        (f"{GOOD}  - {{task_type: metric, configuration: hello}}\n", "tasks.1.configuration: should be a mapping of keys, got"),
        (f"{GOOD}  - {{task_type: metric, configuration: [hello]}}\n", "tasks.1.configuration: should be a mapping of keys"),
        (
            with_configuration("stop: Nr. #1 {{item.n}}"),
            "a ` #` begins a comment, so the value is 'Nr.'; put it in quotes",
        ),
        (f"{GOOD}limits:\n", "eval.yaml:11: limits: should be a mapping of keys, and is empty"),
        (f"{GOOD}limits: {{concurrency: }}\n", "limits.concurrency: should be a valid integer, and is empty"),
        (
            f"{GOOD}output: ~/r\n",
            "eval.yaml:11: output: '~/r' is used as it is written, because no shell expands it; write ${HOME}/r",
        ),
        (
            f"{GOOD}cache: {{path: $TMP/c}}\n",
            "cache.path: '$TMP/c' is used as it is written, because no shell expands it; write ${TMP}/c",
        ),
        (GOOD.replace("capitals.jsonl", "~/c.jsonl"), "eval.yaml:2: dataset.path.0: '~/c.jsonl' is used as it is written"),
        (GOOD.replace("capitals.jsonl", "''"), "eval.yaml:2: dataset.path.0: is empty; name a path"),
        (f"{GOOD}  - {{task_type: metric}}\n", "eval.yaml:11: tasks.1.configuration: is missing"),
    ],
)
def test_what_is_missing_or_out_of_place_is_named(tmp_path: Path, text: str, message: str) -> None:
    assert message in "\n".join(mistakes(tmp_path, text))


def test_a_comment_with_a_template_behind_what_is_no_text_is_one(tmp_path: Path) -> None:
    text = with_configuration("temperature: 0  # was {{item.heat}}", 'stop: "#1 {{item.n}}"  # not {{item.m}}', "seed: 1 # x")
    task: Any = loaded(tmp_path, text).tasks[0]
    assert task.configuration.verbatim["stop"] == "#1 {{item.n}}"


def test_all_mistakes_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
name: a/b
dataset: {path: x.jsonl, idd: id}
endpoint: {base_url: "ftp://h", api_key_env: MY_KEY}
tasks:
  - task_type: chat_completion
    alias: answer
    configuration:
      model: ${MODEL}
      messages: [{role: user, content: "{{item.question"}, {role: user, content: "{% if %}"}]
      temperature: hot
      temperature: hotter
  - task_type: metrics
limits: {concurrency: 0}
metadata: {a: !!python/name:os.system x}
"""
    found = mistakes(tmp_path, text, "output=7", "tasks.9.alias=x")
    assert [mistake.split(": ")[:2] for mistake in found] == [
        ["eval.yaml:1", "name"],
        ["eval.yaml:2", "dataset.idd"],
        ["eval.yaml:3", "endpoint.base_url"],
        ["eval.yaml:3", "endpoint.api_key_env"],
        ["eval.yaml:8", "tasks.0.configuration.model"],
        ["eval.yaml:9", "tasks.0.configuration.messages.0.content"],
        ["eval.yaml:9", "tasks.0.configuration.messages.1.content"],
        ["eval.yaml:11", "tasks.0.configuration.temperature"],
        ["eval.yaml:12", "tasks.1.task_type"],
        ["eval.yaml:13", "limits.concurrency"],
        ["eval.yaml:14", "metadata.a"],
        ["--set", "output"],
        ["--set tasks.9.alias", "`tasks` is a list of 2, counted from 0; it has no `9`"],
    ]


# The endpoint: its URL, its key and its headers


@pytest.mark.parametrize(
    ("given_url", "base_url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/completions/", "https://api.openai.com/v1"),
        ("https://h/openai/deployments/d/chat/completions?api-version=1", "https://h/openai/deployments/d?api-version=1"),
        ("https://h/chat/completions", "https://h"),
        ("https://h/api/v3", "https://h/api/v3"),
        ("HTTPS://h/v1#top", "https://h/v1"),
        (" http://h ", "http://h/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_a_url_may_be_a_host_its_v1_or_the_whole(given_url: str, base_url: str) -> None:
    assert normalise_base_url(given_url) == base_url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", "'localhost:8000' is not a URL; write http://HOST:PORT/v1"),
        ("ftp://h/v1", "'ftp://h/v1' is not a URL; write http://HOST:PORT/v1"),
        ("http://", "'http://' is not a URL"),
        ("http:///v1", "'http:///v1' is not a URL"),
        ("http://:80/v1", "'http://:80/v1' is not a URL"),
        ("http://a b/v1", "'http://a b/v1' is not a URL"),
        ("http://h:99999/v1", "'http://h:99999/v1' is not a URL: Port out of range 0-65535"),
        ("http://h:http/v1", "'http://h:http/v1' is not a URL: Port could not be cast"),
        ("http://[::1/v1", "'http://[::1/v1' is not a URL: Invalid IPv6 URL"),
        ("http://user:pw@h/v1", "must not hold a user or password; name the key's environment variable in `api_key_env`"),
        ("http://pw@h/v1", "must not hold a user or password"),
    ],
)
def test_a_url_that_is_none_is_named(tmp_path: Path, url: str, message: str) -> None:
    (mistake,) = mistakes(tmp_path, GOOD.replace("http://localhost:8000", f'"{url}"'))
    assert mistake.startswith(f"eval.yaml:4: endpoint.base_url: {message}")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:CANARY@h/v1",
        "user:CANARY@h/v1",
        "//user:CANARY@h",
        "ftp://user:CANARY@h",
        "ftp://user:CAN@CANARY@h",
        "http://user:CANARY/x@h",
        "http://user:x/CANARY@h",
        "http://user:x?CANARY@h",
        "http://user:CANARY@h:99999",
        "ftp://h/v1?key=CANARY",
    ],
)
def test_no_message_shows_what_a_wrong_url_hides(tmp_path: Path, url: str) -> None:
    assert "CANARY" not in "\n".join(mistakes(tmp_path, GOOD.replace("http://localhost:8000", url)))


def test_the_name_of_an_endpoint_has_no_query(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD.replace("http://localhost:8000", "http://h/v1?key=CANARY"))
    assert config.endpoint.base_url == "http://h/v1?key=CANARY"
    assert config.endpoint.name == "http://h/v1"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "the environment variable MY_KEY is not set or empty; set it with export MY_KEY=…"),
        ({"MY_KEY": ""}, "the environment variable MY_KEY is not set or empty; set it with export MY_KEY=…"),
        ({"MY_KEY": " \n"}, "the environment variable MY_KEY is not set or empty; set it with export MY_KEY=…"),
        ({"MY_KEY": "sk-CANARY\x00"}, "the key in MY_KEY has characters that are not allowed in an HTTP header"),
        ({"MY_KEY": "sk-CANARY\nX-Evil: 1"}, "the key in MY_KEY has characters that are not allowed in an HTTP header"),
        ({"MY_KEY": "sk-CANARYé"}, "the key in MY_KEY has characters that are not allowed in an HTTP header"),
        ({"MY_KEY": "sk CANARY"}, "the key in MY_KEY has characters that are not allowed in an HTTP header"),
    ],
)
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(tmp_path: Path, environment: dict[str, str], message: str) -> None:
    text = GOOD.replace("http://localhost:8000", "http://h\n  api_key_env: MY_KEY")
    assert mistakes(tmp_path, text, environment=environment) == [f"eval.yaml:5: endpoint.api_key_env: {message}"]


def test_the_default_key_is_checked_too(tmp_path: Path) -> None:
    (mistake,) = mistakes(tmp_path, GOOD, environment={"OPENAI_API_KEY": "sk-CANARYé"})
    assert (
        mistake
        == "eval.yaml:3: endpoint.api_key_env: the key in OPENAI_API_KEY has characters that are not allowed in an HTTP header"
    )


def test_a_key_written_where_its_name_belongs_is_not_shown(tmp_path: Path) -> None:
    (mistake,) = mistakes(tmp_path, GOOD.replace("http://localhost:8000", "http://h\n  api_key_env: sk-CANARY"))
    assert "is not the name of an environment variable" in mistake
    assert "CANARY" not in mistake


@pytest.mark.parametrize(
    ("named", "environment", "key"),
    [
        ("", {}, None),
        ("", {"OPENAI_API_KEY": "sk-1"}, "sk-1"),
        ("", {"OPENAI_API_KEY": ""}, None),
        ("\n  api_key_env: MY_KEY", {"MY_KEY": "sk-2\n", "OPENAI_API_KEY": "sk-1"}, "sk-2"),
    ],
)
def test_the_key_comes_from_the_environment(tmp_path: Path, named: str, environment: dict[str, str], key: str | None) -> None:
    text = GOOD.replace("http://localhost:8000", f"http://h{named}")
    assert loaded(tmp_path, text, environment=environment).api_key(environment) == key


def test_recordings_need_no_key(tmp_path: Path) -> None:
    text = GOOD.replace("base_url: http://localhost:8000", "replay: recordings\n  api_key_env: MY_KEY")
    assert loaded(tmp_path, text).endpoint.replay == "recordings"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("X Team: evals", "endpoint.headers.X Team: has characters that are not allowed in an HTTP header"),
        ('X-Team: "CANARY\\r\\nX-Evil: 1"', "endpoint.headers.X-Team: has characters that are not allowed in an HTTP header"),
        ("X-Team: CANARYé", "endpoint.headers.X-Team: has characters that are not allowed in an HTTP header"),
        ("Authorization: 123454321", "endpoint.headers.Authorization: should be a valid string; put numbers into quotes"),
        ("Authorization: [CANARY]", "endpoint.headers.Authorization: should be a valid string"),
    ],
)
def test_a_header_that_cannot_be_sent_is_named_and_not_shown(tmp_path: Path, header: str, message: str) -> None:
    (mistake,) = mistakes(tmp_path, GOOD.replace("http://localhost:8000", f"http://h\n  headers:\n    {header}"))
    assert mistake.startswith(f"eval.yaml:6: {message}")
    assert "CANARY" not in mistake
    assert "123454321" not in mistake


def test_secrets_are_known_so_that_they_can_be_kept_out_of_files(tmp_path: Path) -> None:
    environment = {"TOKEN": "t-1234", "OPENAI_API_KEY": "sk-1"}
    headers = "{Authorization: 'Bearer ${TOKEN}', x-api-key: k-9, X-Team: evals}"
    config = loaded(tmp_path, GOOD.replace("http://localhost:8000", f"http://h\n  headers: {headers}"), environment=environment)
    assert set(config.secrets(environment)) == {"Bearer t-1234", "t-1234", "k-9", "sk-1"}


# Variables


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "x"),
        ("a ${A} b ${A}", "a x b x"),
        ("${A:-y}", "x"),
        ("${B:-y}", "y"),
        ("${B:-}", ""),
        ("${EMPTY:-y}", "y"),
        ("${B:-a b/c}", "a b/c"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A", "$A"),
        ("${1}", "${1}"),
        ("${N}", "8"),
    ],
)
def test_variables_are_put_in(text: str, value: str) -> None:
    assert expand({"k": [text]}, {"A": "x", "EMPTY": "", "N": "8"}) == ({"k": [value]}, [])


@pytest.mark.parametrize(
    ("scalar", "variable", "value"),
    [
        ("${V}", "8", 8),
        ("${V}", "-1.5e3", -1500.0),
        ("${V}", "0x1F", 31),
        ("${V}", "true", True),
        ("${V}", "no", "no"),
        ("${V}", "null", "null"),
        ("${V}", "1" * 5000, "1" * 5000),
        ("${V}", "true\n", "true\n"),
        ("${V}", "a: [b", "a: [b"),
        ("${V:-8}", "", 8),
        ("1${V}", "2", 12),
        ("x${V}", "2", "x2"),
        ('"${V}"', "8", "8"),
        ("'${V}'", "true", "true"),
        ("|-\n  ${V}", "8", "8"),
    ],
)
def test_only_an_unquoted_scalar_takes_its_type_from_the_variable(
    tmp_path: Path, scalar: str, variable: str, value: object
) -> None:
    document = read_config_file(written(tmp_path, f"k: {scalar}\n")).document
    (found,), _ = expand(list(document.values()), {"V": variable})
    assert (type(found), found) == (type(value), value)


def test_a_variable_that_is_not_set_is_one_mistake(tmp_path: Path) -> None:
    text = f"{GOOD}limits: \n  concurrency: ${{CONCURRENCY}}\n"
    (mistake,) = mistakes(tmp_path, text)
    assert mistake.startswith("eval.yaml:12: limits.concurrency: the environment variable CONCURRENCY is not set; set it, or")


def test_a_variable_can_give_a_number(tmp_path: Path) -> None:
    text = f"{GOOD}limits:\n  concurrency: ${{CONCURRENCY:-4}}\n"
    assert loaded(tmp_path, text).limits.concurrency == 4
    assert loaded(tmp_path, text, environment={"CONCURRENCY": "9"}).limits.concurrency == 9
    assert "got 'many'" in mistakes(tmp_path, text, environment={"CONCURRENCY": "many"})[0]


# Overrides


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("name=x", ("name",), "x"),
        ("limits.concurrency=3", ("limits", "concurrency"), 3),
        ("limits.concurrency=${N:-3}", ("limits", "concurrency"), "${N:-3}"),
        ("tasks.0.configuration.model=a=b", ("tasks", 0, "configuration", "model"), "a=b"),
        (
            "tasks[0].configuration.messages[0].content='Nr. #1'",
            ("tasks", 0, "configuration", "messages", 0, "content"),
            "Nr. #1",
        ),
        ("metadata.a=x#y", ("metadata", "a"), "x#y"),
        ("tasks.0.configuration.stop=[a, b]", ("tasks", 0, "configuration", "stop"), ["a", "b"]),
        ("description=", ("description",), None),
        ('output="\\ud83d\\ude00 \\u00e9"', ("output",), "😀 é"),
        ("dataset.limit=3", ("dataset",), {"path": "capitals.jsonl", "limit": 3}),
        ("dataset=other.jsonl", ("dataset",), "other.jsonl"),
        ("metadata.a.b=1", ("metadata", "a", "b"), 1),
    ],
)
def test_an_override_sets_one_value(tmp_path: Path, override: str, path: Sequence[str | int], value: object) -> None:
    found: Any = read_config_file(written(tmp_path, f"{GOOD}metadata:\n"), [override]).document
    for step in path:
        found = found[step]
    assert found == value


@pytest.mark.parametrize(
    "data", ["dataset: d.jsonl\n", "dataset: [d.jsonl]\n", "data: [{a: 1}]\n", "dataset: {path: d.jsonl}\n"]
)
def test_a_limit_can_be_set_whatever_the_form_of_the_dataset(tmp_path: Path, data: str) -> None:
    text = GOOD.replace("dataset: capitals.jsonl\n", data)
    config = loaded(tmp_path, text, "dataset.limit=3")
    assert config.dataset.limit == 3
    assert config.dataset.model_copy(update={"limit": None}) == loaded(tmp_path, text).dataset


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("limits.concurrency", "--set limits.concurrency: write --set KEY.PATH=VALUE"),
        ("=3", "--set =3: write --set KEY.PATH=VALUE"),
        ("limits..concurrency=3", "--set limits..concurrency=3: write --set KEY.PATH=VALUE"),
        ("limits.concurrency=[", "--set limits.concurrency:1:2: not YAML: "),
        ("limit.concurrency=3", "--set: limit: unknown key; did you mean `limits`?"),
        ("limit=3", "--set: limit: unknown key; it goes below `dataset`"),
        ("tags=nightly", "--set: tags: should be a list, got 'nightly'; write [nightly]"),
        ("tasks={a: 1}", "--set: tasks: should be a list, got {'a': 1}; begin each member with `- `"),
        (
            "endpoint=http://h/v1",
            "--set: endpoint: should be a mapping of keys, got 'http://h/v1'; write {base_url: http://h/v1}",
        ),
        ("endpoint.headers=[a]", "--set: endpoint.headers: should be a mapping of keys"),
        ("dataset.quoting=no", "--set: dataset.quoting: should be a valid boolean, got 'no'; write false"),
        ("dataset.encoding=hex", "--set: dataset.encoding: 'hex' is not a text encoding; use one of Python's, such as utf-8"),
        ("dataset.encoding=utf8-sig", "--set: dataset.encoding: 'utf8-sig' is not a text encoding; did you mean 'utf_8_sig'?"),
        ("analysis.gate.x=3", "--set: analysis.gate: unknown key; did you mean `gates`?"),
        ("endpoint.timeout.conect=3", "--set: endpoint.timeout.conect: unknown key; did you mean `connect`?"),
        ("tasks[1].alias=x", "--set tasks[1].alias: `tasks` is a list of 1, counted from 0; it has no `1`"),
        (
            "description=Nr. #1",
            "--set description: a ` #` begins a comment, so the value is 'Nr.'; put it in quotes",
        ),
        ("tags=[a] #b", "--set tags: a ` #` begins a comment, so the value is ['a']; put it in quotes"),
        ("name=#x", "--set name: a ` #` begins a comment, so the value is empty; put it in quotes"),
        ("limits.concurrency=ten", "--set: limits.concurrency: should be a number or `auto`, got 'ten'"),
        ("limits.concurency=3", "--set: limits.concurency: unknown key; did you mean `concurrency`?"),
        ("name=!!python/name:os.system x", "--set: name: the tag tag:yaml.org,2002:python/name:os.system is not allowed"),
        ("metadata={a: 1, a: 2}", "--set: metadata.a: the key appears twice"),
        ("tasks.1.alias=x", "--set tasks.1.alias: `tasks` is a list of 1, counted from 0; it has no `1`"),
        ("tasks.first.alias=x", "--set tasks.first.alias: `tasks` is a list of 1, counted from 0; it has no `first`"),
        ("name.x=1", "--set name.x: `name` is not a mapping or list, so it has no `x`"),
        ("name.x.y=1", "--set name.x.y: `name` is not a mapping or list, so it has no `x`"),
        ("endpoint.base_url=x", "--set: endpoint.base_url: 'x' is not a URL"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    (mistake,) = mistakes(tmp_path, GOOD, override)
    assert mistake.startswith(message)


# YAML


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [a\nb: c\n", "eval.yaml:2:2: not YAML: "),
        ("name: a\n\tb: c\n", "eval.yaml:2:1: not YAML: found character '\\t' that cannot start any token (indent with spaces"),
        (
            'name: "a\n',
            "end of stream (the bracket or quote opened in line 1 is never closed; a ` #` outside quotes begins a comment)",
        ),
        (
            "a: 1\nb: {c: Nr. #1}\n",
            "but got the end of the text (the bracket or quote opened in line 2 is never closed; a ` #` outside quotes",
        ),
        ("a: 1\nb:\xa0x\nc: 2\n", "(line 2 has a NO-BREAK SPACE; write a plain space or quote)"),
        ("a: {b: “c: d”}\n", "(line 1 has a LEFT DOUBLE QUOTATION MARK; write a plain space or quote)"),
        ("name: *a\n", "eval.yaml:1:7: not YAML: found undefined alias 'a'"),
        ("name: a\n---\nname: b\n", "eval.yaml:2:1: not YAML: but found another document (a file holds one config; remove"),
        (
            "name: a\nb: {c: ${V}}\n",
            "not YAML: expected ',' or '}', but got '{' (quote a `${VAR}` inside [ ] or { })",
        ),
        (
            "a: {{ item.b }} c\n",
            "eval.yaml:1:17: not YAML: expected <block end>, but found '<scalar>' (quote a text that begins with",
        ),
        ('a: {{ item["b c"] }}\n', "(quote a text that begins with a template)"),
        ("a: [{b: c, d: {% if e %}f}]\n", "(quote a text that begins with a template)"),
        ("a: {b: Question: c}\n", "got ':' (quote a text that holds a colon)"),
        ("a: Question: c\n", "mapping values are not allowed here (quote a text that holds a colon)"),
        ("a:\n  - b: 1\n   c: 2\n", "(is the line indented as the others of its mapping or list?)"),
        ('a: "\\d+"\n', "unknown escape character 'd' (put it into single quotes, in which a backslash is a backslash)"),
        ('name: a\nb: "\x07"\n', "eval.yaml:2: not YAML: the character U+0007 is not allowed here"),
        ("[" * 600, "eval.yaml: not YAML: nested too deeply"),
        ("", "eval.yaml:1: config: should be a mapping of keys, and is empty"),
        ("# nothing\n", "eval.yaml:1: config: should be a mapping of keys, and is empty"),
        ("- a\n", "eval.yaml:1: config: should be a mapping of keys, and is a list"),
        ("${FOO}\n", "eval.yaml:1: config: should be a mapping of keys, and is one value"),
        ("!!python/object:os.system {}\n", "eval.yaml:1: config: the tag tag:yaml.org,2002:python/object:os.system is not"),
        (b"name: a\nb: caf\xe9\n", "eval.yaml:2: not UTF-8: byte 0xe9; save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_config_says_where(tmp_path: Path, text: str | bytes, message: str) -> None:
    (mistake,) = mistakes(tmp_path, text)
    assert message in mistake


@pytest.mark.parametrize(
    ("key", "written", "path"),
    [
        ("temperature", "{{item.a}}", "temperature"),
        ("temperature", "{{ item.a | float }}", "temperature"),
        ("stop", "{{ item.refs.split('; ') }}", "stop"),
        ("extra_body", "{a: [{{ item.a }}]}", "extra_body.a.0"),
    ],
)
def test_a_template_without_quotes_is_told_to_have_some(tmp_path: Path, key: str, written: str, path: str) -> None:
    (mistake,) = mistakes(tmp_path, with_configuration(f"{key}: {written}"))
    template = written[written.index("{{") : written.index("}}") + 2]
    assert mistake == f'eval.yaml:11: tasks.0.configuration.{path}: a template needs quotes around it: "{template}"'


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: there is no such file \(the path is relative to "):
        read_config_file(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("name: other", "eval.yaml:11: name: the key appears twice"),
        ("metadata: {a: 1, 'a': 2}", "eval.yaml:11: metadata.a: the key appears twice"),
        ("metadata: {<<: {a: 1}, b: 1, b: 2}", "eval.yaml:11: metadata.b: the key appears twice"),
        ("metadata: {? [a] : 1}", "eval.yaml:11: metadata.?: a key must be a plain word"),
        ("metadata: {<<: 3}", "eval.yaml:11: metadata.<<: takes a mapping, or a list of mappings"),
        ("metadata: {a: !!python/object/apply:os.system [x]}", "eval.yaml:11: metadata.a: the tag "),
        ("metadata: {a: !mine x}", "eval.yaml:11: metadata.a: the tag !mine is not allowed"),
        ("metadata: {a: !!binary aGk=}", "eval.yaml:11: metadata.a: the tag tag:yaml.org,2002:binary is not allowed"),
        ("metadata: {a: !!int x}", "eval.yaml:11: metadata.a: 'x' is not a valid int"),
        ("metadata: {a: !!bool x}", "eval.yaml:11: metadata.a: 'x' is not a valid bool"),
        (f"metadata: {{a: {'1' * 5000}}}", f"eval.yaml:11: metadata.a: '{'1' * 40}' is not a valid int"),
    ],
)
def test_yaml_that_is_no_plain_value_is_named(tmp_path: Path, more: str, message: str) -> None:
    (mistake,) = mistakes(tmp_path, f"{GOOD}{more}\n")
    assert mistake.startswith(message)


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("1e-6", 1e-6),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", float("-inf")),
        ("no", "no"),
        ("on", "on"),
        ("YES", "YES"),
        ("True", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("010", 10),
        ("0o17", 15),
        ("0xff", 255),
        ("+7", 7),
        ("2026-11-21", "2026-11-21"),
        ("=", "="),
        ("[<<]", ["<<"]),
        ("!!str 5", "5"),
        ('"\\ud83d\\ude00"', "😀"),
        ('"a\\ud800b"', "a\ufffdb"),
        ("{1: a, true: b}", {"1": "a", "true": "b"}),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(tmp_path: Path, scalar: str, value: object) -> None:
    (found,) = read_config_file(written(tmp_path, f"k: {scalar}\n")).document.values()
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", {"x": 1, "y": 3}),
        ("a: &a {x: 1, y: 2}\nb: {y: 3, <<: *a}\n", {"x": 1, "y": 3}),
        ("b: {<<: [{x: 1}, {x: 2, y: 2}], z: 3}\n", {"x": 1, "y": 2, "z": 3}),
        ("b: {'<<': 1}\n", {"<<": 1}),
    ],
)
def test_merge_keys(tmp_path: Path, text: str, document: dict[str, int]) -> None:
    assert read_config_file(written(tmp_path, text)).document["b"] == document


def alias_bomb(form: str) -> str:
    """Return a small text that stands for 10^9 values."""
    lines = ["a0: &a0 {}" if "<<" in form else "a0: &a0 x"]
    lines += [f"a{n}: &a{n} {form % ', '.join([f'*a{n - 1}'] * 10)}" for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text", [alias_bomb("[%s]"), alias_bomb("{<<: [%s]}"), "a: &a [*a]\n", "a: &a {b: *a}\n", "a: &a {<<: *a}\n"]
)
def test_a_few_aliases_cannot_stand_for_a_billion_values(tmp_path: Path, text: str) -> None:
    (mistake,) = mistakes(tmp_path, text)
    assert "is an alias nested in itself?" in mistake or "nested too deeply" in mistake


# The copy in the run directory


def reread(file: ConfigFile, folder: Path) -> dict[str, Any]:
    copy = folder / "copy.yaml"
    copy.write_text(file.rerunnable_text(), encoding="utf-8")
    return read_config_file(copy).document


def quoting_of(value: object) -> object:
    """Return which strings of a document are unquoted ones with a variable in them."""
    if isinstance(value, dict):
        return {key: quoting_of(member) for key, member in value.items()}
    return [quoting_of(member) for member in value] if isinstance(value, list) else type(value)


def test_without_overrides_the_copy_is_the_file(tmp_path: Path) -> None:
    text = f"# a comment\n{GOOD}"
    assert read_config_file(written(tmp_path, text)).rerunnable_text() == text


@pytest.mark.parametrize(
    "override",
    ["limits.concurrency=3", "description='a\u2028b'", "description=a\nb", "description='\x85'", 'output="a\\nb"', "name=${N}"],
)
def test_the_copy_of_an_overridden_config_says_the_same(tmp_path: Path, override: str) -> None:
    text = (
        f"{GOOD}description: ${{A:-1}}\noutput: '${{B}}'\nmetadata: {{a: '1', b: 1e-6, c: 'no', d: '1e-6', e: '<<', f: ''}}\n"
    )
    file = read_config_file(written(tmp_path, text), [override])
    assert reread(file, tmp_path) == file.document
    assert quoting_of(reread(file, tmp_path)) == quoting_of(file.document)


def test_the_copy_keeps_variables_and_whether_they_were_quoted(tmp_path: Path) -> None:
    file = read_config_file(written(tmp_path, "a: ${A}\nb: '${B}'\nc: \"$${C}\"\n"), ["d=1"])
    assert file.rerunnable_text().splitlines()[1:] == ["a: ${A}", "b: '${B}'", "c: '$${C}'", "d: 1"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "${A}",
        "x ${A:-1} y",
        "$${A}",
        "1",
        "true",
        "null",
        "~",
        "",
        "<<",
        "=",
        "1e3",
        "item.x",
        "{{item.x}}",
        "a: b",
        "# c",
        "- d",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=10
)


@given(document=st.dictionaries(TEXTS, DOCUMENTS, max_size=5))
def test_what_is_dumped_is_read_again(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_bytes(dump(document).encode())
    found = read_config_file(path).document
    assert found == document
    assert quoting_of(found) == quoting_of(document)


@pytest.mark.parametrize("text", ["${A}", "a ${B:-c d} e", "$${A}", "${A}" + " word" * 60])
def test_an_unquoted_variable_stays_unquoted(tmp_path: Path, text: str) -> None:
    found = read_config_file(written(tmp_path, dump({"k": [Plain(text)]}))).document
    assert found == {"k": [text]}
    assert type(found["k"][0]) is Plain


# Short forms, and what lies between tasks


@pytest.mark.parametrize(
    ("dataset", "path", "data"),
    [
        ("dataset: a.jsonl", ["a.jsonl"], None),
        ("dataset: [a.jsonl, b.csv]", ["a.jsonl", "b.csv"], None),
        ("dataset: {path: a.jsonl}", ["a.jsonl"], None),
        ("dataset: {data: [{a: 1}]}", None, [{"a": 1}]),
        ("data: [{a: 1}, {a: 2}]", None, [{"a": 1}, {"a": 2}]),
    ],
)
def test_short_forms_of_the_dataset(
    tmp_path: Path, dataset: str, path: list[str] | None, data: list[dict[str, int]] | None
) -> None:
    config = loaded(tmp_path, GOOD.replace("dataset: capitals.jsonl", dataset))
    assert (config.dataset.path, config.dataset.data) == (path, data)


def test_a_mistake_in_inline_data_has_its_line(tmp_path: Path) -> None:
    text = GOOD.replace("dataset: capitals.jsonl", "data:\n  - {a: 1}\n  - 7")
    assert mistakes(tmp_path, text) == ["eval.yaml:4: dataset.data.1: should be a mapping of keys, got 7"]


def chat(alias: str, content: str = "hi", more: str = "") -> str:
    return f"""\
  - task_type: chat_completion
    alias: {alias}{more}
    configuration: {{model: m, messages: [{{role: user, content: "{content}"}}]}}
"""


def metric(alias: str, candidate: str, reference: str = "item.capital", more: str = "") -> str:
    return f"""\
  - task_type: metric
    alias: {alias}{more}
    configuration: {{type: exact_match, candidate: {candidate}, reference: {reference}}}
"""


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (chat("a") + chat("a"), "eval.yaml:10: tasks.1.alias: another task has the alias `a`; rename one of them"),
        (chat("a", "{{item.b}}") + chat("b", "{{item.a}}"), "eval.yaml:5: tasks: these tasks wait for each other: a, b"),
        (
            chat("a", "item.a"),
            "eval.yaml:7: tasks.0.alias: the task reads `a`, which is its own result; to read a column, give the task",
        ),
        (
            chat("a", more="\n    samples: 3") + metric("right", "item.a", more="\n    samples: 2"),
            "eval.yaml:12: tasks.1.samples: is 2, but its input `a` has 3; give both the same",
        ),
        (
            chat("a", more="\n    samples: 3") + chat("b") + metric("same", "item.a", "item.b"),
            "eval.yaml:13: tasks.2.samples: is 3, but its input `b` has 1; give both the same",
        ),
        (chat("a", "{{item.x") + chat("b"), "tasks.0.configuration.messages.0.content: the template does not parse: "),
        (chat("a", "{{item.x|zap}}"), "the template does not parse: No filter named 'zap'. (line 1 of the template)"),
    ],
)
def test_what_does_not_fit_between_tasks_is_named(tmp_path: Path, tasks: str, message: str) -> None:
    (mistake,) = mistakes(tmp_path, f"{HEAD}tasks:\n{tasks}")
    assert message in mistake


def test_wrong_samples_of_one_task_do_not_hide_its_own_mistake(tmp_path: Path) -> None:
    tasks = chat("a", more="\n    samples: ten") + chat("b") + metric("same", "item.a", "item.b")
    assert mistakes(tmp_path, f"{HEAD}tasks:\n{tasks}") == [
        "eval.yaml:8: tasks.0.samples: should be a valid integer, got 'ten'"
    ]


def test_a_metric_without_alias_is_called_by_its_type(tmp_path: Path) -> None:
    tasks = chat("a") + "".join(
        f"  - {{task_type: metric, configuration: {{type: '{kind}', candidate: item.a, reference: x}}}}\n"
        for kind in ("numeric", "choice", "item.kind")
    )
    assert [task.name for task in loaded(tmp_path, f"{HEAD}tasks:\n{tasks}").tasks] == ["a", "numeric", "choice", "metric"]
    (mistake,) = mistakes(tmp_path, f"{HEAD}tasks:\n{tasks}{tasks.splitlines()[-2]}\n")
    assert "another task has the alias `choice`" in mistake


def test_two_metrics_whose_type_each_row_says_need_aliases(tmp_path: Path) -> None:
    one = "  - {task_type: metric, configuration: {type: '{{item.kind}}', candidate: item.a, reference: x}}\n"
    two = one.replace("{{item.kind}}", "item.kind")
    (mistake,) = mistakes(tmp_path, f"{HEAD}tasks:\n{chat('a')}{one}{two}")
    assert "tasks.2.alias: another task has the alias `metric`" in mistake


@pytest.mark.parametrize(
    ("inputs", "ordered"),
    [
        ({"a": [], "b": []}, ["a", "b"]),
        ({"a": ["b"], "b": []}, ["b", "a"]),
        ({"a": ["c"], "b": ["a"], "c": []}, ["c", "a", "b"]),
        ({"a": ["b"], "b": ["a"], "c": []}, ["c"]),
        ({"a": ["a"]}, []),
        ({"d": ["b", "c"], "c": ["a"], "b": ["a"], "a": []}, ["a", "c", "b", "d"]),
    ],
)
def test_tasks_come_after_those_they_read(inputs: dict[str, list[str]], ordered: list[str]) -> None:
    assert order(inputs) == ordered


@given(st.lists(st.lists(st.integers(0, 7), max_size=3), max_size=8))
def test_every_order_keeps_its_promise(edges: list[list[int]]) -> None:
    inputs = {str(n): [str(m) for m in sources if m < n] for n, sources in enumerate(edges)}
    ordered = order(dict(reversed(inputs.items())))
    assert sorted(ordered) == sorted(inputs)
    assert all(ordered.index(source) < ordered.index(name) for name, sources in inputs.items() for source in sources)


def test_a_task_runs_as_often_as_what_it_reads() -> None:
    inputs = {"right": ["a"], "a": [], "b": [], "mean": ["right"]}
    found = effective_samples({"right": None, "a": 5, "b": None, "mean": None}, inputs)
    assert found == {"a": 5, "b": 1, "right": 5, "mean": 5}


# The schema


@pytest.mark.long
def test_the_shipped_schema_is_the_one_of_the_code() -> None:
    assert json.loads((ROOT / "configs" / "schema.json").read_text()) == schema()


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("dataset: capitals.jsonl", "dataset: [a.jsonl]"),
        GOOD.replace("dataset: capitals.jsonl", "dataset: {path: a.jsonl, limit: 3}"),
        GOOD.replace("dataset: capitals.jsonl", "data: [{a: 1}]"),
        with_metric(reference=["a", "b"]),
        with_configuration("temperature: item.temperature", "max_tokens: '{{item.n}}'", "extra_body: {top_a: 1}"),
    ],
)
def test_every_form_fits_the_schema(tmp_path: Path, text: str) -> None:
    loaded(tmp_path, text)
    VALIDATOR.validate(read_config_file(written(tmp_path, text)).document)


@pytest.mark.parametrize(
    "text",
    [
        f"{GOOD}limits: {{concurency: 3}}\n",
        f"{GOOD}limits: {{concurrency: 0}}\n",
        with_configuration("temprature: 1"),
        with_configuration("temperature: hot"),
        GOOD.replace("task_type: chat_completion", "task_type: chat"),
        HEAD,
    ],
)
def test_what_is_wrong_does_not_fit_the_schema(tmp_path: Path, text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(read_config_file(written(tmp_path, text)).document)
