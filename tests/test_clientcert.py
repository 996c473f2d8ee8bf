"""A server that asks for a client's certificate gets it; what is wrong with one is said before anything is sent."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.commands import here, questions
from tests.serving import Served, chat_answer
from tests.test_client import Certificate, certificate
from tests.trials import Ran, config_of, run, tries

PASSPHRASE = 'a horse: with "battery" and $taple'


async def fine(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(chat_answer())


@dataclass(frozen=True)
class Files:
    """Certificates of a client in all forms, and a server's own."""

    folder: Path
    server: Certificate
    client: Certificate

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def server_side(self) -> ssl.SSLContext:
        context = self.server.server_side()
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.client.path)
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("cert")
    (folder / "server").mkdir()
    (folder / "other").mkdir()
    client, other = certificate(folder, "DNS:client.example"), certificate(folder / "other", "DNS:other.example")
    found = Files(folder, certificate(folder / "server", "IP:127.0.0.1"), client)
    (folder / "both: of it.pem").write_bytes(client.key.read_bytes() + client.path.read_bytes())
    command = ["openssl", "pkcs8", "-topk8", "-in", str(client.key), "-passout", f"pass:{PASSPHRASE}", "-out"]
    subprocess.run([*command, found.path("locked.pem")], check=True, capture_output=True, timeout=50)
    (folder / "damaged.pem").write_bytes(client.key.read_bytes().replace(b"A", b"", 3))
    (folder / "other.pem").write_bytes(other.key.read_bytes())
    return found


def ran_with(folder: Path, files: Files, url: str, cert: Any, environment: Mapping[str, str] = {}, **endpoint: Any) -> Ran:
    endpoint = {"verify": str(files.server.path), "cert": cert} | endpoint
    return run(config_of(folder, url, rows=questions(2), endpoint=endpoint, environment=environment))


@pytest.mark.parametrize("form", ["one file", "two files", "a passphrase"])
def test_a_server_that_asks_for_a_certificate_gets_it(tmp_path: Path, files: Files, form: str) -> None:
    cert = {
        "one file": files.path("both: of it.pem"),
        "two files": {"certificate": files.path("cert.pem"), "key": files.path("key.pem")},
        "a passphrase": {
            "certificate": files.path("cert.pem"),
            "key": files.path("locked.pem"),
            "passphrase_env": "KEY_PASSPHRASE",
        },
    }[form]
    with Served(fine, tls=files.server_side()) as server:
        ran = ran_with(tmp_path / "p", files, server.url, cert, {"KEY_PASSPHRASE": PASSPHRASE})
        assert (ran.code, len(ran.results)) == (0, 2), ran.all_said
        checked = here("check", str(ran.project.config), "--json", environment={"KEY_PASSPHRASE": PASSPHRASE})
        chat = next(one for one in json.loads(checked.stdout)["requests"] if one["name"] == "task:answer")
        assert chat["verdict"] == "works", checked.stdout
        if shutil.which("curl") is not None:
            done = subprocess.run(
                ["sh", "-c", chat["curl"]], env={"KEY_PASSPHRASE": PASSPHRASE}, capture_output=True, timeout=50, check=False
            )
            assert b'"choices"' in done.stdout, (chat["curl"], done.stderr)
    kept = b"".join(path.read_bytes() for path in ran.project.run_dir.rglob("*") if path.is_file())
    for secret in (PASSPHRASE.encode(), files.client.key.read_bytes().splitlines()[1]):
        assert secret not in kept + (ran.all_said + checked.stdout + checked.stderr).encode()


@pytest.mark.parametrize(
    ("cert", "environment", "words"),
    [
        ("none.pem", {}, ["'FOLDER/none.pem' is not there", "the path is relative to"]),
        (".", {}, ["'FOLDER/.' cannot be read", "directory"]),
        ("cert.pem", {}, ["'FOLDER/cert.pem' holds no private key", "`endpoint.cert.key`"]),
        ("key.pem", {}, ["'FOLDER/key.pem' holds no certificate", "`endpoint.cert.certificate`"]),
        ({"certificate": "cert.pem", "key": "none.pem"}, {}, ["'FOLDER/none.pem' is not there"]),
        ({"certificate": "cert.pem", "key": "other.pem"}, {}, ["'FOLDER/other.pem'", "does not belong", "'FOLDER/cert.pem'"]),
        ({"certificate": "cert.pem", "key": "locked.pem"}, {}, ["'FOLDER/locked.pem'", "encrypted", "`passphrase_env`"]),
        ({"certificate": "cert.pem", "key": "damaged.pem"}, {}, ["'FOLDER/cert.pem'", "damaged"]),
        (
            {"certificate": "cert.pem", "key": "locked.pem", "passphrase_env": "P"},
            {"P": "wrong-passphrase-1"},
            ["'FOLDER/locked.pem'", "the passphrase in P does not open"],
        ),
        (
            {"certificate": "cert.pem", "passphrase_env": "S3cret-pass"},
            {},
            ["endpoint.cert.passphrase_env", "is not the name of an environment"],
        ),
        ({"key": "key.pem"}, {}, ["endpoint.cert.certificate", "missing"]),
        (True, {}, ["endpoint.cert"]),
        ({"certificate": "cert.pem", "cert_key": "k"}, {}, ["endpoint.cert.cert_key"]),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said_before_anything_is_sent(
    tmp_path: Path, files: Files, cert: Any, environment: Mapping[str, str], words: list[str]
) -> None:
    if isinstance(cert, dict):
        cert = {name: files.path(value) if not name.endswith("_env") else value for name, value in cert.items()}
    elif isinstance(cert, str):
        cert = f"{files.folder}/{cert}"
    with Served(tls=files.server_side()) as server:
        ran = ran_with(tmp_path / "p", files, server.url, cert, environment)
        assert server.seen == []
    assert ran.code == 2
    for word in words:
        assert word.replace("FOLDER", str(files.folder)) in ran.said, ran.said
    assert "config.yaml" in ran.said
    for secret in ("wrong-passphrase-1", "S3cret-pass", files.client.key.read_text().splitlines()[1]):
        assert secret not in ran.all_said


@contextmanager
def telling(files: Files) -> Iterator[str]:
    """A server that asks for a certificate, and when it gets none keeps the connection until its alert was read."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    try:
                        files.server_side().wrap_socket(connection, server_side=True)
                    except ssl.SSLError:
                        connection.recv(1 << 16)  # the request, or the end

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.mark.parametrize(
    ("cert", "words"), [(None, "asks for a client certificate"), ("other", "refuses the client certificate")]
)
def test_what_the_server_says_of_the_certificate_names_the_field(
    tmp_path: Path, files: Files, cert: str | None, words: str
) -> None:
    more = cert and {"certificate": files.path("other/cert.pem"), "key": files.path("other.pem")}
    with telling(files) as url:
        ran = ran_with(tmp_path / "p", files, url, more)
    # Now and then the connection is gone before its alert is read: not every try hears why.
    said = str(tries(ran)) + ran.all_said
    assert f"the server {words}" in said
    assert "`endpoint.cert`" in said


def test_over_http_nothing_is_shown_and_that_is_said(tmp_path: Path, files: Files) -> None:
    with Served() as server:
        ran = ran_with(tmp_path / "p", files, server.url, files.path("both: of it.pem"))
    assert ran.code == 0
    assert "endpoint.cert" in ran.said


def test_a_replay_needs_no_certificate(tmp_path: Path, files: Files) -> None:
    with Served() as server:
        recorded = ran_with(tmp_path / "p", files, server.url, None, record=str(tmp_path / "r"))
    assert recorded.code == 0
    again = ran_with(tmp_path / "q", files, server.url, "none.pem", replay=str(tmp_path / "r"), verify=True)
    assert again.code == 0, again.all_said
