"""Secrets are neither kept nor shown: where a server echoes one, in whatever form, it is replaced."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote, quote_plus

from runner import jsontext

__all__ = ["SECRET_NAME", "Redactor", "is_secret"]

#: Names of headers, query parameters and variables whose values are secrets.
SECRET_NAME = re.compile(r"auth(?!ors?$)|cookie|secret|token|key|pass|sig$|signature|credential|session", re.IGNORECASE)
#: What is shorter is a placeholder for a key, as local servers take any: it must not be cut out of every answer.
SHORTEST_SECRET = 8
#: So long a word is no placeholder any more, even if it is of letters or digits only.
_LONG_SECRET = 16
_REDACTED = "[redacted]"


class Redactor:
    """Replaces secrets as they are, as they stand in URLs, and in base64."""

    def __init__(self, secrets: Sequence[str]) -> None:
        forms = dict.fromkeys(form for secret in secrets if is_secret(secret) for form in _forms(secret))
        self._plain = sorted(forms, key=len, reverse=True)
        self._in_json = [form.encode() for form in sorted(set(_in_json(self._plain)), key=len, reverse=True)]

    def text(self, text: str) -> str:
        """Return plain text without secrets."""
        for form in self._plain:
            text = text.replace(form, _REDACTED)
        return text

    def json(self, text: bytes) -> bytes:
        """Return JSON without secrets, also where it holds JSON as a text."""
        for form in self._in_json:
            if form in text:
                # Digits may be part of a number, which must stay one.
                text = text.replace(form, b"9" * len(form) if form.isdigit() else _REDACTED.encode())
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
