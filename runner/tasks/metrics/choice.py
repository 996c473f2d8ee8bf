"""The metric `choice`: whether a text chooses the right option of a multiple-choice question."""

from __future__ import annotations

from typing import Any

from runner.processes.pool import Calls
from runner.tasks.metrics.base import Settings
from runner.tasks.metrics.text import of_text

__all__ = ["choice"]


@of_text
async def choice(text: str, references: list[Any], settings: Settings, _calls: Calls) -> tuple[bool, str | None]:
    """Judge whether the text chooses the reference's option, or with `several` all of its options and no other."""
    # imported late: the words of so many languages take time to prepare, and few runs need them
    from runner.reading.letters import chosen_letter, chosen_letters
    from runner.tasks.metrics.options import label_of, labels_of, options_of

    options = options_of(settings)
    if not settings.several:
        wanted = {label_of(one, options) for one in references}
        letter = chosen_letter(text, options.labels, options.texts)
        return letter in wanted, letter
    together = frozenset[str]().union(*[labels_of(one, options) for one in references])
    letters = chosen_letters(text, options.labels, options.texts)
    found = None if letters is None else ", ".join(label for label in options.labels if label in letters)
    return letters == together, found
