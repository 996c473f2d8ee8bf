"""How a server is made to give an allowed verdict: by OpenAI's JSON schema, by two parameters of vLLM, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from runner import jsontext
from runner.foreign.schemas import check
from runner.reading.verdicts import MEMBER

__all__ = ["OTHER_GUIDES", "Guide", "by_choices", "by_schema", "check_form", "schema_in"]

Guide: TypeAlias = Literal["json_schema", "structured_outputs", "guided_choice", "none"]
#: What to do if a server does not accept `response_format`.
OTHER_GUIDES = (
    "the server does not accept `response_format` as it was sent; try another `guide`: structured_outputs (vLLM),"
    " guided_choice (vLLM before 0.12, and others), or none, with which only the prompt names the allowed answers"
)


def by_choices(guide: Guide, choices: Sequence[str]) -> dict[str, Any]:
    """Return the parameters that make a server answer with one of the choices, and nothing else."""
    match guide:
        case "json_schema":
            schema = {
                "type": "object",
                "properties": {MEMBER: {"type": "string", "enum": list(choices)}},
                "required": [MEMBER],
                "additionalProperties": False,
            }
            return {"response_format": _response_format(schema, strict=True)}
        case "structured_outputs":
            return {"structured_outputs": {"choice": list(choices)}}
        case "guided_choice":
            return {"guided_choice": list(choices)}
        case "none":
            return {}


def by_schema(guide: Guide, form: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that make a server answer with JSON of a schema, given alone or in OpenAI's form."""
    if guide == "none":
        return {}
    if guide == "structured_outputs":
        return {"structured_outputs": {"json": schema_in(form)}}
    return {"response_format": form if _is_whole(form) else _response_format(form, strict=False)}


def schema_in(form: Mapping[str, Any]) -> Any:
    """Return the JSON schema in OpenAI's form, or the form itself if it is a schema."""
    return form["json_schema"].get("schema", {}) if _is_whole(form) else form


def check_form(form: Mapping[str, Any]) -> None:
    """Raise ValueError for a form whose schema is invalid."""
    check(jsontext.encode_str(schema_in(form)))


def _is_whole(form: Mapping[str, Any]) -> bool:
    return form.get("type") == "json_schema" and isinstance(form.get("json_schema"), dict)


def _response_format(schema: Any, *, strict: bool) -> dict[str, Any]:
    """Return a schema in OpenAI's form. Only schemas that are made here are known to follow its strict rules."""
    named = {"name": MEMBER, "schema": schema} | ({"strict": True} if strict else {})
    return {"type": "json_schema", "json_schema": named}
