"""The operators of a `run_condition`, and their evaluation for a row. Only loaded if a config has one.

`{op: var, path: item.kind}` reads the row and earlier tasks; a missing value is null, and so is a task that was skipped. Values
are compared as JSON: 1 equals 1.0, and true does not equal 1. If two values cannot be compared, such as a text and a number,
only `ne` is true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, field_validator

from runner import jsontext
from runner.errors import RowError
from runner.structs import Struct
from runner.tasks.conditions import locator_of
from runner.tasks.fields import StrictModel
from runner.templates.compile import is_template
from runner.templates.locators import NotThereError, located, steps_of
from runner.types import ErrorType

__all__ = ["ADAPTER", "CompiledCondition", "Condition"]

_Item: TypeAlias = Mapping[str, Any]


class _Const(StrictModel):
    """A value that is the same for all rows."""

    op: Literal["const"]
    value: Any

    @field_validator("value")
    @classmethod
    def _is_constant(cls, value: Any) -> Any:
        if is_template(value):
            raise ValueError(f"is the same for every row; to read the row, write {{op: var, path: {value}}}")
        return value

    def of(self, item: _Item) -> Any:  # noqa: ARG002  same signature as the others
        """Return the value."""
        return self.value


class _Var(StrictModel):
    """A value of the row, or the output of an earlier task."""

    op: Literal["var"]
    path: str
    """The path of the value, such as `item.kind`; `item.` may be left out."""

    @field_validator("path")
    @classmethod
    def _is_path(cls, path: str) -> str:
        if steps_of(locator_of(path)) is None:
            raise ValueError(f"{path!r} is not a path; write it as item.kind")
        return path

    def of(self, item: _Item) -> Any:
        """Return the value, or None if it is missing. Raises RowError if an answer should be JSON and is not."""
        try:
            return located(item, steps_of(locator_of(self.path)) or ())
        except NotThereError:
            return None
        except jsontext.JsonError as error:
            raise RowError(ErrorType.TEMPLATE, f"run_condition: `{self.path}` cannot be read: {error}") from error


class _Comparison(StrictModel):
    """A comparison of two values."""

    op: Literal["eq", "ne", "lt", "lte", "gt", "gte"]
    left: Condition
    right: Condition

    def of(self, item: _Item) -> bool:
        """Return whether the comparison is true."""
        left, right = self.left.of(item), self.right.of(item)
        if self.op in {"eq", "ne"}:
            return _same(left, right) is (self.op == "eq")
        if not (_are_numbers(left, right) or (isinstance(left, str) and isinstance(right, str))):
            return False
        return bool({"lt": left < right, "lte": left <= right, "gt": left > right, "gte": left >= right}[self.op])


class _Combination(StrictModel):
    """Several conditions; without any, `and` is true and `or` is false."""

    op: Literal["and", "or"]
    operands: list[Condition]

    def of(self, item: _Item) -> bool:
        """Evaluate the conditions in order until the result is known. Raises RowError if one is not true or false."""
        holds = (_truth(one.of(item), self.op) for one in self.operands)
        return all(holds) if self.op == "and" else any(holds)


class _Single(StrictModel):
    """A test of one value."""

    op: Literal["not", "is_null", "is_not_null"]
    operands: Annotated[list[Condition], Field(min_length=1, max_length=1)]

    def of(self, item: _Item) -> bool:
        """Return whether the test is true. Raises RowError for a `not` of a value that is not true or false."""
        value = self.operands[0].of(item)
        return not _truth(value, self.op) if self.op == "not" else (value is None) is (self.op == "is_null")


class _Membership(StrictModel):
    """A test whether a value is one of several."""

    op: Literal["in", "not_in"]
    left: Condition
    operands: list[Condition]

    def of(self, item: _Item) -> bool:
        """Compare the value with each operand."""
        left = self.left.of(item)
        return any(_same(left, one.of(item)) for one in self.operands) is (self.op == "in")


#: A condition in the config.
Condition = Annotated[
    _Const | _Var | _Comparison | _Combination | _Single | _Membership,
    Field(discriminator="op"),
]
#: Validates a condition.
ADAPTER: TypeAdapter[Any] = TypeAdapter(Condition)


class CompiledCondition(Struct, frozen=True):
    """A condition with the tasks that it reads."""

    tree: Any
    #: The aliases of the tasks.
    inputs: Sequence[str]

    def holds(self, item: _Item) -> bool:
        """Return whether it is true for a row with the outputs of earlier tasks. Raises RowError."""
        return _truth(self.tree.of(item), "run_condition")


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    return isinstance(left, bool) is isinstance(right, bool) and bool(left == right)


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _truth(value: Any, op: str) -> bool:
    if not isinstance(value, bool):
        what = f"run_condition: `{op}` needs true or false, and gets {jsontext.shown(value)}"
        raise RowError(ErrorType.TEMPLATE, what)
    return value
