"""The OpenAPI document: it has every route, and whatever is sent, the answer fits it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.service.api.app import application
from runner.service.api.openapi import OPERATIONS, document
from tests.service import Running, chat, running_service
from tests.variations import CAMPAIGN

#: It cannot be installed beside the runner, for the two need different versions of jsonschema-rs.
SCHEMATHESIS = shutil.which("schemathesis")
#: With these, 23 operations are tried with more than 2,000 cases.
_EXAMPLES, _OF_CAMPAIGN = 30, 100
_CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method"
#: What leads to a file or a page, and what no client of the API asks for.
_NO_OPERATIONS = {"/v5/exports/{name}"}


running = running_service()


def test_each_route_has_its_operation(running: Running) -> None:
    routes = {
        (route.method, route.resource.canonical)
        for route in application(running.service).router.routes()
        if route.resource is not None and route.resource.canonical.startswith("/v5/") and route.method not in {"HEAD", "*"}
    }
    assert {place for place in routes if place[1] not in _NO_OPERATIONS} == set(OPERATIONS)


def test_the_document_is_served_and_leads_nowhere_in_vain(running: Running) -> None:
    assert running.ask("GET", "/openapi.json") == (200, document())
    known = {f"#/components/schemas/{name}" for name in document()["components"]["schemas"]}
    assert set(_references(document())) <= known


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for member in value:
            yield from _references(member)


def test_a_method_that_a_path_does_not_have_is_named(running: Running) -> None:
    assert running.ask("PUT", "/v5/evaluations/x") == (405, {"detail": "Method Not Allowed"})
    assert running.ask("GET", "/v5/nothing") == (404, {"detail": "Not Found"})


def test_a_name_is_never_taken_away(running: Running) -> None:
    _, made = running.ask("POST", "/v5/datasets", {"name": "d", "data": [{"a": 1}]})
    assert running.ask("PATCH", f"/v5/datasets/{made['id']}", {"name": None})[1]["name"] == "d"
    assert running.ask("GET", "/v5/datasets")[0] == 200


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.skipif(SCHEMATHESIS is None, reason="there is no schemathesis here: pipx install schemathesis")
def test_whatever_is_sent_the_answer_fits_the_document(running: Running, tmp_path: Path) -> None:
    for number in range(2):
        running.ended(running.create([{"q": "x"}] * 5, chat(), name=f"e{number}")["id"])
        running.ask("POST", "/v5/datasets", {"name": f"d{number}", "data": [{"a": 1}, {"a": 2}]})
    words = [str(SCHEMATHESIS), "run", f"{running.url}/openapi.json", "-H", "x-api-key: k"]
    words += ["--checks", _CHECKS, "--max-examples", str(_OF_CAMPAIGN if CAMPAIGN else _EXAMPLES), "--seed", "1"]
    words += ["--suppress-health-check", "all", "--continue-on-failure", "--generation-database", "none"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=1100, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
