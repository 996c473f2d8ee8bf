"""Tool calls that a model writes as text."""

from __future__ import annotations

import re

__all__ = ["without_calls"]

#: A tool call that a model writes as text, with the marks of its family. They may lack the closing one.
_CALL = re.compile(
    r"<tool_call>\s*+[{<\w].*?(?:</tool_call>|\Z)|(?:<function=|\[TOOL_CALLS\]|<\|(?:tool_call|python_tag)\|>).*", re.DOTALL
)


def without_calls(text: str) -> str:
    """Return a text without the tool calls in it: nobody runs them, and what they ask for is no answer."""
    return _CALL.sub("", text)
