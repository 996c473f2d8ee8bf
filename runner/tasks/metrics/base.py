"""The settings and the signature that all metrics have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from runner import jsontext
from runner.errors import RowError
from runner.processes.pool import Calls
from runner.reading.numbers import Percent, Which
from runner.reading.reasoning import names_a_mark
from runner.reading.texts import Normalization
from runner.tasks.fields import VerbatimModel
from runner.tasks.metrics.steps import Found, Step, checked_pattern
from runner.templates.compile import is_template
from runner.types import ErrorType, Value

__all__ = ["Kind", "Metric", "Settings", "as_label", "invalid_reference"]


class Settings(VerbatimModel):
    """How both sides are prepared before they are compared."""

    ignore_case: bool = False
    ignore_punctuation: bool = False
    """Whether punctuation of all scripts is left out. The sign and the point of a number stay, and so does the # of C#."""
    ignore_whitespace: bool = True
    """Whether each run of white space counts as one space, and is left out at both ends."""
    normalize: list[Normalization] = Field(default_factory=list)
    """Other differences that do not count: `articles` (a, an, the), `accents`, `compatibility` (NFKC: ½, ², ligatures)."""
    take: list[Step] = Field(default_factory=list)
    """The steps that find the answer in the candidate, in order. If a step finds nothing, the candidate is wrong."""
    extract: str | None = None
    """A regular expression that finds the answer; the same as `take: [{regex: …}]`."""
    extract_from: Literal["first", "last"] = "last"
    """Which match of `extract` is taken."""
    keep_reasoning: bool = False
    """Whether reasoning in the text, such as `<think>…</think>`, is kept."""
    whole_words: bool = False
    """contains: whether the reference must occur as whole words."""
    at: Literal["begin", "end"] | None = None
    """exact_match: whether the candidate only has to begin, or to end, with the reference, as whole words."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """numeric: the largest absolute difference that is still right."""
    relative_tolerance: Annotated[float, Field(ge=0)] = 1e-9
    """numeric: the same, as a share of the reference. Whole numbers and fractions must be equal unless it is more than 1e-9."""
    percent: Percent = "as_is"
    """numeric: whether 20% is 20 (as_is) or 0.2 (share), in answers and references."""
    which: Which = "meant"
    """numeric: which number of an answer counts: the one that it states or ends with (meant), the first, or the last."""
    letters: Annotated[str, Field(min_length=2)] | Annotated[list[str | int], Field(min_length=2)] = "ABCDEFGHIJ"
    """choice: the letters that an answer may choose, as one text or a list: `ABCD`, `[1, 2, 3, 4]`, `[i, ii, iii, iv]`."""
    choices: Any = None
    """choice: the options, usually a locator: a list, a mapping from letters to texts, or `{text: […], label: […]}`."""
    several: bool = False
    """choice: whether all letters of a reference such as `AC` or `[A, C]` are right together. Default: any one is right."""
    ignore_arguments: bool | list[str] = False
    """tool_call_match: true compares the names of the functions only; a list leaves these arguments out of every call."""
    min: float | None = None
    """score, mean: the lowest grade; a lower one is an error of its row."""
    max: float | None = None
    """score, mean: the highest grade; a higher one, or one out of another number, is an error of its row."""
    tokenize: Literal["13a", "char", "intl", "none", "zh"] = "13a"
    """sacrebleu: the tokenizer, by its name in that library; `zh` for Chinese, `char` for text without spaces."""
    word_order: Annotated[int, Field(ge=0, le=2)] = 0
    """chrf: how many words in a row count, in addition to letters; 2 makes it chrF++."""
    stemmer: bool = False
    """rouge1, rouge2, rougeL: whether words with the same stem count as the same."""

    @field_validator("extract")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return pattern if pattern is None else checked_pattern(pattern)

    @field_validator("letters")
    @classmethod
    def _differ(cls, letters: str | list[str | int]) -> str | list[str | int]:
        if is_template(letters):
            raise ValueError("is the same for all rows; options with labels of their own go into `choices`")
        names = [str(letter).strip().casefold() for letter in letters]
        if len(set(names)) < len(names) or not all(names):
            raise ValueError(f"should name each letter once, got {letters!r}")
        return letters

    @model_validator(mode="after")
    def _takes_in_one_way(self) -> Self:
        if self.take and self.extract is not None:
            raise ValueError("`take` and `extract` are both set; write `extract` as a step of `take`: {regex: …}")
        return self

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The letters, one by one."""
        return tuple(str(letter).strip() for letter in self.letters)

    @cached_property
    def steps(self) -> Sequence[Step]:
        """The steps to the answer."""
        return self.take if self.extract is None else [Found(regex=self.extract, which=self.extract_from)]

    @cached_property
    def looks_for_reasoning(self) -> bool:
        """Whether a step matches a mark of reasoning. Then reasoning is kept in a text that also has an answer."""
        return any(isinstance(step, Found) and step.regex is not None and names_a_mark(step.regex) for step in self.steps)


#: Takes the candidate, the reference, the settings, and the caller of functions in other processes. Raises RowError (template)
#: for a reference that it cannot use.
Metric: TypeAlias = Callable[[Any, Any, Settings, Calls], Awaitable[Value]]


class Kind(NamedTuple):
    """A type of metric and its properties."""

    judge: Metric
    #: Checks a reference that is the same for all rows, before anything is sent. Raises RowError.
    check: Callable[[Any], None] | None = None
    #: Returns what has to be installed, or None, without importing it.
    missing: Callable[[], str | None] | None = None
    #: Whether it reads the verdicts of judges, so that it needs no reference.
    is_of_grades: bool = False
    #: Whether every candidate has a value, at least that of a wrong one. A grade or a vector may be invalid.
    takes_any_candidate: bool = True


def invalid_reference(message: str) -> RowError:
    """Return the error of a row whose reference cannot be compared with anything."""
    return RowError(ErrorType.TEMPLATE, f"configuration.reference: {message}")


def as_label(value: Any) -> str:
    """Return a value as text; a whole number such as 1.0, as in columns with gaps, is 1."""
    return f"{value:.15g}" if isinstance(value, float) else jsontext.as_text(value)
