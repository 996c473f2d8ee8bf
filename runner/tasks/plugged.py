"""A metric that is a plug-in: a function of an installed package, or of a file beside the config.

It runs in another process, which can be killed. So its time, its memory and its prints do not affect the program. It returns a
number, true or false, or a mapping of `value` and `output`. None means no verdict, and is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, PrivateAttr

from runner import jsontext
from runner.errors import RowError, RunStopped
from runner.output import Output
from runner.processes.pool import CallError
from runner.structs import Struct, field
from runner.tasks.fields import VerbatimModel
from runner.tasks.judging import JudgingConfiguration, JudgingTask, as_number
from runner.types import ErrorType, Value

__all__ = ["PlugIn", "PluggedConfiguration", "PluggedTask", "file_of", "plain", "settings_in"]

#: How long one call may take.
_SECONDS = 10.0
_FUNCTION = "runner.foreign.functions:call"
#: The keys that are not settings of the function.
_GIVEN = ("type", "candidate", "reference")
_FILE = r"\.py:[A-Za-z_]\w*$"


class PlugIn(Struct, frozen=True, kw_only=True):
    """A function as it was found when the config was read."""

    #: Its type in the config.
    name: str
    #: Where it is, in the form of `runner.foreign.functions`.
    place: Mapping[str, Any]
    #: The versions of its code, by name: the version of a package, the SHA-256 of files.
    code: Mapping[str, str]
    #: Its entry in evaluation.json.
    about: Mapping[str, str] = field(default_factory=dict)


class PluggedTask(JudgingTask, frozen=True, kw_only=True):
    """A plug-in metric, ready to judge."""

    settings: PluggedConfiguration

    async def judge(self, rendered: Mapping[str, Any]) -> Value:
        """Return the value of the function. Raises RowError, and RunStopped if its file has changed since the run began."""
        candidate, reference = plain(rendered["candidate"]), plain(rendered["reference"])
        settings = {key: plain(value) for key, value in settings_in(rendered).items()}
        args = (self.settings.plug_in.place, [candidate, reference], settings)
        try:
            found = await self.calls.of_others.call(_FUNCTION, *args, seconds=_SECONDS, within=_SECONDS)
        except CallError as error:
            if error.raised == "ChangedError":
                raise RunStopped(str(error), hurry=False) from error
            raise RowError(ErrorType.TEMPLATE, f"{self.settings.type}: {error}") from error
        return self._value(found, candidate)

    def _value(self, found: Any, candidate: Any) -> Value:
        output = candidate
        if isinstance(found, dict):
            if found.keys() - {"value", "output"}:
                raise self._no_value(f"returned the keys {', '.join(map(repr, found))}, and may return `value` and `output`")
            output, found = found.get("output", candidate), found.get("value")
        if found is None:
            raise RowError(ErrorType.NO_VERDICT, f"no verdict: {self.settings.type} returned None")
        if not isinstance(found, int | float):
            raise self._no_value(f"returned {jsontext.shown(found)}, and not a number, true, false or None")
        value = as_number(found, self.settings.type)
        return Value(value, output if output is None or isinstance(output, str) else jsontext.encode_str(output))

    def _no_value(self, what: str) -> RowError:
        return RowError(ErrorType.TEMPLATE, f"{self.settings.type} {what}")


class PluggedConfiguration(VerbatimModel, JudgingConfiguration):
    """What a plug-in compares; all other keys are its settings, and may hold locators and templates."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")
    makes: ClassVar[type[JudgingTask]] = PluggedTask

    type: Annotated[str, Field(json_schema_extra={"anyOf": [{"pattern": _FILE}]})]
    """`checks.py:score`, a function in a file beside the config; or the name of a plug-in of an installed package."""
    candidate: Any
    """The answer, usually a locator such as `item.answer`: its text without reasoning."""
    reference: Any = None
    """The right answer."""
    _plug_in: PlugIn | None = PrivateAttr(None)

    @property
    def plug_in(self) -> PlugIn:
        """The function, once it has been found."""
        assert self._plug_in is not None, "it is set when the config is read"
        return self._plug_in

    @property
    def templated(self) -> dict[str, Any]:
        """All of it but the type."""
        return {key: value for key, value in self.verbatim.items() if key != "type"} | {"reference": self.reference}

    def found_as(self, plug_in: PlugIn) -> None:
        """Keep the function that was found."""
        self._plug_in = plug_in

    @property
    def identity(self) -> Mapping[str, Any]:
        """The configuration with the file by its name only: its directory does not matter."""
        found = file_of(self.type, Path())
        return self.verbatim if found is None else {**self.verbatim, "type": f"{found[0].name}:{found[1]}"}


def file_of(kind: str, directory: Path) -> tuple[Path, str] | None:
    """Return the file, in a directory, and the function of a type such as `checks.py:score`; None for another type."""
    path, _, name = kind.rpartition(":")
    return (directory / path, name) if path.endswith(".py") and name.isidentifier() else None


def settings_in(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a function in its configuration."""
    return {key: value for key, value in configuration.items() if key not in _GIVEN}


def plain(value: Any) -> Any:
    """Return a value as plain JSON; an answer becomes its text."""
    if isinstance(value, Output):
        return str(value)
    is_plain = value is None or isinstance(value, str | int | float)
    return value if is_plain else jsontext.decode(jsontext.encode(value))
