"""Types of config fields: strict, and with room for a locator or template where a row may give the value."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from runner.templates import is_template

__all__ = ["Locatable", "StrictModel", "VerbatimModel"]

T = TypeVar("T")


class StrictModel(BaseModel):
    """A part of the config: no unknown key, no silent conversion, no NaN."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class VerbatimModel(StrictModel):
    """A part that is checked, but used exactly as written: `1` stays `1`, and what is not named stays away."""

    _verbatim: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_verbatim(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        model = handler(value)
        if isinstance(value, dict):
            model._verbatim = value  # noqa: SLF001  its own class
        return model

    @property
    def verbatim(self) -> dict[str, Any]:
        """The mapping as it stands in the config, after `${VAR}`."""
        return self._verbatim


class _OrTemplate:
    """Accept a locator or template where a value of another type is asked for."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            lambda value, inner: value if is_template(value) else inner(value), handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        template = {"type": "string", "pattern": r"^item\.|\{\{|\{%", "description": "a locator or template"}
        return {"anyOf": [handler(schema), template]}


#: A value of type T, or a locator or template that gives it for each row.
Locatable = Annotated[T, _OrTemplate()]
