"""A secret is found in whatever form a server echoes it, and nothing else is taken for one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.secrets.escapes import Unescaped, unescaped
from runner.secrets.redaction import REDACTED, Redactor, is_secret
from tests.commands import Project
from tests.encoders import BASE64, ENCODERS, as_utf8
from tests.reliability.canary import found_in, places_of, readings
from tests.reliability.endpoint import Behaviour, Endpoint, endpoint

SECRET = 'sk-CANARY/7f3a+9e1c==&x?"%20-0123456789'


def is_found(secret: str) -> bool:
    """Whether this is a secret however it is read: what is next to nothing without its escapes is none."""
    return all(is_secret(text) and not text.isdigit() and text not in REDACTED for text in readings(secret.encode()))


_SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60) | st.text(
    st.sampled_from("aZ0\"\\<&/+='%é日🦜"), min_size=12, max_size=30
)
_AROUND = st.sampled_from(["", " ", '"', "'", ": ", "Bearer ", "\n", "\\", ">", "/?key=", "\0", "你好", "…"])


@given(
    _SECRETS.filter(is_found), st.sampled_from(sorted(ENCODERS)), st.sampled_from(sorted(ENCODERS)), st.text(max_size=20),
    _AROUND, _AROUND, st.text(max_size=20),
)  # fmt: skip
@example(SECRET, ".NET", "HTML", "", "", "", "")
@example("abcdefgh-1", "a byte that is no UTF-8", "as it is", "", "", "", "")
@example("abcdefgh-1", "a byte that is no UTF-8", "JSON", "", "", "", "")
@example("abcdefgh:\\", ".NET", ".NET", "", "", "", "")
@example('"abcdefgh-1', "JSON", "as it is", "", "\\", "", "")
@example("🦜🦜🦜🦜-pass-123", "all of it as \\u", "as it is", "", "", "", "")
def test_no_form_of_a_secret_is_left(  # noqa: PLR0917  as many things differ
    secret: str, inner: str, outer: str, before: str, left: str, right: str, behind: str
) -> None:
    redactor = Redactor([secret])
    text = f"{left}{ENCODERS[outer](ENCODERS[inner](secret))}{right}"
    assert list(found_in([secret], redactor.text(text).encode())) == []
    assert list(found_in([secret], redactor.text(before + " " + text + " " + behind).encode())) == []
    body = json.dumps({"text": before + text, text: [1, {"inner": json.dumps({"message": text})}]}).encode()
    kept = redactor.json(body)
    assert list(found_in([secret], kept)) == []
    json.loads(json.loads(kept).popitem()[1][1]["inner"])


@given(_SECRETS.filter(is_found), st.sampled_from(sorted(BASE64)), st.sampled_from(["as it is", "PHP", ".NET", "a URL"]),
       st.binary(max_size=20), st.binary(max_size=20))  # fmt: skip
def test_no_base64_of_a_secret_is_left(secret: str, name: str, outer: str, before: bytes, behind: bytes) -> None:
    text = ENCODERS[outer](BASE64[name](before + secret.encode() + behind).decode())
    assert list(found_in([secret], Redactor([secret]).text(text).encode())) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("secret", [SECRET, "sk-0123456789abcdef"])
def test_a_body_in_utf_16_is_read_as_one(secret: str, encoding: str) -> None:
    text = as_utf8(f'{{"error": "wrong key: {secret}"}}', encoding)
    redactor = Redactor([secret])
    assert list(found_in([secret], redactor.text(text).encode())) == []
    assert list(found_in([secret], redactor.json(json.dumps({"body": text}).encode()))) == []


_STRANGE = st.sampled_from(
    ["\\u0041", "\\/", "&#65;", "&amp;", "%41", "%", "\\", "\0", "\ufffd", "sk-CANARY", '\\"', "0123456789"]
)


@given(st.lists(_STRANGE | st.text(max_size=20)).map("".join))
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    """Also where it is written as nobody would write it: what is kept of a body is the body."""
    redactor = Redactor([SECRET, "x", "EMPTY"])
    assert redactor.text(text) == text
    strange = b' {"a"  : "\\u0041\\/", "a": 1.0e2, "text":' + json.dumps(text).encode() + b"}"
    assert redactor.json(strange) == strange


def test_around_a_secret_all_stays_as_it_is() -> None:
    redactor = Redactor(["sk-0123456789abcdef"])
    text = 'caf\\u00e9 &amp; \\/x\\" %41 {} \\n&lt;\\u0041'
    for one in ("sk-0123456789abcdef", "sk\\u002d0123456789abcdef", "sk&#45;0123456789abcdef", "s\0k\0-0123456789abcdef"):
        assert redactor.text(text.format(one)) == text.format("[redacted]")


@pytest.mark.parametrize(
    ("text", "start", "end", "before"),
    [
        (b"abc", 1, 2, b"b"),
        # An escape is taken whole, first or last or both …
        (rb"a\u0062c", 0, 1, b"a"),
        (rb"a\u0062c", 0, 2, rb"a\u0062"),
        (rb"a\u0062c", 1, 2, rb"\u0062"),
        (rb"a\u0062c", 1, 3, rb"\u0062c"),
        (rb"a\x62c", 0, 2, rb"a\x62"),
        (b"a%62", 0, 2, b"a%62"),
        (b"&#97;b&amp;", 0, 3, b"&#97;b&amp;"),
        # … and what keeps letters apart only between them.
        (b"\0a\0b\0", 0, 1, b"a"),
        (b"\0a\0b\0", 1, 2, b"b"),
        (b"\0a\0b\0", 0, 2, b"a\0b"),
    ],
)
def test_where_a_word_stood_before_it_was_read(text: bytes, start: int, end: int, before: bytes) -> None:
    first, last = Unescaped(text).origin(start, end)
    assert text[first:last] == before


def test_escapes_within_escapes_are_read_up_to_a_depth_that_nobody_writes() -> None:
    assert [layer.text for layer in unescaped(b"%252562")] == [b"%2562", b"%62", b"b"]
    assert len(list(unescaped(b"%" + b"25" * 20))) == 8


def test_a_blank_in_a_form_is_a_plus() -> None:
    assert Redactor(["pass word/123"]).text("key=pass+word%2F123&x=1") == "key=[redacted]&x=1"


@pytest.mark.parametrize("behind", ["", "…", "”"])
@pytest.mark.parametrize("length", [12, 20, len(SECRET) - 1])
def test_the_beginning_of_a_secret_at_a_cut_is_taken_out(length: int, behind: str) -> None:
    redactor, long = Redactor([SECRET]), "x" * 200
    assert redactor.text(f"{long}{SECRET[:length]}{behind}") == f"{long}[redacted]{behind}"
    assert redactor.text(f"{SECRET[:length]}{behind}") == f"{SECRET[:length]}{behind}"
    body = {"message": f"{long}{SECRET[:length]}{behind}", "text": f"{SECRET[:length]} is how keys begin"}
    kept = json.loads(redactor.json(json.dumps(body).encode()))
    assert kept == {**body, "message": f"{long}[redacted]{behind}"}


def test_digits_in_a_number_leave_a_number() -> None:
    redactor = Redactor(["1234567890123456"])
    kept = redactor.json(b'{"id":1234567890123456,"inner":"{\\"id\\":12345678901234567}"}')
    assert json.loads(kept) == {"id": 9999999999999999, "inner": '{"id":99999999999999997}'}


@pytest.mark.parametrize("depth", [700, 100_000])
def test_a_body_nested_deeply_is_cleaned_too(depth: int) -> None:
    kept = Redactor([SECRET]).json(b"[" * depth + json.dumps(SECRET).encode() + b"]" * depth)
    assert kept == b"[" * depth + b'"[redacted]"' + b"]" * depth


def test_text_that_is_no_unicode_stays_as_it_is() -> None:
    redactor = Redactor([SECRET])
    assert redactor.text("\ud800 \\u0041") == "\ud800 \\u0041"
    assert redactor.text(f"\ud800 {SECRET}").endswith(" [redacted]")


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("evals", False), ("EMPTY", False), ("00000000", False), ("anything", False), ("evaluations", False),
        ("pass-12", False), ("pass-123", True), ("abcdefghijklmnop", True), ("1234567890123456", True),
    ],
)  # fmt: skip
def test_a_placeholder_is_no_secret(value: str, secret: bool) -> None:
    assert is_secret(value) == secret


@pytest.fixture(scope="module")
def echoing() -> Iterator[Endpoint]:
    with endpoint() as served:
        yield served


@pytest.mark.long
@pytest.mark.parametrize("first", [0, 4])
def test_a_key_that_a_server_echoes_is_found_nowhere(tmp_path: Path, echoing: Endpoint, first: int) -> None:
    """The words of an error go into the journal, both files and evaluation.json."""
    echoing.behave(Behaviour(echo_from=first, latency=(0, 0)))
    project = Project(
        tmp_path, echoing.url, environment={"OPENAI_API_KEY": SECRET},
        limits={"concurrency": 1, "max_attempts": 1, "give_up_after": 3},
        more={"endpoint": {"base_url": echoing.url, "record": str(tmp_path / "results" / "recordings")}},
    )  # fmt: skip
    found = project.run_here()
    assert "[redacted]" in json.dumps(project.evaluation)
    assert list(places_of([SECRET], tmp_path / "results", found.stdout, found.stderr)) == []
    assert b"[redacted]" in b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
