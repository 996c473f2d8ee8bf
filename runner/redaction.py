"""Secrets are neither kept nor shown: where a server echoes one, in whatever form, it is replaced."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

from runner import jsontext

__all__ = ["REDACTED", "SCHEME", "SECRET_NAME", "Redactor", "is_secret", "mapped", "secrets_in", "without_scheme"]

#: Names of headers, query parameters and variables whose values are secrets.
SECRET_NAME = re.compile(r"auth(?!ors?$)|cookie|secret|token|key|pass|sig$|signature|credential|session", re.IGNORECASE)
#: Such names in other places of a config: there, most names with `token` or `key` in them are of something else.
_KEY_NAME = re.compile(
    r"(?:^|[_-])(?:api[_-]?key|(?:access|auth|bearer)[_-]?token|secret(?:[_-]key)?|password|authorization)$", re.IGNORECASE
)
#: A value that the row gives.
_TEMPLATE = re.compile(r"\{\{|\{%|^item\.")
#: What stands before the secret in an `Authorization` header.
SCHEME = re.compile(r"(?:Bearer|Basic|Token|Api-?Key)\s+", re.IGNORECASE)
#: What is shorter is a placeholder for a key, as local servers take any: it must not be cut out of every answer.
SHORTEST_SECRET = 8
#: So long a word is no placeholder any more, even if it is of letters or digits only.
_LONG_SECRET = 16
#: What stands in the place of a secret.
REDACTED = "[redacted]"


class Redactor:
    """Replaces secrets as they are, as they stand in URLs, and in base64."""

    def __init__(self, secrets: Sequence[str]) -> None:
        forms = dict.fromkeys(form for secret in secrets if is_secret(secret) for form in _forms(secret))
        self._plain = sorted(forms, key=len, reverse=True)
        self._in_json = [form.encode() for form in sorted(set(_in_json(self._plain)), key=len, reverse=True)]

    def text(self, text: str) -> str:
        """Return plain text without secrets."""
        for form in self._plain:
            text = text.replace(form, REDACTED)
        return text

    def json(self, text: bytes) -> bytes:
        """Return JSON without secrets, also where it holds JSON as a text."""
        for form in self._in_json:
            if form in text:
                # Digits may be part of a number, which must stay one.
                text = text.replace(form, b"9" * len(form) if form.isdigit() else REDACTED.encode())
        return text

    @contextmanager
    def in_logs(self) -> Iterator[None]:
        """Within the block nothing is logged with a secret in it: a server's words may be part of a message.

        When it ends with an exception that stays so, for somebody is going to log that one.
        """
        handlers = list(logging.getLogger().handlers)
        for handler in handlers:
            handler.addFilter(self._clean)
        yield
        for handler in handlers:
            handler.removeFilter(self._clean)

    def _clean(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.text(record.getMessage()), None
        if record.exc_info:
            record.exc_text = self.text(logging.Formatter().formatException(record.exc_info))
        return True


def is_secret(value: str) -> bool:
    """Whether a value that stands where secrets stand is one, and no placeholder as `anything` or `00000000`."""
    mixed = re.search(r"[^A-Za-z]", value) and re.search(r"[^0-9]", value)
    return len(value) >= (SHORTEST_SECRET if mixed else _LONG_SECRET)


def secrets_in(document: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the path and the value of each secret of a config: in headers, in the base URL's query, and named as `api_key` is.

    Rows of a dataset are no part of it, for what they call a secret is what they are about.
    """
    if isinstance(document, dict):
        for key in document.keys() - {"data", "dataset"}:
            yield from _secrets_below(document[key], (key,))


def _secrets_below(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, dict | list):
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _secrets_below(member, (*path, key))
    elif isinstance(value, str) and not _TEMPLATE.search(value):
        yield from ((path, secret) for secret in _secrets_of(value, path) if is_secret(secret))


def _secrets_of(value: str, path: tuple[str | int, ...]) -> Iterator[str]:
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    if path == ("endpoint", "base_url"):
        yield from (secret for key, secret in _query_of(value) if SECRET_NAME.search(key))
    elif (SECRET_NAME if path[:2] == ("endpoint", "headers") else _KEY_NAME).search(name):
        yield without_scheme(value)


def _query_of(url: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(urlsplit(url).query)
    except ValueError:
        return []


def without_scheme(value: str) -> str:
    """Return what of an `Authorization` header is the secret."""
    scheme = SCHEME.match(value)
    return value[scheme.end() :] if scheme else value


def mapped(value: Any, text: Callable[[str], str]) -> Any:
    """Return a value of JSON with `text` applied to each string in it; one that stays equal stays the same."""
    if isinstance(value, dict):
        return {key: mapped(member, text) for key, member in value.items()}
    if isinstance(value, list):
        return [mapped(member, text) for member in value]
    if isinstance(value, str) and (new := text(value)) != value:
        return new
    return value


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield from (quote(secret, safe=""), quote(secret), quote_plus(secret))
    content = secret.encode(errors="replace")
    for shift in range(3):  # where in a longer text it begins decides which letters stand for it
        # The letters at both ends depend on what stands around it, and only those between are always the same.
        letters = base64.b64encode(bytes(shift) + content)[4 if shift else 0 : (shift + len(content)) // 3 * 4].decode()
        yield from (letters, letters.replace("+", "-").replace("/", "_"))


def _in_json(forms: Sequence[str]) -> Iterator[str]:
    """Yield forms as they stand in JSON, and in JSON text that is itself a value of JSON."""
    for form in forms:
        once = jsontext.encode_str(form)[1:-1]
        yield from (once, jsontext.encode_str(once)[1:-1])
