r"""A text as typed on a keyboard: without Markdown and LaTeX around its numbers, and with one sign for all similar ones.

**\dfrac{3}{4}**, 1½ m², −5 €   ──►   3/4, 1 1/2 m^{2}, -5 €
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

__all__ = ["NARROW", "UNKNOWN", "plain"]

#: The space that joins groups of digits.
NARROW = "\u202f"
#: Stands for mathematics that is not a plain number: a root, π, a fraction of letters.
UNKNOWN = "\ufffc"

_ALIKE: Mapping[str, str] = {
    "-": "−‐‑‒–﹣－",
    "+": "＋﹢",
    "*": "＊∗",
    "/": "／⁄∕",
    "×": "✕✖⨯",
    "·": "⋅∙‧・",
    "≈": "≅≃",
    "<": "≤＜",
    ">": "≥≠＞",
    "=": "＝",
    "%": "％﹪٪",
    "$": "＄﹩",
    "^": "＾",
    ".": "．٫",
    "'": "’‘ʼ′٬",
    '"': "“”„«»",
    "(": "（",
    ")": "）",
    "[": "［【",
    "]": "］】",
    "{": "｛",
    "}": "｝",
    " ": "\u3000",
    NARROW: "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u205f",
    UNKNOWN: "√∛∜π∞∑∏∫",
    #: Characters without width.
    "": "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u2060\u2066\u2067\u2068\u2069\u20e3\ufe0f\ufeff",
}
_TYPED = str.maketrans({sign: typed for typed, signs in _ALIKE.items() for sign in signs})

_ENTITY = re.compile(r"&#?\w{1,8};")
_RAISED = re.compile(r"(?P<over>[⁰¹²³⁴-⁹]++)/(?P<under>[₀-₉]++)|[⁺⁻]?[⁰¹²³⁴-⁹]++|(?P<vulgar>[¼-¾⅐-⅞↉])")

_MARKUP = re.compile(
    r"~~[^~\n]{1,60}+~~|\*\*(?:(?!-?\d)|(?<!\d\*\*))|`+|__|~~|<(?P<shift>su[bp])>(?P<shifted>[^<>]{1,20}+)</su[bp]>"
)

#: An argument: braces with one level of braces in them, or one token.
_ARGUMENT = r"\s*+(?:\{(?:[^{}]++|\{[^{}]*+\})*+\}|\\[A-Za-z]++|[^\s{}\\])"
_LATEX = re.compile(
    rf"""\^\s*+(?P<degree>\\circ(?![A-Za-z])|\{{\s*+\\circ\s*+\}})
    | \{{(?P<comma>,)\}}
    | \\[dtc]?frac(?P<over>{_ARGUMENT})(?P<under>{_ARGUMENT})
    | \\(?P<unknown>sqrt(?:\s*+\[[^\[\]]*+\])?+|overline|bar|dot|[dt]?binom(?![A-Za-z]){_ARGUMENT})(?![A-Za-z]){_ARGUMENT}
    | \\(?P<silent>tag|label|ref|eqref|cite|[hv]space|phantom|pmod)\*?+(?![A-Za-z]){_ARGUMENT}
    | \\(?P<command>[A-Za-z]++|.)""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"([-+]?)\s*+(\d[\d.,']*+)")
#: The replacements of commands; all other commands become a space.
_MEANINGS: Mapping[str, str] = {
    NARROW: ", ; : >",
    "": "! left right displaystyle text textbf textit textrm mathrm mathbf mbox",
    "(": "{",
    ")": "}",
    "×": "times",
    "·": "cdot",
    "*": "ast",
    "÷": "div",
    "/": "over",
    "±": "pm mp",
    "<": "le leq lt",
    ">": "ge geq gt ne neq",
    "≈": "approx sim simeq",
    "°": "circ degree",
    "£": "pounds",
    "€": "euro",
    UNKNOWN: "pi infty alpha beta gamma theta log ln sin cos tan exp sum prod int lim",
}
_COMMANDS: Mapping[str, str] = dict(
    [(command, meaning) for meaning, commands in _MEANINGS.items() for command in commands.split()]
    + [(sign, sign) for sign in "%$#&_"]
)


def plain(text: str) -> str:
    """Return a text without markup. Commands that mean nothing for numbers become white space."""
    if "&" in text and _ENTITY.search(text):
        from html import unescape

        text = unescape(text)
    if not text.isascii():
        text = _RAISED.sub(_typed_raised, text.translate(_TYPED))
    if "+/-" in text:
        text = text.replace("+/-", "±")
    if "\\" in text or "{" in text:
        text = _LATEX.sub(_typed_latex, text)
    if "*" in text or "`" in text or "_" in text or "~" in text or "<" in text:
        text = _MARKUP.sub(_typed_markup, text)
    return text


def _typed_raised(match: re.Match[str]) -> str:
    if match["vulgar"]:
        return _fraction(match, *unicodedata.normalize("NFKD", match["vulgar"]).split("⁄"))
    if match["over"]:
        return _fraction(match, match["over"], match["under"])
    return f"^{{{_level(match[0])}}}"


def _level(raised: str) -> str:
    return unicodedata.normalize("NFKD", raised).replace("−", "-")


def _typed_latex(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind == "command":
        return _COMMANDS.get(match["command"], " ")
    if kind == "under":
        return _fraction(match, match["over"], match["under"])
    return {"degree": "°", "comma": ",", "unknown": UNKNOWN}.get(kind or "", "")


def _fraction(match: re.Match[str], over: str, under: str) -> str:
    """Return `3/4`, with a space after a digit before it, which is the whole part of a mixed number."""
    parts = [_NUMBER.fullmatch(_level(_LATEX.sub(_typed_latex, part).strip(" {}"))) for part in (over, under)]
    if parts[0] is None or parts[1] is None:
        return UNKNOWN
    sign = "-" if (parts[0][1] == "-") != (parts[1][1] == "-") else ""
    apart = " " if match.string[match.start() - 1 : match.start()].isdecimal() else ""
    return f"{apart}{sign}{parts[0][2]}/{parts[1][2]}"


def _typed_markup(match: re.Match[str]) -> str:
    return "" if match["shift"] is None else f"{'^' if match['shift'] == 'sup' else '_'}{{{match['shifted']}}}"
