"""The fault matrix, network: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from shutil import which

import pytest

from tests.commands import PATIENCE_S, ROOT, questions
from tests.misbehaving import Misbehaving, closed_port
from tests.serving import chat_answer
from tests.test_acknowledged import Leaving, Way, close, reset
from tests.test_client import Certificate, certificate
from tests.trials import SHORT, TROUBLED, assert_retried, assert_stopped, config_of, trial, tries


def test_fault_20_connection_refused(tmp_path: Path) -> None:
    port = closed_port()
    began = time.monotonic()
    ran = trial(tmp_path / "p", f"http://127.0.0.1:{port}/v1", rows=questions(50))
    assert time.monotonic() - began < 5
    assert_stopped(ran, f"127.0.0.1:{port}: no connection")


def test_fault_21_dns_failure(tmp_path: Path) -> None:
    ran = trial(tmp_path / "p", "http://nowhere.invalid:8000/v1?key=sk-CANARY", rows=questions(50))
    assert_stopped(ran, "nowhere.invalid:8000: the name cannot be resolved")
    assert "CANARY" not in ran.all_said


@pytest.mark.parametrize(
    ("name", "reason"), [("IP:127.0.0.1", "self-signed"), ("DNS:elsewhere.example", "IP address mismatch")]
)
def test_fault_22_bad_certificate(tmp_path: Path, name: str, reason: str) -> None:
    made = certificate(tmp_path, name)
    trusted = {} if reason == "self-signed" else {"verify": str(made.path)}
    with Misbehaving(tls=made.server_side()) as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("fine"), rows=questions(50), endpoint=trusted)
        assert endpoint.seen == []
        if reason == "self-signed":
            good = trial(tmp_path / "good", endpoint.at("fine"), endpoint={"verify": str(made.path)})
            assert good.code == 0
            unchecked = trial(tmp_path / "unchecked", endpoint.at("fine"), endpoint={"verify": False})
            assert unchecked.code == 0
    assert_stopped(ran, "bad TLS certificate", reason, "endpoint.verify")


_AUTHORITY = """
[ca]
default_ca = own
[own]
new_certs_dir = {folder}
database = {folder}/index.txt
serial = {folder}/serial
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = IP:127.0.0.1
"""


def expired(folder: Path) -> Certificate:
    """Make a certificate for this host that was good in January 2020; `openssl req` has no way to say so."""
    made = certificate(folder, "IP:127.0.0.1")
    (folder / "authority").write_text(_AUTHORITY.format(folder=folder))
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    wanted, signed = folder / "wanted.pem", folder / "expired.pem"
    openssl = [str(which("openssl"))]
    request = [*openssl, "req", "-new", "-key", str(made.key), "-subj", "/CN=127.0.0.1", "-out", str(wanted)]
    time_span = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
    sign = [*openssl, "ca", "-batch", "-notext", "-selfsign", "-config", str(folder / "authority"), "-keyfile", str(made.key)]
    for command in (request, [*sign, *time_span, "-in", str(wanted), "-out", str(signed)]):
        subprocess.run(command, check=True, capture_output=True, timeout=50)
    return Certificate(signed, made.key)


def test_an_expired_certificate_ends_the_run_at_once(tmp_path: Path) -> None:
    """Even one that is trusted, and the key is not sent."""
    made = expired(tmp_path)
    with Misbehaving(tls=made.server_side()) as endpoint:
        began = time.monotonic()
        ran = trial(tmp_path / "p", endpoint.at("fine"), rows=questions(50), endpoint={"verify": str(made.path)})
        assert time.monotonic() - began < 5
        assert endpoint.seen == []
        assert trial(tmp_path / "unchecked", endpoint.at("fine"), endpoint={"verify": False}).code == 0
    assert_stopped(ran, "bad TLS certificate: certificate has expired", "endpoint.verify")
    assert ran.results == []


def test_fault_23_https_to_plain_port(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("fine").replace("http:", "https:"), rows=questions(50))
    assert_stopped(ran, "is it http?")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        ran = trial(tmp_path / "silent", url, rows=questions(50), endpoint={"timeout": {"connect": 0.5}})
    assert_stopped(ran, "no connection to 127.0.0.1", "is this http?")


@pytest.mark.parametrize("fault", ["close", "reset"])
def test_fault_24_reset_before_response(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        assert_retried(trial(tmp_path / "p", endpoint.at(f"{fault}:1")), "connect", billed=True)


def test_fault_25_stale_keep_alive(tmp_path: Path) -> None:
    rows = [{"id": str(n), "question": f"question {n}"} for n in range(5)]
    with Misbehaving() as endpoint:
        # One after the other, with time in between: the server has closed the connection when the next one wants it.
        limits = {"concurrency": 1, "requests_per_second": 4}
        ran = trial(tmp_path / "p", endpoint.at("stale"), rows=rows, limits=limits)
    assert (ran.code, tries(ran), len(ran.results)) == (0, [], 5)
    assert {row["attempts"] for row in ran.results} == {1}
    assert endpoint.requests["stale"] == 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what was acknowledged")
@pytest.mark.parametrize(
    ("way", "attempts"),
    [
        (Way("before the look", close), 1),
        (Way("before the look", reset), 1),
        # The client cannot know it when it writes: the connection looked good a moment ago.
        (Way("after the look", close), 1),
        (Way("after the look", reset), 1),
        (Way("after reading", close), 2),
        (Way("after reading", reset), 2),
    ],
    ids=str,
)
def test_of_what_is_sent_again_only_what_may_have_been_read_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way, attempts: int
) -> None:
    rows = [{"id": str(n), "question": f"question {n}"} for n in range(5)]
    with Leaving(way, json.dumps(chat_answer()).encode()) as server:
        server.watch(monkeypatch)
        ran = trial(tmp_path / "p", server.url, rows=rows, limits={"concurrency": 1, "max_attempts": 1})
    assert (ran.code, tries(ran), server.left) == (0, [], 4)
    assert sorted(row["attempts"] for row in ran.results) == [1, *[attempts] * 4]
    assert server.requests == sum(row["attempts"] for row in ran.results)


def test_a_kept_connection_that_is_closed_under_a_request_counts_twice(tmp_path: Path) -> None:
    """It is sent again at once, which is no failure; but somebody may have read it, so the column says two."""
    rows = [{"id": str(n), "question": f"question {n}"} for n in range(10)]
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("drop-kept"), rows=rows, limits={"concurrency": 1, "max_attempts": 1})
    assert (ran.code, tries(ran), len(ran.results)) == (0, [], 10)
    assert endpoint.requests["drop-kept"] == sum(row["attempts"] for row in ran.results) == 19


def test_fault_26_no_answer_at_all(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("hang:1"), endpoint={"timeout": SHORT})
    assert_retried(ran, "timeout", "first_byte", billed=True)


def test_fault_27_proxy_from_environment(tmp_path: Path) -> None:
    with Misbehaving() as proxy:
        port = proxy.at("fine").split(":")[2].split("/")[0]
        environment = {"http_proxy": f"http://user:pw-CANARY@127.0.0.1:{port}"}
        ran = trial(tmp_path / "p", "http://nowhere.invalid/fine/v1", environment=environment)
        assert ran.code == 0, ran.all_said
        assert len(proxy.seen) == 4
        assert proxy.seen[0].headers["Proxy-Authorization"].startswith("Basic ")
        assert f"through the proxy 127.0.0.1:{port}" in ran.said
        assert "CANARY" not in ran.all_said
        beside = environment | {"no_proxy": "127.0.0.1"}
        assert trial(tmp_path / "beside", proxy.at("fine"), environment=beside).code == 0
    assert "Proxy-Authorization" not in proxy.seen[-1].headers


def test_fault_28_dead_proxy(tmp_path: Path) -> None:
    port = closed_port()
    environment = {"http_proxy": f"http://user:pw-CANARY@127.0.0.1:{port}"}
    ran = trial(tmp_path / "p", "http://nowhere.invalid/v1", rows=questions(50), environment=environment)
    assert_stopped(ran, f"the proxy cannot be reached: 127.0.0.1:{port}")
    assert "CANARY" not in ran.all_said


def test_fault_29_slow_connect(tmp_path: Path) -> None:
    """A listener whose queue is full answers no SYN: to a client it is a black hole."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        timeout = {"connect": 0.3}
        ran = trial(tmp_path / "p", f"http://127.0.0.1:{address[1]}/v1", rows=TROUBLED, endpoint={"timeout": timeout})
        for one in waiting:
            one.close()
    assert_stopped(ran, "connect: no connection", "endpoint.timeout.connect")


@pytest.mark.long
def test_fault_30_too_many_open_files(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        project = config_of(tmp_path / "p", endpoint.at("slow"), rows=questions(120), limits={"concurrency": 100})
        command = ["bash", "-c", 'ulimit -n 64; exec "$@"', "-", *project.arguments()]
        found = subprocess.run(
            command,
            cwd=ROOT, env=project._environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "connections instead of 100" in found.stderr
    assert (len(project.results()), project.errors()) == (120, [])
