"""Secrets are neither kept nor shown: if a server echoes one, in any form, it is replaced."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from runner import jsontext
from runner.keypaths import KeyPath, leaves
from runner.secrets.escapes import Unescaped, unescaped

__all__ = ["QUERY_NAME", "REDACTED", "SCHEME", "SECRET_NAME", "Redactor", "is_secret", "mapped", "secrets_in", "without_scheme"]

#: Names of headers, query parameters and variables whose values are secrets.
SECRET_NAME = re.compile(
    r"auth(?!ors?$)|bearer|cookie|credential|jwt|key|pass|pwd|secret|session|sig$|signature|token|(?:^|[_-])pat$", re.IGNORECASE
)
#: Names of query parameters whose values are secrets. Azure Functions call their key a code.
QUERY_NAME = re.compile(rf"{SECRET_NAME.pattern}|(?:^|[_-])code$", re.IGNORECASE)
#: Names of secrets elsewhere in a config. There, most names that contain `token` or `key` mean something else.
_KEY_NAME = re.compile(
    r"(?:^|[_-])(?:api[_-]?key|(?:access|auth|bearer)[_-]?token|secret(?:[_-]key)?|password|authorization)$", re.IGNORECASE
)
#: A value that comes from the row.
_TEMPLATE = re.compile(r"\{\{|\{%|^item\.")
#: The scheme before the secret in an `Authorization` header.
SCHEME = re.compile(r"(?:Bearer|Basic|Token|Api-?Key)\s+", re.IGNORECASE)
#: A shorter value is a placeholder, because local servers accept any key. It must not be cut out of every answer.
SHORTEST_SECRET = 8
#: A value of this length is not a placeholder, even if it consists of letters or digits only.
_LONG_SECRET = 16
#: Numbers with at least as many digits, and below a size that nobody has reason to send.
_LONG_NUMBERS = (10 ** (_LONG_SECRET - 1), 10**400)
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
#: Characters that a program escapes only in order to hide them.
_LETTERS = re.compile(rb"[A-Za-z0-9]+")
_HEX = rb"(?:3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|00|23)"
_DECIMAL = rb"(?:4[89]|5[0-7]|6[5-9]|[78][0-9]|9[0789]|1[01][0-9]|12[0-2])"
#: Escapes of letters and digits, and of the characters that begin an escape; and invisible characters between letters. Before
#: each pattern is its first character, which is found faster.
_MARKS = [
    (pattern[:1], re.compile(pattern))
    for pattern in (
        rb"u00" + _HEX,
        rb"\\(?:x" + _HEX + rb"|u[fF]{3}[dD])",
        rb"#(?:[xX]0{0,99}" + _HEX + rb"|0{0,99}" + _DECIMAL + rb")",
        rb"%(?:25)*(?:" + _HEX + rb"|[eE][fF])",
        b"\0",
        "\ufffd".encode(),
    )
]
#: A text that was cut off has at least this length. Before the cut it has at least this much of a secret (less does not
#: matter), and after it these characters.
_SHORTEST_CUT = 200
_SHORTEST_START = 12
_BEHIND_A_CUT = " .…”\"'".encode()
#: The replacement of a secret.
REDACTED = "[redacted]"


class Redactor:
    """Replaces secrets as they are, with any escapes of JSON, HTML and URLs, and in base64.

    Almost all texts hold no secret. So a quick check comes first: whether a text contains a piece of a secret, or an escape
    that is only written to hide something. Only then its escapes are removed.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        known = [secret.encode("utf-8", "surrogatepass") for secret in secrets if is_secret(secret)]
        self._plain = list(dict.fromkeys(form for secret in known for form in _unescaped_forms(secret)))
        self._forms = list(dict.fromkeys((*self._plain, *(form for secret in known for form in _base64_forms(secret)))))
        starts = (form[:_SHORTEST_START] for form in self._plain)
        self._pieces = list(dict.fromkeys((*map(_piece, self._forms), *starts)))

    def text(self, text: str) -> str:
        """Return text without secrets."""
        content = text.encode("utf-8", "surrogatepass")
        if not self._may_hold_one(content) or (cleaned := self._without(content)) == content:
            return text
        return cleaned.decode("utf-8", "replace")

    def json(self, text: bytes) -> bytes:
        """Return JSON without secrets in its strings, also if these hold JSON. Without secrets no byte changes."""
        if not self._may_hold_one(text):
            return text
        try:
            value = jsontext.decode(text)
            cleaned = mapped(value, self.text)
            return text if cleaned == value else jsontext.encode(cleaned)
        except (RecursionError, jsontext.JsonError):  # nested more deeply than Python can follow
            return self._without(text)

    def _may_hold_one(self, content: bytes) -> bool:
        if not self._pieces:
            return False
        # Loops, because `any` would cost more than the check itself.
        for piece in self._pieces:
            if piece in content:
                return True
        for first, mark in _MARKS:  # noqa: SIM110  as above
            if first in content and mark.search(content):
                return True
        return False

    def _without(self, content: bytes) -> bytes:
        kept, end = list[bytes](), 0
        for start, stop, instead in sorted(self._found_in(content)):
            if start >= end:
                kept += (content[end:start], instead)
            end = max(end, stop)
        return b"".join((*kept, content[end:]))

    def _found_in(self, content: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield the start and the end of each secret, and its replacement."""
        layers: list[Unescaped] = []
        for layer in (None, *unescaped(content)):
            layers += () if layer is None else (layer,)
            text = content if layer is None else layer.text
            for form in self._forms:
                start = text.find(form)
                while start >= 0:
                    yield (*_place(start, start + len(form), layers, content), _instead_of(form))
                    start = text.find(form, start + len(form))
            if len(text) >= _SHORTEST_CUT and (cut := self._cut_off(text)):
                yield (*_place(*cut, layers, content), REDACTED.encode())

    def _cut_off(self, text: bytes) -> tuple[int, int] | None:
        """Return the range of a secret whose end was cut off together with that of the text."""
        end = len(text.rstrip(_BEHIND_A_CUT))
        for form in self._plain:
            for length in range(len(form) - 1, _SHORTEST_START - 1, -1):
                if text.endswith(form[:length], 0, end) and is_secret(form[:length].decode("utf-8", "replace")):
                    return end - length, end
        return None


def is_secret(value: str) -> bool:
    """Return whether a value in the position of a secret is one, and not a placeholder or a common word.

    A secret has at least 8 characters, or 16 if they are only letters or only digits. `EMPTY`, `anything`, `evals` and
    `00000000` are not secrets: otherwise they would be cut out of every answer that contains them.
    """
    mixed = re.search(r"[^A-Za-z]", value) and re.search(r"[^0-9]", value)
    return len(value) >= (SHORTEST_SECRET if mixed else _LONG_SECRET)


def secrets_in(document: Any) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path and the value of each secret in a config: in headers, in the base URL's query, under names like `api_key`.

    Rows of a dataset are left out: what they call a secret is their subject.
    """
    if isinstance(document, dict):
        for key in document.keys() - {"data", "dataset"}:
            for path, value in leaves(document[key], (key,)):
                if isinstance(value, str) and not _TEMPLATE.search(value):
                    yield from ((path, secret) for secret in _secrets_of(value, path) if is_secret(secret))


def _secrets_of(value: str, path: KeyPath) -> Iterator[str]:
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    is_of_endpoint = path[0] in {"endpoint", "endpoints"}
    if is_of_endpoint and ("base_url" in path or "servers" in path):
        yield from (secret for key, secret in _query_of(value) if QUERY_NAME.search(key))
    elif (SECRET_NAME if is_of_endpoint and "headers" in path[1:3] else _KEY_NAME).search(name):
        yield without_scheme(value)


def _query_of(url: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(urlsplit(url).query)
    except ValueError:
        return []


def without_scheme(value: str) -> str:
    """Return the secret in an `Authorization` header, without the scheme."""
    scheme = SCHEME.match(value)
    return value[scheme.end() :] if scheme else value


def mapped(value: Any, text: Callable[[str], str]) -> Any:
    """Return a JSON value with `text` applied to each string and long number in it. An equal result keeps the old object."""
    if isinstance(value, dict):
        return {mapped(key, text): mapped(member, text) for key, member in value.items()}
    if isinstance(value, list):
        return [mapped(member, text) for member in value]
    if isinstance(value, str):
        return new if (new := text(value)) != value else value
    if type(value) is int and _LONG_NUMBERS[0] <= abs(value) < _LONG_NUMBERS[1] and (new := text(str(value))) != str(value):
        return int(new) if new.isdigit() else new
    return value


def _unescaped_forms(secret: bytes) -> Iterator[bytes]:
    # Something like an escape may be part of the secret, and is removed with the escapes. Backslashes at its end stay, because
    # their number decides whether the next character is escaped.
    for one in (secret.rstrip(b"\\"), *(layer.text for layer in unescaped(secret))):
        if is_secret(one.decode("utf-8", "replace")):
            yield from (one, one.replace(b" ", b"+"))  # HTML forms write a space as `+`


def _base64_forms(secret: bytes) -> Iterator[bytes]:
    for shift in range(3):  # its position in a longer text decides which letters encode it
        # The letters at both ends depend on the text around it. Only those between are always the same.
        letters = base64.b64encode(bytes(shift) + secret)[4 if shift else 0 : (shift + len(secret)) // 3 * 4]
        yield from (letters, letters.translate(_URL_SAFE))


def _piece(form: bytes) -> bytes:
    """Return the longest part of a form that stays as it is when other characters are escaped."""
    return max(_LETTERS.findall(form), key=len, default=b"")


def _place(start: int, end: int, layers: Sequence[Unescaped], content: bytes) -> tuple[int, int]:
    """Return the range in the content of a secret that was found under these layers of escapes."""
    for layer in reversed(layers):
        start, end = layer.origin(start, end)
    while content[start - 1 : start] == b"\\":  # it would escape the replacement
        start -= 1
    return start, end


def _instead_of(form: bytes) -> bytes:
    """Return the replacement of a secret. Digits may be part of a number, which must stay a number."""
    return b"9" * len(form) if form.isdigit() else REDACTED.encode()
