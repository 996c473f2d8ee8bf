"""The fault matrix, config: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import base64
import os
import urllib.parse
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from tests.commands import Holding, ask
from tests.misbehaving import Misbehaving
from tests.reliability.canary import places_of
from tests.serving import Served
from tests.trials import ROWS, Ran, config_of, run, trial

KEY = "sk-CANARY-0123456789abcdef"


def refused(folder: Path, text: str, *words: str, environment: dict[str, str] | None = None) -> Ran:
    """Assert that a config is refused with 2 before anything is sent or made."""
    with Served() as served:
        project = config_of(folder, served.url, environment=environment)
        project.config.write_text(text.replace("URL", served.url).replace("ROWS", str(project.dataset)))
        ran = run(project)
    assert (ran.code, served.seen) == (2, []), ran.all_said
    assert not (folder / "results").exists()
    for word in words:
        assert word in ran.said, ran.said
    return ran


GOOD = """name: trial
dataset: ROWS
endpoint: {base_url: URL}
tasks:
  - task_type: chat_completion
    configuration: {model: m, messages: [{role: user, content: item.question}]}
"""


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (GOOD.replace("dataset: ROWS", "dataset: [ROWS"), "config.yaml:3:"),
        (GOOD.replace("dataset: ROWS", "\tdataset: ROWS"), "config.yaml:2:1: not YAML"),
        (GOOD.replace("name: trial", "name: !!python/object/apply:os.system [true]"), "is not allowed"),
        (GOOD + "name: again\n", "the key appears twice"),
        (GOOD + "x: &x [&y [*x, *x]]\n", "nested"),
        (GOOD + "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ), "more than 100,000 values"),
        (GOOD.replace("trial", "tri\0al"), "config.yaml:1: not YAML"),
    ],
    ids=["bracket", "tab", "tag", "doubled key", "nested in itself", "bomb", "NUL"],
)  # fmt: skip
def test_fault_01_yaml_syntax(tmp_path: Path, broken: str, words: str) -> None:
    refused(tmp_path / "p", broken, words)


def test_fault_02_unknown_key(tmp_path: Path) -> None:
    refused(tmp_path / "p", GOOD + "limits: {concurency: 3}\n", "limits.concurency: unknown key; did you mean `concurrency`?")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("limits: {concurrency: 0}", "limits.concurrency:"),
        ("limits: {max_attempts: -1}", "limits.max_attempts:"),
        ("limits: {concurrency: ten}", "limits.concurrency:"),
        ("limits: {requests_per_second: .nan}", "limits.requests_per_second:"),
        ("limits: {requests_per_second: 1e999}", "limits.requests_per_second:"),
        ("limits: {concurrency: 0x" + "f" * 6000 + "}", "limits.concurrency:"),
        ("limits: {concurrency: " + "9" * 6000 + "}", "limits.concurrency:"),
    ],
    ids=["0", "-1", "ten", "NaN", "1e999", "huge hex", "huge"],
)
def test_fault_03_wrong_type_or_range(tmp_path: Path, more: str, words: str) -> None:
    refused(tmp_path / "p", f"{GOOD}{more}\n", words)
    refused(tmp_path / "p", GOOD.replace("chat_completion", "chat_completion\n    stream: yes"), "tasks.0.stream:")


def test_fault_04_key_variable_missing(tmp_path: Path) -> None:
    text = GOOD.replace("{base_url: URL}", "{base_url: URL, api_key_env: MY_KEY}")
    for environment in ({}, {"MY_KEY": ""}, {"MY_KEY": " \n"}):
        ran = refused(tmp_path / "p", text, "MY_KEY", environment={"OTHER": KEY, **environment})
        assert KEY not in ran.all_said


def test_fault_05_key_with_newline(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("header-length"), environment={"OPENAI_API_KEY": f" {KEY}\r\n"})
    assert ran.results[0]["output"] == str(len(f"Bearer {KEY}"))
    ran = refused(tmp_path / "in", GOOD, "OPENAI_API_KEY", environment={"OPENAI_API_KEY": f"{KEY}\nX-Evil: 1"})
    assert KEY not in ran.all_said


def test_fault_06_key_not_ascii(tmp_path: Path) -> None:
    ran = refused(tmp_path / "p", GOOD, "OPENAI_API_KEY", environment={"OPENAI_API_KEY": f"{KEY}é"})
    assert KEY not in ran.all_said


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "http:///v1", "http://host:99999/v1", "host:8000/v1", "http://user:pw-CANARY@host/v1"]
)
def test_fault_07_bad_url(tmp_path: Path, url: str) -> None:
    ran = refused(tmp_path / "p", GOOD.replace("{base_url: URL}", f'{{base_url: "{url}"}}'), "endpoint.base_url")
    assert "CANARY" not in ran.all_said


def forms(secret: str) -> list[bytes]:
    """Return how a secret may be written: as it is, as base64 at each offset, in URLs."""
    shifted = [base64.b64encode(b"x" * offset + secret.encode())[4:-4] for offset in range(3)]
    return [secret.encode(), urllib.parse.quote(secret, safe="").encode(), *shifted]


def everything_in(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory, of Parquet files also what is in them."""
    found: dict[str, bytes] = {}
    for path in directory.rglob("*"):
        if path.is_file():
            found[str(path)] = path.read_bytes()
            if path.suffix == ".parquet":
                table = pq.read_table(path)
                found[f"{path} inside"] = (str(table.to_pylist()) + str(table.schema.metadata)).encode()
    return found


def test_fault_08_secret_in_config(tmp_path: Path) -> None:
    header, query = "hdr-CANARY-aaaaaaaaaaaaaaaa", "qry-CANARY-bbbbbbbbbbbbbbbb"
    with Misbehaving() as endpoint:
        url = f"{endpoint.at('echo-key')}?api-key={query}"
        ran = trial(
            tmp_path / "p",
            url,
            endpoint={"base_url": url, "headers": {"Authorization": f"Bearer {header}"}},
            environment={"OPENAI_API_KEY": KEY},
        )
    assert [row["error_type"] for row in ran.errors] == ["request", "request"]
    for path in ("endpoint.headers.Authorization", "endpoint.base_url"):
        assert f"{path}: holds a secret as text" in ran.said
    everything = everything_in(tmp_path / "p" / "results") | {"output": ran.all_said.encode()}
    hits = [
        (name, secret)
        for name, content in everything.items()
        for secret in (header, KEY, query)
        for form in forms(secret)
        if form in content
    ]
    assert hits == []


@pytest.mark.parametrize("kind", ["a file", "read only", "below a file"])
def test_fault_09_output_not_writable(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "out"
    if kind == "read only":
        if os.geteuid() == 0:
            output = Path("/proc/1/nowhere")  # nobody may write here, root neither
        else:
            output.mkdir(mode=0o500)
    else:
        output.write_text("")
        output = output if kind == "a file" else output / "below"
    with Served() as served:
        ran = trial(tmp_path / "p", served.url, "--output", str(output))
    assert (ran.code, served.seen) == (2, [])
    assert str(output) in ran.said


@pytest.mark.long
def test_fault_10_output_in_use(tmp_path: Path) -> None:
    holding = Holding()
    with holding.served() as served:
        project = config_of(tmp_path / "p", served.url)
        with project.started() as process:
            holding.wait_for(1)
            second = run(project, "--resume")
            holding.release()
            process.wait(30)
    assert second.code == 2, second.all_said
    assert f"pid {process.pid} on " in second.said


def test_fault_11_config_changed(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        assert trial(tmp_path / "p", endpoint.at("402@2"), limits={"concurrency": 1}).code == 3
        project = config_of(tmp_path / "p", endpoint.at("402@2"), tasks=[ask(configuration={"model": "another"})])
        asked = len(endpoint.seen)
        ran = run(project, "--resume")
        assert (ran.code, len(endpoint.seen)) == (2, asked)
    assert "model: was 'm', is 'another'" in ran.said


def test_a_good_config_is_one(tmp_path: Path) -> None:
    """What all the refused ones are made of is no mistake itself."""
    rows: list[dict[str, Any]] = ROWS
    with Served() as served:
        project = config_of(tmp_path / "p", served.url, rows=rows)
        project.config.write_text(
            GOOD.replace("URL", served.url).replace("ROWS", str(project.dataset)) + f"output: {tmp_path}/p/results\n"
        )
        assert run(project).code == 0


@pytest.mark.parametrize("name", ["X-Custom", "X-JWT", "Cf-Access-Client-Id"])
def test_fault_131_secret_without_a_name(tmp_path: Path, name: str) -> None:
    header, query = "hdr-CANARY-aaaaaaaa", "qry-CANARY-bbbbbbbb"
    basic = base64.b64encode(f"user:{header}".encode()).decode()

    async def echo(request: web.Request, _body: Any) -> web.StreamResponse:
        said = f"{request.headers[name]}, {request.headers['Authorization']} = user:{header}, {request.url}"
        return web.json_response({"error": {"message": said}}, status=400)

    with Served(echo) as endpoint:
        ran = trial(
            tmp_path / "p", endpoint.url,
            endpoint={
                "base_url": f"{endpoint.url}?k=${{QUERY}}",
                "headers": {name: "v1;${HEADER}", "Authorization": "Basic ${BASIC}"},
            },
            environment={"HEADER": header, "QUERY": query, "BASIC": basic},
            more={"description": "for ${HEADER}", "tags": ["${QUERY}"], "metadata": {"db": "postgres://u:${HEADER}@${UNSET}"}},
        )  # fmt: skip
    assert len(ran.errors) == len(ROWS), ran.all_said
    assert "secret" not in ran.said
    assert list(places_of([header, query, basic], tmp_path / "p" / "results", ran.all_said)) == []
    about = ran.project.evaluation
    assert (about["description"], about["tags"]) == ("for ${HEADER}", ["${QUERY}"])
    assert about["metadata"] == {"db": "postgres://u:${HEADER}@${UNSET}"}
    copy = (ran.project.run_dir / "config.yaml").read_text()
    assert "?k=${QUERY}" in copy
    assert "postgres://u:${HEADER}@${UNSET}" in copy
