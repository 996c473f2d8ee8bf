"""Batches: what a service answers becomes the rows of a direct run; nothing is lost at a kill, and nothing is paid twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batch.answers import Answers
from runner.batch.files import Export, Limits
from runner.batch.lines import as_line, batch_of, name_of, read_line, result_of
from runner.errors import NotAsked, UsageError
from runner.storage.journal import read_segment, segments_of
from runner.storage.ledger import Ledger
from runner.storage.rundir import RunDir
from runner.structs import replace
from runner.types import ErrorType, Failure, Request, Response, Unit
from tests.commands import CORRECT, PATIENCE_S, ROOT, Project, ask, here, questions
from tests.serving import Served, chat_answer

RUN_ID = "20261121T021500Z-4f2a"
JUDGE = {
    "task_type": "auto_evaluation.guided_decoding",
    "alias": "verdict",
    "configuration": {"model": "judge", "prompt": "Is {{item.answer}} right?", "choices": ["Yes", "No"]},
}
#: What is another in a run that was asked directly: times, and how often was tried.
OTHERS = ["run_id", "started_at", "completed_at", "latency_s", "ttft_s", "queue_s", "backoff_s", "attempts"]


# --- a batch service ---


def reply(body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the status and the body with which a server answers, directly or from a batch."""
    if "input" in body:
        vectors = [{"object": "embedding", "index": 0, "embedding": [0.25, 1.0]}]
        return 200, {"object": "list", "model": "e", "data": vectors, "usage": {"prompt_tokens": 2, "total_tokens": 2}}
    if "prompt" in body:
        choices = [{"index": 0, "text": f"{body['prompt']} …", "finish_reason": "length"}]
        return 200, {"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": choices}
    text = str(body["messages"][-1]["content"])
    if text.endswith(" 3"):
        return 400, {"error": {"message": "maximum context length is 5 tokens", "code": "context_length_exceeded"}}
    if body["model"] == "judge":
        return 200, chat_answer('{"verdict": "Maybe"}' if "question 5" in text else '{"verdict": "Yes"}', model="judge")
    answer = chat_answer(text, model="m", system_fingerprint="fp_é")
    if body.get("n") == 2:
        answer["choices"].append({"index": 1, "message": {"role": "assistant", "content": None}, "finish_reason": "stop"})
    if "tools" in body:
        call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        answer["choices"][0]["message"]["tool_calls"] = [call]
    return 200, answer


async def served(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    status, answer = reply(body)
    return web.json_response(answer, status=status)


def answered(line: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the line of a batch's results about a request, and whether it is one of the error file."""
    status, body = reply(line["body"])
    response = {"status_code": status, "request_id": "req_1", "body": body}
    return json.dumps({"id": "batch_req_1", "custom_id": line["custom_id"], "response": response, "error": None}), status != 200


def expired(line: Mapping[str, Any]) -> str:
    error = {"code": "batch_expired", "message": "This request could not be executed before the completion window expired."}
    return json.dumps({"id": "batch_req_1", "custom_id": line["custom_id"], "response": None, "error": error})


def requests_in(*files: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def serve(file: Path, directory: Path) -> list[Path]:
    """Answer a file as a batch service does; return the output file and the error file."""
    lines = [answered(line) for line in requests_in(file)]
    random.Random(1).shuffle(lines)
    paths = [directory / f"{file.stem}-{name}.jsonl" for name in ("output", "error")]
    for path, is_error in zip(paths, (False, True), strict=True):
        path.write_text("".join(f"{text}\n" for text, wrong in lines if wrong is is_error))
    return paths


def batch(project: Project, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return here("batch", *map(str, words), "--no-progress", environment=project._environment())


def exported(project: Project, *words: str) -> list[Path]:
    """Export the only run, or a new one of the config; return the files that there are."""
    directory = project.directory / "results" / project.name
    found = batch(project, "export", project.run_dir if directory.exists() else project.config, *words)
    assert found.returncode == 0, found.stderr + found.stdout
    return files_of(project)


def files_of(project: Project) -> list[Path]:
    return sorted((project.run_dir / "batch").glob("batch-*.jsonl"))


def rows_of(run: Path, name: str) -> list[dict[str, Any]]:
    table = pq.read_table(run / f"{name}.parquet")
    rows: list[dict[str, Any]] = table.drop_columns([one for one in OTHERS if one in table.column_names]).to_pylist()
    return rows


# --- the same rows as a direct run ---


def test_a_batch_has_the_rows_of_a_direct_run(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    embedding = {"task_type": "embedding", "alias": "vector", "configuration": {"model": "e", "input": "{{item.question}}"}}
    completion = {"task_type": "completion", "alias": "text", "configuration": {"model": "m", "prompt": "{{item.question}}"}}
    tasks = [
        ask(),
        ask("two", configuration={"n": 2, "tools": tools}, samples=2),
        completion,
        embedding,
        CORRECT,
        JUDGE,
    ]
    with Served(served) as server:
        project = Project(tmp_path / "batch", server.url, tasks=tasks, rows=questions(8))
        files = exported(project)
        assert {line["url"] for line in requests_in(*files)} == {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}
        assert all(len({(line["url"], line["body"]["model"]) for line in requests_in(file)}) == 1 for file in files)
        assert project.evaluation["status"] == "running"
        assert project.evaluation["status_reason"].startswith("waits for batch results")
        found = batch(project, "import", project.run_dir, *(one for file in files for one in serve(file, tmp_path)))
        assert found.returncode == 3
        assert "7 requests may be exported now" in found.stdout  # the judge's, but for the row whose answer is an error
        (judged,) = exported(project)[len(files) :]
        found = batch(project, "import", project.run_dir, *serve(judged, tmp_path))
        assert found.returncode == 1, found.stderr
        assert server.seen == []
        direct = Project(tmp_path / "direct", server.url, tasks=tasks, rows=questions(8))
        assert direct.run_here().returncode == 1
    assert project.evaluation["status"] == "completed"
    for name in ("results", "errors"):
        ours, theirs = rows_of(project.run_dir, name), rows_of(direct.run_dir, name)
        assert len(ours) == len(theirs) > 0
        for column in ours[0]:
            if column not in {"total_tokens", "prompt_tokens", "completion_tokens"} or name == "results":
                assert [row[column] for row in ours] == [row[column] for row in theirs], column
    asked = [row for row in project.results() if row["task_type"] != "metric"]
    assert {(row["attempts"], row["latency_s"], row["ttft_s"], row["cached"]) for row in asked} == {(1, None, None, False)}
    unread = [row for row in project.errors() if row["error_type"] == "no_verdict"]
    assert [row["attempts"] for row in unread] == [1]  # a batch answers once, a server was asked twice


def test_streams_are_off_in_a_batch(tmp_path: Path) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1", tasks=[ask(stream=True, configuration={"extra_body": {"top_k": 1}})])
    (file,) = exported(project)
    assert all(line["body"].keys() == {"model", "messages", "top_k"} for line in requests_in(file))
    assert batch(project, "import", project.run_dir, *serve(file, tmp_path)).returncode == 1
    assert '"stream"' not in project.results()[0]["request"]


def test_what_a_batch_lacks_is_asked_directly_by_a_resume(tmp_path: Path) -> None:
    with Served(served) as server:
        project = Project(tmp_path, server.url, tasks=[ask(), CORRECT])
        (file,) = exported(project)
        lines = requests_in(file)
        (tmp_path / "output.jsonl").write_text("".join(f"{answered(line)[0]}\n" for line in lines[:4]))
        assert batch(project, "import", project.run_dir, tmp_path / "output.jsonl").returncode == 3
        assert len(project.results()) == 6  # three answers, and what the metric makes of them; the fourth is an error
        found = project.run_here("--resume")
        assert found.returncode == 1
        assert "6 requests are in batch files" in found.stderr
        assert {seen.body["messages"][0]["content"] for seen in server.seen} == {f"question {index}" for index in range(4, 10)}
    assert len(project.results()) + len(project.errors()) == 20


def test_answers_of_a_batch_have_its_price(tmp_path: Path) -> None:
    prices = {"m": {"input": 1.0, "output": 2.0, "batch": 0.5}}
    limits = {"max_cost": 1e-9}  # nothing is sent: what is paid is paid
    project = Project(tmp_path, "http://127.0.0.1:9/v1", more={"prices": prices}, limits=limits, rows=questions(2))
    (file,) = exported(project)
    assert batch(project, "import", project.run_dir, *serve(file, tmp_path)).returncode == 0
    missing = batch(project, "import", project.run_dir, tmp_path / "otput.jsonl")  # of a run that is finished, too
    assert missing.returncode == 2
    assert "otput.jsonl: there is no such file" in missing.stderr
    assert [row["cost"] for row in project.results()] == [pytest.approx((3 * 1.0 + 2 * 2.0) / 1e6 / 2)] * 2


def test_no_limit_stops_an_import_for_everything_in_it_is_over(tmp_path: Path) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1", rows=[{"id": str(n), "question": "is it 3"} for n in range(210)])
    (file,) = exported(project)
    found = batch(project, "import", project.run_dir, *serve(file, tmp_path))
    assert found.returncode == 1
    assert len(project.errors()) == 210


# --- what the files of a service may look like ---


def request(index: int, text: str = "hello", **more: Any) -> Request:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}, separators=(",", ":"))
    unit = Unit(f"row-{index}", index, more.pop("sample", 0), more.pop("task", "answer"))
    return Request(unit=unit, path="/chat/completions", model="m", content=body.encode(), shown=body, stream=False, **more)


def result_line(index: int, number: int = 1, **said: Any) -> str:
    custom_id = f"{RUN_ID}:{number}.{name_of(request(index).unit, request(index).content)}"
    return json.dumps({"id": "x", "custom_id": custom_id, "response": None, "error": None} | said)


def ok(text: str) -> dict[str, Any]:
    return {"response": {"status_code": 200, "request_id": "r", "body": chat_answer(text)}}


EXPIRED: dict[str, Any] = {"error": {"code": "batch_expired", "message": "too late"}}


async def outcomes(paths: Sequence[Path], count: int) -> list[str | None]:
    """Return what files say of requests: the text of an answer, the kind of an error, None where they say nothing."""
    answers, found = Answers(paths), list[str | None]()
    answers.begin(RunDir(Path(RUN_ID)), None)
    for index in range(count):
        try:
            answer = (await answers.execute(request(index))).answer
        except NotAsked:
            found.append(None)
        else:
            assert isinstance(answer, Response | Failure)
            found.append(answer.output if isinstance(answer, Response) else answer.error_type.value)
    answers.end()
    return found


@given(st.data())
@settings(max_examples=60, deadline=None)
async def test_files_say_the_same_in_any_order_in_pieces_and_twice(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(["answer", "refused", "expired", "absent"]), min_size=1, max_size=8))
    said: dict[str, Any] = {
        "refused": {"response": {"status_code": 400, "body": {"error": {"message": "no"}}}},
        "expired": EXPIRED,
    }
    lines = [
        result_line(index, **(ok(f"text {index}\u2028") if kind == "answer" else said[kind]))
        for index, kind in enumerate(kinds)
        if kind != "absent"
    ]
    # An answer counts more than what another line says of the same request.
    lines += [
        result_line(index, **EXPIRED) for index, kind in enumerate(kinds) if kind == "answer" and data.draw(st.booleans())
    ]
    lines += [line for line in lines if data.draw(st.booleans())]
    lines = data.draw(st.permutations(lines))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=3)))
    pieces = [lines[start:end] for start, end in zip([0, *cuts], [*cuts, len(lines)], strict=True)]
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / f"{number}.jsonl" for number in range(len(pieces))]
        for path, piece in zip(paths, pieces, strict=True):
            path.write_text("\n".join(piece) + data.draw(st.sampled_from(["", "\n", "\n\n"])) * bool(piece))
        expected = {"answer": "text", "refused": "request", "expired": None, "absent": None}
        found = await outcomes(paths, len(kinds))
    assert [text and text.split()[0] for text in found] == [expected[kind] for kind in kinds]


@given(st.integers(1, 400), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
async def test_a_torn_last_line_costs_its_request_and_no_other(torn: int, whole: int) -> None:
    text = "".join(f"{result_line(index, **ok('text'))}\n" for index in range(whole))
    last = result_line(whole, **ok("text"))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "output.jsonl"
        path.write_text(text + last[:-torn])
        assert await outcomes([path], whole + 1) == ["text"] * whole + [None]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (result_line(0, **ok("x"))[:60], "is not JSON"),
        ('{"custom_id": "mine", "response": {"status_code": 200, "body": {}}}', "'mine' is not a request of"),
        (result_line(0, **ok("x")).replace("4f2a", "5f2a"), "is not a request of"),
        (as_line(RUN_ID, 1, name_of(request(0).unit, b""), request(0)).decode(), "give the batch's output and error files"),
        ("[]", "no `custom_id`"),
    ],
)
def test_a_line_that_is_none_of_the_run_refuses_all_files(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "output.jsonl"
    path.write_text(f"{result_line(0, **ok('x'))}\n{line.strip()}\n{result_line(1, **ok('x'))}\n")
    with pytest.raises(UsageError, match=says) as refused:
        Answers([path]).begin(RunDir(Path(RUN_ID)), None)
    assert str(refused.value).startswith(f"{path}:2: ")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        # OpenAI's error file; vLLM's `error` beside a status, flat and not; a service's own error; an error inside a 200.
        ({"response": {"status_code": 429, "body": {"error": {"message": "slow down"}}}}, ErrorType.RATE_LIMIT),
        ({"response": {"status_code": 400}, "error": {"message": "maximum context length", "code": 400}}, "context_length"),
        ({"response": {"status_code": 404}, "error": {"error": {"message": "no such model"}}}, ErrorType.AUTH),
        ({"error": {"code": "server_error", "message": "it broke"}}, ErrorType.SERVER),
        ({"error": "it broke"}, ErrorType.SERVER),
        ({"error": {"code": "request_timeout", "message": "it took too long"}}, ErrorType.SERVER),
        ({"error": {"code": "insufficient_quota", "message": "no money"}}, ErrorType.QUOTA),
        ({"response": {"status_code": 200, "body": {"error": {"message": "x", "code": 400}}}}, ErrorType.REQUEST),
        ({"response": {"status_code": 200, "body": None}}, ErrorType.INVALID_RESPONSE),
        ({"response": {"status_code": 200, "body": {"choices": []}}}, ErrorType.INVALID_RESPONSE),
    ],
)
def test_what_is_no_answer_has_the_kind_that_it_has_directly(said: Mapping[str, Any], kind: ErrorType | str) -> None:
    line = read_line(result_line(0, **said).encode())
    assert line.is_tried
    answer = result_of(line, request(0))
    assert isinstance(answer, Failure)
    assert answer.error_type == kind


def test_numbers_that_are_none_do_not_cost_an_answer() -> None:
    text = result_line(0, **ok("x")).replace('"usage": {', '"usage": {"a": NaN, ')
    assert isinstance(result_of(read_line(text.encode()), request(0)), Response)


@given(st.integers(1, 9999), st.integers(0, 2**30 // 1000), st.integers(0, 999), st.text(min_size=1, max_size=20))
def test_ids_are_short_and_lead_back(number: int, item: int, sample: int, text: str) -> None:
    made = request(item, text, sample=sample)
    run_id = "eval_01K9ZZZZZZZZZZZZZZZZZZZZZZ"
    line = json.loads(as_line(run_id, number, name := name_of(made.unit, made.content), made))
    assert batch_of(line["custom_id"], run_id) == (number, name)
    assert line["custom_id"].isascii()
    assert len(line["custom_id"]) <= 64
    assert line["body"] == json.loads(made.content)
    assert name != name_of(made.unit._replace(task="other"), made.content)


# --- what is refused, and what is left out ---


def test_a_batch_of_another_run_changes_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1")
    (file,) = exported(project)
    output, error = serve(file, tmp_path)
    output.write_text(output.read_text().replace(project.run_dir.name, RUN_ID, 1))
    before = [line.text for segment in segments_of(project.run_dir / "journal") for line in read_segment(segment)]
    found = batch(project, "import", project.run_dir, error, output)
    assert found.returncode == 2
    assert f"{output}:1" in found.stderr
    assert [line.text for segment in segments_of(project.run_dir / "journal") for line in read_segment(segment)] == before


def test_an_answer_to_a_request_that_is_another_now_is_not_taken(tmp_path: Path) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1")
    (file,) = exported(project)
    project.tasks = [ask(content="Say {{item.question}}")]
    project.write()
    found = batch(project, "export", project.run_dir)
    assert "10 requests are in earlier files" in found.stdout  # the run's own config is the one that counts
    (project.run_dir / "config.yaml").write_text(project.config.read_text())
    found = batch(project, "import", project.run_dir, *serve(file, tmp_path))
    assert found.returncode == 3
    assert "10 are about requests that already have a result, or have changed since" in found.stdout
    assert project.results() + project.errors() == []


@pytest.mark.parametrize(
    ("more", "place", "says"),
    [
        ({"endpoint": {"replay": str(ROOT / "datasets")}}, "endpoint.replay", "recordings"),
        ({"tasks": [ask(configuration={"user": "${OPENAI_API_KEY}"})]}, "tasks.0.configuration", "holds a secret"),
        (
            {"tasks": [CORRECT | {"configuration": {"type": "contains", "candidate": "item.id", "reference": "r"}}]},
            "tasks",
            "asks",
        ),
    ],
)
def test_what_no_batch_can_have_is_refused_with_its_place(
    tmp_path: Path, more: Mapping[str, Any], place: str, says: str
) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1", more=more, environment={"OPENAI_API_KEY": "sk-4k2j4h2k3j4h9d8f"})
    found = batch(project, "export", project.config)
    assert found.returncode == 2, found.stdout
    assert f"{place}: " in found.stderr
    assert says in found.stderr
    assert not (tmp_path / "results").exists()


def test_a_request_that_holds_a_secret_is_in_no_file(tmp_path: Path) -> None:
    key = "sk-9f8e7d6c5b4a39281706"
    rows = [*questions(3), {"id": "leaky", "question": f"is {key} mine?"}]
    with Served(served) as server:
        project = Project(tmp_path, server.url, rows=rows, environment={"OPENAI_API_KEY": key})
        found = batch(project, "export", project.config)
        assert found.returncode == 0
        assert "1 requests cannot be in a batch" in found.stdout
        assert "leaky: the request of `answer` holds a secret" in found.stderr
        assert not any(key.encode() in path.read_bytes() for path in project.run_dir.rglob("*") if path.is_file())
        batch(project, "import", project.run_dir, *serve(files_of(project)[0], tmp_path))
        assert project.run_here("--resume").returncode == 0
        assert len(server.seen) == 1
    assert len(project.results()) == 4


def test_files_of_another_run_are_not_written_over(tmp_path: Path) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1")
    assert batch(project, "export", project.config, "-o", tmp_path / "out").returncode == 0
    content = (tmp_path / "out" / "batch-0001.jsonl").read_bytes()
    found = batch(project, "export", project.config, "-o", tmp_path / "out")
    assert (found.returncode, len(project.runs)) == (2, 1)
    assert "belongs to another run" in found.stderr
    assert batch(project, "export", project.run_dir, "-o", tmp_path / "out", "--again").returncode == 0
    assert (tmp_path / "out" / "batch-0001.jsonl").read_bytes() == content
    assert len(requests_in(tmp_path / "out" / "batch-0002.jsonl")) == 10


# --- files that are full ---


class KeptJournal:
    def append(self, record: Any) -> None:
        """Take a line."""

    def sync(self) -> None:
        """Do nothing."""


@pytest.mark.long
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 300)), min_size=1, max_size=30),
    st.integers(1, 6),
    st.integers(300, 900),
)
@settings(max_examples=40, deadline=None)
async def test_files_hold_every_request_once_and_no_more_than_they_may(
    wanted: Sequence[tuple[str, int]], lines: int, size: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = RunDir(Path(directory) / RUN_ID)
        export = Export(directory=run.path / "batch", limits=Limits(lines=lines, size=size))
        export.begin(run, None)
        export.write_to(KeptJournal())  # type: ignore[arg-type]
        fitting: list[tuple[int, str]] = []
        for index, (model, length) in enumerate(wanted):
            made = request(index, "x" * length)
            body = made.content.replace(b'"model":"m"', b'"model":"%b"' % model.encode())
            with pytest.raises(NotAsked):
                await export.execute(replace(made, model=model, content=body))
            fitting += [(index, model)] if export.counts["left out"] == index - len(fitting) else []
        export.end()
        files = sorted((run.path / "batch").iterdir())
        assert [file.name for file in files] == [f"batch-{number:04d}.jsonl" for number in range(1, len(files) + 1)]
        for file in files:
            found = requests_in(file)
            assert 0 < len(found) <= lines
            assert file.stat().st_size <= size
            assert len({line["body"]["model"] for line in found}) == 1
        written = sorted((int(line["custom_id"].split(".")[1]), line["body"]["model"]) for line in requests_in(*files))
        assert written == fitting


async def test_vectors_of_a_file_are_counted_by_their_texts(tmp_path: Path) -> None:
    run = RunDir(tmp_path / RUN_ID)
    export = Export(directory=tmp_path, limits=Limits(inputs=5))
    export.begin(run, None)
    export.write_to(KeptJournal())  # type: ignore[arg-type]
    for index in range(3):
        content = b'{"model":"e","input":["one","two"]}'
        made = Request(
            unit=Unit(str(index), index, 0, "v"),
            path="/embeddings",
            model="e",
            content=content,
            shown="",
            stream=False,
            embeds=True,
        )
        with pytest.raises(NotAsked):
            await export.execute(made)
    export.end()
    assert [one.lines for one in export.written] == [2, 1]


# --- again, and after a kill ---


@pytest.mark.long
def test_what_has_expired_is_exported_again_and_nothing_else(tmp_path: Path) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1", rows=questions(6))
    (first,) = exported(project)
    lines = requests_in(first)
    (tmp_path / "output.jsonl").write_text("".join(f"{answered(line)[0]}\n" for line in lines[:2]))
    (tmp_path / "error.jsonl").write_text("".join(f"{expired(line)}\n" for line in lines[2:5]))
    found = batch(project, "import", project.run_dir, tmp_path / "error.jsonl", tmp_path / "output.jsonl")
    assert "5 lines: 2 answers, 3 not tried" in found.stdout
    assert project.errors() == []
    _, second = exported(project)
    assert [line["body"] for line in requests_in(second)] == [line["body"] for line in lines[2:5]]
    # What the first batch says once more is nothing of the second one.
    batch(project, "import", project.run_dir, tmp_path / "error.jsonl", tmp_path / "output.jsonl")
    assert exported(project) == [first, second]
    found = batch(project, "import", project.run_dir, *serve(second, tmp_path), tmp_path / "error.jsonl")
    assert found.returncode == 3
    assert "waits for batch results: 1 requests" in found.stdout
    assert len(exported(project, "--again")) == 3
    (tmp_path / "late.jsonl").write_text(f"{answered(lines[5])[0]}\n")  # of the first batch, whatever came later
    assert batch(project, "import", project.run_dir, tmp_path / "late.jsonl").returncode == 1
    assert len(project.results()) == 5


def test_an_import_is_the_same_the_second_time(tmp_path: Path) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1", tasks=[ask(), JUDGE])
    (file,) = exported(project)
    files = serve(file, tmp_path)
    assert batch(project, "import", project.run_dir, *files).returncode == 3
    before = rows_of(project.run_dir, "results"), rows_of(project.run_dir, "errors")
    found = batch(project, "import", project.run_dir, *files)
    assert "nothing new" in found.stdout
    assert (rows_of(project.run_dir, "results"), rows_of(project.run_dir, "errors")) == before


#: A program that kills itself where it is about to make or has made one of its steps.
KILLED = """
import os, signal, sys
from runner.batch import files
from runner.storage import journal, records
from runner.cli.main import main

kind, place, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
seen = 0

def dying(act):
    def acts(*words):
        global seen
        is_one = kind == "rename" or type(words[1]).__name__ == kind
        seen += is_one
        if is_one and seen == count and place == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = act(*words)
        if is_one and seen == count and place == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return acts

if kind == "rename":
    files._name = dying(files._name)
else:
    journal.Journal.append = dying(journal.Journal.append)
sys.exit(main(sys.argv[4:]))
"""


def killed(project: Project, kind: str, place: str, count: int, *words: str | Path) -> None:
    """Run a command of batches that is killed at one of its steps."""
    words = (kind, place, str(count), "batch", *map(str, words))
    found = subprocess.run(
        [sys.executable, "-c", KILLED, *words], cwd=ROOT, env=project._environment(), timeout=PATIENCE_S, check=False
    )
    assert found.returncode == -signal.SIGKILL


@pytest.mark.long
@pytest.mark.parametrize(("kind", "place", "count"), [("Batch", "before", 2), ("rename", "before", 1), ("rename", "after", 1)])
def test_an_export_that_is_killed_loses_nothing_and_writes_nothing_twice(
    tmp_path: Path, kind: str, place: str, count: int
) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1", tasks=[ask(), ask("other", configuration={"model": "n"})])
    killed(project, kind, place, count, "export", project.config)
    files = exported(project)
    assert Counter(line["custom_id"].partition(".")[2] for line in requests_in(*files)).most_common(1)[0][1] == 1
    assert len(requests_in(*files)) == 20
    assert list((project.run_dir / "batch").glob(".*")) == []


@pytest.mark.long
def test_an_import_that_is_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1", tasks=[ask(), CORRECT])
    (file,) = exported(project)
    files = serve(file, tmp_path)
    killed(project, "End", "after", 5, "import", project.run_dir, *files)
    assert batch(project, "import", project.run_dir, *files).returncode == 1
    ends = [(line.payload or b"") for segment in segments_of(project.run_dir / "journal") for line in read_segment(segment)]
    assert sum(text.startswith(b'{"kind":"end"') for text in ends) == 20
    assert len(project.results()) + len(project.errors()) == 20


def test_the_ledger_knows_what_waits(tmp_path: Path) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1", tasks=[ask(samples=2), CORRECT], rows=questions(3))
    (file,) = exported(project)
    ledger = Ledger.read(project.run_dir / "journal")
    assert ledger.waiting == 6
    assert (ledger.waits_in(2, 1, "answer"), ledger.waits_in(2, 1, "correct"), ledger.waits_in(99, 0, "answer")) == (1, 0, 0)
    assert ledger.batches == {1: str(file)}
    ledger.close()
