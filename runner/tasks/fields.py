"""Types of config fields: strict, but open to a locator or template if a row may give the value."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from itertools import pairwise
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
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from runner.templates.compile import is_template

__all__ = ["Late", "Locatable", "StrictModel", "VerbatimModel"]

T = TypeVar("T")


class StrictModel(BaseModel):
    """A part of the config: no unknown key, no silent conversion, no NaN."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe each key by the docstring below its field.

        pydantic itself would read them at each import, which takes longer than the rest of a start.
        """
        reference = handler(schema)
        properties = handler.resolve_ref_schema(reference)["properties"]
        for name, description in _attribute_docstrings(cls).items():
            if name in properties:
                properties[name].setdefault("description", description)
        return reference


class VerbatimModel(StrictModel):
    """A part of the config that is checked, but used exactly as written: `1` stays `1`, and no default is added."""

    _verbatim: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_verbatim(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        model = handler(value)
        if isinstance(value, dict):
            model._verbatim = value  # noqa: SLF001  its own class
        return model

    @classmethod
    def unchecked(cls, verbatim: dict[str, Any]) -> Self:
        """Return a mapping as such a part without checking it; only `verbatim` may be read."""
        model = cls.model_construct()
        model._verbatim = verbatim  # noqa: SLF001  its own class
        return model

    @property
    def verbatim(self) -> dict[str, Any]:
        """The mapping as written in the config, with the values of `${VAR}`."""
        return self._verbatim

    @property
    def readable(self) -> Any:
        """The part of the mapping that reads the row, as locators and templates."""
        return self._verbatim

    @property
    def identity(self) -> Mapping[str, Any]:
        """The part of the mapping that decides the results."""
        return self._verbatim


def _attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings below the fields of a model and its base classes, by the names of the fields."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(definition, ast.ClassDef)
        for field, below in pairwise(definition.body):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str() as text)),
                ):
                    found[name] = inspect.cleandoc(text)
    return found


class _OrTemplate:
    """Accept a locator or template in place of a value of another type."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            lambda value, inner: value if is_template(value) else inner(value), handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        template = {"type": "string", "pattern": r"^\s*item[.\[]|\{\{|\{%", "description": "a locator or template"}
        return {"anyOf": [handler(schema), template]}


#: A value of type T, or a locator or template that gives it for each row.
Locatable = Annotated[T, _OrTemplate()]


class Late:
    """A type whose models are loaded only if a config has such a value: each takes milliseconds to load."""

    def __init__(self, validator: Callable[[Any], SchemaValidator], schema: Callable[[], CoreSchema]) -> None:
        """Take functions that return the validator for a value, and the schema of all values."""
        self._validator, self._schema = validator, schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(lambda value: self._validator(value).validate_python(value))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(self._schema())
