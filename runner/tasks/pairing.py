"""What a pairwise task is called, the orders in which it asks, and its part in a config's document.

The models of such a task are not loaded for this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.structs import Struct
from runner.templates.compile import Template, TemplateMistake, compile_template

__all__ = ["CHOICES", "ORDERS", "PAIRWISE", "Pairing", "orders", "pairing_of"]

PAIRWISE = "auto_evaluation.pairwise"
#: The verdicts that are allowed, if the config names no others.
CHOICES = ("first", "second", "tie")
#: The suffix of the judge of each order, with the answers in the first and the second position.
ORDERS: Mapping[str, tuple[str, str]] = {"ab": ("a", "b"), "ba": ("b", "a")}


def orders(*, swap: bool) -> list[str]:
    """Return the orders in which a pair is asked: both, or only the first."""
    return list(ORDERS) if swap else ["ab"]


class Pairing(Struct, frozen=True):
    """A pairwise task, as the config defines it."""

    alias: str
    choices: Sequence[str]
    #: Renders both answers, as a list.
    answers: Template
    swap: bool

    @property
    def judges(self) -> list[str]:
        """The aliases of its judges, one for each order."""
        return [f"{self.alias}.{order}" for order in orders(swap=self.swap)]


def pairing_of(alias: str, task: Mapping[str, Any]) -> Pairing | None:
    """Return a task of a config's document as a pairwise task, or None if it is another one."""
    settings = task.get("configuration")
    if task.get("task_type") != PAIRWISE or not isinstance(settings, dict):
        return None
    try:
        answers = compile_template([settings.get("a"), settings.get("b")])
    except TemplateMistake:  # the text may contain `${…}`, which is not expanded here
        answers = compile_template([None, None])
    return Pairing(alias, settings.get("choices") or CHOICES, answers, settings.get("swap", True))
