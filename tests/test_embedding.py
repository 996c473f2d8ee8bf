"""Vectors are asked for, kept, resumed and replayed as other answers are, and compared by `cosine_similarity`."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config.endpoint import normalise_base_url
from runner.endpoint.answers.responses import read_response
from runner.endpoint.answers.vectors import vectors_in
from runner.errors import AttemptError
from runner.output import Output
from runner.tasks.embedding import EmbeddingConfiguration
from runner.types import ErrorType, Request, Unit, Value
from runner.usage import Used, used_by
from tests.commands import Project, ask
from tests.serving import Served, chat_answer
from tests.test_metric import judged, refused
from tests.test_metric_run import forget


def vector_of(text: str) -> list[float]:
    """Return a vector that anybody can work out, of numbers that four bytes hold exactly."""
    return [(byte - 128) / 128 for byte in hashlib.sha256(text.encode()).digest()]


def packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def embedded(texts: list[str], form: str | None = None) -> dict[str, Any]:
    """Return an answer of /v1/embeddings, its vectors in another order than their texts."""
    data: list[dict[str, Any]] = [
        {
            "object": "embedding",
            "index": index,
            "embedding": packed(vector_of(text)) if form == "base64" else vector_of(text),
        }
        for index, text in enumerate(texts)
    ]
    used = sum(map(len, texts))
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "data": data[::-1], "model": "e", "usage": usage}


async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer a chat with its question, and embed what is to be embedded: of `broken` there is no vector."""
    if not request.path.endswith("/embeddings"):
        return web.json_response(chat_answer(str(body["messages"][-1]["content"])))
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    return web.json_response(embedded([text for text in texts if text != "broken"], body.get("encoding_format")))


def embed(alias: str, text: Any, **more: Any) -> dict[str, Any]:
    return {"task_type": "embedding", "alias": alias, "configuration": {"model": "e", "input": text, **more}}


def cosine(alias: str, candidate: str, reference: str) -> dict[str, Any]:
    configuration = {"type": "cosine_similarity", "candidate": candidate, "reference": reference}
    return {"task_type": "metric", "alias": alias, "configuration": configuration}


MORE = {"encoding_format": "base64", "dimensions": 32, "user": "me"}
#: An answer and what is wanted, embedded alone and together, and how alike they are.
TASKS = [
    ask(),
    embed("said", "item.answer"),
    embed("goal", "item.wanted", **MORE, extra_body={"truncate": True}),
    embed("both", ["item.answer", "{{item.wanted}}"]),
    cosine("alike", "item.said", "item.goal"),
    cosine("alike_too", "item.both.0", "item.both.1"),
]
WANTED = "The cat sat on the mat."
ROWS = [
    {"id": "same", "question": WANTED, "wanted": WANTED},
    {"id": "other", "question": "the cat is on the mat", "wanted": WANTED},
]
ALIKE = {"same": 1.0, "other": 0.186901}


def found_in(made: Project) -> dict[tuple[str, str], tuple[Any, Any]]:
    assert made.errors() == []
    return {(row["item_id"], row["task"]): (row["value"], row["output"]) for row in made.results()}


def test_embeddings_are_kept_compared_resumed_and_replayed(tmp_path: Path) -> None:
    recordings = str(tmp_path / "recordings")
    with Served(answer) as server:
        asked_of = {"base_url": f"{server.url}/of/mine", "record": recordings}
        made = Project(tmp_path / "live", server.url, rows=ROWS, tasks=TASKS, more={"endpoint": asked_of})
        assert "2 rows, 0 of them bad; 8 requests would be sent" in made.run_here("--dry-run").stdout
        assert server.seen == []
        assert made.run_here("--no-progress").returncode == 0
        bodies = [one.body for one in server.seen if one.path == "/v1/of/mine/embeddings"]
        assert {"model": "e", "input": WANTED} in bodies
        assert {"model": "e", "input": WANTED, **MORE, "truncate": True} in bodies
        found = found_in(made)
        for row in ROWS:
            vectors = [vector_of(row["question"]), vector_of(row["wanted"])]
            assert [json.loads(found[row["id"], alias][1]) for alias in ("said", "goal", "both")] == [*vectors, vectors]
            for alias in ("alike", "alike_too"):
                assert found[row["id"], alias][0] == pytest.approx(ALIKE[row["id"]], rel=1e-5)
        (said,) = (row for row in made.results() if (row["item_id"], row["task"]) == ("same", "said"))
        assert (said["prompt_tokens"], said["completion_tokens"], said["total_tokens"]) == (23, None, 23)
        assert (said["task_type"], said["model"], said["value"]) == ("embedding", "e", None)

        # A resume reads the vectors out of the journal, as lists of numbers again, and asks for none.
        asked = len(server.seen)
        made.delete_views()
        forget(made, "answer", "said", "goal", "both")
        assert made.run_here("--no-progress", "--resume").returncode == 0
        assert found_in(made) == found
        assert len(server.seen) == asked

    offline = Project(tmp_path / "offline", "", rows=ROWS, tasks=TASKS, more={"endpoint": {"replay": recordings}})
    assert offline.run_here("--no-progress").returncode == 0
    assert found_in(offline) == found


def test_a_text_without_a_vector_is_an_error_of_its_row(tmp_path: Path) -> None:
    rows = [*ROWS, {"id": "bad", "question": "broken", "wanted": WANTED}]
    tasks = [ask(), embed("said", "item.answer"), embed("goal", "item.wanted"), cosine("alike", "item.said", "item.goal")]
    with Served(answer) as server:
        made = Project(tmp_path, server.url, rows=rows, tasks=tasks, limits={"max_attempts": 1, "fail_on_error": 1.0})
        assert made.run_here("--no-progress").returncode == 0
    errors = {row["task"]: (row["item_id"], row["error_type"], row["message"]) for row in made.errors()}
    what = "the server sent no embedding: it has 0 vectors, 1 were requested"
    assert errors["said"] == ("bad", "invalid_response", what)
    assert errors["alike"][:2] == ("bad", "dependency")
    assert len(errors) == 2


# --- what a server may answer ---


@pytest.mark.parametrize(
    ("asked", "data", "vectors"),
    [
        ("a", [{"index": 0, "embedding": [0.5, -1]}], [0.5, -1]),
        ("a", [{"embedding": [0.1]}], [0.1]),
        ("a", [{"index": 0, "embedding": packed([0.5, -0.1])}], [0.5, -0.10000000149011612]),
        (["a"], [{"index": 0, "embedding": [1]}], [[1]]),
        (["a", "b"], [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}], [[1], [2]]),
        (["a", "b"], [{"embedding": [1]}, {"embedding": [2]}], [[1], [2]]),
        ([17, 4], [{"index": 0, "embedding": [1]}], [1]),
        ([[17, 4], [3]], [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [2]}], [[1], [2]]),
    ],
)
def test_the_vectors_of_an_answer(asked: object, data: Any, vectors: Any) -> None:
    assert json.loads(vectors_in({"data": data}, asked)) == vectors


@pytest.mark.parametrize(
    ("asked", "data", "message"),
    [
        ("a", None, "it has no `data`"),
        ("a", {}, "it has no `data`"),
        ("a", [None], "it has no `data`"),
        ("a", [], "it has 0 vectors, 1 were requested"),
        ("a", [{"embedding": [1]}] * 2, "it has 2 vectors, 1 were requested"),
        (["a", "b"], [{"embedding": [1]}], "it has 1 vectors, 2 were requested"),
        ("a", [{"index": 1, "embedding": [1]}], "its indexes are [1], not 0 to 0"),
        (["a", "b"], [{"index": 0, "embedding": [1]}] * 2, "its indexes are [0, 0], not 0 to 1"),
        (["a", "b"], [{"index": 0, "embedding": [1]}, {"embedding": [1]}], "its indexes are [0, None], not 0 to 1"),
        ("a", [{"index": False, "embedding": [1]}], "its indexes are [False]"),
        ("a", [{"index": 0}], "an `embedding` is not a list of numbers"),
        ("a", [{"index": 0, "embedding": []}], "an `embedding` is not a list of numbers"),
        ("a", [{"index": 0, "embedding": ["1"]}], "an `embedding` holds 1, which is not a finite number"),
        ("a", [{"index": 0, "embedding": [True]}], "an `embedding` holds True"),
        ("a", [{"index": 0, "embedding": [None]}], "an `embedding` holds None"),
        ("a", [{"index": 0, "embedding": [[1.0]]}], "an `embedding` holds [1.0]"),
        ("a", [{"index": 0, "embedding": [float("nan")]}], "an `embedding` holds nan"),
        ("a", [{"index": 0, "embedding": [1e999]}], "an `embedding` holds inf"),
        ("a", [{"index": 0, "embedding": packed([float("nan")])}], "an `embedding` holds nan"),
        ("a", [{"index": 0, "embedding": "AAA="}], "an `embedding` of 2 bytes is not a list of numbers of 4 bytes each"),
        ("a", [{"index": 0, "embedding": ""}], "an `embedding` is not a list of numbers"),
        ("a", [{"index": 0, "embedding": "a vector"}], "an `embedding` is not base64"),
        ("a", [{"index": 0, "embedding": "ä"}], "an `embedding` is not base64"),
    ],
)
def test_what_is_no_vector_is_no_answer(asked: object, data: Any, message: str) -> None:
    request = requested(asked)
    body = json.dumps({"object": "list", "data": data, "model": "e"}).encode()
    with pytest.raises(AttemptError) as caught:
        read_response(body, request)
    assert caught.value.failure.error_type is ErrorType.INVALID_RESPONSE
    assert caught.value.failure.message.startswith(f"the server sent no embedding: {message}")


@settings(max_examples=25)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=5))
def test_base64_holds_every_number_exactly(vector: list[float]) -> None:
    assert json.loads(vectors_in({"data": [{"embedding": packed(vector)}]}, "a")) == vector


def requested(asked: object = "some text") -> Request:
    content = json.dumps({"model": "e", "input": asked})
    return Request(
        unit=Unit("a", 0, 0, "e"),
        path="/embeddings",
        model="e",
        content=content.encode(),
        shown=content,
        stream=False,
        chat=False,
        embeds=True,
        prompt_estimate=3,
    )


@pytest.mark.parametrize(
    ("usage", "used"),
    [
        ({"prompt_tokens": 7, "total_tokens": 7}, Used(7, True)),
        ({"prompt_tokens": 7}, Used(7, True)),
        ({"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}, Used(7, True)),
        ({"prompt_tokens": 0, "total_tokens": 0}, Used(3, False)),
        (None, Used(3, False)),
    ],
)
def test_a_vector_costs_its_text_and_nothing_more(usage: object, used: Used) -> None:
    body = json.dumps(embedded(["some text"]) | {"usage": usage}).encode()
    assert used_by(requested(), read_response(body, requested())) == used


def test_the_address_may_be_that_of_the_embeddings() -> None:
    assert normalise_base_url("http://127.0.0.1:8000/v1/embeddings") == "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize("text", ["", [], None, 7, {}])
def test_there_is_something_to_embed(text: object) -> None:
    with pytest.raises(ValueError, match="input"):
        EmbeddingConfiguration.model_validate({"model": "e", "input": text})


# --- how alike vectors are ---


@pytest.mark.parametrize(
    ("candidate", "reference", "value"),
    [
        ([1, 0], [2, 0], 1.0),
        ([1, 0], [0, 3], 0.0),
        ([1, 0], [-1, 0], -1.0),
        ([1, 2, 2], [2, 1, 2], 8 / 9),
        ([0, 0], [1, 1], 0.0),
        ([1, 1], [0, 0], 0.0),
        ("[1, 2, 2]", Output("[2, 1, 2]"), 8 / 9),
        ([1, 0], [[0, 1], [1, 1], [-1, 0]], 0.5**0.5),
        ([1e300, 1e300], [1e-300, 1e-300], 1.0),
        ([0.1] * 3, [0.1] * 3, 1.0),
        (None, [1, 0], 0.0),
        ("", [1, 0], 0.0),
        ([], [1, 0], 0.0),
    ],
)
async def test_cosine_similarity(candidate: object, reference: object, value: float) -> None:
    found = await judged({"candidate": candidate, "reference": reference}, type="cosine_similarity")
    assert isinstance(found, Value)
    assert found.value == pytest.approx(value, rel=1e-15)
    assert -1.0 <= (found.value or 0.0) <= 1.0


@pytest.mark.parametrize(
    ("candidate", "reference", "message"),
    [
        ("Paris", [1, 0], "configuration.candidate: is not a vector"),
        ({"a": 1}, [1, 0], "configuration.candidate: is not a vector"),
        (["1", 0], [1, 0], "configuration.candidate: is not a vector"),
        ([True, 0], [1, 0], "configuration.candidate: is not a vector"),
        ([float("nan"), 0], [1, 0], "configuration.candidate: is not a vector"),
        ([1e308, 1e308, 1e308, 1e308], [1, 0, 0, 0], "configuration.candidate: is not a vector"),
        ([10**400, 0], [1, 0], "configuration.candidate: is not a vector"),
        ([[1, 0]], [1, 0], "configuration.candidate: is not a vector"),
        ([1, 0], "Paris", "configuration.reference: is not a vector"),
        ([1, 0], None, "configuration.reference: is not a vector"),
        (None, [], "configuration.reference: is not a vector"),
        ([1, 0], [[1, 0], None], "configuration.reference: is not a vector"),
        ([1, 0], [1, 0, 0], "configuration.reference: has 3 numbers, the candidate 2"),
    ],
)
async def test_what_is_no_vector_has_no_cosine(candidate: object, reference: object, message: str) -> None:
    row = {"candidate": candidate, "reference": reference}
    assert (await refused(row, type="cosine_similarity")).startswith(message)
