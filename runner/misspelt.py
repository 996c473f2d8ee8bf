"""What is nearly a locator, and what was probably meant by it."""

from __future__ import annotations

import re

from runner.locators import steps_of, written
from runner.templates import is_template

__all__ = ["AROUND", "QUOTES", "meant_by", "no_locator", "shortened", "why_no_locator"]

QUOTES = "\"'`“”„‘’‚«»"
#: What may stand around a name by mistake.
AROUND = rf"[\s$<(){{}}>{QUOTES}]*+"
_BEGINNING = re.compile(rf"{AROUND}items?\s*+(?:\.\s*+(?=\S)|(?=\[))", re.IGNORECASE)
_CURLY = re.compile("\\s*+[“”„‘’‚«].*[“”„‘’‚»]\\s*+", re.DOTALL)
#: Signs of an expression: no column is meant by what holds them.
_COMPUTING = re.compile(r"[|+~:(]")
_LONGEST_SHOWN = 60


def why_no_locator(text: str) -> str | None:
    """Return what is wrong with a value that was meant to read the row; None where it does, or may be meant as it stands."""
    if is_template(text):
        return "the quotation marks around it would be a part of the value; leave them out" if _CURLY.fullmatch(text) else None
    return no_locator(text) if _BEGINNING.match(text) else None


def no_locator(text: str) -> str:
    """Return what to say of a text that is nearly a locator."""
    meant = f"write {meant_by(text)}; what is meant as a text is written {{{{ '…' }}}}"
    return f"{shortened(text)!r} is no locator, so it would be the same for every row; {meant}"


def meant_by(text: str) -> str:
    """Return the locator or template that a text was probably meant to be."""
    begun = _BEGINNING.match(text)
    rest = text[begun.end() if begun else 0 :].strip(f" \t\r\n.$<>(){{}}{QUOTES}")
    locator = f"item{rest}" if rest.startswith("[") else f"item.{rest}"
    if steps_of(locator) is not None:
        return locator
    return f"{{{{ {locator} }}}}" if _COMPUTING.search(rest) else written(rest)


def shortened(text: str) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
