"""The task type `metric`: a value from the item and earlier outputs, without a request.

A metric is 1.0 for a right candidate and 0.0 for a wrong one. An empty or missing answer is wrong, not an error; a reference
that makes no sense for the metric is an error of that row, for then nobody can say what is right.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import Field, field_validator

from runner import jsontext
from runner.errors import RowError
from runner.fields import Locatable, VerbatimModel
from runner.tasks.base import Task, TaskConfig, without_request
from runner.templates import Template, compile_template, is_template
from runner.types import ErrorType, Execute, Result, Sample, Value

__all__ = ["MetricConfig", "MetricConfiguration"]

MetricType = Literal["exact_match", "contains", "regex", "numeric", "choice"]

_PUNCTUATION = str.maketrans("", "", string.punctuation + "«»“”„‘’…–—¿¡。，、！？；：")
_NUMBER = re.compile(r"(?:(?<!\w)[-+−])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d)\.?)(?:[eE][-+]?\d+)?%?")
_STATED_CHOICE = r"(?:answer|choice|option)\b(?:\s+is)?\s*[:=]?\s*[*(\[]*([{letters}])\b(?!(?-i:(?<=a)\s+[A-Za-z]))"
_LEADING_CHOICE = r"^[\W_]*([{letters}])(?:[\W_]*$|[).:*\]]|\s*[-–]\s)"
_LONE_CHOICE = r"(?<![\w'’])([{letters}])(?![\w'’])(?!(?<=[AI])\s+[a-z])"


class MetricConfiguration(VerbatimModel):
    """What is compared, and how both sides are normalised before."""

    type: Locatable[MetricType]
    """How the candidate is judged; a locator lets each row say it."""
    candidate: Annotated[Any, Field()]
    """The answer, usually a locator as `item.answer`."""
    reference: Annotated[Any, Field()]
    """What is right, or a list of which any one is; for regex, the pattern."""
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_whitespace: bool = True
    """Whether runs of white space count as one space, and none at the ends."""
    extract: str | None = None
    """A regular expression that finds the answer in the candidate: its first group, or the whole match."""
    extract_from: Literal["first", "last"] = "last"
    """Which match of `extract` is taken. No match makes the candidate wrong."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """numeric: the largest absolute difference that is still right."""
    relative_tolerance: Annotated[float, Field(ge=0)] = 1e-9
    """numeric: the same as a share of the reference."""
    letters: Annotated[str, Field(pattern="^[A-Z]{2,26}$")] = "ABCDEFGHIJ"
    """choice: the letters that an answer may be."""

    #: The settings that may hold templates.
    templated: ClassVar[tuple[str, ...]] = ("type", "candidate", "reference")

    @field_validator("extract")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"is no regular expression: {error}") from error
        return pattern


class MetricConfig(TaskConfig):
    """Judge an earlier output."""

    task_type: Literal["metric"]
    configuration: MetricConfiguration

    @property
    def name(self) -> str:
        """The alias, or the metric's own type where none is given."""
        kind = self.configuration.type
        return self.alias or (self.task_type if is_template(kind) else kind)

    def build(self, execute: Execute) -> Task:  # noqa: ARG002  a metric sends nothing
        """Return the task, ready to run."""
        settings = self.configuration
        template = compile_template(
            {name: getattr(settings, name) for name in MetricConfiguration.templated}, ("configuration",)
        )
        return MetricTask(alias=self.name, settings=settings, template=template)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricTask:
    """A metric, ready to judge."""

    alias: str
    settings: MetricConfiguration
    template: Template
    task_type: str = "metric"
    model: str | None = None

    async def run(self, sample: Sample, item: Mapping[str, Any]) -> Result:
        """Judge one sample."""
        try:
            answer = self.judge(**self.template.render(item))
        except RowError as error:
            return without_request(sample, self.alias, self.task_type, error.failure)
        return without_request(sample, self.alias, self.task_type, answer)

    def judge(self, *, type: Any, candidate: Any, reference: Any) -> Value:  # noqa: A002  the config's own word
        """Return 1.0 or 0.0, with the extracted candidate as text. Raises RowError (template)."""
        if not isinstance(type, str) or type not in _JUDGES:
            raise RowError(ErrorType.TEMPLATE, f"configuration.type: {type!r} is none of {', '.join(get_args(MetricType))}")
        text = self._extracted(_as_text(candidate))
        references = reference if isinstance(reference, list) else [reference]
        if not references or any(one is None or one == "" for one in references):
            raise RowError(ErrorType.TEMPLATE, "configuration.reference: is empty, so no answer can be right")
        right, found = _JUDGES[type](text or "", references, self.settings)
        if not text:  # the reference was looked at all the same
            return Value(0.0, text)
        return Value(float(right), found)

    def _extracted(self, text: str | None) -> str | None:
        if text is None or self.settings.extract is None:
            return text
        matches = list(re.finditer(self.settings.extract, text))
        if not matches:
            return None
        match = matches[0 if self.settings.extract_from == "first" else -1]
        return match[1] if match.re.groups else match[0]


#: Takes the candidate, the references and the settings; returns whether it is right and what it was taken for.
Judge: TypeAlias = Callable[[str, list[Any], MetricConfiguration], tuple[bool, str | None]]


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return jsontext.encode_str(value)


def normalise(text: str, settings: MetricConfiguration) -> str:
    """Return text as it is compared."""
    if settings.ignore_case:
        text = text.casefold()
    if settings.ignore_punctuation:
        text = text.translate(_PUNCTUATION)
    if settings.ignore_whitespace:
        text = " ".join(text.split())
    return text


def _exact_match(text: str, references: list[Any], settings: MetricConfiguration) -> tuple[bool, str | None]:
    found = normalise(text, settings)
    return found in _normal(references, settings), found


def _contains(text: str, references: list[Any], settings: MetricConfiguration) -> tuple[bool, str | None]:
    found = normalise(text, settings)
    return any(one in found for one in _normal(references, settings)), found


def _normal(references: list[Any], settings: MetricConfiguration) -> list[str]:
    wanted = [normalise(_as_text(one) or "", settings) for one in references]
    if not all(wanted):
        raise RowError(ErrorType.TEMPLATE, f"configuration.reference: nothing is left of {references!r} once it is normalised")
    return wanted


def _regex(text: str, references: list[Any], settings: MetricConfiguration) -> tuple[bool, str | None]:
    for pattern in references:
        try:
            match = re.search(str(pattern), text, re.IGNORECASE if settings.ignore_case else 0)
        except re.error as error:
            raise RowError(
                ErrorType.TEMPLATE, f"configuration.reference: {pattern!r} is no regular expression: {error}"
            ) from error
        if match:
            return True, match[0]
    return False, None


def _numeric(text: str, references: list[Any], settings: MetricConfiguration) -> tuple[bool, str | None]:
    found = last_number(text)
    right = False
    for one in references:
        wanted = last_number(_as_text(one) or "")
        if wanted is None:
            raise RowError(ErrorType.TEMPLATE, f"configuration.reference: {one!r} is no number")
        allowed = max(settings.tolerance, settings.relative_tolerance * abs(wanted))
        right |= found is not None and abs(found - wanted) <= allowed
    return right, None if found is None else f"{found:.15g}"


def last_number(text: str) -> float | None:
    """Return the last number in a text: `1,234.5`, `-3`, `2e-4`, `12%` (as 12)."""
    numbers = [match[0] for match in _NUMBER.finditer(text) if any(map(str.isdigit, match[0]))]
    if not numbers:
        return None
    number = float(numbers[-1].rstrip("%").replace(",", "").replace("−", "-"))
    return number if math.isfinite(number) else None


def _choice(text: str, references: list[Any], settings: MetricConfiguration) -> tuple[bool, str | None]:
    wanted = {str(one).strip().strip("().").upper() for one in references}
    if not all(len(letter) == 1 and letter in settings.letters for letter in wanted):
        raise RowError(ErrorType.TEMPLATE, f"configuration.reference: {references!r} is none of the letters {settings.letters}")
    found = chosen_letter(text, settings.letters)
    return found in wanted, found


def chosen_letter(text: str, letters: str) -> str | None:
    """Return the letter that an answer chooses: a stated one ("answer is B"), a leading one ("B) …"), or the last alone."""
    stated = re.findall(_STATED_CHOICE.format(letters=letters + letters.lower()), text, re.IGNORECASE)
    if stated:
        return str(stated[-1]).upper()
    if leading := re.search(_LEADING_CHOICE.format(letters=letters + letters.lower()), text):
        return leading[1].upper()
    alone = re.findall(_LONE_CHOICE.format(letters=letters), text)
    return str(alone[-1]) if alone else None


_JUDGES: Mapping[str, Judge] = {
    "exact_match": _exact_match,
    "contains": _contains,
    "regex": _regex,
    "numeric": _numeric,
    "choice": _choice,
}
