"""Every secret that a config, its environment or its overrides hold: none is kept or shown, whatever echoes it."""

from __future__ import annotations

import base64
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner.config import load_config
from runner.redaction import Redactor
from tests.commands import Project, ask
from tests.reliability.canary import places_of
from tests.serving import Served, chat_answer

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


def test_no_secret_where_there_is_none(tmp_path: Path) -> None:
    assert secrets_of(tmp_path, "http://h.invalid/v1", {}) == []


async def echo_everything(request: web.Request, _body: Any) -> web.StreamResponse:
    """Answer with all that came: headers, query, and both in base64."""
    text = "\n".join([str(request.url), *map(str, request.headers.items())])
    passed = base64.b64encode(PASSWORD.encode()).decode()
    return web.json_response(chat_answer(f"{text}\n{base64.b64encode(text.encode()).decode()}\n{PASSWORD} {passed}"))


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
    results.mkdir(exist_ok=True)
    kept = results if command == "run" else tmp_path / "none"
    assert list(places_of([KEY, HEADER, QUERY, PASSWORD], kept, found.stdout, found.stderr)) == []
    if command == "run":
        assert b"[redacted]" in b"".join(path.read_bytes() for path in results.rglob("*.jsonl"))


def test_a_key_in_an_override_is_not_in_the_resume_command(tmp_path: Path) -> None:
    async def refuse(_request: web.Request, _body: Any) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=401)

    with Served(refuse) as endpoint:
        found = Project(tmp_path / "p", endpoint.url).run("--set", f"endpoint.headers.X-Api-Key={HEADER}")
    assert found.returncode == 3
    assert "--resume" in found.stdout
    assert HEADER not in found.stdout + found.stderr


def test_a_traceback_is_logged_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stderr)
    root.addHandler(handler)
    try:
        try:
            with Redactor([KEY]).in_logs():
                logging.getLogger("runner.x").warning("the server says %s", KEY)
                int(f"Authorization: Bearer {KEY}")
        except ValueError:  # as the command line does
            logging.getLogger("runner.x").exception("unexpected")
    finally:
        root.removeHandler(handler)
        for other in root.handlers:
            other.filters.clear()
    said = capsys.readouterr().err
    assert "the server says [redacted]" in said
    assert "Authorization: Bearer [redacted]" in said
    assert KEY not in said
