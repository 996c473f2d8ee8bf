"""Every secret that a config, its environment or its overrides hold: none is kept or shown, whatever echoes it."""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner.config.file import read_config_file
from runner.config.loading import load_config
from runner.config.yaml_text import dump
from runner.logs import cleaning, logger
from runner.secrets.redaction import Redactor, is_secret
from tests.commands import Project, ask, here
from tests.reliability.canary import places_of
from tests.serving import Served, chat_answer
from tests.trials import ROWS, config_of, run

KEY = "sk-CANARY-0123456789abcdef"
HEADER = "hdr-CANARY-0123456789abcdef"
QUERY = "qry-CANARY-0123456789abcdef"
PASSWORD = "pw-CANARY/0123456789"
PROXY = f"http://user:{PASSWORD.replace('/', '%2F')}@127.0.0.1"


def secrets_of(tmp_path: Path, url: str, environment: Mapping[str, str], **endpoint: Any) -> list[str]:
    project = Project(tmp_path / "p", url, more={"endpoint": {"base_url": url, **endpoint}})
    config, _ = load_config(project.config, (), environment)
    return config.secrets(environment)


def test_what_is_a_secret(tmp_path: Path) -> None:
    url = f"http://h.invalid/v1?api-key={QUERY}&api-version=2024-10-21"
    environment = {"OPENAI_API_KEY": f"{KEY}\n", "HTTPS_PROXY": PROXY, "no_proxy": "localhost", "http_proxy": "http://plain:1"}
    headers = {"Authorization": f"Bearer {HEADER}", "X-Team": "evaluations"}
    found = secrets_of(tmp_path, url, environment, headers=headers)
    assert {KEY, HEADER, f"Bearer {HEADER}", QUERY, PASSWORD, f"user:{PASSWORD}"} <= set(found)
    assert not {"evaluations", "2024-10-21", "localhost", "http://plain:1", "plain", f"{KEY}\n"} & set(found)


BASIC = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
LONG = "0123456789abcdef"


@pytest.mark.parametrize(
    ("endpoint", "environment", "secret"),
    [
        *(({"headers": {name: "${X}"}}, {"X": HEADER}, [HEADER]) for name in ("X-Custom", "X-JWT", "Cf-Access-Client-Id")),
        ({"headers": {"X-Custom": "Bearer ${X}"}}, {"X": HEADER}, [HEADER]),
        ({"headers": {"X-Custom": "${X}"}}, {"X": f"Bearer {HEADER}"}, [HEADER, f"Bearer {HEADER}"]),
        ({"headers": {"X-Custom": "v1;${A}-${B}"}}, {"A": "a1b2c3d4e5", "B": LONG}, ["a1b2c3d4e5", LONG, f"a1b2c3d4e5-{LONG}"]),
        ({"headers": {"X-Custom": "${A}${B}"}}, {"A": "sk-12ab", "B": "9xk-22z"}, ["sk-12ab9xk-22z"]),
        ({"headers": {"X-Custom": "${X:-none}"}}, {"X": HEADER}, [HEADER]),
        ({"headers": {"X-Custom": "${MY_TOKEN:-" + HEADER + "}"}}, {}, [HEADER]),
        ({"headers": {"X-JWT": HEADER}}, {}, [HEADER]),
        ({"base_url": "http://h.invalid/v1?code=${X}&v=1"}, {"X": QUERY}, [QUERY]),
        ({"base_url": "http://h.invalid/v1?v=1&k=${X}"}, {"X": "a%2Fb-0123456789"}, ["a%2Fb-0123456789"]),
        ({"base_url": "http://h.invalid/v1?${X}"}, {"X": QUERY}, [QUERY]),
        ({"base_url": "http://h.invalid/v1${X}"}, {"X": f"?who={QUERY}&v=1"}, [QUERY]),
        ({"base_url": "${X}"}, {"X": f"http://h.invalid/v1?who={QUERY}"}, [QUERY]),
        ({"base_url": f"http://h.invalid/v1?code={QUERY}"}, {}, [QUERY]),
        ({"headers": {"Authorization": f"Basic {BASIC}"}}, {}, [PASSWORD, f"user:{PASSWORD}", BASIC]),
        ({"headers": {"Authorization": "Basic ${X}"}}, {"X": BASIC}, [PASSWORD, f"user:{PASSWORD}", BASIC]),
        ({"headers": {"X-Forwarded": "basic ${X}"}}, {"X": BASIC.rstrip("=")}, [PASSWORD]),
        ({"headers": {"Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}}, {}, [KEY]),
        ({}, {"https_proxy": f"http://{KEY}@127.0.0.1:9"}, [KEY]),
        ({}, {"https_proxy": f"http://{KEY}:x@127.0.0.1:9"}, [KEY]),
        ({"headers": {"X-Team": "${MODEL}", "X-Key": "${MODEL}"}}, {"MODEL": "gpt-4o-mini"}, ["gpt-4o-mini"]),
    ],
)  # fmt: skip
def test_what_comes_by_a_variable_is_a_secret(
    tmp_path: Path, endpoint: dict[str, Any], environment: dict[str, str], secret: list[str]
) -> None:
    found = secrets_of(tmp_path, "http://h.invalid/v1", environment, **endpoint)
    assert set(secret) <= set(found)


@pytest.mark.parametrize(
    ("endpoint", "environment"),
    [
        ({"headers": {"X-Team": "${X}"}}, {"X": "evals"}),
        ({"headers": {"X-Team": "${X}"}}, {"X": "evaluations"}),
        ({"headers": {"X-Team": "${X:-evaluations-2026}"}}, {}),
        ({"headers": {"X-Model": "${X}"}}, {"X": "model-4o"}),
        ({"headers": {"Anthropic-Version": "${X}"}}, {"X": "2023-06-01"}),
        ({"headers": {"Host": "${X}"}, "base_url": "http://${X}/v1"}, {"X": "host-1.invalid"}),
        ({"base_url": "http://${X}/v1?v=1"}, {"X": "host-1.invalid"}),
        ({"base_url": "http://h.invalid/${X}/v1?v=1"}, {"X": "deployment-1"}),
        ({"base_url": "http://h.invalid/v1?api-version=${X}"}, {"X": "2024-10-21"}),
        ({"base_url": "http://h.invalid/v1?api-version=${X}"}, {"X": "2025-01-01-preview"}),
        ({"base_url": "http://h.invalid/v1?deployment=gpt-4o-2024"}, {}),
        ({"verify": "${X}"}, {"X": "/etc/ssl/certs/ca-bundle-1.crt"}),
    ],
)
def test_what_is_plainly_no_secret_is_none(tmp_path: Path, endpoint: dict[str, Any], environment: dict[str, str]) -> None:
    project = Project(
        tmp_path / "p", "http://h.invalid/v1", more={"endpoint": {"base_url": "http://h.invalid/v1", **endpoint}},
        tasks=[ask(configuration={"model": "model-4o"})],
    )  # fmt: skip
    config, _ = load_config(project.config, (), environment)
    assert [secret for secret in config.secrets(environment) if is_secret(secret)] == []


def test_no_secret_where_there_is_none(tmp_path: Path) -> None:
    assert secrets_of(tmp_path, "http://h.invalid/v1", {}) == []


async def echo_everything(request: web.Request, _body: Any) -> web.StreamResponse:
    """Answer with all that came: headers, query, and both in base64."""
    text = "\n".join([str(request.url), *map(str, request.headers.items())])
    passed = base64.b64encode(PASSWORD.encode()).decode()
    answer = chat_answer(f"{text}\n{base64.b64encode(text.encode()).decode()}\n{PASSWORD} {passed}", model=text, id=text)
    arguments = json.dumps({"inner": json.dumps({text: text})})
    call = {"id": text, "type": "function", "function": {"name": text, "arguments": arguments}}
    answer["choices"][0] |= {"finish_reason": text}
    answer["choices"][0]["message"] |= {"tool_calls": [call], "reasoning_content": text}
    return web.json_response(answer | {text: text})


@pytest.mark.parametrize("command", ["run", "check"])
def test_no_secret_is_kept_or_shown(tmp_path: Path, command: str) -> None:
    results = tmp_path / "p" / "results"
    with Served(echo_everything) as endpoint:
        url = f"{endpoint.url}?api-key=${{QUERY}}"
        project = Project(
            tmp_path / "p", url, tasks=[ask(content="{{item.question}} " + KEY)],
            more={
                "endpoint": {"base_url": url, "headers": {"X-Api-Key": "${HEADER}"}, "record": str(results / "recordings")},
                "metadata": {"oops": "${HEADER}"},
                "description": f"a key in the text: {KEY}",
            },
            environment={
                "OPENAI_API_KEY": KEY, "HEADER": HEADER, "QUERY": QUERY, "PYTHONASYNCIODEBUG": "1",
                "https_proxy": f"{PROXY}:9", "no_proxy": "127.0.0.1",
            },
        )  # fmt: skip
        arguments = [str(project.config)] if command == "run" else [str(project.config), "--json", "--save", str(results)]
        found = project.command("-m", "runner", command, *arguments)
    assert found.returncode in {0, 1}, found.stderr
    assert list(places_of([KEY, HEADER, QUERY, PASSWORD], results, found.stdout, found.stderr)) == []
    if command == "run":
        assert b"[redacted]" in b"".join(path.read_bytes() for path in results.rglob("*.jsonl"))


def test_a_key_in_an_override_is_not_in_the_resume_command(tmp_path: Path) -> None:
    async def refuse(_request: web.Request, _body: Any) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=401)

    with Served(refuse) as endpoint:
        found = Project(tmp_path / "p", endpoint.url).run_here("--set", f"endpoint.headers.X-Api-Key={HEADER}")
    assert found.returncode == 3
    assert "--resume" in found.stdout
    assert HEADER not in found.stdout + found.stderr


# Secrets that the config itself holds


def with_endpoint(url: str, **more: Any) -> dict[str, Any]:
    return {"endpoint": {"base_url": url, **more}}


def written(case: str, url: str) -> dict[str, Any]:
    """Return what of a config holds HEADER as text."""
    match case:
        case "endpoint.headers.Authorization":
            return {"more": with_endpoint(url, headers={"Authorization": f"Bearer {HEADER}"})}
        case "endpoint.headers.X-Api-Key":
            return {"more": with_endpoint(url, headers={"X-Api-Key": f"${{UNSET:-{HEADER}}}"})}
        case "endpoint.base_url":
            return {"more": with_endpoint(f"{url}?api-version=1&api-key={HEADER}")}
        case _:
            return {"tasks": [ask(configuration={"extra_body": {"backend": {"api_key": HEADER}}})]}


@pytest.mark.parametrize(
    "path",
    [
        "endpoint.headers.Authorization",
        "endpoint.headers.X-Api-Key",
        "endpoint.base_url",
        "tasks.0.configuration.extra_body.backend.api_key",
    ],
)
def test_a_secret_in_the_config_is_warned_of_and_not_copied(tmp_path: Path, path: str) -> None:
    with Served(echo_everything) as endpoint:
        project = config_of(tmp_path / "p", endpoint.url, **written(path, endpoint.url))
        ran = run(project)
        dry = run(project, "--dry-run")
    assert ran.code == 0, ran.all_said
    assert f"{project.config}:" in ran.said
    assert f": {path}: holds a secret as text; put it into an environment variable and write ${{NAME}} in its place" in ran.said
    assert list(places_of([HEADER], project.run_dir, ran.out, ran.said, dry.out, dry.said)) == []
    # The copy is still a config: `export` reads it.
    copy = read_config_file(project.run_dir / "config.yaml").document
    assert copy["name"] == "trial"
    project.delete_views()
    assert here("export", str(project.run_dir), environment={}).returncode == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer ${HEADER}"},
        {"Authorization": "Bearer EMPTY"},
        {"X-Api-Key": "${HEADER}"},
        {"X-Team": "evaluations-2026"},
    ],
)
def test_what_is_no_secret_as_text_is_not_warned_of(tmp_path: Path, headers: dict[str, str]) -> None:
    with Served() as endpoint:
        ran = run(
            config_of(tmp_path / "p", endpoint.url, endpoint={"headers": headers}, environment={"HEADER": HEADER, "K": QUERY})
        )
    assert ran.code == 0, ran.all_said
    assert "secret" not in ran.said
    assert list(places_of([HEADER, QUERY], ran.project.run_dir, ran.all_said)) == []


@pytest.mark.parametrize("how", ["escaped", "folded", "unquoted", "in a list of its own"])
def test_a_secret_is_not_copied_however_yaml_writes_it(tmp_path: Path, how: str) -> None:
    text = {
        "escaped": f'headers: {{Authorization: "Bearer \\x68{HEADER[1:]}"}}',
        "folded": f'headers: {{X-Api-Key: "{HEADER[:9]}\\\n  {HEADER[9:]}"}}',
        "unquoted": f"headers: {{X-Api-Key: {HEADER}}}",
        "in a list of its own": f"headers:\n    X-Api-Key: {HEADER}",
    }[how]
    with Served() as endpoint:
        project = config_of(tmp_path / "p", endpoint.url)
        project.config.write_text(
            f"name: trial\ndataset: {{path: {project.dataset}, id: id}}\noutput: {tmp_path}/p/results\n"
            f"endpoint:\n  base_url: {endpoint.url}\n  {text}\n"
            "tasks: [{task_type: chat_completion, configuration: {model: m, messages: item.messages}}]\n"
        )
        project.dataset.write_text('{"id": "a", "messages": [{"role": "user", "content": "q"}]}\n')
        ran = run(project)
        assert ran.code == 0, ran.all_said
        assert HEADER in str(endpoint.seen[0].headers)
    assert "holds a secret as text" in ran.said
    copy = read_config_file(project.run_dir / "config.yaml").document
    assert HEADER not in str(copy)
    assert copy["endpoint"]["base_url"] == endpoint.url


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ({"api_key": KEY}, "endpoint.api_key: do not write the key here: put it into an environment variable, and name"),
        ({"api_key_env": "gsk_CANARY0123456789abcdef"}, "endpoint.api_key_env: is not the name of an environment variable"),
        ({"api_key_env": KEY}, "endpoint.api_key_env: is not the name of an environment variable"),
        ({"headers": {"X-Api-Key": HEADER}, "name": HEADER}, "endpoint.name: unknown key"),
        ({"headers": {"X-Api-Key": HEADER}, "verify": [HEADER]}, "endpoint.verify: "),
        ({"headers": {"X-Custom": "${HEADER}"}, "verify": ["x" * 40 + "${HEADER}"]}, "endpoint.verify: "),
        ({"headers": {"X-Custom": "${HEADER}"}, "timeout": {"connect": "${OPENAI_API_KEY}"}}, "endpoint.timeout.connect: "),
    ],
)
def test_a_config_is_refused_without_showing_its_secrets(tmp_path: Path, endpoint: dict[str, Any], words: str) -> None:
    with Served() as served:
        environment = {"HEADER": HEADER, "OPENAI_API_KEY": KEY}
        ran = run(config_of(tmp_path / "p", served.url, endpoint=endpoint, environment=environment))
    assert (ran.code, served.seen) == (2, [])
    assert words in ran.said
    assert "CANARY" not in ran.all_said


async def stop_after_one(_request: web.Request, body: Any) -> web.StreamResponse:
    if body["messages"][-1]["content"] == ROWS[0]["question"]:
        return web.json_response(chat_answer())
    return web.json_response({"error": {"message": "no", "code": "insufficient_quota"}}, status=429)


def test_what_changed_is_told_without_secrets(tmp_path: Path) -> None:
    long = "n" * 60  # a secret that the end of a long line cuts is one still

    def project(key: str, version: str) -> Project:
        url = f"{endpoint.url}?deployment={version}-{long}&api-key={key}"
        task = ask(configuration={"extra_body": {"backend": {"password": f"{key}-{version}"}}})
        return config_of(tmp_path / "p", url, tasks=[task])

    with Served(stop_after_one) as endpoint:
        assert run(project(QUERY, "one")).code == 3
        ran = run(project(HEADER, "two"), "--resume")
    assert ran.code == 2, ran.all_said
    assert f"deployment=one-{long}" in ran.said
    assert f"deployment=two-{long}" in ran.said
    assert "tasks.0.configuration.extra_body.backend.password" in ran.said
    assert "CANARY" not in ran.all_said


def test_another_key_in_the_url_is_no_other_evaluation(tmp_path: Path) -> None:
    with Served(stop_after_one) as endpoint:
        first = config_of(tmp_path / "p", f"{endpoint.url}?api-version=1&api-key={QUERY}")
        assert run(first).code == 3
        second = run(config_of(tmp_path / "p", f"{endpoint.url}?api-version=1&api-key={HEADER}"), "--resume")
        third = run(config_of(tmp_path / "p", f"{endpoint.url}?api-version=2&api-key={HEADER}"), "--resume")
    assert (second.code, third.code) == (3, 2)


def test_a_traceback_is_logged_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stderr)
    root.addHandler(handler)
    try:
        try:
            int(f"Authorization: Bearer {KEY}")
        except ValueError:
            with cleaning(Redactor([KEY]).text):
                logger("runner.x").warning("the server says %s", KEY)
                logger("runner.x").exception("unexpected")
    finally:
        root.removeHandler(handler)
    assert not handler.filters
    said = capsys.readouterr().err
    assert "the server says [redacted]" in said
    assert "Authorization: Bearer [redacted]" in said
    assert KEY not in said


@pytest.mark.parametrize("how", ["text", "--set"])
def test_a_code_in_the_url_is_not_copied(tmp_path: Path, how: str) -> None:
    with Served() as endpoint:
        url = f"{endpoint.url}?code={QUERY}"
        project = config_of(tmp_path / "p", url if how == "text" else endpoint.url)
        ran = run(project, *(("--set", f"endpoint.base_url={url}") if how == "--set" else ()))
    assert ran.code == 0, ran.all_said
    assert "endpoint.base_url: holds a secret as text" in ran.said
    assert list(places_of([QUERY], project.run_dir, ran.all_said)) == []


def test_what_is_only_copied_is_as_it_was_written(tmp_path: Path) -> None:
    """Also where YAML quotes nothing, and where a variable is not set."""
    about = (
        "description: ${X} of $${X}\ntags:\n- ${X}\n- n-${N:-3}\nmetadata: {plain: '${N}', deep: [{url: 'db://u:${X}@h'}]}\n"
    )
    with Served() as endpoint:
        project = config_of(tmp_path / "p", endpoint.url, environment={"N": "5"}, rows=[{"id": "a", "question": "q"}])
        text = project.config.read_text()
        project.config.write_text(f"{about}{dump(json.loads(text))}")
        ran = run(project)
    assert ran.code == 0, ran.all_said
    kept = {key: project.evaluation[key] for key in ("description", "tags", "metadata")}
    assert kept == {
        "description": "${X} of $${X}", "tags": ["${X}", "n-${N:-3}"],
        "metadata": {"plain": "${N}", "deep": [{"url": "db://u:${X}@h"}]},
    }  # fmt: skip
    assert (project.run_dir / "config.yaml").read_text() == project.config.read_text()


def test_a_path_that_is_not_there_is_told_without_secrets(tmp_path: Path) -> None:
    with Served() as served:
        endpoint = {"headers": {"X-Custom": "${HEADER}"}, "verify": "/nowhere/${HEADER}"}
        ran = run(config_of(tmp_path / "p", served.url, endpoint=endpoint, environment={"HEADER": HEADER}))
    assert ran.code == 2
    assert "endpoint.verify: '/nowhere/[redacted]' is not there" in ran.said
    assert "CANARY" not in ran.all_said


@pytest.mark.parametrize("tasks", [5, "x", {"a": 1}, [5], [{"configuration": 5}], None])
def test_a_config_that_is_no_good_is_told_without_secrets(tmp_path: Path, tasks: Any) -> None:
    with Served() as served:
        more = {"tasks": tasks, "endpoint": {"headers": {"X-Custom": "${HEADER}"}, "timeout": "${HEADER}"}}
        ran = run(Project(tmp_path / "p", served.url, more=more, environment={"HEADER": HEADER}))
    assert ran.code == 2
    assert "endpoint.timeout: " in ran.said
    assert "unexpected" not in ran.said
    assert "CANARY" not in ran.said
