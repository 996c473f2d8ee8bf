"""Datasets that are elsewhere: against real servers of each protocol on this machine, with kills and broken connections."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web

from runner.config.credentials import brought_in
from runner.config.model import Config
from runner.datasets import Dataset, open_dataset, remote
from runner.errors import DatasetError, RunStopped
from runner.pipeline.beginning import Begun
from runner.pipeline.read_ahead import read_ahead
from runner.scale.shares import stamps_of
from runner.types import Item
from tests.commands import PATIENCE_S, Project, ask, asked, questions
from tests.serving import Answer, Served, chat_answer
from tests.stores import COMMIT, Buckets, Hub, Website, etag_of, jsonl
from tests.trials import run

pytest.importorskip("fsspec")

#: What no file, log or message may hold.
CANARY = "canary0123456789signature"
AWS = {
    "AWS_ACCESS_KEY_ID": "testing-canary-key",
    "AWS_SECRET_ACCESS_KEY": "testing-canary-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what breaks be asked again at once."""
    monkeypatch.setattr(remote, "_PAUSES_S", (0.01,) * 4)


def root_of(served: Served) -> str:
    return served.url.removesuffix("/v1")


def opened(*paths: str, **options: Any) -> Dataset:
    return open_dataset(path=paths, **{"id_column": "id"} | options)


def known(dataset: Dataset) -> list[tuple[str, int, Any, Any]]:
    """Return what items are, but for where they come from."""
    return [(item.item_id.rpartition("/")[2], item.index, item.row, item.failure is None) for item in dataset]


def elsewhere(folder: Path, url: str, path: str | Sequence[str], **more: Any) -> Project:
    """Return a project whose dataset is elsewhere."""
    limits = {"concurrency": 4, "give_up_after": 10}
    return Project(folder, url, more={"dataset": {"path": path, "id": "id"}}, limits=limits, **more)


def written(folder: Path) -> str:
    """Return all that a run has left behind."""
    files = [path for path in (folder / "results").rglob("*") if path.is_file() and not path.is_symlink()]
    texts = [str(pq.read_table(path).to_pylist()) for path in files if path.suffix == ".parquet"]
    return "\n".join([*texts, *(path.read_bytes().decode(errors="replace") for path in files)])


@dataclass
class S3:
    """An S3 server with one bucket."""

    url: str
    client: Any

    def put(self, key: str, content: bytes) -> str:
        """Put an object into the bucket; return its ETag."""
        return str(self.client.put_object(Bucket="bucket", Key=key, Body=content)["ETag"])

    @property
    def environment(self) -> dict[str, str]:
        return {**AWS, "AWS_ENDPOINT_URL": self.url}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    pytest.importorskip("flask_cors")
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **keys)
    client.create_bucket(Bucket="bucket")
    try:
        yield S3(url, client)
    finally:
        client.close()
        server.stop()


def long(count: int) -> list[dict[str, Any]]:
    """Return rows of more than a kilobyte: the first range of their file has about a hundred."""
    return [{**row, "text": "x" * 1100} for row in questions(count)]


def in_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.long
def test_objects_are_read_as_files_are(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every format and compression, globs and lists: the same items as of the same files here."""
    in_environment(monkeypatch, s3.environment)
    rows = questions(600)
    table, parquet, arrow = pa.Table.from_pylist(rows), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet, row_group_size=250)
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    cells = "".join(f"{row['id']},{row['question']}\n" for row in rows)
    contents = {
        "a.jsonl": jsonl(rows) + b"{broken\n",
        "b 1.jsonl.gz": gzip.compress(jsonl(rows)),
        "b 2.jsonl.zst": _zstd(jsonl(rows)),
        "b 3#50%25?.jsonl": jsonl(rows),
        "c.csv": f"id,question\n{cells}".encode(),
        "d.json": json.dumps(rows).encode(),
        "e.parquet": parquet.getvalue(),
        "f.arrow": arrow.getvalue(),
    }
    for name, content in contents.items():
        s3.put(f"eval/{name}", content)
        (tmp_path / name).write_bytes(content)
    for names in (*([name] for name in contents), ["b *.jsonl.*", "e.parquet"]):
        here = opened(*(str(tmp_path / name) for name in names))
        there = opened(*(f"s3://bucket/eval/{name}" for name in names))
        assert known(there) == known(here), names
    assert opened("s3://bucket/eval/e.parquet").total == 600


def _zstd(content: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    packed: bytes = zstd.compress(content)
    return packed


@pytest.mark.long
def test_a_run_over_a_bucket(s3: S3, tmp_path: Path) -> None:
    tags = [s3.put(f"run/part-{part}.jsonl", jsonl(questions(20)[part * 10 : part * 10 + 10])) for part in range(2)]
    with Served() as served:
        project = elsewhere(tmp_path, served.url, "s3://bucket/run/*.jsonl", environment=s3.environment)
        ran = run(project)
        assert (ran.code, len(ran.results)) == (0, 20), ran.all_said
        again = run(project, "--resume")
        assert (again.code, len(served.seen)) == (0, 20)
        assert "nothing is sent" in again.said
        left = written(tmp_path)
        assert [f"etag:{tag}" in left.replace('\\"', '"') for tag in tags] == [True, True]
        changed = s3.put("run/part-1.jsonl", jsonl(questions(21)[10:]))
        refused = run(project, "--resume")
        assert (refused.code, len(served.seen)) == (2, 20)
        assert "s3://bucket/run/part-1.jsonl: its content changed: was " in refused.said
        assert f"(ETag {tags[1]})" in refused.said
        assert f"(ETag {changed})" in refused.said
    for secret in ("canary-key", "canary-secret"):
        assert secret not in left + ran.all_said + refused.all_said


@pytest.mark.long
def test_a_bucket_whose_object_changes(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment(monkeypatch, s3.environment)
    before = s3.put("changes.jsonl", jsonl(questions(10)))
    dataset = opened("s3://bucket/changes.jsonl")
    after = s3.put("changes.jsonl", jsonl(questions(10)[::-1]))
    with pytest.raises(RunStopped, match=f"was changed: was 500 bytes .ETag {before}., is 500 bytes .ETag {after}. while"):
        list(dataset)
    s3.client.delete_object(Bucket="bucket", Key="changes.jsonl")
    with pytest.raises(RunStopped, match=r"changes.jsonl is gone while it was read"):
        list(dataset)


REFUSED = {
    "s3://nowhere/x.jsonl": "s3://nowhere/x.jsonl: there is no such bucket",
    "s3://nowhere/*.jsonl": "s3://nowhere/*.jsonl: there is no such bucket",
    "s3://bucket/none.jsonl": "s3://bucket/none.jsonl: there is no such object",
    "s3://bucket/none*.jsonl": "s3://bucket/none*.jsonl: no object matches",
    "s3://bucket/wrong": "s3://bucket/wrong: is a directory; name its files",
    "s3://bucket/wrong/": "s3://bucket/wrong/: is a directory; name its files",
    "s3://bucket/wrong/a.xml": "the ending .xml is not a dataset format",
    "s3://key:secret@bucket/x.jsonl": "dataset.path: must not hold a user or password",
    "ftp://host/x.jsonl": "'ftp://host/x.jsonl': there is no reader of ftp://; known are s3://",
}


@pytest.mark.long
@pytest.mark.parametrize("path", REFUSED)
def test_a_wrong_path_is_said_before_anything_is_sent(s3: S3, tmp_path: Path, path: str) -> None:
    s3.put("wrong/a.xml", b"<a/>")
    with Served() as served:
        ran = run(elsewhere(tmp_path, served.url, path, environment=s3.environment))
    assert (ran.code, served.seen) == (2, [])
    assert REFUSED[path] in ran.said
    assert not (tmp_path / "results").exists()


@pytest.mark.long
@pytest.mark.parametrize("keys", [{}, {"AWS_ACCESS_KEY_ID": "wrong", "AWS_SECRET_ACCESS_KEY": CANARY}])
def test_a_bucket_that_is_closed(tmp_path: Path, keys: dict[str, str]) -> None:
    pytest.importorskip("s3fs")

    async def answer(_request: web.Request, _body: Any) -> web.StreamResponse:
        text = "<Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist.</Message></Error>"
        return web.Response(status=403, text=text, content_type="application/xml")

    with Served() as served, Served(answer) as store:
        environment = {"AWS_ENDPOINT_URL": root_of(store), "HOME": str(tmp_path), **AWS, **dict.fromkeys(AWS, ""), **keys}
        environment = {name: value for name, value in environment.items() if value} | {"AWS_EC2_METADATA_DISABLED": "true"}
        ran = run(elsewhere(tmp_path / "p", served.url, "s3://bucket/*.jsonl", environment=environment))
    assert (ran.code, served.seen) == (2, [])
    assert "s3://bucket/*.jsonl: access is refused (403 InvalidAccessKeyId" in ran.said
    assert ("no credentials are found: set AWS_ACCESS_KEY_ID" in ran.said) == (not keys)
    assert CANARY not in ran.all_said


@pytest.mark.parametrize(
    ("status", "what"),
    [(401, "access is refused (401"), (403, "access is refused (403"), (404, "there is no such object (404"), (503, "503")],
)
def test_a_web_server_that_refuses(tmp_path: Path, status: int, what: str) -> None:
    site = Website({}, refused={"/rows.jsonl": status})
    with Served() as served, Served(site.answer) as store:
        ran = run(elsewhere(tmp_path, served.url, f"{root_of(store)}/rows.jsonl?X-Amz-Signature={CANARY}"))
    assert (ran.code, served.seen) == (2, [])
    assert f"{root_of(store)}/rows.jsonl: {what}" in ran.said
    assert CANARY not in ran.all_said
    assert len(site.asked) == (5 if status == 503 else 1)


def test_a_web_server_without_ranges(tmp_path: Path) -> None:
    async def answer(_request: web.Request, _body: Any) -> web.StreamResponse:
        return web.Response(body=jsonl(questions(3)))

    with Served() as served, Served(answer) as store:
        ran = run(elsewhere(tmp_path, served.url, f"{root_of(store)}/rows.jsonl"))
    assert (ran.code, served.seen) == (2, [])
    assert "this server has no ranges" in ran.said


@pytest.mark.parametrize("package", ["fsspec", "s3fs"])
def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr("runner.datasets.remote.find_spec", lambda name: None if name == package else sys)
    assert f"'s3://b/x.jsonl' needs {package}, which is not installed: pip install 'batch-eval-runner[remote]'" in str(
        remote.what_is_wrong("s3://b/x.jsonl")
    )
    assert remote.what_is_wrong("rows.jsonl") is None


@pytest.mark.parametrize("how", ["as text", "by a variable"])
def test_a_signature_is_kept_nowhere(tmp_path: Path, how: str) -> None:
    site = Website({"/rows.jsonl": jsonl(questions(4)) + b"{bad\n"})
    with Served() as served, Served(site.answer) as store:
        query = f"X-Amz-Signature={CANARY}" if how == "as text" else "anything=${GIVEN}"
        project = elsewhere(tmp_path, served.url, f"{root_of(store)}/rows.jsonl?{query}", environment={"GIVEN": CANARY})
        ran = run(project)
        assert ran.code == 1, ran.all_said  # the bad row
        assert CANARY in site.asked[0][0]
        left = written(tmp_path)
        assert ran.errors[0]["item_id"] == f"{root_of(store)}/rows.jsonl:5"
        assert CANARY not in left + ran.all_said
        resumed = run(project, "--resume")
    assert (resumed.code, len(served.seen)) == (1, 4)


def test_what_breaks_off_is_read_on_from_there() -> None:
    content = jsonl(questions(5000))
    site = Website({"/rows.jsonl": content})
    with Served(site.answer) as store:
        dataset = opened(f"{root_of(store)}/rows.jsonl")
        site.asked.clear()
        site.breaks, site.breaks_after = 3, 10_000
        assert len(list(dataset)) == 5000
    again = [f"bytes={start}-131071" for start in (0, 10_000, 20_000, 30_000)]
    assert [asked for _, asked in site.asked] == [*again, f"bytes=131072-{len(content) - 1}"]


def test_retries_begin_again_after_each_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """More ranges break off without a byte than are borne in a row, with a byte now and then between them."""
    monkeypatch.setattr(remote, "_PAUSES_S", (0.001,) * 2)
    content, pieces = jsonl(questions(3)), iter([0, 0, 1] * 5)
    site = Website({"/rows.jsonl": content})

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        if request.headers["Range"] != "bytes=0-0" and (piece := next(pieces, None)) is not None:
            site.breaks, site.breaks_after = 1, piece
        return await site.answer(request, body)

    with Served(answer) as store:
        pieces, first = iter(()), pieces
        dataset = opened(f"{root_of(store)}/rows.jsonl")
        site.asked.clear()
        pieces = first
        assert len(list(dataset)) == 3
    assert len(site.asked) == 16


def test_many_objects_are_looked_at_together() -> None:
    """Each is answered only once the other is asked for."""
    site, both = Website({f"/{name}.jsonl": jsonl(questions(3)) for name in "ab"}), threading.Barrier(2)

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        if request.headers["Range"] != "bytes=0-0":
            await asyncio.to_thread(both.wait, PATIENCE_S)
        return await site.answer(request, body)

    with Served(answer) as store:
        assert len(opened(*(f"{root_of(store)}/{name}.jsonl" for name in "ab")).first_rows) == 6


def test_a_large_file_is_read_in_ranges_that_fit() -> None:
    rows = [{"id": str(number), "text": "x" * 10_000} for number in range(1200)]
    site = Website({"/rows.jsonl": jsonl(rows)})
    with Served(site.answer) as store:
        assert [item.index for item in opened(f"{root_of(store)}/rows.jsonl")] == list(range(1200))
    lengths = [int(end) - int(start) + 1 for _, asked in site.asked for start, end in [asked.removeprefix("bytes=").split("-")]]
    assert max(lengths) == 1 << 22
    assert len(lengths) < 15


@pytest.mark.long
def test_a_server_that_breaks_off_for_good_stops_the_run(tmp_path: Path) -> None:
    rows = long(600)
    site = Website({"/rows.jsonl": jsonl(rows)})
    with Served() as served, Served(site.answer) as store:
        project = elsewhere(tmp_path, served.url, f"{root_of(store)}/rows.jsonl")

        async def break_then(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            site.refused["/rows.jsonl"] = 503
            return web.json_response(chat_answer(body["messages"][-1]["content"]))

        served.answer = break_then
        ran = run(project)
        assert ran.code == 3, ran.all_said
        assert f"{root_of(store)}/rows.jsonl:" in ran.all_said
        assert "503 Service Unavailable; see to its server, then go on with --resume" in ran.all_said
        kept = len(ran.results)
        assert 0 < kept < 600
        site.refused.clear()
        served.answer = _echo
        resumed = run(project, "--resume")
        assert (resumed.code, len(resumed.results)) == (0, 600), resumed.all_said
    assert asked(served.seen) == Counter(row["question"] for row in rows)


async def _echo(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(chat_answer(body["messages"][-1]["content"]))


@pytest.mark.long
def test_an_object_that_is_replaced_in_the_middle_stops_the_run(tmp_path: Path) -> None:
    before, after = jsonl(long(600)), jsonl(long(601))
    site = Website({"/rows.jsonl": before})

    async def replace_then(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        site.files["/rows.jsonl"] = after
        return web.json_response(chat_answer(body["messages"][-1]["content"]))

    with Served(replace_then) as served, Served(site.answer) as store:
        project = elsewhere(tmp_path, served.url, f"{root_of(store)}/rows.jsonl")
        ran = run(project)
        assert ran.code == 3, ran.all_said
        changed = f"was {len(before)} bytes (ETag {etag_of(before)}), is {len(after)} bytes (ETag {etag_of(after)})"
        assert f"rows.jsonl was changed: {changed} while it was read" in ran.all_said
        sent = len(served.seen)
        refused = run(project, "--resume")
        assert (refused.code, len(served.seen)) == (2, sent)
        assert f"rows.jsonl: its content changed: {changed}" in refused.said
        site.files["/rows.jsonl"] = before
        served.answer = _echo
        resumed = run(project, "--resume")
        assert (resumed.code, len(resumed.results)) == (0, 600), resumed.all_said


@pytest.mark.parametrize("has_conditions", [True, False])
def test_a_server_that_has_replaced_a_file(*, has_conditions: bool) -> None:
    site = Website({"/rows.jsonl": jsonl(questions(10))}, has_conditions=has_conditions)
    with Served(site.answer) as store:
        dataset = opened(f"{root_of(store)}/rows.jsonl")
        site.files["/rows.jsonl"] = jsonl(questions(10)[::-1])
        with pytest.raises(RunStopped, match=r"rows.jsonl was changed: was 500 bytes .* is 500 bytes"):
            list(dataset)
        replaced = opened(f"{root_of(store)}/rows.jsonl")
    assert stamps_of(replaced) != stamps_of(dataset), "for workers that open it later"


@pytest.mark.long
def test_the_loop_goes_on_while_rows_are_waited_for(tmp_path: Path) -> None:
    """The second range comes only once all is known of the rows of the first one: a loop that waits for it never gets there."""
    rows, done = long(300), threading.Event()
    site = Website({"/rows.jsonl": jsonl(rows)})
    first = jsonl(rows)[: remote._FIRST_RANGE].count(b"\n")

    async def slow(request: web.Request, body: Any) -> web.StreamResponse:
        if request.headers["Range"].startswith(f"bytes={remote._FIRST_RANGE}-"):
            assert await asyncio.to_thread(done.wait, PATIENCE_S / 5)
        return await site.answer(request, body)

    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if sum(question.startswith("again") for question in asked(served.seen)) >= first:
            done.set()
        return web.json_response(chat_answer(body["messages"][-1]["content"]))

    with Served(answer) as served, Served(slow) as store:
        tasks = [ask(), ask("second", content="again {{item.answer}}")]
        ran = run(elsewhere(tmp_path, served.url, f"{root_of(store)}/rows.jsonl", tasks=tasks))
    assert (ran.code, len(ran.results)) == (0, 600), ran.all_said


def silent_behind_the_first_range(site: Website, waits: threading.Event, never: threading.Event) -> Answer:
    """Return what answers the first range only; `waits` is set once another one is asked for."""

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        if not request.headers["Range"].startswith("bytes=0-"):
            waits.set()
            await asyncio.to_thread(never.wait, PATIENCE_S)
        return await site.answer(request, body)

    return answer


def test_reading_that_nobody_wants_any_more_waits_for_no_store() -> None:
    site, waits, never = Website({"/rows.jsonl": jsonl(long(300))}), threading.Event(), threading.Event()
    failures: list[str] = []

    def read(dataset: Dataset) -> None:
        try:
            list(dataset)
        except DatasetError as error:
            failures.append(str(error))

    with Served(silent_behind_the_first_range(site, waits, never)) as store:
        dataset = opened(f"{root_of(store)}/rows.jsonl")
        assert dataset.elsewhere is not None
        reading = threading.Thread(target=read, args=[dataset], daemon=True)
        reading.start()
        assert waits.wait(PATIENCE_S)
        dataset.elsewhere.set()
        reading.join(PATIENCE_S / 5)
        assert not reading.is_alive()
        never.set()
    assert "it is no longer needed" in failures[0]


def test_the_thread_that_reads_ahead_ends_before_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, threads = Website({"/rows.jsonl": jsonl(long(600))}), list[str]()
    end = Begun.end

    def note(begun: Begun) -> None:
        threads.extend(thread.name for thread in threading.enumerate() if thread.is_alive())
        end(begun)

    monkeypatch.setattr(Begun, "end", note)
    with Served() as served, Served(site.answer) as store:
        project = elsewhere(tmp_path, served.url, f"{root_of(store)}/rows.jsonl")
        ran = run(project, "--set", "limits.max_tokens=1")
    assert ran.code == 3, ran.all_said
    assert threads
    assert "rows" not in threads


@pytest.mark.long
def test_a_run_that_is_stopped_does_not_wait_for_a_store(tmp_path: Path) -> None:
    site, waits, never = Website({"/rows.jsonl": jsonl(long(300))}), threading.Event(), threading.Event()
    with Served() as served, Served(silent_behind_the_first_range(site, waits, never)) as store:
        project = elsewhere(tmp_path, served.url, f"{root_of(store)}/rows.jsonl")
        with project.started() as process:
            assert waits.wait(PATIENCE_S)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        never.set()
        assert "SIGINT" in project.evaluation["status_reason"]


@pytest.mark.long
def test_kills_and_resumes_over_a_remote_dataset(s3: S3, tmp_path: Path) -> None:
    rows = questions(400)
    s3.put("kill/rows.jsonl.gz", gzip.compress(jsonl(rows)))
    reached, target = threading.Event(), 60

    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if len(served.seen) >= target:
            reached.set()
        await asyncio.sleep(0.002)
        return web.json_response(chat_answer(body["messages"][-1]["content"]))

    with Served(answer) as served:
        project = elsewhere(tmp_path, served.url, "s3://bucket/kill/*", environment=s3.environment)
        for _ in range(2):
            with project.started("--resume") as process:
                assert reached.wait(PATIENCE_S)
            assert process.returncode == -signal.SIGKILL
            target = len(served.seen) + 60
            reached.clear()
        resumed = run(project, "--resume")
        assert (resumed.code, len(resumed.results)) == (0, 400), resumed.all_said
    times = asked(served.seen)
    assert times.keys() == {row["question"] for row in rows}
    assert times.total() - 400 <= 2 * 4


def test_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    rows, parquet = questions(10), io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    hub = Hub("org/name", {"data/a.jsonl": jsonl(rows), "data/b.parquet": parquet.getvalue()})
    with Served(hub.answer) as store, Served(hub.elsewhere) as storage:
        hub.storage = root_of(storage)
        in_environment(monkeypatch, {"HF_ENDPOINT": root_of(store), "HF_TOKEN": f"hf_{CANARY}"})
        for path in ("hf://datasets/org/name/data/a.jsonl", "hf://datasets/org/name@main/data/*.parquet"):
            assert [item.row["id"] for item in opened(path)] == [row["id"] for row in rows]
        survey = opened("hf://datasets/org/name@main/data/*.parquet").survey()
        assert survey is not None
        (identity,) = survey.identities
        assert identity.name == "hf://datasets/org/name@main/data/b.parquet"
        assert len(identity.content) == 64  # its SHA-256, as of a file here
        assert {token for path, token in hub.asked if "org/name" in path} == {f"Bearer hf_{CANARY}"}
        assert hub.tokens_elsewhere == {None}
        assert any(f"/resolve/{COMMIT}/" in path for path, _ in hub.asked)
        for wrong, what in {
            "hf://datasets/org/private/a.jsonl": "a private or gated repository needs HF_TOKEN",
            "hf://datasets/org/name/none.jsonl": "there is no such file or repository",
            "hf://datasets/org/name/data": "is a directory",
        }.items():
            with pytest.raises(DatasetError, match=f"^{wrong}: .*{what}"):
                opened(wrong)


@pytest.mark.long
def test_google_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gcsfs")
    buckets = Buckets("bucket", {"eval/a.jsonl": jsonl(questions(10)), "eval/b.jsonl.gz": gzip.compress(jsonl(questions(5)))})
    with Served(buckets.answer) as store:
        in_environment(monkeypatch, {"STORAGE_EMULATOR_HOST": root_of(store)})
        dataset = opened("gs://bucket/eval/*")
        assert len(list(dataset)) == 15
        survey = dataset.survey()
        assert survey is not None
        assert [one.content for one in survey.identities] == ["generation:1"] * 2
        buckets.generation = 2
        with pytest.raises(RunStopped, match=r"was changed: was 500 bytes \(generation 1\), is 500 bytes \(generation 2\)"):
            list(dataset)
        for wrong in ("gs://bucket/none.jsonl", "gs://nowhere/x.jsonl"):
            with pytest.raises(DatasetError, match=f"^{wrong}: there is no such object"):
                opened(wrong)


def test_rows_of_elsewhere_name_no_files_here(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    site = Website({"/rows.jsonl": jsonl([{"id": "a", "picture": "file:a.png"}])})
    parts = [{"type": "image_url", "image_url": {"url": "{{item.picture}}"}}]
    task = {
        "task_type": "chat_completion",
        "alias": "answer",
        "configuration": {"model": "m", "messages": [{"role": "user", "content": parts}]},
    }
    with Served(_ok) as served, Served(site.answer) as store:
        dataset = {"path": f"{root_of(store)}/rows.jsonl", "id": "id"}
        refused = run(Project(tmp_path / "p", served.url, tasks=[task], more={"dataset": dataset}))
        assert "set dataset.media_root to the directory of its files here" in refused.all_said
        assert served.seen == []
        rooted = {**dataset, "media_root": str(tmp_path)}
        ran = run(Project(tmp_path / "q", served.url, tasks=[task], more={"dataset": rooted}))
        assert (ran.code, len(served.seen)) == (0, 1), ran.all_said


async def _ok(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(chat_answer())


@pytest.mark.long
def test_a_run_over_files_here_loads_nothing_of_it(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url, rows=questions(2))
        words = "import sys; from runner.cli.main import main; main(sys.argv[1:]); print(sorted(sys.modules))"
        found = project.command("-c", words, str(project.config))
    assert "'runner.datasets.remote'" in found.stdout, found.stderr
    for module in ("fsspec", "s3fs", "botocore", "huggingface_hub", "runner.datasets.buckets", "runner.datasets.websites"):
        assert f"'{module}" not in found.stdout


def item(index: int, text: str = "") -> Item:
    return Item(item_id=str(index), index=index, row={"text": text}, place="x")


async def _next(ahead: Iterator[Item | asyncio.Event]) -> Item:
    while isinstance(found := next(ahead), asyncio.Event):
        await asyncio.wait_for(found.wait(), PATIENCE_S)
    return found


async def test_what_is_read_ahead_is_bounded_and_ends_with_who_reads() -> None:
    taken, stop, ended = 0, threading.Event(), threading.Event()

    def source() -> Iterator[Item]:
        nonlocal taken
        try:
            for index in range(10_000):
                taken += 1
                yield item(index, "x" * 100_000)
        finally:
            ended.set()

    ahead = read_ahead(source(), stop)
    assert [(await _next(ahead)).index for _ in range(100)] == list(range(100))
    assert taken <= 100 + 8 * 1024 * 1024 // 100_000 + 2
    ahead.close()
    assert ended.wait(PATIENCE_S)
    assert not stop.is_set()


async def test_an_error_comes_behind_what_was_read() -> None:
    def source() -> Iterator[Item]:
        yield item(0)
        raise DatasetError("broken")

    ahead = read_ahead(source(), threading.Event())
    assert (await _next(ahead)).index == 0
    with pytest.raises(DatasetError, match="broken"):
        await _next(ahead)


def test_paths_may_be_urls_in_the_config() -> None:
    dataset, endpoint = "https://host/rows.jsonl?sig=abcdefgh12345678", {"base_url": "http://127.0.0.1:1"}
    document: Any = {"name": "n", "dataset": dataset, "endpoint": endpoint, "tasks": [ask()]}
    assert "abcdefgh12345678" in Config.model_validate(document).secrets({})
    given = {"dataset": {"path": ["rows.jsonl", "https://host/rows.jsonl?x=${A}"]}}
    assert "abcdefgh12345678" in set(brought_in(given, {"A": "abcdefgh12345678"}))
