"""The content of a Markdown fence, and JSON within a text."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["code_block", "json_part", "unfenced"]

#: A fence opens and closes on a line of its own; the opening line may name a language.
_FENCE = re.compile(r"^[ \t]*+(`{3,}+|~{3,}+)([^\n`]*+)$", re.MULTILINE)


def code_block(text: str) -> str | None:
    """Return the content of the last fence of a text, or None if there is none, or the last one is never closed."""
    blocks = _blocks(text)
    if not blocks or blocks[-1] is None:
        return None
    start, end, _, _ = blocks[-1]
    return text[start:end]


def unfenced(text: str) -> str:
    """Return the content of a fence if the text is nothing else, or the text as it is."""
    blocks = _blocks(text)
    if len(blocks) != 1 or blocks[0] is None:
        return text
    start, end, opens, closes = blocks[0]
    return text[start:end] if not text[:opens].strip() and not text[closes:].strip() else text


def json_part(text: str, path: str) -> str | None:
    """Return a part of the JSON in a text, as text: a string as it is, anything else as JSON. None if it is missing.

    The JSON is the whole text, the content of its last fence, or the part from its first brace to its last. `path` has dots
    between keys, and numbers for indexes of lists; an empty path means the whole JSON.
    """
    for candidate in (text, code_block(text), _braced(text)):
        try:
            value = json.loads(candidate or "")
        except (ValueError, RecursionError):
            continue
        return _at(value, path.split(".") if path else [])
    return None


def _blocks(text: str) -> list[tuple[int, int, int, int] | None]:
    """Return start and end of each block's content, and of the block with its fences; None for a block never closed."""
    blocks: list[tuple[int, int, int, int] | None] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]) and not fence[2].strip():
            end = max(opened.end() + 1, fence.start() - 1)
            blocks.append((opened.end() + 1, end, opened.start(), fence.end()))
            opened = None
    return blocks if opened is None else [*blocks, None]


def _braced(text: str) -> str | None:
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if not starts:
        return None
    start = min(starts)
    return text[start : text.rfind("}" if text[start] == "{" else "]") + 1]


def _at(value: Any, steps: list[str]) -> str | None:
    for step in steps:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
