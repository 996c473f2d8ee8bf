"""`json_schema` says whether an answer is JSON of a schema, and no schema makes it fetch, hang or crash."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import jsonschema_rs
import pytest

from runner.config.loading import load_config
from runner.errors import ConfigError
from runner.foreign.schemas import check
from runner.output import Output
from runner.types import Value
from tests.serving import Served
from tests.test_metric import judged, refused, verdict

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
ANN = '{"name": "Ann", "age": 30}'
FENCE = {"extract": r"(?s)```(?:json)?\s*(.*?)\s*```"}


@pytest.mark.parametrize(
    ("candidate", "schema", "settings", "right"),
    [
        (ANN, PERSON, {}, True),
        (Output(ANN, finish_reason="stop"), PERSON, {}, True),
        (f" \n{ANN}\n", PERSON, {}, True),
        (ANN, json.dumps(PERSON), {}, True),
        (ANN, {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}, {}, True),
        ('{"name": "Ann"}', PERSON, {}, False),
        ('{"name": "", "age": 30}', PERSON, {}, False),
        ('{"name": "Ann", "age": 30.5}', PERSON, {}, False),
        ('{"name": "Ann", "age": 30.0}', PERSON, {}, True),
        ('{"name": "Ann", "age": true}', PERSON, {}, False),
        ('{"name": "Ann", "age": 30, "x": 1}', PERSON, {}, False),
        ("[]", PERSON, {}, False),
        ("Ann is 30", PERSON, {}, False),
        ('{"name": "Ann", "age": 3', PERSON, {}, False),
        (f"{ANN} {ANN}", PERSON, {}, False),
        (f"```json\n{ANN}\n```", PERSON, {}, True),
            (f"Here you are:\n```json\n{ANN}\n```", PERSON, {}, False),
        (f"Here you are:\n```json\n{ANN}\n```", PERSON, FENCE, True),
        (f"```\n{ANN}\n```", PERSON, FENCE, True),
        (ANN, PERSON, FENCE, False),
        ("", PERSON, {}, False),
        (None, PERSON, {}, False),
        # an empty schema asks for JSON and no more; JSON is what the standard says
        ("7", {}, {}, True),
        ("null", {}, {}, True),
        ("'7'", {}, {}, False),
        ("NaN", {}, {}, False),
        ('{"a": -Infinity}', {}, {}, False),
        ('{"a": 1,}', {}, {}, False),
        ("1e999", {}, {}, True),
        ('"\\ud800"', {}, {}, True),
        ('[{"\\ud800": "\\ud800"}]', {"items": {"additionalProperties": {"minLength": 1}}}, {}, True),
        ("[" * 100_000 + "]" * 100_000, {}, {}, False),
        ("[" * 200 + "]" * 200, {"items": {"$ref": "#"}}, {}, True),
        ("[" * 201 + "]" * 201, {"items": {"$ref": "#"}}, {}, False),
        ('{"a":' * 199 + "{}" + "}" * 199, {"properties": {"a": {"$ref": "#"}}}, {}, True),
        ('{"a":' * 200 + "{}" + "}" * 200, {"properties": {"a": {"$ref": "#"}}}, {}, False),
        # values of a dataset, or inside an answer
        ({"name": "Ann", "age": 30}, PERSON, {}, True),
        ([1, 2], {"type": "array", "items": {"type": "integer"}}, {}, True),
        (7, {"type": "string"}, {}, False),
        # the drafts differ: in the fourth, `exclusiveMinimum` is a boolean
        ("0", {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 0, "exclusiveMinimum": True}, {}, False),
        ("0", {"$schema": "https://json-schema.org/draft/2020-12/schema", "exclusiveMinimum": -1}, {}, True),
        # references inside the schema
        ('{"a": {"a": {}}}', {"properties": {"a": {"$ref": "#"}}, "type": "object"}, {}, True),
        ('{"a": {"a": 7}}', {"properties": {"a": {"$ref": "#"}}, "type": "object"}, {}, False),
        ("7", {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, {}, True),
        ("7", {"$ref": "#"}, {}, True),
    ],
)  # fmt: skip
async def test_an_answer_is_valid_or_not(candidate: object, schema: object, settings: dict[str, Any], right: bool) -> None:
    assert await verdict("json_schema", candidate, schema, **settings) is right


@pytest.mark.parametrize(
    ("candidate", "output"),
    [
        (ANN, "valid"),
        ('{"name": "Ann", "age": "x"}', 'age: "x" is not of type "integer"'),
        ("Ann", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("", "no answer"),
        (None, "no answer"),
        ("[" * 100_000, "not JSON: nested too deeply"),
        ("[" * 201 + "]" * 201, "nested too deeply"),
        (f'"{"x" * 1000}"', f'"{"x" * 299}'),
    ],
)
async def test_it_says_what_is_wrong(candidate: str | None, output: str) -> None:
    found = await judged({"candidate": candidate, "reference": PERSON}, type="json_schema")
    assert found == Value(1.0 if output == "valid" else 0.0, output)


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


BAD_SCHEMAS = [
    (None, "is not a JSON schema but null"),
    (7, "is not a JSON schema but a int"),
    (["a"], "is not a JSON schema but a list"),
    ("{", "is not a JSON schema: "),
    ("true", "is not a JSON schema but a bool"),
    ({"type": "objekt"}, 'is not a valid JSON schema: type: "objekt" is not valid'),
    ({"properties": {"a": {"minimum": "x"}}}, 'is not a valid JSON schema: properties.a.minimum: "x" is not of type "number"'),
    ({"pattern": "("}, 'is not a valid JSON schema: pattern: "(" is not a "regex"'),
    ({"$ref": "#/nowhere"}, "is not a valid JSON schema: Pointer '/nowhere' does not exist"),
    ({"$ref": "file:///etc/passwd"}, "is not a valid JSON schema: Resource 'file:///etc/passwd' is not present"),
    ({"$schema": "http://127.0.0.1:9/draft"}, "is not a valid JSON schema: Unknown meta-schema"),
    ({"type": "json_schema", "json_schema": {"name": "nothing"}}, "is not a JSON schema but null"),
    ({"type": "json_schema", "json_schema": []}, "is not a JSON schema but a list"),
    ('{"const": 1e400}', "is not a valid JSON schema: Invalid string: expected value"),
    ("[" * 100_000, "is a JSON schema nested too deeply"),
    (deep(200), "is a JSON schema nested too deeply"),
    (deep(5000), "is a JSON schema nested too deeply"),
]


@pytest.mark.parametrize(("schema", "message"), BAD_SCHEMAS, ids=range(len(BAD_SCHEMAS)))
@pytest.mark.parametrize("candidate", [ANN, "no JSON", None])
async def test_a_schema_without_sense_is_an_error_of_the_row(candidate: str | None, schema: object, message: str) -> None:
    found = await refused({"candidate": candidate, "reference": schema}, type="json_schema")
    assert found.startswith(f"configuration.reference: {message}")


@pytest.mark.parametrize(("length", "made"), [(60_000, 1), (70_000, 3)])
def test_a_schema_is_made_once_but_for_a_long_one_which_must_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, length: int, made: int
) -> None:
    count = Counter[str]()
    make = jsonschema_rs.validator_for

    def counted(*args: Any, **settings: Any) -> Any:
        count["made"] += 1
        return make(*args, **settings)

    monkeypatch.setattr(jsonschema_rs, "validator_for", counted)
    for _ in range(3):
        check(json.dumps({"title": "x" * length}))
    assert count["made"] == made


async def test_nothing_is_fetched() -> None:
    with Served() as server:
        for reference in (f"{server.url}/schema", f"{server.url}/schema#/a"):
            schema = {"properties": {"a": {"$ref": reference}}}
            message = await refused({"candidate": "{}", "reference": schema}, type="json_schema")
            assert "is not part of the schema, and nothing is fetched" in message
    assert server.seen == []


@pytest.mark.parametrize(("pattern", "decided"), [("^(a+)+$", True), (r"^(a|aa)+\1$", False), (r"^(?=(a|aa)+\1$)b", False)])
async def test_a_pattern_cannot_hold_up_the_run(pattern: str, decided: bool) -> None:
    """Each of these takes a backtracking engine longer than the age of the world."""
    row = {"candidate": json.dumps("a" * 200 + "!"), "reference": {"type": "string", "pattern": pattern}}
    if decided:
        found = await judged(row, type="json_schema")
        assert isinstance(found, Value)
        assert found.value == 0.0
    else:
        assert "a pattern of the schema takes too long on this answer" in await refused(row, type="json_schema")


@pytest.mark.parametrize(
    ("kind", "reference", "message"),
    [
        ("json_schema", {"type": "objekt"}, 'is not a valid JSON schema: type: "objekt" is not valid'),
        ("json_schema", None, "is not a JSON schema but null"),
        ("tool_call_match", [{"nome": "f"}], '{"nome":"f"} is not a tool call'),
        ("json_schema", PERSON, None),
        ("json_schema", "item.schema", None),
        ("json_schema", {"properties": {"a": {"const": "{{item.a}}"}, "b": {"type": "item.kind"}}}, None),
        ("tool_call_match", [], None),
        ("tool_call_match", [{"name": "f", "arguments": "{{item.arguments}}"}], None),
        ("item.kind", {"type": "objekt"}, None),
    ],
)
def test_what_no_row_can_change_is_a_mistake_of_the_config(
    tmp_path: Any, kind: str, reference: object, message: str | None
) -> None:
    path = tmp_path / "config.yaml"
    metric = {"type": kind, "candidate": "item.answer", "reference": reference}
    config = {
        "name": "trial",
        "data": [{"answer": "{}"}],
        "endpoint": {"base_url": "http://127.0.0.1:9"},
        "tasks": [{"task_type": "metric", "configuration": metric}],
    }
    path.write_text(json.dumps(config))
    if message is None:
        load_config(path)
        return
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (mistake,) = caught.value.mistakes
    assert "tasks.0.configuration.reference" in mistake.replace("[0]", ".0")
    assert message in mistake
