"""The reasoning that some models write into the text of their answer, between marks. It is not part of the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["names_a_mark", "split_reasoning", "without_reasoning"]

#: The marks that open and close the reasoning, by model family. Case does not count.
_PAIRS: Mapping[str, str] = {
    "<think>": "</think>",  # DeepSeek R1, Qwen, Phi, Nemotron, GLM, MiniMax and most others
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",  # EXAONE
    "<thoughts>": "</thoughts>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "<longcat_think>": "</longcat_think>",
    "[think]": "[/think]",  # Mistral
    "◁think▷": "◁/think▷",  # Kimi
    "<|begin_of_thought|>": "<|end_of_thought|>",  # OpenThinker, Sky-T1
    "<|start_thinking|>": "<|end_thinking|>",  # Cohere
    "<|inner_prefix|>": "<|inner_suffix|>",  # Apertus
    "<unused94>": "<unused95>",  # MedGemma
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",  # gpt-oss
}
_MARKS = sorted({mark for pair in _PAIRS.items() for mark in pair}, key=len, reverse=True)
_MARK = re.compile("|".join(map(re.escape, _MARKS)), re.IGNORECASE)
_FIRST_LETTERS = frozenset(mark[0] for mark in _MARKS)


def without_reasoning(text: str) -> str | None:
    """Return the answer in a text, or None if the text was cut off within its reasoning."""
    return split_reasoning(text)[0]


def names_a_mark(pattern: str) -> bool:
    """Return whether a regular expression contains a mark of reasoning."""
    return _MARK.search(pattern.replace("\\", "")) is not None


def _may_have_marks(text: str) -> bool:
    """Return whether a text has a first letter of a mark. Most texts have none, and a loop is the fastest check."""
    for letter in _FIRST_LETTERS:  # noqa: SIM110
        if letter in text:
            return True
    return False


def split_reasoning(text: str) -> tuple[str | None, str | None]:
    """Return the answer and the reasoning of a text; the answer is None if the text was cut off within its reasoning.

    After a closing mark without an opening one, everything before it is reasoning, because some servers put the opening mark
    into the prompt. A text without marks is returned as it is, any other without the white space at its ends. An answer that
    only mentions an opening mark looks the same as one that was cut off.
    """
    if not _may_have_marks(text):
        return text, None
    answer: list[str] = []
    reasoning: list[str] = []
    closing, at = None, 0
    for mark in _MARK.finditer(text):
        name, piece = mark[0].lower(), text[at : mark.start()]
        if closing is None and name in _PAIRS:
            answer.append(piece)
            closing = _PAIRS[name]
        elif closing is None:
            reasoning += [*answer, piece]
            answer = []
        elif name == closing:
            reasoning.append(piece)
            closing = None
        else:  # a mark within the reasoning, which goes on
            continue
        at = mark.end()
    if at == 0:
        return text, None
    if closing is not None:
        return None, "".join([*reasoning, text[at:]]).strip()
    return "".join([*answer, text[at:]]).strip(), "".join(reasoning).strip()
