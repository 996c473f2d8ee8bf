r"""What a regular expression of the config must be: one that compiles, and says what it was written to say.

In double quotes YAML reads `"\boxed"` as a backspace and `oxed`; in single quotes Python reads `'\boxed'` as the border of a
word and `oxed`. Either way it compiles, matches nothing, and makes every answer wrong.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["check_pattern"]

#: Control characters that an expression may well be about.
_ORDINARY = "\t\n\r"
#: Commands of LaTeX behind a backslash which is not itself escaped, where Python reads the first letter as something else.
_LATEX = re.compile(r"(?<!\\)(?:\\\\)*+(\\(?:boxed|frac|fbox|text[a-z]*+|begin|vec|bar))\s*\\?\{")


def check_pattern(pattern: str) -> None:
    """Raise ValueError for a text that is no regular expression, or hardly the one that was meant."""
    for character in pattern:
        if unicodedata.category(character) == "Cc" and character not in _ORDINARY:
            what = f"holds the control character U+{ord(character):04X}, which YAML makes of a backslash in double quotes"
            raise ValueError(f"{what}; put it into single quotes")
    if (command := _LATEX.search(pattern)) is not None:
        raise ValueError(f"holds {command[1]}, of which the first letter is no text for Python; write \\{command[1]}")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is no regular expression: {error}") from error
