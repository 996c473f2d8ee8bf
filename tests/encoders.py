"""How other programs write a text: strangers' JSON, pages, forms and logs, as a server that echoes a key may."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote, quote_plus

__all__ = ["BASE64", "ENCODERS", "as_utf8"]


def _html_of(text: str, pattern: str) -> str:
    return "".join(pattern.format(ord(one)) for one in text)


def _unicode_of(text: str, pattern: str = "\\u{:04x}") -> str:
    units = text.encode("utf-16-be")
    return "".join(pattern.format(int.from_bytes(units[at : at + 2])) for at in range(0, len(units), 2))


def as_utf8(text: str, encoding: str) -> str:
    """Return a body in UTF-16 as it looks to what takes it for UTF-8."""
    return text.encode(encoding).decode("utf-8", "replace")


#: Each way of writing by its name.
ENCODERS: Mapping[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON in JSON in JSON": lambda text: json.dumps(json.dumps(json.dumps(text))),
    "PHP": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    ".NET": lambda text: re.sub("[+<>&'`/-]", lambda found: f"\\u{ord(found[0]):04X}", json.dumps(text)[1:-1]),
    "all of it as \\u": _unicode_of,
    "all of it as \\U": lambda text: _unicode_of(text, "\\u{:04X}"),
    "HTML": html.escape,
    "HTML by names": lambda text: (
        text.replace("&", "&amp;").replace("/", "&sol;").replace("+", "&plus;").replace("=", "&equals;")
    ),
    "HTML in decimals": lambda text: _html_of(text, "&#{:06};"),
    "HTML in hexadecimals": lambda text: _html_of(text, "&#x{:04x};"),
    "HTML in HEXADECIMALS": lambda text: _html_of(text, "&#X{:X};"),
    "a URL": lambda text: quote(text, safe=""),
    "a URL, most of it": quote,
    "a form": quote_plus,
    "a URL in a URL": lambda text: quote(quote(text, safe=""), safe=""),
    "all of it as in a URL": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "NULs between": "\0".join,
    "a byte that is no UTF-8": lambda text: f"{text[:3]}\ufffd{text[3:]}",
    "Python": repr,
}
BASE64: Mapping[str, Callable[[bytes], bytes]] = {"base64": base64.b64encode, "base64 for URLs": base64.urlsafe_b64encode}
