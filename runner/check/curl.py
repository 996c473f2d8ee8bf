"""The `curl` line that repeats a request. In place of each secret it has the shell variable that holds it."""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.config.endpoint import EndpointConfig
from runner.config.model import Config
from runner.config.yaml_text import VARIABLE
from runner.endpoint.connect import base_url_of
from runner.secrets.redaction import SCHEME, SECRET_NAME, Redactor, is_secret

__all__ = ["NO_FILE", "Shell"]

#: Stands for a body that is too long for a line and was not saved.
NO_FILE = "BODY.json"

_BASE64 = re.compile(r"[A-Za-z0-9+/]{1000,}={0,2}")
#: A body that is longer than this, even when compressed, is read from a file.
_LONGEST_BODY = 10_000


class Shell:
    """Writes requests to one endpoint as lines for a POSIX shell."""

    def __init__(self, config: Config, document: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Take the config, and its document with the variables unexpanded, for their names."""
        self._environment = environment
        #: Each secret, and the text that replaces it.
        self._secrets = dict.fromkeys(config.secrets(environment), "[redacted]")
        #: Redacts all other texts, and secrets that a server repeats in changed form.
        self.redactor = Redactor(list(self._secrets))
        endpoint = document.get("endpoint")
        written: Mapping[str, Any] = endpoint if isinstance(endpoint, dict) else {}
        self._written_url = str(written.get("base_url") or "")
        self._base, _, self._query = base_url_of(config).partition("?")
        self._options = [*self._headers(config, written.get("headers") or {}), *_tls(config.endpoint)]

    def line(self, path: str, content: bytes | None, *, stream: bool = False, file: Path | None = None) -> str:
        """Return the line that sends a body, or a GET if it is None. The line reads the body from `file`, if given.

        Otherwise the line holds the body, with long base64 compressed; the shell decompresses it. If the body is still too
        long, the line reads a `BODY.json`, which its user has to create.
        """
        words = ["curl -sSN" if stream else "curl -sS", self._url(path), *self._options]
        if content is not None:
            body = None if file is not None else _packed(content.decode())
            words.append(f"-d {body}" if body is not None else f"--data-binary {shlex.quote(f'@{file or NO_FILE}')}")
        return " ".join(words)

    def without_secrets(self, text: str) -> str:
        """Return text with every secret replaced, because servers repeat keys in their messages."""
        for secret, name in self._secrets.items():
            if is_secret(secret):
                text = text.replace(secret, name)
        return self.redactor.text(text)

    def _headers(self, config: Config, written: Mapping[str, Any]) -> list[str]:
        given = {name.lower() for name in config.endpoint.headers}
        words = [] if "content-type" in given else ["-H 'Content-Type: application/json'"]
        if key := config.api_key(self._environment):
            variable = config.endpoint.key_variable
            self._secrets[key] = f"${variable}"
            if "authorization" not in given:
                words.append(f'-H "Authorization: Bearer ${variable}"')
        for name, value in config.endpoint.headers.items():
            words.append(f"-H {self._quoted(f'{name}: ', value, str(written.get(name, value)), name)}")
        return words

    def _url(self, path: str) -> str:
        if not self._query:
            return shlex.quote(f"{self._base}{path}")
        members = []
        for member in self._query.split("&"):
            name, _, value = member.partition("=")
            written = re.search(rf"[?&]{re.escape(name)}=([^&]*)", self._written_url)
            members.append(self._quoted(f"{name}=", value, written[1] if written else value, name))
        return shlex.quote(f"{self._base}{path}?") + "'&'".join(members)

    def _quoted(self, before: str, value: str, written: str, name: str) -> str:
        """Return `before` and a value as one word of the shell. A part that comes from a variable stays a variable."""
        if not SECRET_NAME.search(name):
            return self._with_variables(before, written) if VARIABLE.search(written) else shlex.quote(before + value)
        scheme = SCHEME.match(value)
        before += scheme[0] if scheme else ""
        secret = value[scheme.end() :] if scheme else value
        variable = VARIABLE.fullmatch(written[scheme.end() :] if scheme and SCHEME.match(written) else written)
        if variable and not variable[1] and self._environment.get(variable[2]) == secret:
            named = variable[2]
        else:
            named = re.sub(r"\W", "_", name).upper()
        self._secrets[secret] = f"${named}"
        return f'"{_escaped(before)}${named}"'

    def _with_variables(self, before: str, written: str) -> str:
        """Return a value in double quotes, with the variables that the config expands left to the shell."""
        words, end = [_escaped(before)], 0
        for found in VARIABLE.finditer(written):
            words.append(_escaped(written[end : found.start()]))
            end = found.end()
            if found[1]:
                words.append(_escaped(found[0][1:]))
            elif self._environment.get(found[2]):
                words.append(f"${{{found[2]}}}")
            else:
                words.append(_escaped(found[3] or ""))
        return f'"{"".join(words)}{_escaped(written[end:])}"'


def _escaped(text: str) -> str:
    """Escape the characters that a shell interprets inside double quotes."""
    return re.sub(r'([\\"$`])', r"\\\1", text)


def _tls(endpoint: EndpointConfig) -> list[str]:
    words = []
    if isinstance(endpoint.verify, str):
        words.append(f"--cacert {shlex.quote(endpoint.verify)}")
    elif not endpoint.verify:
        words.append("-k")
    if (cert := endpoint.cert) is not None:
        # A colon in the path would begin a password.
        path = re.sub(r"([\\:])", r"\\\1", cert.certificate)
        words += [f"--cert {shlex.quote(path)}", f"--key {shlex.quote(cert.key or cert.certificate)}"]
        if cert.passphrase_env:
            words.append(f'--pass "${cert.passphrase_env}"')
    return words


def _packed(body: str) -> str | None:
    """Return a body as a word of the shell, with long base64 compressed; None if it is still too long."""
    words, end = [], 0
    for found in _BASE64.finditer(body):
        if (packed := _packed_base64(found[0])) is None:
            continue
        words.append(shlex.quote(body[end : found.start()]))
        words.append(f"\"$(printf %s {packed} | base64 -d | gunzip | base64 | tr -d '\\n')\"")
        end = found.end()
    words.append(shlex.quote(body[end:]))
    word = "".join(words)
    return word if len(word) <= _LONGEST_BODY else None


def _packed_base64(text: str) -> str | None:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    packed = base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
    return packed if len(packed) < len(text) / 2 and base64.b64encode(data).decode() == text else None
