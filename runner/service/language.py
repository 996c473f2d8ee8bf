"""SGP's template language, the only one that clients may use: `item.a.b` as a whole string, `{{ item.a.b }}` within one.

It is translated to the language of config files, whose templates can do more and take longer. All other braces are text.
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

#: The most templates of a task. They are rendered for each row, and block the event loop meanwhile.
_MOST_FIELDS = 1000

_FIELD = re.compile(r"\{\{\s*item((?:\.[^\s.{}\[\]|()]+)+)\s*\}\}")
_VARIABLE = re.compile(r"\$\$?\{[A-Za-z_][A-Za-z0-9_]*(?::-[^}]*)?\}")


def mistakes_in(value: Any, place: KeyPath) -> Iterator[Mistake]:
    """Find templates that SGP's language does not have, and too many templates for one row."""
    texts = [(path, text) for path, text in leaves(value, place) if isinstance(text, str)]
    if (count := sum(text.count("{{") for _, text in texts)) > _MOST_FIELDS:
        yield mistake(place, f"has {count} times `{{{{`; {_MOST_FIELDS} are allowed")
        return
    for path, text in texts:
        rest = _FIELD.sub("", text)
        if "{%" in rest or "{{" in rest:
            yield mistake(path, "a template may only hold {{ item.field }}; dots reach nested fields: {{ item.a.b }}")


def in_config(value: Any) -> Any:
    """Return a value without such mistakes in the template language of config files."""
    return mapped(value, _in_config)


def _in_config(text: str) -> str:
    parts = _FIELD.split(text)
    if len(parts) == 1:
        return text
    parts[::2] = [between.replace("{#", '{{ "{#" }}') for between in parts[::2]]
    parts[1::2] = ["{{ " + written(*path[1:].split(".")) + " }}" for path in parts[1::2]]
    return "".join(parts)


def escaped(value: Any) -> Any:
    """Escape a value for a config file, so that a `${NAME}` of a client stays text."""
    return mapped(value, lambda text: _VARIABLE.sub(lambda found: f"${found[0]}", text))
