"""What an answer has used is what the server said, in whatever way it said it, and an estimate where it did not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.results.progress import Progress
from runner.storage.records import EndHead, end_of, tokens_of
from runner.structs import replace
from runner.types import Item, Outcome, Request, Response, Result, Unit, Usage
from runner.usage import LARGEST_COUNT, count_of, total_of, used_by

UNIT = Unit("row-0", 0, 0, "answer")
#: Its prompt is estimated at a hundred tokens.
REQUEST = Request(unit=UNIT, path="/x", model="m", content=b"{}", shown="{}", stream=False, prompt_estimate=100)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (7, 7),
        (5.0, 5),
        (0.0, 0),
        (LARGEST_COUNT, LARGEST_COUNT),
        (LARGEST_COUNT + 1, None),
        (2.0**63, None),
        (5.5, None),
        (-1, None),
        (-1.0, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        ("5", None),
        (None, None),
        ([5], None),
    ],
)
def test_counts(value: object, expected: int | None) -> None:
    found = count_of(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((3, 2, 9), 9),
        ((3, 2, None), 5),
        ((3, None, None), None),
        ((None, 2, None), None),
        ((None, None, None), None),
        ((None, None, 9), 9),
        # Nobody adds up to what no column holds.
        ((LARGEST_COUNT, 1, None), None),
    ],
)
def test_totals(parts: tuple[int | None, int | None, int | None], expected: int | None) -> None:
    assert total_of(*parts) == expected


def said(prompt: int | None = None, completion: int | None = None, total: int | None = None, **more: Any) -> Response:
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=total)
    return replace(Response(output="a" * 39, usage=usage), **more)


CHOICES = json.dumps(
    [{"message": {"content": "a" * 400}, "logprobs": {"content": ["x" * 9000]}}, {"message": {"content": "b"}}]
)


@pytest.mark.parametrize(
    ("response", "tokens", "is_said"),
    [
        (said(500, 500, 1000), 1000, True),
        # A model that thinks out of sight: more than both parts.
        (said(500, 500, 1700), 1700, True),
        (said(total=1000), 1000, True),
        (said(500, 500), 1000, True),
        (said(500, 0), 500, True),
        # What cannot be: less than its parts, or nothing at all.
        (said(500, 500, 0), 1000, True),
        (said(500, 500, 7), 1000, True),
        (said(0, 0, 0), 110, False),
        # Half of it, or none.
        (said(500), 510, False),
        (said(completion=30), 130, False),
        (said(), 110, False),
        (said(output=None), 100, False),
        (said(output=None, reasoning="a" * 40, refusal="b" * 4, tool_calls="c" * 4), 112, False),
        # Each of these letters has three bytes, and about a token.
        (said(output="日本語語" * 100), 400, False),
        (said(LARGEST_COUNT, LARGEST_COUNT), LARGEST_COUNT, True),
        (said(completion=LARGEST_COUNT), LARGEST_COUNT, False),
    ],
)
def test_what_an_answer_has_used(response: Response, tokens: int, is_said: bool) -> None:
    assert used_by(REQUEST, response) == (tokens, is_said)


def test_a_vector_is_not_counted_by_its_digits() -> None:
    assert used_by(replace(REQUEST, embeds=True), said()) == (100, False)


def test_of_several_choices_all_are_estimated_and_no_probabilities() -> None:
    used = used_by(REQUEST, said(choices=CHOICES))
    assert 200 < used.tokens < 250
    assert not used.is_said


COUNTS = st.none() | st.integers(0, 9) | st.just(LARGEST_COUNT)


@given(COUNTS, COUNTS, COUNTS)
def test_a_resume_counts_as_the_run_did(prompt: int | None, completion: int | None, total: int | None) -> None:
    """Also by the head of the line, which is all that a resume reads of it."""
    response = said(prompt, completion, total)
    outcome = Outcome(answer=response, started_at=0, completed_at=1)
    item = Item(item_id="row-0", index=0, row={}, place="d:1")
    result = Result(unit=UNIT, task_type="chat_completion", outcome=outcome, item=item, request=REQUEST)
    end = end_of(result, None, ran_us=1)
    head = EndHead(item_index=0, task="answer", total_tokens=end.total_tokens, used_tokens=end.used_tokens)
    assert tokens_of(end) == tokens_of(head) == used_by(REQUEST, response).tokens
    progress = Progress(synced_lines=1)
    progress.note(end, 1)
    progress.advance()
    assert progress.tokens == tokens_of(end)
    assert (end.prompt_tokens, end.completion_tokens, end.total_tokens) == (prompt, completion, total)
    used = used_by(REQUEST, response)
    assert (end.used_tokens is None) == (used.tokens == total)
