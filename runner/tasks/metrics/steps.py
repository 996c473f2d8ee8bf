"""The steps of `take` as the config names them."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from runner.tasks.fields import StrictModel
from runner.tasks.metrics.patterns import check_pattern
from runner.templates.compile import is_template

__all__ = ["Found", "Named", "Step", "checked_pattern"]


def checked_pattern(pattern: str) -> str:
    """Return a regular expression of the config. Raises ValueError if it is not one."""
    if is_template(pattern):
        raise ValueError("is the same for all rows; it can have no locator or template")
    check_pattern(pattern)
    return pattern


class Found(StrictModel):
    """A step with one of the keys `after`, `json` and `regex`; `which` and `ignore_case` go with `regex`."""

    after: Annotated[str, Field(min_length=1)] | None = None
    """The text after the last occurrence of this one, such as `####` or `Answer:`, without Markdown marks at its beginning."""
    json_: str | None = Field(
        default=None,
        alias="json",
        description="A part of the JSON in the text: keys and indexes in lists, such as `result.0.name`; empty for all of it.",
    )
    regex: Annotated[str, AfterValidator(checked_pattern)] | None = None
    """What a regular expression finds: its first group that matched, or else the whole match. Blank matches do not count."""
    which: Literal["first", "last"] = "last"
    """Which match is taken."""
    ignore_case: bool | None = None
    """Default: the metric's `ignore_case`."""

    @model_validator(mode="after")
    def _looks_for_one_thing(self) -> Self:
        if sum(one is not None for one in (self.after, self.json_, self.regex)) != 1:
            raise ValueError("needs exactly one of the keys `after`, `json` and `regex`")
        return self


Named: TypeAlias = Literal[
    "without_reasoning", "boxed", "first_line", "last_line", "code_block", "number", "letter", "choice_text"
]
Step: TypeAlias = Annotated[
    Annotated[Named, Tag("[named]")] | Annotated[Found, Tag("[found]")],
    Discriminator(lambda step: "[found]" if isinstance(step, dict | Found) else "[named]"),
]
