"""The options of a multiple-choice question, and the one that a reference names by its letter, index or text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from runner import jsontext
from runner.errors import RowError
from runner.jsontext import as_text
from runner.reading.labels import bare
from runner.reading.letters import as_words
from runner.reading.phrases import plain
from runner.structs import Struct
from runner.tasks.metrics.base import Settings, as_label, invalid_reference
from runner.types import ErrorType

__all__ = ["Options", "label_of", "labels_of", "options_of"]

#: A letter with the text of its option.
_WITH_TEXT = re.compile(r"[\s(\[*]*(\w+)\s*[).:\]*]+\s*(\S.*)", re.DOTALL)
_LONGEST_INDEX, _LONGEST_SHOWN = 9, 200


class Options(Struct, frozen=True):
    """The options that an answer may choose."""

    labels: tuple[str, ...]
    #: The text of each; empty if only the letters are known.
    texts: tuple[str, ...] = ()


def options_of(settings: Settings) -> Options:
    """Return the options of a row. Raises RowError."""
    letters = settings.labels
    if settings.choices is None:
        return Options(letters)
    choices = _decoded(settings.choices) if isinstance(settings.choices, str) else settings.choices
    labels, texts = _labels_and_texts(choices, letters)
    if len(labels) != len(texts):
        raise _no_options(choices, f"has {len(texts)} options and {len(labels)} letters; name as many in `letters`")
    if len(labels) <= 1 or len(set(labels)) < len(labels) or not all(labels):
        raise _no_options(choices, "should have two options or more, each with a letter of its own")
    return Options(tuple(labels), tuple("" if text is None else as_text(text) for text in texts))


def _labels_and_texts(choices: Any, letters: Sequence[str]) -> tuple[list[str], list[Any]]:
    """Return the options of a list, a mapping, or columns or rows of `text` and `label`. Raises RowError."""
    match choices:
        case [*_] if choices and all(isinstance(one, dict) and {"text", "label"} <= one.keys() for one in choices):
            return [_name(one["label"]) for one in choices], [one["text"] for one in choices]
        case [_, *_]:
            return list(letters[: len(choices)]), choices
        case {"text": [*texts], "label": [*labels]}:
            return list(map(_name, labels)), texts
        case {}:
            there = {label: text for label, text in choices.items() if text is not None}
            return list(map(_name, there)), list(there.values())
    raise _no_options(choices, "is neither a list of options nor a mapping from letters to them")


def _name(label: Any) -> str:
    return str(label).strip()


def _decoded(choices: str) -> Any:
    """Return the JSON in a text, such as a cell of a CSV file."""
    try:
        return jsontext.decode(choices)
    except jsontext.JsonError as error:
        raise _no_options(choices, "is not a list of options, and not JSON of one") from error


def _no_options(choices: Any, why: str) -> RowError:
    return RowError(ErrorType.TEMPLATE, f"configuration.choices: {_shown(choices)} {why}")


def labels_of(reference: Any, options: Options) -> set[str]:
    """Return all the labels that a reference names together: `AC`, `A, C`, `A and C`, or one. Raises RowError."""
    if (found := _found(reference, options)) is not None:
        return {found}
    named = set[str]()
    for part in re.split(r"[\W_]+", plain(reference) if isinstance(reference, str) else ""):
        if part and part.casefold() != "and":
            whole = _found(part, options)
            labels = [whole] if whole is not None else [_found(letter, Options(options.labels)) for letter in part]
            named.update(label for label in labels if label is not None)
            if None in labels:
                raise _names_nothing(reference, options)
    if not named:
        raise _names_nothing(reference, options)
    return named


def label_of(reference: Any, options: Options) -> str:
    """Return the label that a reference names. Raises RowError."""
    found = _found(reference, options)
    if found is None:
        raise _names_nothing(reference, options)
    return found


def _found(reference: Any, options: Options) -> str | None:
    """Return the label that a reference is, that has its text, that has its index, or with which it begins."""
    text = as_label(reference).strip()
    if (label := _named(text, options.labels)) is not None:
        return label
    if isinstance(reference, str) and (label := _of_text(text, options)) is not None:
        return label
    if text.isdecimal():
        index = int(text[:_LONGEST_INDEX])
        return options.labels[index] if index < len(options.texts) else None
    with_text = _WITH_TEXT.fullmatch(text)
    label = None if with_text is None else _named(with_text[1], options.labels)
    is_another = with_text is not None and _of_text(with_text[2], options) not in {None, label}
    return None if is_another else label


def _named(text: str, labels: tuple[str, ...]) -> str | None:
    return _by_name(labels).get(bare(text).casefold())


@lru_cache(maxsize=64)
def _by_name(labels: tuple[str, ...]) -> Mapping[str, str]:
    return {bare(label).casefold(): label for label in reversed(labels)}


def _of_text(text: str, options: Options) -> str | None:
    """Return the label of the only option with this text."""
    words = as_words(text)
    found = [label for label, one in zip(options.labels, options.texts, strict=False) if words and as_words(one) == words]
    return found[0] if len(found) == 1 else None


def _names_nothing(reference: Any, options: Options) -> RowError:
    what = f"{_shown(reference)} is not one of the letters {', '.join(options.labels)}"
    if options.texts:
        return invalid_reference(
            f"{what}, and neither the text of an option nor its index from 0: {_shown(list(options.texts))}"
        )
    if isinstance(reference, str) and len(reference) > 1 and _named(reference[0], options.labels) is not None:
        return invalid_reference(f"{what}; if several are right together, set `several: true`")
    return invalid_reference(
        f"{what}; an index from 0, or the text of an option, needs `choices`, a locator of the row's options"
    )


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"
