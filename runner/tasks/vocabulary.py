"""The words that the chat API knows for values to which servers may add words of their own.

A word that is nearly one of them is a typo. Any other word is left to the server: some servers have roles, kinds of parts and
formats that no other has.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["CHOICES_OF_TOOLS", "EFFORTS", "FORMATS", "MODALITIES", "PARTS", "ROLES", "TIERS", "TOOLS", "meant"]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
#: The kinds of parts of a message; each has a member of its own name.
PARTS = ("text", "image_url", "input_audio", "audio_url", "video_url", "file", "refusal")
FORMATS = ("text", "json_object", "json_schema")
TOOLS = ("function", "custom")
CHOICES_OF_TOOLS = ("none", "auto", "required")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
TIERS = ("auto", "default", "flex", "priority")
MODALITIES = ("text", "audio", "image")
#: The similarity from which a word counts as a typo of another.
_ALIKE = 0.7


def meant(word: str, known: Iterable[str]) -> str | None:
    """Return the known word of which a word is probably a typo; None if it is known itself, or not similar to any."""
    words = list(known)
    if word in words:
        return None
    return next(iter(difflib.get_close_matches(word.strip().lower(), words, n=1, cutoff=_ALIKE)), None)
