"""The order in which rows are asked: which one is next, that none is lost or asked twice, and what it is good for."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import signal
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import runner
from runner.config.loading import load_config
from runner.config.model import Config
from runner.datasets import open_dataset
from runner.datasets.rows import bytes_of
from runner.errors import ConfigError, DatasetReadError
from runner.pipeline import order
from runner.pipeline.order import order_of, ordered_by
from runner.pipeline.rehearsal import NoCalls, send_nothing
from runner.pipeline.steps import build_steps
from runner.scale.beat import Lease
from runner.scale.leased import Leased
from runner.types import Blob, Item, Unit
from tests.commands import PATIENCE_S, Holding, Project, ask, asked
from tests.serving import Served, chat_answer

# --- which row is next ---


def item(index: int, row: Mapping[str, Any] | None = None) -> Item:
    return Item(item_id=str(index), index=index, row=row or {}, place=f"rows:{index + 1}")


class Reading:
    """Items of so many keys, with gaps where nothing is at hand; what was read and not yet handed out is `held`."""

    def __init__(self, keys: Sequence[int | None]) -> None:
        self.keys = keys
        self.held: list[Item] = []
        self.most_held = 0

    def __iter__(self) -> Iterator[Item | None]:
        for index, key in enumerate(self.keys):
            if key is not None:
                self.held.append(item(index))
                self.most_held = max(self.most_held, len(self.held))
            yield None if key is None else self.held[-1]

    def key_of(self, one: Item) -> int:
        key = self.keys[one.index]
        assert key is not None
        return key


KEYS = st.lists(st.none() | st.integers(0, 9), max_size=60)


@given(KEYS, st.integers(1, 20))
def test_of_those_at_hand_the_one_with_the_least_key_is_next_and_the_first_of_equals(
    keys: Sequence[int | None], most: int
) -> None:
    reading = Reading(keys)
    found = []
    for one in ordered_by(reading.key_of, iter(reading), most=most):
        if one is None:
            assert not reading.held, "somebody waits although a row is at hand"
            continue
        assert one is min(reading.held, key=lambda held: (reading.key_of(held), held.index))
        reading.held.remove(one)
        found.append(one.index)
    assert sorted(found) == [index for index, key in enumerate(keys) if key is not None]
    assert reading.most_held <= most


@given(KEYS, st.integers(1, 20))
def test_rounds_go_through_the_keys_from_the_least_to_the_largest(keys: Sequence[int | None], most: int) -> None:
    reading = Reading(keys)
    found: list[Item] = []
    for one in ordered_by(reading.key_of, iter(reading), in_rounds=True, most=most):
        if one is None:
            continue
        if found and reading.key_of(one) < (last := reading.key_of(found[-1])):
            assert all(reading.key_of(held) < last for held in reading.held), "a round has left one out"
        reading.held.remove(one)
        found.append(one)
    assert sorted(one.index for one in found) == [index for index, key in enumerate(keys) if key is not None]
    assert reading.most_held <= most


def test_the_first_requests_wait_for_few_rows_and_large_rows_are_not_heaped_up(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading(range(5000))
    rows = ordered_by(reading.key_of, iter(reading))
    next(rows)
    assert len(reading.held) <= 100
    monkeypatch.setattr(order, "_MOST_BYTES", 10_000)
    reading = Reading(range(300))
    large = (one and item(one.index, {"text": ["x" * 3000]}) for one in reading)
    for one in ordered_by(reading.key_of, large):
        assert one is not None
        reading.held = [held for held in reading.held if held.index != one.index]
    assert reading.most_held <= 5
    assert reading.held == []


def test_what_a_row_takes_is_counted_at_whatever_depth() -> None:
    nested: list[Any] = ["x" * 1000]
    for _ in range(100_000):
        nested = [nested]
    assert bytes_of({"messages": [{"content": "x" * 1000}], "picture": Blob(b"y" * 1000), "n": 7}) in range(2000, 2500)
    assert bytes_of({"deep": nested}) > 1000


# --- what is known of a row's requests ---


def config_of(order: str, *tasks: Mapping[str, Any], **dataset: Any) -> Config:
    document = {
        "name": "trial",
        "dataset": {"data": [{"text": "a", "most": 1}]} | dataset,
        "endpoint": {"base_url": "http://127.0.0.1:1/v1"},
        "tasks": list(tasks) or [ask(content="{{item.text}}")],
        "limits": {"order": order},
    }
    return load_config(document)[0]


def arranged(config: Config, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    items = order_of(config)(item(index, row) for index, row in enumerate(rows))
    return [one.index for one in items if one is not None]


def longest_first(config: Config, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the order of the rows behind a first one, which is the first."""
    first, *others = arranged(config, [{"text": "first", "most": 1, "picture": "file:first.png"}, *rows])
    assert first == 0
    return [index - 1 for index in others]


CHAT = {"model": "m", "messages": [{"role": "user", "content": "{{item.text}}"}]}
PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "{{item.picture}}"}}]}]


@pytest.mark.parametrize(
    ("tasks", "rows", "expected"),
    [
        ([], [{"text": "a" * length} for length in (10, 900, 90, 9000)], [3, 1, 2, 0]),
        ([], [{"text": "a", "notes": "n" * 900}, {"text": "aaaaaa"}], [1, 0]),  # what is not sent takes no time
        ([], [{"text": "a"}, {"else": "cannot be rendered"}, {"text": "b" * 90}], [2, 0, 1]),
        (
            [ask(configuration=CHAT | {"max_tokens": "item.most"})],
            [{"text": "a" * 90, "most": 10}, {"text": "a", "most": 500}, {"text": "a", "most": 20}],
            [1, 0, 2],
        ),
        (  # base64 is no text, and a picture that is not there is not missed
            [ask(configuration={"messages": PICTURE}), ask("more", "{{item.text}}")],
            [{"picture": f"data:image/png;base64,{'A' * 90000}", "text": "a"}, {"picture": "file:x.png", "text": "a" * 90}],
            [1, 0],
        ),
        ([ask("first", "say hi"), ask("second", "{{item.text}}")], [{"text": "a"}, {"text": "a" * 90}], [1, 0]),
        (
            [{"task_type": "embedding", "alias": "vector", "configuration": {"model": "m", "input": "{{item.text}}"}}],
            [{"text": "a"}, {"text": "a" * 90}],
            [1, 0],
        ),
        ([{"task_type": "metric", "configuration": {"type": "exact_match", "candidate": "item.text", "reference": "a"}}],
         [{"text": "a"}, {"text": "a" * 90}], [0, 1]),
    ],
)  # fmt: skip
def test_the_row_whose_requests_have_the_most_tokens_is_first(
    tasks: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], expected: Sequence[int]
) -> None:
    assert longest_first(config_of("longest_first", *tasks), rows) == expected
    assert arranged(config_of("as_is", *tasks), rows) == list(range(len(rows)))


def test_it_is_the_number_of_tokens_that_limits_count_by() -> None:
    config = config_of("longest_first", ask(configuration=CHAT | {"max_tokens": 50, "n": 2}))
    (step,) = build_steps(config, send_nothing, NoCalls())
    task: Any = step.task
    row = {"text": "a" * 4000}
    request = task.render(Unit("a", 0, 0, "answer"), row)
    assert request.token_estimate >= task.foreseen(row).tokens >= 0.95 * request.token_estimate


def test_rows_that_begin_alike_follow_each_other_also_where_a_part_of_the_beginning_is_shared() -> None:
    draw = random.Random(3)
    names = [(document, example, question) for document in "abcd" for example in "xyz" for question in range(5)]
    draw.shuffle(names)
    rows = [{"document": d * 50, "example": e * 50, "text": str(q)} for d, e, q in names]
    messages = [{"role": role, "content": f"{{{{item.{key}}}}}"} for role, key in
                (("system", "document"), ("assistant", "example"), ("user", "text"))]  # fmt: skip
    found = [names[index] for index in arranged(config_of("prefix", ask(configuration={"messages": messages})), rows)]
    assert len(list(groupby(document for document, _, _ in found))) == 4
    assert len(list(groupby((document, example) for document, example, _ in found))) == 12


def test_a_shuffle_that_would_be_undone_is_a_mistake_and_one_that_draws_rows_is_none() -> None:
    for order_ in ("longest_first", "prefix"):
        with pytest.raises(ConfigError, match=r"limits.order: '\w+' would undo the order that `dataset.shuffle` draws"):
            config_of(order_, shuffle=7)
        assert config_of(order_, shuffle=7, limit=1).limits.order == order_
    assert config_of("as_is", shuffle=7).dataset.shuffle == 7


# --- runs ---


def of_lengths(count: int) -> list[dict[str, Any]]:
    draw = random.Random(11)
    return [{"id": f"row-{n}", "question": f"{n} {'x' * int(draw.lognormvariate(5, 1))}"} for n in range(count)]


def is_longest_first(texts: Sequence[str]) -> bool:
    """Whether no text behind the first one, which is the first, is a token shorter than the next; of four letters each."""
    return all(len(one) > len(following) - 4 for one, following in pairwise(texts[1:]))


def questions_of(served: Served) -> list[str]:
    return [str(request.body["messages"][-1]["content"]) for request in served.seen]


def test_the_samples_of_an_item_follow_each_other_the_longest_item_first_and_files_have_the_order_of_the_dataset(
    tmp_path: Path,
) -> None:
    rows = of_lengths(15)
    with Served() as served:
        for order_, more in (("as_is", {}), ("longest_first", {}), ("longest_first", {"limit": 6, "shuffle": 5})):
            limits = {"concurrency": 1, "order": order_}
            project = Project(tmp_path / f"{order_}{len(more)}", served.url, rows=rows, limits=limits)
            project.more = {"dataset": {"path": str(project.dataset), "id": "id"} | more}
            project.tasks = [ask(samples=2)]
            project.write()
            del served.seen[:]
            assert project.run_here().returncode == 0
            sent = questions_of(served)
            items = [question for question, _ in groupby(sent)]
            assert len(sent) == 2 * len(items) == 2 * (6 if more else 15)
            assert len(set(items)) == len(items)
            if order_ == "as_is":
                assert items == [row["question"] for row in rows]
            else:
                assert is_longest_first(items)
            indexes = [row["item_index"] for row in project.results()]
            assert indexes == sorted(indexes)
            if more:
                drawn = list(range(15))
                random.Random(5).shuffle(drawn)
                assert set(indexes) == set(drawn[:6]), "a limit takes the same rows whatever the order"


@pytest.mark.long
def test_nothing_is_lost_or_asked_twice_where_a_run_is_killed_and_goes_on_in_another_order(tmp_path: Path) -> None:
    rows, holding = of_lengths(60), Holding(at_once=25)
    with holding.served() as served:
        project = Project(tmp_path, served.url, rows=rows, limits={"concurrency": 4, "order": "longest_first"})
        with project.started() as process:
            holding.wait_for(4)
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE_S)
        holding.release()
        kept = set(runner.load(project.run_dir).results["item_id"])
        begun = asked(served.seen)
        shortest = sorted(rows, key=lambda row: len(row["question"]))[:20]
        assert not begun.keys() & {row["question"] for row in shortest}, "the longest were not first"
        del served.seen[:]
        project.limits = {"concurrency": 4, "order": "prefix"}
        project.write()
        done = project.run_here("--resume")
        assert done.returncode == 0, done.stdout + done.stderr
        again = asked(served.seen)
    assert len(kept) >= 25 - 4
    assert again == Counter(row["question"] for row in rows if row["id"] not in kept)
    assert [row["item_id"] for row in project.results()] == [row["id"] for row in rows]


def test_a_worker_orders_the_rows_of_all_leases_that_it_has_at_hand() -> None:
    rows = [{"text": row["question"]} for row in of_lengths(12)]
    dataset = open_dataset(data=rows)
    leased = Leased(
        dataset,
        config_of("longest_first", ask(content="{{item.text}}", samples=2)),
        2,
        lambda: None,
        journal=Path(),
    )
    for lease in (Lease([(0, 5)]), Lease([(5, 7), (8, 12)])):
        leased.add(lease)
    leased.close()
    samples = [(sample.item.index, sample.index) for sample in leased if sample is not None]
    indexes = [index for index, _ in samples[::2]]
    assert samples == [(index, sample) for index in indexes for sample in (0, 1)]
    assert sorted(indexes) == [*range(7), *range(8, 12)]
    assert is_longest_first([rows[index]["text"] for index in indexes])


def test_what_can_be_read_of_a_damaged_file_is_asked(tmp_path: Path) -> None:
    draw = random.Random(2)  # what cannot be compressed is read as far as it is there
    rows = [{"id": f"row-{n}", "question": draw.randbytes(1000).hex()} for n in range(150)]
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    readable = [one.item_id for one in up_to_the_damage(path)]
    assert 30 < len(readable) < 150
    with Served() as served:
        project = Project(tmp_path / "p", served.url)
        project.more = {"dataset": {"path": str(path), "id": "id"}}
        project.limits = {"concurrency": 16, "order": "longest_first"}
        project.write()
        stopped = project.run_here()
    assert stopped.returncode == 3, stopped.stderr
    assert [row["item_id"] for row in project.results()] == readable


def up_to_the_damage(path: Path) -> Iterator[Item]:
    """Yield the rows of a file up to where it cannot be read on."""
    with suppress(DatasetReadError):
        yield from open_dataset(path=[str(path)], id_column="id")


# --- what it is good for ---


class Prefixes:
    """A server that knows the last few prompts up to their last message."""

    def __init__(self, size: int) -> None:
        self.hits = 0
        self._size, self._known = size, OrderedDict[str, bool]()

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        key = json.dumps(body["messages"][:-1])
        self.hits += key in self._known
        self._known[key] = True
        self._known.move_to_end(key)
        if len(self._known) > self._size:
            self._known.popitem(last=False)
        await asyncio.sleep(0.001)
        return web.json_response(chat_answer())


@pytest.mark.parametrize("servers", [1, 2])
def test_a_servers_cache_of_prefixes_is_of_use_where_rows_that_begin_alike_follow_each_other(
    tmp_path: Path, servers: int
) -> None:
    rows = [
        {"id": f"{topic}-{number}", "topic": f"You know all of {topic}.", "question": f"question {number}"}
        for number in range(10)
        for topic in range(12)
    ]
    messages = [{"role": "system", "content": "{{item.topic}}"}, {"role": "user", "content": "{{item.question}}"}]
    hits = {}
    for order_ in ("as_is", "prefix"):
        caches = [Prefixes(4) for _ in range(servers)]
        with ExitStack() as stack:
            urls: Any = [stack.enter_context(Served(cache.answer)).url for cache in caches]
            project = Project(tmp_path / order_, "", rows=rows, limits={"concurrency": 4, "order": order_})
            project.more = {"endpoint": {"base_url": urls if servers > 1 else urls[0], "affinity": "prefix"}}
            project.tasks = [ask(configuration={"messages": messages})]
            project.write()
            assert project.run_here().returncode == 0
            hits[order_] = sum(cache.hits for cache in caches)
    # Each server reads each beginning once, and has it from then on.
    assert hits["prefix"] >= len(rows) - 12 * servers
    assert hits["as_is"] <= len(rows) // 2
