"""The metric `custom_function`: a Python function in the config itself computes the value, as in SGP.

The author may be a stranger who only has a key of the service. So the function runs in another process, with as little around
it as possible: `runner.foreign.restricted` says what it may do, and why this is not a boundary against a hostile author.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from runner import jsontext
from runner.errors import RowError
from runner.foreign.restricted import LONGEST
from runner.processes.once import call_once
from runner.processes.pool import CallError, NoProcessError
from runner.tasks.fields import StrictModel, VerbatimModel
from runner.tasks.judging import JudgingConfiguration, JudgingTask, as_number
from runner.tasks.plugged import plain
from runner.templates.locators import NotThereError, Step, located, steps_of, written
from runner.types import ErrorType, Value

__all__ = [
    "CUSTOM_FUNCTION",
    "FunctionConfiguration",
    "FunctionOutput",
    "FunctionTask",
    "column_names",
    "outputs_in",
    "readable_function",
]

CUSTOM_FUNCTION = "custom_function"
#: The time limit for a row, and for reading a source.
_SECONDS = 10.0
#: In the process that runs strangers' code, `restricted` is a module without a package.
_CALL, _DESCRIBE = "restricted:call", "runner.foreign.restricted:describe"
_MEMORY_TO_DESCRIBE = 1 << 30
_MOST_CONFIG_ARGS = 10_000


class FunctionOutput(StrictModel):
    """A member of the dict that a function returns, as a column of its own."""

    path: Annotated[str, Field(min_length=1)]
    """The path of the member, such as `score` or `parts.0.score`."""
    alias: Annotated[str, Field(min_length=1)] | None = None
    """The name of the column. Default: the path with `_` in place of each dot."""

    @field_validator("path")
    @classmethod
    def _is_path(cls, path: str) -> str:
        if steps_of(f"item.{path}") is None:
            raise ValueError(f"{path!r} is not a path into a dict; write it as score or parts.0.score")
        return path

    @property
    def name(self) -> str:
        """The name of the column."""
        return self.alias or self.path.replace(".", "_")

    @property
    def steps(self) -> Sequence[Step]:
        """The path, step by step."""
        return tuple(steps_of(f"item.{self.path}") or ())


class FunctionTask(JudgingTask, frozen=True, kw_only=True):
    """A function of a config, ready to judge."""

    settings: FunctionConfiguration

    async def judge(self, rendered: Mapping[str, Any]) -> Value:
        """Return the number that the function returns, or its dict as text. Raises RowError."""
        arguments = {name: plain(value) for name, value in rendered["arg_mapping"].items()} | self.settings.config_args
        args = (self.settings.function_source, self.settings.function, arguments, bool(self.settings.outputs))
        try:
            found = await self.calls.of_strangers.call(_CALL, *args, seconds=_SECONDS, within=_SECONDS)
        except CallError as error:
            said = str(error) if error.raised == "FunctionError" else f"{self.settings.function}: {error}"
            raise RowError(ErrorType.TEMPLATE, said) from error
        # The result is checked again here: the other process may have been taken over.
        if isinstance(found, dict) and self.settings.outputs:
            return self._object(found)
        if self.settings.outputs:
            raise self._no_value(f"returned {jsontext.shown(found)}, and `outputs` need a dict")
        return self._number(found)

    def _object(self, found: dict[str, Any]) -> Value:
        for output in self.settings.outputs:
            try:
                located(found, output.steps)
            except NotThereError as error:
                raise self._no_value(f"returned a dict without `{output.path}`: {error}") from error
        return Value(None, jsontext.encode_str(found))

    def _number(self, found: Any) -> Value:
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise self._no_value(f"returned {jsontext.shown(found)}, and not an int or a float")
        return Value(as_number(found, self.settings.function), f"{found}"[:_MOST_CONFIG_ARGS])

    def _no_value(self, what: str) -> RowError:
        return RowError(ErrorType.TEMPLATE, f"{self.settings.function} {what}")


class FunctionConfiguration(VerbatimModel, JudgingConfiguration):
    """A function and its arguments."""

    makes: ClassVar[type[JudgingTask]] = FunctionTask

    type: Literal["custom_function"]
    function_source: Annotated[str, Field(min_length=1, max_length=LONGEST)]
    """One `def` with its imports inside. It may import math, json, re, collections, itertools, functools, statistics, decimal,
    fractions, datetime, copy, textwrap, difflib and unicodedata. It returns an int or a float; with `outputs`, a dict."""
    arg_mapping: dict[str, Any] = Field(default_factory=dict)
    """The values of its parameters, such as `{text: item.answer}`. Another parameter keeps its default, or reads the column of
    its name."""
    config_args: dict[str, Any] = Field(default_factory=dict)
    """Parameters with the same literal value for all rows."""
    outputs: list[FunctionOutput] = Field(default_factory=list)
    """Members of the returned dict that later tasks read as `item.score`: `[{path: parts.score, alias: score}]`."""

    @field_validator("config_args")
    @classmethod
    def _are_few(cls, args: dict[str, Any]) -> dict[str, Any]:
        if (length := len(jsontext.encode_str(args))) > _MOST_CONFIG_ARGS:
            raise ValueError(f"has {length} characters as JSON; {_MOST_CONFIG_ARGS} are allowed")
        return args

    @field_validator("function_source")
    @classmethod
    def _is_function(cls, source: str) -> str:
        if (wrong := _described(source).get("wrong")) is not None:
            raise ValueError(wrong)
        return source

    @model_validator(mode="after")
    def _fits(self) -> Self:
        parameters, said = self._described["parameters"], [*self.arg_mapping, *self.config_args]
        if unknown := [name for name in said if name not in parameters]:
            what = f"no parameters {', '.join(map(repr, unknown))}; it has {', '.join(parameters) or 'none'}"
            raise ValueError(f"`{self.function}` has {what}")
        if twice := self.arg_mapping.keys() & self.config_args.keys():
            raise ValueError(f"{', '.join(map(repr, sorted(twice)))} is in both `arg_mapping` and `config_args`")
        return self

    @property
    def _described(self) -> Mapping[str, Any]:
        return _described(self.function_source)

    @property
    def function(self) -> str:
        """The name of the function."""
        return str(self._described["name"])

    @property
    def readable(self) -> dict[str, Any]:
        """The parameters alone: the source does not read the row."""
        return {"arg_mapping": self.reads}

    @property
    def templated(self) -> dict[str, Any]:
        """The same parameters."""
        return self.readable

    @property
    def columns(self) -> Mapping[str, Sequence[Step]]:
        """The `outputs`: the path of each by its name."""
        return {one.name: one.steps for one in self.outputs}

    @cached_property
    def reads(self) -> dict[str, Any]:
        """The parameters that read the row, as locators and templates."""
        columns = {name: written(name) for name in self._described["required"] if name not in self.config_args}
        return columns | self.arg_mapping


@lru_cache(256)
def _described(source: str) -> Mapping[str, Any]:
    """Return the name and the parameters of the function in a source, or under `wrong` why it is refused.

    Another process reads the source, because reading it may take long too.
    """
    try:
        found: Mapping[str, Any] = call_once(_DESCRIBE, source, seconds=_SECONDS, memory=_MEMORY_TO_DESCRIBE)
    except (CallError, NoProcessError) as error:
        return {"wrong": str(error)}
    return found


def readable_function(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that reads the row, before it is validated."""
    try:
        return {"arg_mapping": FunctionConfiguration.model_validate(dict(configuration)).reads}
    except ValueError:
        return {"arg_mapping": configuration.get("arg_mapping")}


def column_names(configuration: Mapping[str, Any]) -> list[str]:
    """Return the columns of the `outputs` of a configuration that is not validated yet."""
    try:
        return [FunctionOutput.model_validate(one).name for one in configuration.get("outputs") or ()]
    except (TypeError, ValueError):
        return []


def outputs_in(configuration: Mapping[str, Any], found: Any) -> dict[str, Any]:
    """Return the columns in a function's dict; none for another value."""
    outputs = [FunctionOutput.model_validate(one) for one in configuration.get("outputs") or ()]
    return {one.name: located(found, one.steps) for one in outputs} if isinstance(found, dict) else {}
