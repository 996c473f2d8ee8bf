"""What all metrics share: their settings and their shape."""

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
    """How both sides are looked at before they are compared."""

    ignore_case: bool = False
    ignore_punctuation: bool = False
    """Whether punctuation of all scripts is left out; not the sign and the point of a number, nor what tells C from C#."""
    ignore_whitespace: bool = True
    """Whether runs of white space in texts count as one space, and none at the ends."""
    normalize: list[Normalization] = Field(default_factory=list)
    """What else makes no difference: `articles` (a, an, the), `accents`, `compatibility` (NFKC: ½, ², ligatures)."""
    take: list[Step] = Field(default_factory=list)
    """Steps to the answer in the candidate, one after the other; one that finds nothing makes the candidate wrong."""
    extract: str | None = None
    """A regular expression that finds the answer: as `take: [{regex: …}]`."""
    extract_from: Literal["first", "last"] = "last"
    """Which match of `extract` is taken."""
    keep_reasoning: bool = False
    """Whether reasoning that stands in the text, as in `<think>…</think>`, is left in it."""
    whole_words: bool = False
    """contains: whether the reference must stand there as whole words."""
    at: Literal["begin", "end"] | None = None
    """exact_match: whether the reference only has to stand at the beginning or end, as whole words."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """numeric: the largest absolute difference that is still right."""
    relative_tolerance: Annotated[float, Field(ge=0)] = 1e-9
    """numeric: the same as a share of the reference. Whole numbers and fractions must be equal unless it is more than 1e-9."""
    percent: Percent = "as_is"
    """numeric: whether 20% is 20 (as_is) or 0.2 (share), in answers and references."""
    which: Which = "meant"
    """numeric: which number of an answer counts: the one that it states or ends with (meant), the first, or the last."""
    letters: Annotated[str, Field(min_length=2)] | Annotated[list[str | int], Field(min_length=2)] = "ABCDEFGHIJ"
    """choice: the letters that an answer may be, as one text or a list: `ABCD`, `[1, 2, 3, 4]`, `[i, ii, iii, iv]`."""
    choices: Any = None
    """choice: the options, usually a locator: a list, a mapping from letters to texts, or `{text: […], label: […]}`."""
    several: bool = False
    """choice: whether the reference is the whole set of right letters, as `AC` or `[A, C]`, and not any one of them."""
    ignore_arguments: bool | list[str] = False
    """tool_call_match: true compares the names of the functions only; a list leaves these arguments out of every call."""
    min: float | None = None
    """score, mean: the lowest grade that there is; what is lower is an error of its row."""
    max: float | None = None
    """score, mean: the highest grade that there is; what is higher, or out of another number, is an error of its row."""
    tokenize: Literal["13a", "char", "intl", "none", "zh"] = "13a"
    """sacrebleu: how words are told apart, by the names of that library; `zh` for Chinese, `char` for what has no spaces."""
    word_order: Annotated[int, Field(ge=0, le=2)] = 0
    """chrf: how many words in a row count beside letters; 2 makes it chrF++."""
    stemmer: bool = False
    """rouge1, rouge2, rougeL: whether words count as the same that have the same stem."""

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
            raise ValueError("`take` and `extract` are both there; write `extract` as a step of `take`: {regex: …}")
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
        """Whether a step looks for a mark of reasoning, so that it is left in a text that has an answer besides."""
        return any(isinstance(step, Found) and step.regex is not None and names_a_mark(step.regex) for step in self.steps)


#: Takes the candidate, the reference, the settings, and what calls functions apart. Raises RowError (template) for a reference
#: that makes no sense.
Metric: TypeAlias = Callable[[Any, Any, Settings, Calls], Awaitable[Value]]


class Kind(NamedTuple):
    """A type of metric, and what else there is to know of it."""

    judge: Metric
    #: Looks at a reference before anything is sent, where it is the same for all rows. Raises RowError.
    check: Callable[[Any], None] | None = None
    #: Says what has to be installed, or None; nothing is imported for it.
    missing: Callable[[], str | None] | None = None
    #: Whether it reads what judges say, so that it needs no reference.
    is_of_grades: bool = False
    #: Whether every candidate has a value, if only that of a wrong one; a grade or a vector has to be one.
    takes_any_candidate: bool = True


def invalid_reference(message: str) -> RowError:
    """Return the error of a row whose reference cannot be compared with anything."""
    return RowError(ErrorType.TEMPLATE, f"configuration.reference: {message}")


def as_label(value: Any) -> str:
    """Return a value as text; a whole number that came as 1.0, as columns with gaps have it, is 1."""
    return f"{value:.15g}" if isinstance(value, float) else jsontext.as_text(value)
