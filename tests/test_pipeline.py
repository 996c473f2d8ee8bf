"""The pipeline is bounded in flight, hands every result over at once, and ends in order whatever happens.

The tasks here are real ones as far as the pipeline can tell: they wait for events that the tests set, so order is never left
to the clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import runner.pipeline.pipeline
from runner.endpoint.pacing.circuit import Circuit, Circuits
from runner.endpoint.pacing.health import Health
from runner.endpoint.pacing.rate_limiter import RateLimiter, limited
from runner.endpoint.pacing.retry import RetryPolicy, retrying
from runner.errors import AttemptError, RunStopped, StorageError
from runner.pipeline.attempts import journal_attempts
from runner.pipeline.pipeline import InFlight, Pipeline, PriorResult, Step
from runner.results.progress import Progress
from runner.storage.journal import Journal
from runner.storage.ledger import Ledger
from runner.storage.records import end_of
from runner.tasks.base import unit_of, without_request
from runner.types import (
    Answer,
    Attempt,
    ErrorType,
    Execute,
    Failure,
    Item,
    Request,
    Response,
    Result,
    Sample,
    Send,
    Value,
)
from tests.records import opening


def samples(count: int, repeats: int = 1) -> Iterator[Sample]:
    for index in range(count):
        item = Item(item_id=f"row-{index}", index=index, row={"n": index}, place=f"d:{index + 1}")
        for sample in range(repeats):
            yield Sample(item, sample)


def nothing_known(_item: int, _sample: int, _alias: str) -> PriorResult | None:
    return None


@dataclass
class Asking:
    """A task whose answer a test decides: `work` is awaited, and what it returns is the answer."""

    work: Callable[[Sample, Mapping[str, Any]], Awaitable[Answer]]
    alias: str = "answer"
    task_type: str = "chat_completion"
    model: str | None = None

    async def run(self, sample: Sample, item: Mapping[str, Any]) -> Result:
        answer: Answer = await self.work(sample, item)
        return without_request(sample, self.alias, self.task_type, answer)


@dataclass
class Requesting:
    """A task that sends its request through the layers of the endpoint."""

    execute: Execute
    alias: str = "answer"
    task_type: str = "chat_completion"
    model: str | None = None

    async def run(self, sample: Sample, item: Mapping[str, Any]) -> Result:
        unit = unit_of(sample, self.alias)
        request = Request(unit=unit, path="/x", model="m", content=b"{}", shown="{}", stream=False)
        outcome = await self.execute(request)
        return Result(unit=unit, task_type=self.task_type, outcome=outcome, item=sample.item, request=request)


@dataclass
class Wire:
    """The innermost layer: attempts lie here until a test answers them."""

    waiting: dict[int, asyncio.Future[Response]] = field(default_factory=dict)
    sent: list[int] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, attempt: Attempt) -> Response:
        index = attempt.request.unit.item_index
        self.sent.append(index)
        future = self.waiting[index] = asyncio.get_running_loop().create_future()
        self.changed.set()
        try:
            response: Response = await future
        finally:
            del self.waiting[index]
        return response

    async def until(self, count: int) -> None:
        """Wait until so many attempts are in flight."""
        while len(self.waiting) < count:
            self.changed.clear()
            await self.changed.wait()

    def answer(self, index: int) -> None:
        self.waiting[index].set_result(Response(output=f"answer {index}"))

    def fail(self, index: int, *, retry: bool = False) -> None:
        failure = Failure(error_type=ErrorType.SERVER, message="500", status_code=500)
        self.waiting[index].set_exception(AttemptError(failure, retry=retry))

    def refuse(self, index: int) -> None:
        failure = Failure(error_type=ErrorType.AUTH, message="401", status_code=401)
        self.waiting[index].set_exception(AttemptError(failure, retry=False, stops_run="first"))

    def use_up_the_quota(self, index: int) -> None:
        failure = Failure(error_type=ErrorType.QUOTA, message="402 Payment Required", status_code=402)
        self.waiting[index].set_exception(AttemptError(failure, retry=False, stops_run="always"))


def pipeline_of(
    steps: list[Step],
    *,
    source: Iterator[Sample | None],
    sink: Callable[[Result], None],
    concurrency: int = 4,
    known: Callable[[int, int, str], PriorResult | None] = nothing_known,
    in_flight: InFlight | None = None,
) -> Pipeline:
    return Pipeline(
        steps=steps,
        samples=source,
        concurrency=concurrency,
        sink=sink,
        known=known,
        in_flight=in_flight or InFlight(),
    )


def only(task: Any) -> list[Step]:
    return [Step(task=task, samples=1, inputs=())]


async def turns(count: int = 20) -> None:
    """Let everything that can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(happened: Callable[[], bool]) -> None:
    """Let everything go on until something has happened."""
    while not happened():  # noqa: ASYNC110  what is looked at sets no event
        await asyncio.sleep(0)


@asynccontextmanager
async def running(pipeline: Pipeline) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(pipeline.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@dataclass
class Layers:
    """A pipeline over all layers down to the wire, with a real journal."""

    directory: Path
    wire: Wire
    journal: Journal
    pipeline: Pipeline
    results: list[Result]

    def ledger(self) -> Ledger:
        return Ledger.read(self.directory)


def layers(
    directory: Path,
    count: int,
    *,
    concurrency: int = 4,
    gate: RateLimiter | None = None,
    sleep: Callable[[float], Any] = asyncio.sleep,
) -> Layers:
    wire, in_flight, results = Wire(), InFlight(), list[Result]()
    journal = Journal(directory)
    journal.append(opening())
    send: Send = in_flight.watch(journal_attempts(wire.send, journal, Progress()))
    send = limited(send, gate or RateLimiter())
    circuits = Circuits(lambda _task: Circuit(Health(has_fresh=pipeline.has_fresh), send, sleep=sleep))
    execute = retrying(RetryPolicy(max_attempts=5), circuits, aside=lambda: pipeline.aside(), sleep=sleep)  # noqa: PLW0108  as below

    def sink(result: Result) -> None:
        journal.append(end_of(result, "http://e/v1", ran_us=1))
        results.append(result)

    pipeline = pipeline_of(
        only(Requesting(execute)), source=samples(count), sink=sink, concurrency=concurrency, in_flight=in_flight
    )
    return Layers(directory, wire, journal, pipeline, results)


def indexes(results: list[Result]) -> list[int]:
    return [result.unit.item_index for result in results]


# --- bounded ---


@pytest.mark.long
@pytest.mark.parametrize("concurrency", [1, 3, 16])
async def test_never_more_in_flight_than_concurrency(tmp_path: Path, concurrency: int) -> None:
    run = layers(tmp_path, 40, concurrency=concurrency)
    async with running(run.pipeline) as task:
        for done in range(40):
            await run.wire.until(min(concurrency, 40 - done))
            await turns()
            assert len(run.wire.waiting) == len(run.pipeline.in_flight.workers) == min(concurrency, 40 - done)
            run.wire.answer(max(run.wire.waiting))
        await task
    assert sorted(indexes(run.results)) == list(range(40))
    assert run.pipeline.active == 0
    run.journal.close()


async def test_the_first_attempts_go_ahead_until_the_endpoint_has_answered(tmp_path: Path) -> None:
    run = layers(tmp_path, 40, concurrency=32)
    async with running(run.pipeline):
        await run.wire.until(8)
        await turns()
        assert len(run.wire.waiting) == len(run.wire.sent) == 8
        run.wire.answer(3)
        await turns()
        assert len(run.wire.waiting) == 32
    run.journal.close()
    assert run.ledger().in_flight == 32


async def test_a_short_dataset_needs_no_answer_to_come_to_its_end() -> None:
    """Nothing goes on the wire, so nobody hears of the endpoint; the first workers do all the work."""
    results: list[Result] = []

    async def work(_sample: Sample, _item: Mapping[str, Any]) -> Value:
        return Value(1.0, None)

    pipeline = pipeline_of(only(Asking(work)), source=samples(20), sink=results.append, concurrency=32)
    await asyncio.wait_for(pipeline.run(), 20)
    assert len(results) == 20


async def test_a_drain_ends_a_run_of_which_only_the_first_workers_have_begun(tmp_path: Path) -> None:
    run = layers(tmp_path, 40, concurrency=32)
    async with running(run.pipeline) as task:
        await run.wire.until(8)
        run.pipeline.drain("stopped by SIGINT", within=0.0)
        await asyncio.wait_for(asyncio.shield(task), 20)
    assert (run.wire.sent, run.results) == (list(range(8)), [])
    run.journal.close()


async def test_workers_begin_in_groups(tmp_path: Path) -> None:
    """Thousands that began in one turn of the loop would hold everything else up for seconds."""
    run = layers(tmp_path, 4_000, concurrency=2_000)
    async with running(run.pipeline):
        await run.wire.until(8)
        run.wire.answer(0)
        await until(lambda: len(run.wire.sent) > 9)
        assert len(run.wire.sent) < 100
        await run.wire.until(2_000)
    run.journal.close()


async def test_an_error_does_not_say_that_the_endpoint_answers(tmp_path: Path) -> None:
    """It may be the first of many: another row takes its place, and no more are in flight than before."""
    run = layers(tmp_path, 40, concurrency=32)
    async with running(run.pipeline):
        await run.wire.until(8)
        run.wire.fail(3)
        await turns()
        assert (len(run.wire.sent), len(run.wire.waiting)) == (9, 8)
    run.journal.close()


@pytest.mark.long
async def test_an_endpoint_that_says_nothing_holds_nobody_up_for_long(tmp_path: Path) -> None:
    run = layers(tmp_path, 40, concurrency=32)
    async with running(run.pipeline):
        await run.wire.until(32)
    run.journal.close()


async def test_an_endpoint_that_refuses_is_asked_no_more_than_the_first_few_times(tmp_path: Path) -> None:
    run = layers(tmp_path, 40, concurrency=32)
    async with running(run.pipeline) as task:
        for first in (0, 8):
            await until(lambda first=first: len(run.wire.sent) == first + 8)  # type: ignore[misc]
            for index in range(first, first + 8):
                run.wire.refuse(index)
        await until(lambda: len(run.wire.sent) == 23 or task.done())
        for index in list(run.wire.waiting):
            run.wire.refuse(index)
        await task
    assert len(run.wire.sent) <= 24
    assert run.results == []
    assert run.pipeline.stopped == "no request has succeeded, and the last ones all failed in the same way: 401"
    run.journal.close()
    assert run.ledger().in_flight == 0


async def test_a_sample_is_taken_only_when_a_worker_is_free(tmp_path: Path) -> None:
    taken: list[int] = []

    def source() -> Iterator[Sample]:
        for sample in samples(10):
            taken.append(sample.item.index)
            yield sample

    run = layers(tmp_path, 10, concurrency=3)
    run.pipeline.samples = source()
    async with running(run.pipeline):
        await run.wire.until(3)
        await turns()
        assert taken == [0, 1, 2]
        run.wire.answer(1)
        await turns()
        assert taken == [0, 1, 2, 3]
    run.journal.close()


async def test_many_rows_make_no_task_each() -> None:
    most = done = 0

    async def work(_sample: Sample, _item: Mapping[str, Any]) -> Value:
        nonlocal most
        if done % 1000 == 0:
            await asyncio.sleep(0)
            most = max(most, len(asyncio.all_tasks()))
        return Value(1.0, None)

    def sink(_result: Result) -> None:
        nonlocal done
        done += 1

    before = len(asyncio.all_tasks())
    pipeline = pipeline_of(only(Asking(work)), source=samples(20_000), sink=sink, concurrency=8)
    await pipeline.run()
    assert done == 20_000
    assert most <= before + 8


async def test_rows_without_a_request_let_others_have_their_turn() -> None:
    async def work(_sample: Sample, _item: Mapping[str, Any]) -> Value:
        return Value(1.0, None)

    results: list[Result] = []
    seen: list[int] = []
    pipeline = pipeline_of(only(Asking(work)), source=samples(200), sink=results.append, concurrency=2)

    async def look() -> None:
        while len(results) < 200:
            seen.append(len(results))
            await asyncio.sleep(0)

    await asyncio.gather(pipeline.run(), look())
    assert len(seen) >= 50


async def test_none_from_the_source_gives_way_and_is_no_sample() -> None:
    results: list[Result] = []
    turns_of_others = 0

    async def work(_sample: Sample, _item: Mapping[str, Any]) -> Value:
        return Value(1.0, None)

    def source() -> Iterator[Sample | None]:
        for _ in range(50):
            yield None
        yield from samples(1)

    async def others() -> None:
        nonlocal turns_of_others
        while not results:
            turns_of_others += 1
            await asyncio.sleep(0)

    pipeline = pipeline_of(only(Asking(work)), source=source(), sink=results.append, concurrency=1)
    await asyncio.gather(pipeline.run(), others())
    assert turns_of_others >= 50
    assert len(results) == 1


# --- handed over at once ---


async def test_an_answer_is_in_the_journal_in_the_callback_in_which_it_came(tmp_path: Path) -> None:
    """Nothing is awaited between the answer and the write: what is scheduled right behind the answer finds the line there."""
    run = layers(tmp_path, 1)
    found: list[int] = []
    async with running(run.pipeline) as task:
        await run.wire.until(1)
        run.wire.answer(0)
        asyncio.get_running_loop().call_soon(lambda: found.append(run.ledger().succeeded))
        await task
    assert found == [1]
    run.journal.close()


async def test_a_metric_sees_the_answer_before_it(tmp_path: Path) -> None:
    async def ask(sample: Sample, _item: Mapping[str, Any]) -> Response:
        return Response(output=None if sample.item.index == 2 else f"answer {sample.item.index}.{sample.index}")

    async def judge(_sample: Sample, item: Mapping[str, Any]) -> Value:
        return Value(None, f"{item['n']}: {item['answer']!r}")

    results: list[Result] = []
    steps = [
        Step(task=Asking(ask), samples=2, inputs=()),
        Step(task=Asking(judge, "judge", "metric"), samples=2, inputs=["answer"]),
    ]
    await pipeline_of(steps, source=samples(3, 2), sink=results.append).run()
    judged = {result.unit[1:3]: result.outcome.answer for result in results if result.unit.task == "judge"}
    assert judged[1, 1] == Value(None, "1: 'answer 1.1'")
    assert judged[2, 0] == Value(None, "2: ''"), "an empty answer is not the word None"
    assert len(results) == 12


async def test_a_task_of_fewer_samples_runs_only_for_those() -> None:
    async def work(_sample: Sample, _item: Mapping[str, Any]) -> Value:
        return Value(1.0, None)

    results: list[Result] = []
    steps = [
        Step(task=Asking(work, "often"), samples=3, inputs=()),
        Step(task=Asking(work, "once"), samples=1, inputs=()),
    ]
    await pipeline_of(steps, source=samples(2, 3), sink=results.append).run()
    assert sorted((result.unit.task, result.unit.sample_index) for result in results) == sorted(
        [("often", sample) for sample in range(3)] * 2 + [("once", 0)] * 2
    )


# --- what is known already ---


async def test_what_is_known_is_not_asked_and_is_read_by_later_tasks() -> None:
    asked: list[tuple[int, str]] = []

    async def ask(sample: Sample, _item: Mapping[str, Any]) -> Response:
        asked.append((sample.item.index, "answer"))
        return Response(output="new")

    async def judge(sample: Sample, item: Mapping[str, Any]) -> Response:
        asked.append((sample.item.index, "judge"))
        return Response(output=f"judged {item['answer']}")

    def known(item: int, _sample: int, alias: str) -> PriorResult | None:
        return {
            (0, "answer"): PriorResult("old", False),
            (1, "answer"): PriorResult("", False),
            (2, "answer"): PriorResult(None, True),
            (3, "answer"): PriorResult("old", False),
            (3, "judge"): PriorResult("old judgement", False),
        }.get((item, alias))

    results: list[Result] = []
    steps = [
        Step(task=Asking(ask), samples=1, inputs=()),
        Step(task=Asking(judge, "judge"), samples=1, inputs=["answer"]),
    ]
    await pipeline_of(steps, source=samples(5), sink=results.append, concurrency=1, known=known).run()
    assert asked == [(0, "judge"), (1, "judge"), (4, "answer"), (4, "judge")]
    outputs = {(result.unit.item_index, result.unit.task): result.output for result in results}
    assert outputs[0, "judge"] == "judged old"
    assert outputs[4, "judge"] == "judged new"
    (failed,) = [result for result in results if result.failed]
    assert (failed.unit.item_index, failed.unit.task) == (2, "judge")


# --- failures ---


async def test_a_task_whose_input_failed_is_a_failure_of_its_own_and_is_not_run() -> None:
    ran: list[str] = []

    def task(alias: str, *, fails: bool = False) -> Asking:
        async def work(_sample: Sample, _item: Mapping[str, Any]) -> Response | Failure:
            ran.append(alias)
            return Failure(error_type=ErrorType.SERVER, message="500") if fails else Response(output="fine")

        return Asking(work, alias)

    results: list[Result] = []
    steps = [
        Step(task=task("first", fails=True), samples=1, inputs=()),
        Step(task=task("beside"), samples=1, inputs=()),
        Step(task=task("second"), samples=1, inputs=["beside", "first"]),
        Step(task=task("third"), samples=1, inputs=["second"]),
        Step(task=task("fourth"), samples=1, inputs=["beside"]),
    ]
    await pipeline_of(steps, source=samples(1), sink=results.append).run()
    assert ran == ["first", "beside", "fourth"]
    failures = {result.unit.task: result.outcome.answer for result in results if result.failed}
    assert failures["second"] == Failure(error_type=ErrorType.DEPENDENCY, message="its input failed: first")
    assert failures["third"] == Failure(error_type=ErrorType.DEPENDENCY, message="its input failed: second")
    assert {result.unit.task for result in results} == {"first", "beside", "second", "third", "fourth"}


async def test_a_row_that_could_not_be_read_is_one_failure_for_each_task() -> None:
    async def work(_sample: Sample, _item: Mapping[str, Any]) -> Response:
        raise AssertionError("it must not be asked")

    failure = Failure(error_type=ErrorType.DATASET, message="d:1: not JSON")
    item = Item(item_id="d:1", index=0, row={}, place="d:1", failure=failure)
    results: list[Result] = []
    steps = [Step(task=Asking(work, alias), samples=1, inputs=inputs) for alias, inputs in (("a", ()), ("b", ("a",)))]
    await pipeline_of(steps, source=iter([Sample(item, 0)]), sink=results.append).run()
    assert [result.outcome.answer for result in results] == [failure, failure]


async def test_an_unexpected_exception_costs_one_row(caplog: pytest.LogCaptureFixture) -> None:
    async def work(sample: Sample, _item: Mapping[str, Any]) -> Response:
        if sample.item.index == 3:
            raise ZeroDivisionError("a bug")
        return Response(output="fine")

    results: list[Result] = []
    with caplog.at_level(logging.ERROR):
        await pipeline_of(only(Asking(work)), source=samples(8), sink=results.append, concurrency=2).run()
    assert len(results) == 8
    (failed,) = [result for result in results if result.failed]
    assert failed.unit.item_index == 3
    assert isinstance(failed.outcome.answer, Failure)
    assert failed.outcome.answer.message == "d:4: unexpected ZeroDivisionError: a bug"
    assert "ZeroDivisionError: a bug" in caplog.text


async def test_when_results_can_no_longer_be_kept_nothing_more_is_sent(tmp_path: Path) -> None:
    run = layers(tmp_path, 20, concurrency=3)
    kept = run.pipeline.sink

    def sink(result: Result) -> None:
        if result.unit.item_index == 1:
            raise StorageError("the disk is full")
        kept(result)

    run.pipeline.sink = sink
    async with running(run.pipeline) as task:
        await run.wire.until(3)
        run.wire.answer(1)
        await turns()
        assert sorted(run.wire.sent) == [0, 1, 2]
        run.wire.answer(0)
        run.wire.answer(2)
        with pytest.raises(StorageError, match="the disk is full"):
            await task
    assert indexes(run.results) == [0, 2], "what was in flight is kept if it still can be"
    assert sorted(run.wire.sent) == [0, 1, 2]
    run.journal.close()


@pytest.mark.parametrize("part", ["sink", "source", "known"])
async def test_a_bug_outside_the_tasks_ends_the_run_instead_of_wearing_its_workers_down(tmp_path: Path, part: str) -> None:
    run = layers(tmp_path, 20, concurrency=3)

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    def broken_source() -> Iterator[Sample]:
        yield from samples(3)
        raise ZeroDivisionError("a bug")

    if part == "sink":
        run.pipeline.sink = broken
    elif part == "source":
        run.pipeline.samples = broken_source()
    else:
        known = run.pipeline.known
        run.pipeline.known = lambda *unit: broken() if unit[0] == 3 else known(*unit)
    async with running(run.pipeline) as task:
        await run.wire.until(3)
        run.wire.answer(0)
        await turns()
        assert sorted(run.wire.sent) == [0, 1, 2], "nothing more is sent"
        for index in list(run.wire.waiting):
            run.wire.answer(index)
        with pytest.raises(ZeroDivisionError):
            await task
    assert run.pipeline.stopped is not None
    run.journal.close()


async def test_workers_that_wait_for_a_row_ask_for_it_once_it_is_there(tmp_path: Path) -> None:
    run, there, times = layers(tmp_path, 5, concurrency=3), asyncio.Event(), 0
    source = run.pipeline.samples

    def late() -> Iterator[Sample | None]:
        nonlocal times
        while not there.is_set():
            times += 1
            yield None
        yield from source

    async def idle() -> None:
        await there.wait()

    run.pipeline.samples, run.pipeline.idle = late(), idle
    async with running(run.pipeline) as task:
        await turns()
        assert times == 3
        there.set()
        for index in range(5):
            await until(partial(run.wire.waiting.__contains__, index))
            run.wire.answer(index)
        await task
    assert indexes(run.results) == list(range(5))
    run.journal.close()


# --- ends ---


async def test_a_drain_lets_what_is_in_flight_finish_and_leaves_the_rest(tmp_path: Path) -> None:
    run = layers(tmp_path, 20, concurrency=3)
    source = run.pipeline.samples
    async with running(run.pipeline) as task:
        await run.wire.until(3)
        run.pipeline.drain("stopped by SIGINT")
        await turns()
        assert not task.done()
        for index in (2, 0, 1):
            run.wire.answer(index)
        await task
    assert indexes(run.results) == [2, 0, 1]
    assert run.wire.sent == [0, 1, 2]
    assert run.pipeline.stopped == "stopped by SIGINT"
    assert len(list(source)) >= 14, "the rest of the dataset is not even read"
    run.journal.close()
    assert run.ledger().in_flight == 0


async def test_a_drain_makes_no_second_attempt_and_leaves_the_row_pending(tmp_path: Path) -> None:
    run = layers(tmp_path, 20, concurrency=2)
    async with running(run.pipeline) as task:
        await run.wire.until(2)
        run.pipeline.drain("stopped by SIGINT")
        run.wire.fail(0, retry=True)
        run.wire.fail(1, retry=False)
        await task
    assert run.results == []
    assert run.wire.sent == [0, 1]
    run.journal.close()
    assert run.ledger().in_flight == 0, "both are known to have failed, so neither can be paid twice"


async def test_a_drain_ends_back_offs_at_once(tmp_path: Path) -> None:
    sleeping = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        sleeping.set()
        await asyncio.Event().wait()

    run = layers(tmp_path, 20, concurrency=2, sleep=sleep)
    async with running(run.pipeline) as task:
        await run.wire.until(2)
        run.wire.fail(0, retry=True)
        await sleeping.wait()
        await until(lambda: 2 in run.wire.waiting)  # another row has taken its place
        run.pipeline.drain("stopped by SIGINT")
        run.wire.answer(1)
        run.wire.answer(2)
        await task
    assert indexes(run.results) == [1, 2]
    run.journal.close()


async def test_a_drain_sends_nothing_that_waits_for_its_turn(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    gate = RateLimiter(sleep=sleep)
    gate.rate_limited(time.monotonic(), 60)
    run = layers(tmp_path, 20, concurrency=4, gate=gate)
    async with running(run.pipeline) as task:
        await waiting.wait()
        run.pipeline.drain("stopped by SIGINT")
        await task
    assert (run.wire.sent, run.results) == ([], [])
    run.journal.close()
    assert run.ledger().in_flight == 0


async def test_a_drain_before_the_start_sends_nothing(tmp_path: Path) -> None:
    run = layers(tmp_path, 20)
    run.pipeline.drain("stopped by SIGINT")
    await run.pipeline.run()
    assert (run.wire.sent, run.results) == ([], [])
    run.journal.close()


async def test_a_drain_between_two_tasks_of_a_row_leaves_the_second_pending() -> None:
    async def ask(_sample: Sample, _item: Mapping[str, Any]) -> Response:
        return Response(output="fine")

    results: list[Result] = []
    steps = [Step(task=Asking(ask, alias), samples=1, inputs=()) for alias in ("first", "second")]

    def sink(result: Result) -> None:
        results.append(result)
        pipeline.drain("enough")

    pipeline = pipeline_of(steps, source=samples(3), sink=sink, concurrency=1)
    await pipeline.run()
    assert [result.unit.task for result in results] == ["first"]


async def test_the_first_reason_to_stop_is_the_one_that_is_told(tmp_path: Path) -> None:
    run = layers(tmp_path, 3)
    run.pipeline.drain("quota")
    run.pipeline.drain("stopped by SIGINT")
    assert run.pipeline.stopped == "quota"
    run.journal.close()


async def test_a_drop_ends_at_once_and_keeps_what_was_answered(tmp_path: Path) -> None:
    run = layers(tmp_path, 20, concurrency=3)
    async with running(run.pipeline) as task:
        await run.wire.until(3)
        run.wire.answer(1)
        await turns()
        assert len(run.wire.waiting) == 3
        run.pipeline.drain("stopped by SIGINT")
        run.pipeline.drop()
        await task
    assert indexes(run.results) == [1]
    assert run.wire.waiting == {}
    run.journal.close()
    assert run.ledger().in_flight == 3


async def test_a_run_that_stops_itself_drains_and_charges_no_row(tmp_path: Path) -> None:
    run = layers(tmp_path, 20, concurrency=3)
    async with running(run.pipeline) as task:
        await run.wire.until(3)
        failure = Failure(error_type=ErrorType.QUOTA, message="402 Payment Required", status_code=402)
        run.wire.waiting[1].set_exception(AttemptError(failure, retry=False, stops_run="always"))
        await turns()
        run.wire.answer(0)
        run.wire.answer(2)
        await task
    assert indexes(run.results) == [0, 2]
    assert run.wire.sent == [0, 1, 2]
    assert run.pipeline.stopped == "402 Payment Required"
    run.journal.close()


async def test_a_cancelled_run_leaves_no_task_behind(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    run = layers(tmp_path, 20, concurrency=3)
    async with running(run.pipeline):
        await run.wire.until(3)
    await turns()
    assert asyncio.all_tasks() == before
    run.journal.close()


async def test_watching_counts_only_what_is_on_the_wire() -> None:
    in_flight, wire = InFlight(), Wire()
    request = Request(unit=unit_of(next(samples(1)), "answer"), path="/x", model="m", content=b"{}", shown="{}", stream=False)
    task = asyncio.create_task(send_as_task(in_flight.watch(wire.send), Attempt(request, 1)))
    await wire.until(1)
    assert len(in_flight.workers) == 1
    wire.answer(0)
    await task
    assert in_flight.workers == set()
    in_flight.closed = True
    with pytest.raises(RunStopped):
        await in_flight.watch(wire.send)(Attempt(request, 1))
    assert wire.sent == [0]


async def send_as_task(send: Send, attempt: Attempt) -> Response:
    return await send(attempt)


async def test_a_run_that_the_endpoint_stops_does_not_wait_for_it_for_long(tmp_path: Path) -> None:
    run = layers(tmp_path, 20, concurrency=4)
    run.pipeline.drain_s = 0.05
    async with running(run.pipeline) as task:
        await run.wire.until(4)
        run.wire.use_up_the_quota(1)
        await turns()
        assert not task.done()
        run.wire.answer(2)
        await asyncio.wait_for(asyncio.shield(task), 20)
    assert indexes(run.results) == [2], "what is dropped is pending and no error"
    assert sorted(run.wire.sent) == [0, 1, 2, 3]
    assert run.pipeline.stopped == "402 Payment Required"
    run.journal.close()
    assert run.ledger().in_flight == 2


async def test_a_run_that_has_spent_enough_waits_for_what_is_paid(tmp_path: Path) -> None:
    run = layers(tmp_path, 20, concurrency=3)
    run.pipeline.drain_s = 0.0
    kept = run.pipeline.sink

    def sink(result: Result) -> None:
        kept(result)
        raise RunStopped("100 tokens are used of 100", hurry=False)

    run.pipeline.sink = sink
    async with running(run.pipeline) as task:
        await run.wire.until(3)
        run.wire.answer(1)
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(run.pipeline.drain_s, later.set)
        await later.wait()
        await turns()
        assert sorted(run.wire.waiting) == [0, 2], "nothing more is sent, and nothing dropped"
        run.wire.answer(2)
        run.wire.answer(0)
        await task
    assert indexes(run.results) == [1, 2, 0]
    assert run.pipeline.stopped == "100 tokens are used of 100"
    run.journal.close()


async def test_a_signal_ends_the_wait_of_a_run_that_has_spent_enough(tmp_path: Path) -> None:
    run = layers(tmp_path, 20, concurrency=3)
    async with running(run.pipeline) as task:
        await run.wire.until(3)
        run.pipeline.stop("100 tokens are used of 100", hurry=False)
        run.pipeline.drain("stopped by SIGTERM", within=0.0)
        await asyncio.wait_for(asyncio.shield(task), 20)
    assert run.pipeline.stopped == "100 tokens are used of 100"
    run.journal.close()
    assert run.ledger().in_flight == 3


async def test_what_is_met_while_a_run_ends_does_not_hurry_it(tmp_path: Path) -> None:
    run = layers(tmp_path, 20, concurrency=3)
    run.pipeline.drain_s = 0.0
    async with running(run.pipeline) as task:
        await run.wire.until(3)
        run.pipeline.stop("100 tokens are used of 100", hurry=False)
        run.wire.use_up_the_quota(1)
        await until(lambda: len(run.wire.waiting) == 2)
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(0, later.set)
        await later.wait()
        await turns()
        run.wire.answer(0)
        run.wire.answer(2)
        await task
    assert sorted(indexes(run.results)) == [0, 2]
    run.journal.close()


async def test_what_does_not_finish_in_its_time_is_dropped_by_a_drain(tmp_path: Path) -> None:
    run = layers(tmp_path, 20, concurrency=3)
    async with running(run.pipeline) as task:
        await run.wire.until(3)
        run.wire.answer(1)
        await turns()
        run.pipeline.drain("stopped by SIGTERM", within=0.05)
        await turns()
        assert not task.done()
        run.wire.answer(0)
        await asyncio.wait_for(asyncio.shield(task), 20)
    assert indexes(run.results) == [1, 0]
    run.journal.close()
    assert run.ledger().in_flight == 2


# --- rows that wait aside ---


@dataclass
class Aside:
    """A task whose rows step aside until they are let go; all others wait for nobody."""

    pipeline: Pipeline = field(init=False)
    rows: dict[int, asyncio.Event] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    most_at_work: int = 0
    at_work: int = 0

    async def work(self, sample: Sample, _item: Mapping[str, Any]) -> Value:
        index = sample.item.index
        if (let_go := self.rows.get(index)) is not None:
            self.waiting.add(index)
            with self.pipeline.aside():
                await let_go.wait()
            self.waiting.discard(index)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await asyncio.sleep(0)
        self.at_work -= 1
        return Value(1.0, None)


def with_asides(count: int, concurrency: int, *rows: int) -> tuple[Aside, list[Result]]:
    aside, results = Aside(rows={row: asyncio.Event() for row in rows}), list[Result]()
    aside.pipeline = pipeline_of(only(Asking(aside.work)), source=samples(count), sink=results.append, concurrency=concurrency)
    return aside, results


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_the_place_of_a_row_that_waits_aside_goes_to_another(concurrency: int) -> None:
    aside, results = with_asides(30, concurrency, 0, 1, 2, 3, 4)
    async with running(aside.pipeline) as task:
        await until(lambda: len(results) == 25)
        await turns()
        assert (aside.waiting, task.done()) == ({0, 1, 2, 3, 4}, False)
        for let_go in aside.rows.values():
            let_go.set()
        await asyncio.wait_for(asyncio.shield(task), 20)
    assert sorted(indexes(results)) == list(range(30))


async def test_a_row_that_is_back_does_not_make_the_workers_more_for_good() -> None:
    aside, results = with_asides(200, 2, *range(0, 40, 2))
    async with running(aside.pipeline) as task:
        while len(results) < 60:
            await asyncio.sleep(0)
            for row in list(aside.waiting):
                aside.rows[row].set()
        aside.most_at_work = 0
        await asyncio.wait_for(asyncio.shield(task), 20)
    assert len(results) == 200
    assert aside.most_at_work == 2


async def test_rows_that_are_back_do_not_make_the_workers_more_and_more() -> None:
    """No worker is done with its row, and each row steps aside again and again: for its time, and to hear of others."""
    let_go, results, begun = asyncio.Event(), list[Result](), 0

    async def work(_sample: Sample, _item: Mapping[str, Any]) -> Value:
        nonlocal begun
        begun += 1
        for _ in range(3):
            with pipeline.aside():
                await asyncio.sleep(0)
        await let_go.wait()
        return Value(1.0, None)

    pipeline = pipeline_of(only(Asking(work)), source=samples(60), sink=results.append, concurrency=2)
    async with running(pipeline) as task:
        await turns(200)
        assert begun < 20
        let_go.set()
        await asyncio.wait_for(asyncio.shield(task), 20)
    assert len(results) == 60


async def test_no_more_rows_are_taken_than_may_wait_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the memory would grow with the dataset, where most rows fail."""
    monkeypatch.setattr(runner.pipeline.pipeline, "_MOST_ASIDE", 5)
    aside, results = with_asides(40, 2, *range(20))
    async with running(aside.pipeline) as task:
        await until(lambda: len(aside.waiting) == 7)
        await turns()
        assert (aside.waiting, aside.pipeline.has_fresh()) == (set(range(7)), False)
        for let_go in aside.rows.values():
            let_go.set()
        await asyncio.wait_for(asyncio.shield(task), 20)
    assert len(results) == 40


async def test_a_drain_leaves_those_aside_pending() -> None:
    aside, results = with_asides(5, 1, 0, 4)
    async with running(aside.pipeline) as task:
        await until(lambda: len(results) == 3)
        aside.pipeline.drain("enough")
        await asyncio.wait_for(asyncio.shield(task), 20)
    assert sorted(indexes(results)) == [1, 2, 3]


async def test_the_first_attempts_wait_before_the_gate_not_behind_it(tmp_path: Path) -> None:
    """Whoever has had its turn already would be sent during the pause that the first answer asks for."""
    paused = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        paused.set()
        await asyncio.Event().wait()

    run = layers(tmp_path, 40, concurrency=32, gate=RateLimiter(sleep=sleep))
    async with running(run.pipeline):
        await run.wire.until(8)
        failure = Failure(error_type=ErrorType.RATE_LIMIT, message="429", status_code=429, retry_after_s=30.0)
        run.wire.waiting[3].set_exception(AttemptError(failure, retry=True))
        await asyncio.wait_for(paused.wait(), 20)
        await turns()
        assert len(run.wire.sent) == 8
    run.journal.close()


# --- what was answered is judged, however the run ends ---


@dataclass
class Judging:
    """An answer and what judges it, which waits for `go_on`; results as they come."""

    asks: Callable[[Sample], Awaitable[Answer]]
    in_flight: InFlight = field(default_factory=InFlight)
    judging: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    results: list[str] = field(default_factory=list)
    #: What the sink does with each result beside keeping it.
    after: Callable[[Result], None] = lambda _result: None

    def pipeline(self, count: int) -> Pipeline:
        async def ask(sample: Sample, _row: Mapping[str, Any]) -> Answer:
            return await self.asks(sample)

        async def judge(_sample: Sample, row: Mapping[str, Any]) -> Answer:
            self.judging.set()
            await self.go_on.wait()
            return Value(value=1.0, output=str(row["answer"]))

        def keep(result: Result) -> None:
            self.results.append(f"{result.unit.task} {result.unit.item_index}")
            self.after(result)

        steps = [
            Step(task=Asking(ask), samples=1, inputs=()),
            Step(task=Asking(judge, alias="score", task_type="metric"), samples=1, inputs=["answer"], judges=True),
            Step(task=Asking(ask, alias="next"), samples=1, inputs=["answer"]),
            Step(task=Asking(judge, alias="of the next", task_type="metric"), samples=1, inputs=["next"], judges=True),
        ]
        return pipeline_of(steps, source=samples(count), sink=keep, concurrency=1)


async def answered(sample: Sample) -> Answer:
    return Response(output=f"answer {sample.item.index}")


@pytest.mark.parametrize("end", [lambda one: one.drain("a signal"), lambda one: (one.drain("a signal"), one.drop())])
async def test_what_is_being_judged_when_a_signal_comes_is_judged(end: Callable[[Pipeline], Any]) -> None:
    judging = Judging(answered)
    pipeline = judging.pipeline(3)
    async with running(pipeline) as run:
        await judging.judging.wait()
        end(pipeline)
        await turns()
        judging.go_on.set()
        await asyncio.wait_for(run, 20)
    assert judging.results == ["answer 0", "score 0"]


async def test_what_was_answered_is_judged_where_its_result_ends_the_run() -> None:
    def enough(result: Result) -> None:
        if result.unit.task == "answer" and result.unit.item_index == 1:
            raise RunStopped("enough was spent", hurry=False)

    judging = Judging(answered, after=enough)
    judging.go_on.set()
    pipeline = judging.pipeline(3)
    await asyncio.wait_for(pipeline.run(), 20)
    assert pipeline.stopped == "enough was spent"
    assert judging.results == ["answer 0", "score 0", "next 0", "of the next 0", "answer 1", "score 1"]


async def test_nothing_is_judged_that_was_not_answered() -> None:
    async def ask(sample: Sample) -> Answer:
        if sample.item.index == 1:
            raise RunStopped("refused")
        return await answered(sample)

    judging = Judging(ask)
    judging.go_on.set()
    await asyncio.wait_for(judging.pipeline(3).run(), 20)
    assert judging.results == ["answer 0", "score 0", "next 0", "of the next 0"]
