"""SGP's language of templates, which is all that a client may write: `item.a.b` as a whole string, `{{ item.a.b }}` within one.

It is told in the language of config files, whose templates can do more, and take longer. All other braces are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from runner.keypaths import KeyPath, leaves
from runner.secrets.redaction import mapped
from runner.service.refusals import Mistake, mistake
from runner.templates.locators import written

__all__ = ["escaped", "in_config", "mistakes_in"]

#: Templates of a task that are put in for each row, while nothing else goes on.
_MOST_FIELDS = 1000

_FIELD = re.compile(r"\{\{\s*item((?:\.[^\s.{}\[\]|()]+)+)\s*\}\}")
_VARIABLE = re.compile(r"\$\$?\{[A-Za-z_][A-Za-z0-9_]*(?::-[^}]*)?\}")


def mistakes_in(value: Any, place: KeyPath) -> Iterator[Mistake]:
    """Find templates that are more than SGP's language has, and more of them than are put in for a row in no time."""
    texts = [(path, text) for path, text in leaves(value, place) if isinstance(text, str)]
    if (count := sum(text.count("{{") for _, text in texts)) > _MOST_FIELDS:
        yield mistake(place, f"has {count} times {{{{; {_MOST_FIELDS} are allowed")
        return
    for path, text in texts:
        rest = _FIELD.sub("", text)
        if "{%" in rest or "{{" in rest:
            yield mistake(path, "a template may only hold {{ item.field }}, with dots for what lies deeper")


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
