"""The names of the operators of a `run_condition`, and the locators that it reads."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from runner.templates.locators import steps_of

__all__ = ["OPERATORS", "locator_of", "with_locators"]

#: The names of all operators.
OPERATORS = frozenset(
    {
        *("const", "var", "eq", "ne", "lt", "lte", "gt", "gte", "and", "or", "not"),
        *("is_null", "is_not_null", "in", "not_in"),
    }
)


def with_locators(condition: Any) -> Any:
    """Return a condition with a locator for each path that it reads. It may be raw and malformed, as in the document."""
    if isinstance(condition, BaseModel):
        return with_locators(condition.model_dump())
    if isinstance(condition, list):
        return [with_locators(member) for member in condition]
    if not isinstance(condition, dict):
        return condition
    if condition.get("op") == "var" and isinstance(path := condition.get("path"), str):
        return {**condition, "path": locator_of(path)}
    return {key: with_locators(member) for key, member in condition.items()}


def locator_of(path: str) -> str:
    """Return the locator for the path of a `var`, which may leave out `item.`."""
    return path if path.startswith("item") and steps_of(path) is not None else f"item.{path}"
