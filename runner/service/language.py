"""SGP's language of templates, which is all that a client may write: `item.a.b` as a whole string, `{{ item.a.b }}` within one.

It is told in the language of config files, whose templates can do more, and take longer. All other braces are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from runner.keypaths import KeyPath
from runner.secrets.redaction import mapped
from runner.service.refusals import Mistake, mistake
from runner.templates.locators import written

__all__ = ["escaped", "in_config", "mistakes_in"]

_FIELD = re.compile(r"\{\{\s*item((?:\.[^\s.{}\[\]|()]+)+)\s*\}\}")
_VARIABLE = re.compile(r"\$\$?\{[A-Za-z_][A-Za-z0-9_]*(?::-[^}]*)?\}")


def mistakes_in(value: Any, place: KeyPath) -> Iterator[Mistake]:
    """Find templates that are more than SGP's language has."""
    if isinstance(value, dict | list):
        for step, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from mistakes_in(member, (*place, step))
    elif isinstance(value, str):
        rest = _FIELD.sub("", value)
        if "{%" in rest or "{{" in rest:
            yield mistake(place, "a template may only hold {{ item.field }}, with dots for what lies deeper")


def in_config(value: Any) -> Any:
    """Return a value that has no such mistake, as a config says the same."""
    return mapped(value, _in_config)


def _in_config(text: str) -> str:
    if not _FIELD.search(text):
        return text
    parts: list[str] = []
    end = 0
    for found in _FIELD.finditer(text):
        parts += (text[end : found.start()].replace("{#", '{{ "{#" }}'), "{{ " + written(*found[1][1:].split(".")) + " }}")
        end = found.end()
    return "".join((*parts, text[end:].replace("{#", '{{ "{#" }}')))


def escaped(value: Any) -> Any:
    """Return a value so that a config file holds it as it stands: no `${NAME}` of a client's is ever put in."""
    return mapped(value, lambda text: _VARIABLE.sub(lambda found: f"${found[0]}", text))
