"""The budget stops a run whose tokens are used up, or of which most rows end as errors; what asked nothing does not count."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from runner.errors import RunStopped
from runner.pipeline.budget import Budget
from runner.tasks.base import without_request
from runner.types import (
    SKIPPED,
    Answer,
    Attempt,
    ErrorType,
    Failure,
    Item,
    Outcome,
    Request,
    Response,
    Result,
    Sample,
    Unit,
    Usage,
    Value,
)

ITEM = Item(item_id="row-0", index=0, row={}, place="d:1")
UNIT = Unit("row-0", 0, 0, "answer")
REQUEST = Request(unit=UNIT, path="/x", model="m", content=b"{}", shown="{}", stream=False, prompt_estimate=10)


def asked(answer: Answer) -> Result:
    outcome = Outcome(answer=answer, started_at=0, completed_at=1)
    return Result(unit=UNIT, task_type="chat_completion", outcome=outcome, item=ITEM, request=REQUEST)


def unasked(answer: Answer, task_type: str = "chat_completion") -> Result:
    return without_request(Sample(ITEM, 0), "answer", task_type, answer)


def answer(tokens: int | None = None) -> Result:
    return asked(Response(output="a", usage=Usage(total_tokens=tokens)))


def failure(error_type: ErrorType = ErrorType.REQUEST, message: str = "400") -> Failure:
    return Failure(error_type=error_type, message=message)


def first_stop(budget: Budget, results: Iterable[Result]) -> tuple[int, str] | None:
    """Return after how many results the run is to stop, and why."""
    for count, result in enumerate(results, 1):
        if (reason := budget.note(result)) is not None:
            return count, reason
    return None


def budget_of(max_tokens: int | None = None, max_error_rate: float = 0.5, tokens: int = 0) -> Budget:
    return Budget(max_tokens=max_tokens, max_error_rate=max_error_rate, tokens=tokens)


# --- tokens ---


@pytest.mark.parametrize(
    ("before", "used", "expected"),
    [
        (0, [40, 40, 40], (3, "120 tokens are used of 100; raise limits.max_tokens to go on")),
        (0, [50, 50], (2, "100 tokens are used of 100; raise limits.max_tokens to go on")),
        (0, [50, 49], None),
        # Where a server does not say what it used, an estimate counts: 11 here.
        (0, [None] * 500, (10, "110 tokens are used of 100; raise limits.max_tokens to go on")),
        (0, [80, None, 9], (3, "100 tokens are used of 100; raise limits.max_tokens to go on")),
        # What earlier starts of the run used counts too.
        (90, [5, 5], (2, "100 tokens are used of 100; raise limits.max_tokens to go on")),
    ],
)
def test_tokens(before: int, used: list[int | None], expected: tuple[int, str] | None) -> None:
    assert first_stop(budget_of(max_tokens=100, tokens=before), map(answer, used)) == expected


@pytest.mark.parametrize(
    ("limit", "before", "expected"),
    [(None, 10**12, None), (100, 99, None), (100, 100, "100 tokens are used of 100; raise limits.max_tokens to go on")],
)
def test_what_earlier_starts_have_used_up_is_known_before_anything_is_sent(
    limit: int | None, before: int, expected: str | None
) -> None:
    assert budget_of(max_tokens=limit, tokens=before).used_up() == expected


async def test_nothing_is_sent_once_the_tokens_are_used_up() -> None:
    sent: list[Attempt] = []

    async def send(attempt: Attempt) -> Response:
        sent.append(attempt)
        return Response(output="a")

    budget = budget_of(max_tokens=100, tokens=60)
    within = budget.watching(send)
    await within(Attempt(REQUEST, 1))
    budget.note(answer(40))
    with pytest.raises(RunStopped, match=r"^100 tokens are used of 100; raise limits\.max_tokens to go on$") as stop:
        await within(Attempt(REQUEST, 2))
    assert not stop.value.hurry, "what is on its way has to be paid"
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_tokens": 1000}, "for limits.max_tokens they are estimated"),
        ({"tokens_per_minute": 1000}, "for limits.tokens_per_minute they are estimated"),
        ({"max_tokens": 1000, "tokens_per_minute": 1}, "for limits.max_tokens and limits.tokens_per_minute they are estimated"),
        ({}, None),
    ],
)
def test_that_an_estimate_counts_is_said_once(
    limits: dict[str, int], said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    budget = Budget(**({"max_tokens": None} | limits), max_error_rate=1.0)  # type: ignore[arg-type]
    for result in (answer(5), asked(failure()), unasked(Value(1.0, None), "metric")):
        budget.note(result)
    assert not caplog.messages
    for _ in range(3):
        budget.note(answer())
    assert len(caplog.messages) == (said is not None)
    assert said is None or said in caplog.text


def test_without_a_limit_tokens_do_not_matter() -> None:
    assert first_stop(budget_of(), [answer(10**12)] * 500) is None


# --- errors ---

GOOD, BAD = answer(), asked(failure())


@pytest.mark.parametrize(
    ("rate", "results", "stops_after"),
    [
        # Nothing is said before there are two hundred.
        (0.5, [BAD] * 199, None),
        (0.5, [BAD] * 300, 200),
        # Half are not more than half.
        (0.5, [GOOD, BAD] * 500, None),
        (0.5, [GOOD] * 99 + [BAD] * 101, 200),
        # Only the last two hundred count.
        (0.5, [GOOD] * 5000 + [BAD] * 200, 5101),
        (0.5, [BAD] * 99 + [GOOD] * 5000, None),
        (0.5, [BAD] + [GOOD] * 100 + [BAD] * 200, 202),
        # Which of them was the last does not matter.
        (0.5, [BAD] * 199 + [GOOD] * 2, 200),
        (0.1, [GOOD] * 1000 + [BAD] * 50, 1021),
        (1.0, [BAD] * 1000, None),
    ],
)
def test_error_rate(rate: float, results: list[Result], stops_after: int | None) -> None:
    found = first_stop(budget_of(max_error_rate=rate), results)
    assert (None if found is None else found[0]) == stops_after


@pytest.mark.parametrize(
    ("result", "counts"),
    [
        (asked(failure()), True),
        (asked(failure(ErrorType.CONTEXT_LENGTH)), True),
        (asked(failure(ErrorType.INVALID_RESPONSE)), True),
        # A row is charged with these only where the endpoint works for others.
        (asked(failure(ErrorType.SERVER)), False),
        (asked(failure(ErrorType.TIMEOUT)), False),
        (asked(failure(ErrorType.CONNECT)), False),
        (asked(failure(ErrorType.AUTH)), False),
        (asked(failure(ErrorType.RATE_LIMIT)), False),
        # A template that fails for every row is a mistake of the config.
        (unasked(failure(ErrorType.TEMPLATE)), True),
        (unasked(failure(ErrorType.DATASET)), False),
        (unasked(failure(ErrorType.DEPENDENCY)), False),
        (unasked(Value(0.0, None), "metric"), False),
        # So is a reference without sense in every row.
        (unasked(failure(ErrorType.TEMPLATE), "metric"), True),
    ],
)
def test_what_counts_as_a_failed_answer(result: Result, counts: bool) -> None:
    assert (first_stop(budget_of(), [result] * 300) is not None) == counts


def test_each_task_has_a_rate_of_its_own() -> None:
    metric = without_request(Sample(ITEM, 0), "correct", "metric", failure(ErrorType.TEMPLATE, "no number"))
    found = first_stop(budget_of(), [GOOD, metric] * 300)
    assert found is not None
    assert found[0] == 400
    assert found[1].startswith("200 of the last 200 results of `correct` are errors")
    right = without_request(Sample(ITEM, 0), "correct", "metric", Value(1.0, None))
    assert first_stop(budget_of(), [BAD, right, right] * 300) is not None


def test_the_reason_names_the_kind_that_is_most_frequent_with_its_newest_example() -> None:
    long = [asked(failure(ErrorType.CONTEXT_LENGTH, f"400: {n} tokens are too many")) for n in range(120)]
    found = first_stop(budget_of(), [GOOD] * 60 + [BAD] * 20 + long)
    rate = "140 of the last 200 results of `answer` are errors (limits.max_error_rate: 0.5)"
    assert found == (200, f"{rate}, 120 of them context_length, for example: 400: 119 tokens are too many")


async def test_a_control_request_uses_tokens_too() -> None:
    """Its answer is no result, but it has to be paid."""
    budget = budget_of(max_tokens=50)

    async def send(_attempt: Attempt) -> Response:
        return Response(output="a", usage=Usage(total_tokens=30))

    watched = budget.watching(send)
    for _ in range(2):
        await watched(Attempt(REQUEST, 1))
    assert budget.used_up() is None
    for _ in range(2):
        await watched(Attempt(REQUEST, 1, is_control=True))
    with pytest.raises(RunStopped, match="60 tokens are used of 50"):
        await watched(Attempt(REQUEST, 1))


def test_what_was_skipped_says_nothing_of_the_run() -> None:
    """A condition that holds of few rows must not hide that most of those fail."""
    budget = budget_of()
    results = [one for _ in range(200) for one in (unasked(SKIPPED), unasked(SKIPPED), asked(failure(ErrorType.NO_VERDICT)))]
    stop = first_stop(budget, results)
    assert stop is not None
    assert "200 of the last 200 results of `answer` are errors" in stop[1]


def test_what_was_of_no_use_is_paid() -> None:
    budget = budget_of(max_tokens=20)
    useless = Failure(error_type=ErrorType.NO_VERDICT, message="", paid=Response(output="?", usage=Usage(total_tokens=10)))
    assert budget.note(asked(useless)) is None
    assert budget.note(asked(useless)) is not None
