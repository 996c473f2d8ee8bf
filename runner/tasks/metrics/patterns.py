r"""The check of a regular expression in the config: it must compile, and mean what its author wrote.

In double quotes YAML reads `"\boxed"` as a backspace and `oxed`; in single quotes Python reads `'\boxed'` as a word
boundary and `oxed`. Either way it compiles, matches nothing, and makes every answer wrong.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["check_pattern"]

#: Control characters that an expression may contain on purpose.
_ORDINARY = "\t\n\r"
#: Commands of LaTeX after an unescaped backslash. Python reads the backslash and the first letter as something else.
_LATEX = re.compile(r"(?<!\\)(?:\\\\)*+(\\(?:boxed|frac|fbox|text[a-z]*+|begin|vec|bar))\s*\\?\{")


def check_pattern(pattern: str) -> None:
    """Raise ValueError for a text that is not a regular expression, or hardly the one that was meant."""
    for character in pattern:
        if unicodedata.category(character) == "Cc" and character not in _ORDINARY:
            what = f"holds the control character U+{ord(character):04X}, which YAML reads from a backslash in double quotes"
            raise ValueError(f"{what}; use single quotes")
    if (command := _LATEX.search(pattern)) is not None:
        raise ValueError(f"holds {command[1]}, which Python does not read as this text; write \\{command[1]}")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is not a regular expression: {error}") from error
