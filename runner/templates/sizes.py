"""How large the result of an operator, method or filter would be, and how much work it takes, before it is done. Pure.

Each function takes the arguments of the operation and returns units (`limits`), or an upper bound if that is cheaper to
compute. Operations that are not in the tables return at most a few times their input, in a time that grows as that does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from runner.templates.limits import CONTAINERS, LARGEST_VALUE, MEMBER, MOST_BITS, check_work, refusal, weigh

__all__ = ["FILTERS", "METHODS", "OPERATORS", "of_spec", "work_of_lorem_ipsum"]

#: Takes the text (or number, or list), the other positional arguments, and the named ones.
Growth: TypeAlias = Callable[[Any, Sequence[Any], Mapping[str, Any]], float]

_NUMBER = re.compile(r"\d+")
#: The longest text of a number or null.
_SHORT = 4500
_MOST_DIGITS = 9
_SIZED: tuple[Any, ...] = (str, *CONTAINERS)
_MOST_STRIPPED = 10_000
_MOST_PLACES = 1000
_PRETTY = 16
#: The cost of a step of Python code, measured in characters that are copied in that time; and of comparing two characters.
_STEP = 20_000
_SLOW_STEP = 50_000
_COMPARED = 5
_BRACKETS = (("(", ")"), ("<", ">"), ("&lt;", "&gt;"))
_ENCODINGS = {"utf8", "utf16", "utf32", "ascii", "latin1", "iso88591", "cp1252"}


def _argument(args: Sequence[Any], named: Mapping[str, Any], index: int, name: str, default: Any) -> Any:
    return args[index] if len(args) > index else named.get(name, default)


def _size(value: Any) -> int:
    """Return the units of a value as text."""
    return weigh(value) if isinstance(value, (str, bytes, *CONTAINERS)) else _SHORT


def _number(value: Any) -> float:
    return abs(value) if isinstance(value, int | float) else 0


def _longest(values: Iterable[Any]) -> int:
    return max((_size(value) for value in values if value is not None), default=0)


# --- operators ---


def _sum(left: Any, right: Any) -> float:
    both = isinstance(left, str | bytes | list | tuple) and isinstance(right, str | bytes | list | tuple)
    return _flat(left) + _flat(right) if both else 0


def _flat(value: Any) -> int:
    return MEMBER * len(value) if isinstance(value, list | tuple) else len(value)


def _product(left: Any, right: Any) -> float:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
        return 0
    for several, times in ((left, right), (right, left)):
        if isinstance(several, str | bytes | list | tuple) and isinstance(times, int):
            return weigh(several) * max(times, 0)
    return 0


def _power(left: Any, right: Any) -> float:
    if isinstance(left, int) and isinstance(right, int) and right > 0:
        _check_bits(left.bit_length() * right if right < MOST_BITS or abs(left) > 1 else 1)
    return 0


def _check_bits(bits: int) -> None:
    if bits > MOST_BITS:
        raise refusal(f"computes a whole number of more than {MOST_BITS:,} bits")


def _remainder(left: Any, right: Any) -> float:
    if not isinstance(left, str | bytes):
        return 0
    return _printed(left, right if isinstance(right, tuple) else (right,), {})


def _printed(pattern: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    """Return the upper bound of a text with `%` placeholders."""
    text = pattern.decode("latin-1") if isinstance(pattern, bytes) else str(pattern)
    given = [*args, *named.values()]
    widths = sum(_number(value) for value in given) if "*" in text else 0
    return of_spec(text) + widths + text.count("%") * _longest(given)


def of_spec(spec: str) -> float:
    """Return the sum of the widths in one or more format specifications."""
    digits: list[str] = _NUMBER.findall(spec)
    return len(spec) + sum(int(run) if len(run) <= _MOST_DIGITS else float("inf") for run in digits)


# --- methods of texts, bytes and numbers, most of them filters too ---


def _padded(text: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    return _size(text) + _number(_argument(args, named, 0, "width", 80))


def _expanded(text: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    tab = b"\t" if isinstance(text, bytes) else "\t"
    return len(text) + int(text.count(tab)) * _number(_argument(args, named, 0, "tabsize", 8))


def _replaced(text: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    text = text if isinstance(text, bytes) else str(text)
    old, new = _argument(args, named, 0, "old", ""), _argument(args, named, 1, "new", "")
    most = (len(text) // max(_size(old), 1) + 1) * _size(new)
    if most <= LARGEST_VALUE // 2:
        return len(text) + most
    try:
        found = text.count(old)
    except TypeError:
        found = len(text) + 1
    limit = _argument(args, named, 2, "count", None)
    times: int = min(found, limit) if isinstance(limit, int) and limit >= 0 else found
    return len(text) + times * _size(new)


def _joined(separator: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    members: Any = _argument(args, named, 0, "iterable", ())
    if not isinstance(members, _SIZED):
        return 0  # a generator counts its members itself
    return weigh(members) + len(members) * _size(separator)


def _translated(text: Any, args: Sequence[Any], _named: Mapping[str, Any]) -> float:
    table = args[0] if args else None
    values = table.values() if isinstance(table, dict) else table if isinstance(table, list | tuple) else ()
    return len(text) * max(1, max((len(value) for value in values if isinstance(value, str)), default=1))


def _stripped(text: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    if _size(_argument(args, named, 0, "chars", None) or "") > _MOST_STRIPPED:
        raise refusal(f"strips a set of more than {_MOST_STRIPPED:,} characters")
    return _size(text)


def _encoded(text: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    name = str(_argument(args, named, 0, "encoding", "utf8"))
    if re.sub(r"[-_ ]", "", name.lower()) not in _ENCODINGS:
        raise refusal(f"uses the encoding {name!r}, which is not one of {', '.join(sorted(_ENCODINGS))}")
    return len(text)


def _as_bytes(_value: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    return _number(_argument(args, named, 0, "length", 1))


def _found_from_the_end(text: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    """Python searches from the end in the simplest way, which compares the whole text that it looks for at each position."""
    wanted = _argument(args, named, 0, "sep", "")
    check_work(len(text) * _size(wanted or "") * _COMPARED if isinstance(wanted, str | bytes) else 0)
    return len(text)


def _without_tags(text: Any, _args: Sequence[Any], _named: Mapping[str, Any]) -> float:
    """Each tag may be removed from a separate copy of the text."""
    text = str(text)
    check_work(text.count("<") * len(text) / 2)
    return len(text)


METHODS: Mapping[str, Growth] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _padded),
    **dict.fromkeys(("strip", "lstrip", "rstrip"), _stripped),
    **dict.fromkeys(("encode", "decode"), _encoded),
    "expandtabs": _expanded,
    "join": _joined,
    **dict.fromkeys(("rfind", "rindex", "rpartition", "rsplit"), _found_from_the_end),
    "replace": _replaced,
    "striptags": _without_tags,
    "to_bytes": _as_bytes,
    "translate": _translated,
}


# --- filters ---


def _batched(_values: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    """Return the upper bound of `batch` and `slice`: they fill up lines, and make as many slices as requested."""
    return MEMBER * (_number(_argument(args, named, 0, "linecount", 1)) + _number(named.get("slices", 0)))


def _indented(text: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    width = _argument(args, named, 0, "width", 4)
    lines = 1 + len(text.splitlines()) if isinstance(text, str) else 1
    return _size(text) + lines * (len(width) if isinstance(width, str) else _number(width))


def _wrapped(text: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    width, end = _argument(args, named, 0, "width", 79), _argument(args, named, 2, "wrapstring", None)
    words = len(text.split()) if isinstance(text, str) else 1
    lines = words + len(text) / max(_number(width), 1) if isinstance(text, str) else 1
    if isinstance(text, str):
        check_work(_work_of_wrapping(text, max(_number(width), 1)))
    return _size(text) + lines * (_size(end) if end else 1)


def _work_of_wrapping(text: str, width: float) -> float:
    """Return the work: from a word longer than a line, the rest is copied for each line."""
    pieces = 2 * len(text.split()) * _STEP + (text.count("-") + len(text.splitlines())) * _SLOW_STEP
    return pieces + sum(len(word) ** 2 for word in text.split() if len(word) > width) / (2 * width)


def _ordered(values: Any, _args: Sequence[Any], _named: Mapping[str, Any]) -> float:
    if isinstance(values, _SIZED):
        check_work(len(values) * _SLOW_STEP)
    return 0


def _rounded(_value: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    if _number(_argument(args, named, 0, "precision", 0)) > _MOST_PLACES:
        raise refusal(f"rounds to more than {_MOST_PLACES:,} places")
    return 0


def _linked(text: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    text = str(text)
    # For each closing bracket that is moved to its opening one, the word is copied.
    words = text.split()
    check_work(len(words) * _SLOW_STEP)
    check_work(sum(len(word) * min(word.count(one), word.count(other)) for word in words for one, other in _BRACKETS))
    added = sum(_size(value) for value in (*args, *named.values()) if isinstance(value, _SIZED))
    return _size(text) * (8 + added / 4)


def _as_json(value: Any, args: Sequence[Any], named: Mapping[str, Any]) -> float:
    indent, separators = (_argument(args, named, index, name, None) for index, name in ((0, "indent"), (2, "separators")))
    added = 0 if indent is None else len(indent) if isinstance(indent, str) else _number(indent)
    added += 0 if separators is None else _size(separators)
    return _size(value) * (1 + added) if added else 0


def _from_json(value: Any, _args: Sequence[Any], _named: Mapping[str, Any]) -> float:
    """Return the upper bound of the value of JSON text: each member follows one of four characters."""
    return len(value) + MEMBER * sum(map(value.count, "[{,:")) if isinstance(value, str) else 0


def _pretty(value: Any, _args: Sequence[Any], _named: Mapping[str, Any]) -> float:
    return _size(value) * _PRETTY  # it is slow


def _attributes(value: Any, _args: Sequence[Any], _named: Mapping[str, Any]) -> float:
    return _size(value)


FILTERS: Mapping[str, Growth] = {
    **dict.fromkeys(("batch", "slice"), _batched),
    **dict.fromkeys(("dictsort", "groupby", "max", "min", "sort", "unique"), _ordered),
    "center": _padded,
    "format": _printed,
    "fromjson": _from_json,
    "indent": _indented,
    "pprint": _pretty,
    "replace": _replaced,
    "round": _rounded,
    "strip": _stripped,
    "striptags": _without_tags,
    "tojson": _as_json,
    "trim": _stripped,
    "urlize": _linked,
    "wordwrap": _wrapped,
    "xmlattr": _attributes,
}


def work_of_lorem_ipsum(paragraphs: int, shortest: int, longest: int) -> float:
    """Return the work of these paragraphs, each with at least and at most so many words, which may be negative."""
    return paragraphs * max(1, abs(shortest), abs(longest)) * _STEP


OPERATORS: Mapping[str, Callable[[Any, Any], float]] = {"%": _remainder, "*": _product, "**": _power, "+": _sum}
