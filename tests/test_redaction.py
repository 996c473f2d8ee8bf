"""A secret is found in whatever form a server echoes it, and nothing else is taken for one."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.redaction import Redactor, is_secret
from tests.commands import Project
from tests.reliability.canary import forms_of, places_of
from tests.reliability.endpoint import Behaviour, endpoint

SECRET = 'sk-CANARY/7f3a+9e1c==&x?"%20-0123456789'
_SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60).filter(
    lambda text: is_secret(text) and not text.isdigit()
)


@given(_SECRETS, st.binary(max_size=20), st.binary(max_size=20))
def test_no_form_of_a_secret_is_left(secret: str, before: bytes, behind: bytes) -> None:
    whole = before + secret.encode() + behind
    texts = [secret, quote(secret, safe=""), quote(secret), quote_plus(secret)]
    texts += [base64.b64encode(whole).decode(), base64.urlsafe_b64encode(whole).decode()]
    body = json.dumps({"in JSON": texts, "in JSON in JSON": json.dumps(texts)})
    redactor = Redactor([secret])
    assert not [form for form in forms_of(secret) if form in redactor.json(body.encode())]
    assert not [form for form in forms_of(secret) if form in redactor.text("\n".join(texts)).encode()]
    json.loads(redactor.json(body.encode()))


@given(st.text(max_size=60))
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    redactor = Redactor([SECRET, "x", "EMPTY"])
    assert redactor.text(text) == text
    assert redactor.json(json.dumps(text).encode()) == json.dumps(text).encode()


@pytest.mark.parametrize("first", [0, 4])
def test_a_key_that_a_server_echoes_is_found_nowhere(tmp_path: Path, first: int) -> None:
    """A refusal before the first answer ends the run: its words go into the summary and evaluation.json too."""
    with endpoint(Behaviour(echo_from=first, latency=(0, 0))) as served:
        project = Project(
            tmp_path, served.url, environment={"OPENAI_API_KEY": SECRET},
            limits={"concurrency": 1, "max_attempts": 1, "give_up_after": 3},
            more={"endpoint": {"base_url": served.url, "record": str(tmp_path / "results" / "recordings")}},
        )  # fmt: skip
        found = project.run()
    assert "[redacted]" in found.stdout or first
    assert list(places_of([SECRET], tmp_path / "results", found.stdout, found.stderr)) == []
    assert b"[redacted]" in b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
