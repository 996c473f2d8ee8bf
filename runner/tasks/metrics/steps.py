"""The steps of `take` as the config names them."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from runner.tasks.fields import StrictModel
from runner.tasks.metrics.patterns import check_pattern
from runner.templates.compile import is_template

__all__ = ["Found", "Named", "Step", "checked_pattern"]


def checked_pattern(pattern: str) -> str:
    """Return a regular expression of the config. Raises ValueError for what is none."""
    if is_template(pattern):
        raise ValueError("is the same for all rows; no locator or template can stand here")
    check_pattern(pattern)
    return pattern


class Found(StrictModel):
    """A step that looks for something: what it looks for is its one key, `which` and `ignore_case` go with `regex`."""

    after: Annotated[str, Field(min_length=1)] | None = None
    """What stands behind the last place of this text, as `####` or `Answer:`; marks of Markdown around it do not count."""
    json_: str | None = Field(
        default=None,
        alias="json",
        description="A part of the JSON in the text: keys and places in lists, as `result.0.name`; empty for all of it.",
    )
    regex: Annotated[str, AfterValidator(checked_pattern)] | None = None
    """What a regular expression finds: the first group that took part in it, or the whole match. Blank matches are none."""
    which: Literal["first", "last"] = "last"
    """Which match is taken."""
    ignore_case: bool | None = None
    """Default: the metric's `ignore_case`."""

    @model_validator(mode="after")
    def _looks_for_one_thing(self) -> Self:
        if sum(one is not None for one in (self.after, self.json_, self.regex)) != 1:
            raise ValueError("has one of the keys `after`, `json` and `regex`")
        return self


Named: TypeAlias = Literal[
    "without_reasoning", "boxed", "first_line", "last_line", "code_block", "number", "letter", "choice_text"
]
Step: TypeAlias = Annotated[
    Annotated[Named, Tag("[named]")] | Annotated[Found, Tag("[found]")],
    Discriminator(lambda step: "[found]" if isinstance(step, dict | Found) else "[named]"),
]
