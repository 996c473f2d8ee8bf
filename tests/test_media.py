"""Pictures, sounds and documents: what reaches the wire, what is kept in their place, and what rows may not read."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from runner import jsontext
from runner.check.needs import needs_of
from runner.check.samples import png, wav
from runner.config.loading import load_config
from runner.datasets.arrowrows import _rows_at_once
from runner.errors import RowError
from runner.tasks.chat_completion import ChatCompletionConfig
from runner.tasks.media import Origin, encode_body, find_media
from runner.tasks.mediafiles import MediaError, MediaFiles, Medium, encoded
from runner.tasks.mediatype import as_audio, audio_format, data_url, media_type_of
from runner.tasks.request import RequestTask
from runner.types import Blob, Failure, Item, Outcome, Request, Result, Sample, Unit
from tests.calls import InThisProcess
from tests.commands import Project
from tests.records import TEXT
from tests.serving import Served, chat_answer

PNG, WAV = png(), wav()
GIF = b"GIF89a" + bytes(20)
PDF = b"%PDF-1.7\n%%EOF\n"
MP3 = b"ID3\x04" + bytes(40)
FRAME = b"\xff\xfb\x90\x64" + bytes(400)
MP4 = b"\0\0\0\x18ftypisom" + bytes(12)
WEBM = b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm"
OGG = b"OggS\0\x02" + bytes(22) + b"\x01vorbis" + bytes(30)
#: Two megabytes that no packing makes small.
BIG = PNG + hashlib.shake_256(b"noise").digest(1_100_000)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def placeholder(media_type: str, data: bytes) -> str:
    return f"<{media_type}, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}>"


def image(url: Any = "item.image") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def asking(*parts: Any, alias: str = "answer") -> dict[str, Any]:
    """Return a chat task that sends parts."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}]
    return {"task_type": "chat_completion", "alias": alias, "configuration": {"model": "m", "messages": messages}}


async def briefly(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(chat_answer("seen"))


@pytest.fixture
def served() -> Iterator[Served]:
    with Served(briefly) as endpoint:
        yield endpoint


def project(directory: Path, served: Served, rows: Sequence[Mapping[str, Any]], *parts: Any, **more: Any) -> Project:
    """Return a config and a dataset beside each other."""
    return Project(directory, served.url, rows=rows, tasks=[asking(*parts)], limits={"fail_on_error": 100}, more=more)


def parts_sent(served: Served) -> list[Any]:
    """Return the content parts after the text, of the only request."""
    (seen,) = served.seen
    parts: list[Any] = seen.body["messages"][0]["content"]
    return parts[1:]


# --- what the content says ---


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"GIF87a..", "image/gif"),
        (GIF, "image/gif"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
        (b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(36), "image/bmp"),
        (b"II*\0\x08\0\0\0", "image/tiff"),
        (b"\0\0\0\x1cftypavif" + bytes(8), "image/avif"),
        (b"\0\0\0\x1cftypheic" + bytes(8), "image/heic"),
        (WAV, "audio/wav"),
        (MP3, "audio/mpeg"),
        (FRAME, "audio/mpeg"),
        (b"\xff\xf3\x40\xc0" + bytes(200), "audio/mpeg"),
        (b"\xff\xf1\x50\x80" + bytes(200), "audio/aac"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (OGG, "audio/ogg"),
        (b"OggS\0\x02" + bytes(22) + b"\x80theora" + bytes(30), "video/ogg"),
        (b"FORM\0\0\0\x10AIFF", "audio/aiff"),
        (b"\0\0\0\x18ftypM4A " + bytes(12), "audio/mp4"),
        (MP4, "video/mp4"),
        (WEBM, "video/webm"),
        (PDF, "application/pdf"),
        (b"hello", None),
        (b"", None),
        (b"BM is how this text begins, and it goes on", None),
        ("\ufeffA text".encode("utf-16-le"), None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"RIFF\x24\0\0\0XXXX", None),
    ],
)
def test_the_content_says_the_media_type(data: bytes, media_type: str | None) -> None:
    assert media_type_of(data) == media_type


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("audio/wav", "wav"),
        ("audio/mpeg", "mp3"),
        ("audio/mp4", "m4a"),
        ("video/webm", "webm"),
        ("audio/flac", "flac"),
        ("image/png", None),
    ],
)
def test_the_format_of_a_sound(media_type: str, name: str | None) -> None:
    assert audio_format(media_type) == name


def test_a_container_is_a_sound_where_one_is_wanted() -> None:
    assert [as_audio(one) for one in ("video/webm", "video/quicktime", "image/png")] == [
        "audio/webm",
        "video/quicktime",
        "image/png",
    ]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 196_607, 196_608, 196_609, 2_000_000])
def test_base64_made_in_pieces_is_base64(size: int) -> None:
    data = hashlib.shake_256(b"noise").digest(size)
    assert encoded(data) == base64.b64encode(data)


# --- on the wire ---

FILES = {
    "pic.png": PNG,
    "tone.wav": WAV,
    "song.mp3": FRAME,
    "clip.mp4": MP4,
    "paper.pdf": PDF,
    "talk.webm": WEBM,
}
WEB = "https://example.org/a.png"
#: Each kind of part as written, and as it comes.
PARTS = [
    (image("file:pic.png"), image(data_url("image/png", PNG))),
    (
        {"type": "image_url", "image_url": {"detail": "low", "url": "file:{{item.name}}.png"}},
        {"type": "image_url", "image_url": {"detail": "low", "url": data_url("image/png", PNG)}},
    ),
    ({"type": "image_url", "image_url": "file:pic.png"}, {"type": "image_url", "image_url": data_url("image/png", PNG)}),
    (image(WEB), image(WEB)),
    (image(data_url("image/png", b"x")), image(data_url("image/png", b"x"))),
    (image(data_url("image/png", BIG)), image(data_url("image/png", BIG))),
    (image(f"{WEB}?signature={'s' * 3000}"), image(f"{WEB}?signature={'s' * 3000}")),
    (image(""), image("")),
    (
        {"type": "audio_url", "audio_url": {"url": "file:talk.webm"}},
        {"type": "audio_url", "audio_url": {"url": data_url("audio/webm", WEBM)}},
    ),
    (
        {"type": "video_url", "video_url": {"url": "file:clip.mp4"}},
        {"type": "video_url", "video_url": {"url": data_url("video/mp4", MP4)}},
    ),
    (
        {"type": "input_audio", "input_audio": {"data": "file:tone.wav"}},
        {"type": "input_audio", "input_audio": {"data": base64_of(WAV), "format": "wav"}},
    ),
    (
        {"type": "input_audio", "input_audio": {"data": "file:song.mp3"}},
        {"type": "input_audio", "input_audio": {"data": base64_of(FRAME), "format": "mp3"}},
    ),
    (
        {"type": "input_audio", "input_audio": {"format": "named", "data": "file:song.mp3"}},
        {"type": "input_audio", "input_audio": {"format": "named", "data": base64_of(FRAME)}},
    ),
    (
        {"type": "input_audio", "input_audio": {"data": base64_of(WAV), "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": base64_of(WAV), "format": "wav"}},
    ),
    (
        {"type": "file", "file": {"file_data": "file:paper.pdf"}},
        {"type": "file", "file": {"file_data": data_url("application/pdf", PDF), "filename": "paper.pdf"}},
    ),
    (
        {"type": "file", "file": {"file_data": "file:paper.pdf", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": data_url("application/pdf", PDF), "filename": "a.pdf"}},
    ),
    ({"type": "file", "file": {"file_id": "file-123"}}, {"type": "file", "file": {"file_id": "file-123"}}),
    ({"type": "text", "text": "file:pic.png"}, {"type": "text", "text": "file:pic.png"}),
]


@pytest.mark.long
def test_every_kind_of_part_reaches_the_wire_whole(tmp_path: Path, served: Served) -> None:
    trial = project(tmp_path, served, [{"id": "a", "name": "pic"}], *(written for written, _ in PARTS))
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    # aiohttp warns of large bodies that are written in one piece, for they would hold the loop: here this is an error.
    done = trial.run_here()
    assert done.returncode == 0, done.stderr
    assert trial.results(), trial.errors()
    assert parts_sent(served) == [expected for _, expected in PARTS]


def parquet(directory: Path) -> Path:
    """Write a dataset with bytes in columns, in structs as Hugging Face's, and in a list."""
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            "id": ["a"],
            "image": pa.array([BIG], pa.large_binary()),
            "held": pa.array([{"bytes": GIF, "path": "a.gif"}], struct),
            "named": pa.array([{"bytes": None, "path": "pic.png"}], struct),
            "sounds": pa.array([[WAV, MP3]], pa.list_(pa.binary())),
            "paper": pa.array([{"bytes": PDF, "path": "docs/paper.pdf"}], struct),
        }
    )
    path = directory / "rows.parquet"
    pq.write_table(table, path)
    return path


def test_bytes_of_parquet_columns_are_sent_as_media(tmp_path: Path, served: Served) -> None:
    (tmp_path / "pic.png").write_bytes(PNG)
    trial = project(
        tmp_path,
        served,
        [],
        image(),
        image("item.held"),
        image("item.named"),
        {"type": "image_url", "image_url": "item.held"},
        {"type": "input_audio", "input_audio": {"data": "item.sounds.0"}},
        {"type": "input_audio", "input_audio": "item.sounds.1"},
        {"type": "file", "file": {"file_data": "item.paper"}},
        dataset={"path": str(parquet(tmp_path)), "id": "id"},
    )
    done = trial.run_here()
    assert done.returncode == 0, done.stderr
    assert parts_sent(served) == [
        image(data_url("image/png", BIG)),
        image(data_url("image/gif", GIF)),
        image(data_url("image/png", PNG)),
        {"type": "image_url", "image_url": data_url("image/gif", GIF)},
        {"type": "input_audio", "input_audio": {"data": base64_of(WAV), "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": base64_of(MP3), "format": "mp3"}},
        {"type": "file", "file": {"file_data": data_url("application/pdf", PDF), "filename": "paper.pdf"}},
    ]
    (row,) = trial.results()
    assert json.loads(row["item"])["image"].startswith(f"<{len(BIG)} bytes, sha256 {hashlib.sha256(BIG).hexdigest()[:16]}")
    assert placeholder("image/png", BIG) in row["request"]
    assert holding(trial) == []


def test_messages_that_a_row_brings_have_their_files_read(tmp_path: Path, served: Served) -> None:
    (tmp_path / "pic.png").write_bytes(PNG)
    messages = [{"role": "user", "content": [{"type": "text", "text": "?"}, image("file:pic.png")]}]
    trial = project(tmp_path, served, [{"id": "a", "messages": messages}])
    trial.tasks = [asking() | {"configuration": {"model": "m", "messages": "item.messages"}}]
    trial.write()
    assert trial.run_here().returncode == 0
    assert parts_sent(served) == [image(data_url("image/png", PNG))]


# --- what is kept ---


def holding(trial: Project) -> list[str]:
    """Return the files of a run that hold a medium, raw or as base64, in any column."""
    files = [path for path in trial.run_dir.rglob("*") if path.is_file()]
    columns = {str(path): repr(pq.read_table(path).to_pylist()) for path in files if path.suffix == ".parquet"}
    plain = {str(path): path.read_bytes().decode("latin-1") for path in files if path.suffix != ".parquet"}
    needles = (base64_of(BIG)[40:240], BIG[40:140].decode("latin-1"))
    assert columns
    return [name for name, text in (columns | plain).items() if any(needle in text for needle in needles)]


async def refusing_gifs(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    if "image/gif" in json.dumps(body):
        return web.json_response({"error": {"message": "no GIF"}}, status=400)
    return web.json_response(chat_answer("seen"))


@pytest.mark.long
def test_files_of_a_run_hold_placeholders_and_no_base64(tmp_path: Path) -> None:
    gif = GIF + BIG
    inline = data_url("image/webp", BIG)
    with Served(refusing_gifs) as served:
        rows = [{"id": "good", "image": "file:big.png"}, {"id": "bad", "image": "file:big.gif"}]
        trial = project(tmp_path, served, rows, image(), image(inline), image(data_url("image/png", b"short")))
        (tmp_path / "big.png").write_bytes(BIG)
        (tmp_path / "big.gif").write_bytes(gif)
        done = trial.run_here()
        sent = [seen.body["messages"][0]["content"][1]["image_url"]["url"] for seen in served.seen]
        assert sorted(sent) == [data_url("image/gif", gif), data_url("image/png", BIG)]
    (good,), (bad,) = trial.results(), trial.errors()
    assert (bad["error_type"], bad["message"]) == ("request", "400 Bad Request: no GIF")
    for row, first in ((good, placeholder("image/png", BIG)), (bad, placeholder("image/gif", gif))):
        urls = [part["image_url"]["url"] for part in json.loads(row["request"])["messages"][0]["content"][1:]]
        assert urls == [first, placeholder("image/webp", BIG), data_url("image/png", b"short")]
    # The config is the one file that holds what the config holds.
    assert {Path(name).name for name in holding(trial)} <= {"config.yaml", "evaluation.json"}
    assert base64_of(BIG)[40:240] not in done.stderr + done.stdout


def test_what_was_inline_already_has_a_placeholder_too() -> None:
    whole = base64_of(BIG)
    written = {
        data_url("image/png", BIG): placeholder("image/png", BIG),
        f"data:;base64,{whole}": placeholder("base64", BIG),
        f"data:image/png;base64,{'!' * 2000}": f"<2022 characters, sha256 {_sha('data:image/png;base64,' + '!' * 2000)}>",
        f"data:text/plain,{'a' * 2000}": f"<2016 characters, sha256 {_sha('data:text/plain,' + 'a' * 2000)}>",
        "x" * 1000: "x" * 1000,
        f"{WEB}?signature={'s' * 3000}": f"{WEB}?signature={'s' * 3000}",
    }
    for url, shown in written.items():
        request = rendered(image(), {"image": url})
        assert urls_of(request.content) == [url]
        assert urls_of(request.shown) == [shown]
    request = rendered({"type": "input_audio", "input_audio": {"data": "item.a", "format": "wav"}}, {"a": whole})
    assert placeholder("base64", BIG) in request.shown


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_recording_holds_the_real_body_and_answers_it(tmp_path: Path, served: Served) -> None:
    (tmp_path / "pic.png").write_bytes(BIG)
    rows = [{"id": "a", "image": "file:pic.png"}]
    recordings = tmp_path / "recordings"
    trial = project(tmp_path, served, rows, image(), endpoint={"base_url": served.url, "record": str(recordings)})
    assert trial.run_here().returncode == 0
    (recording,) = recordings.iterdir()
    assert data_url("image/png", BIG) in recording.read_text()
    again = project(tmp_path, served, rows, image(), endpoint={"replay": str(recordings)}, name="again")
    done = again.run_here()
    assert done.returncode == 0, done.stderr
    assert len(served.seen) == 1
    (tmp_path / "pic.png").write_bytes(PNG)
    other = project(tmp_path, served, rows, image(), endpoint={"replay": str(recordings)}, name="other")
    other.run_here()
    (error,) = pq.read_table(next((tmp_path / "results" / "other").glob("2*/errors.parquet"))).to_pylist()
    assert "there is no recording" in error["message"]


# --- what may be read ---


def test_a_row_reads_below_its_dataset_only_and_bad_files_are_row_errors(tmp_path: Path, served: Served) -> None:
    inside, outside = tmp_path / "data", tmp_path / "outside"
    for directory in (inside, outside, inside / "folder", inside / "a b"):
        directory.mkdir()
    for path in (outside / "secret.png", inside / "pic.png", inside / "a b" / "ü.png", inside / "100%25.png"):
        path.write_bytes(PNG)
    (inside / "link-out.png").symlink_to(outside / "secret.png")
    (inside / "way-out").symlink_to(outside)
    (inside / "link-in.png").symlink_to(inside / "pic.png")
    (inside / "loop.png").symlink_to(inside / "loop.png")
    (inside / "empty.png").write_bytes(b"")
    (inside / "notes.png").write_bytes(b"no picture")
    (inside / "large.png").write_bytes(PNG + bytes(5000))
    (inside / "exact.png").write_bytes(PNG + bytes(5000 - len(PNG)))
    os.mkfifo(inside / "pipe.png")
    good = {
        "plain": "file:pic.png",
        "dot": "file:./pic.png",
        "back": "file:folder/../pic.png",
        "absolute": f"file:{inside}/pic.png",
        "whole": f"file://{inside}/a%20b/%C3%BC.png",
        "as-is": "file:a b/ü.png",
        "percent": "file:100%25.png",
        "local": f"file://localhost{inside}/pic.png",
        "case": "FILE:pic.png",
        "link": "file:link-in.png",
        "limit": "file:exact.png",
    }
    bad = {
        "dots": ("file:../outside/secret.png", "leads out of"),
        "deep": ("file:folder/../../outside/secret.png", "leads out of"),
        "encoded": (f"file://{inside}/%2e%2e/outside/secret.png", "leads out of"),
        "elsewhere": (f"file:{outside}/secret.png", "leads out of"),
        "url": (f"file://{outside}/secret.png", "leads out of"),
        "link-out": ("file:link-out.png", "leads out of"),
        "way-out": ("file:way-out/secret.png", "leads out of"),
        "unknown": ("file:../outside/nothing.png", "leads out of"),  # and no word of what is there
        "passwd": ("file:/etc/passwd", "leads out of"),
        "host": ("file://server/share/pic.png", "names the host 'server'"),
        "relative-url": ("file://pic.png", "names the host 'pic.png'"),
        "missing": ("file:nothing.png", "there is no such file"),
        "directory": ("file:folder", "is a directory"),
        "nothing": ("file:", "is a directory"),
        "below-file": ("file:pic.png/x", "Not a directory"),
        "empty": ("file:empty.png", "is empty"),
        "text": ("file:notes.png", "begins with b'no pictu'"),
        "large": ("file:large.png", f"has {len(PNG) + 5000} bytes; dataset.media_limit allows 5000"),
        "pipe": ("file:pipe.png", "is a pipe"),
        "loop": ("file:loop.png", "cannot be read"),
        "nul": ("file:a\0b.png", "cannot be read"),
        "long": (f"file:{'a' * 5000}.png", "cannot be read"),
    }
    rows = [{"id": name, "image": url} for name, url in good.items()]
    rows += [{"id": name, "image": url} for name, (url, _) in bad.items()]
    dataset = {"path": str(inside / "rows.jsonl"), "id": "id", "media_limit": 5000}
    trial = project(tmp_path, served, rows, image(), dataset=dataset)
    trial.dataset.rename(inside / "rows.jsonl")
    done = trial.run_here()
    assert done.returncode == 0, done.stderr
    assert {row["item_id"] for row in trial.results()} == set(good)
    errors = {row["item_id"]: row for row in trial.errors()}
    assert set(errors) == set(bad)
    for number, (name, (url, reason)) in enumerate(bad.items(), len(good) + 1):
        message = errors[name]["message"]
        assert errors[name]["error_type"] == "template"
        assert message.startswith(f"configuration.messages.0.content.1.image_url.url: {url[:200]}"), message
        assert reason in message
        assert f"({inside}/rows.jsonl:{number})" in message
        assert errors[name]["request"] is None
    assert len(served.seen) == len(good)


def test_media_root_is_where_files_are_and_nowhere_else(tmp_path: Path, served: Served) -> None:
    root = tmp_path / "pictures"
    root.mkdir()
    (root / "pic.png").write_bytes(PNG)
    (tmp_path / "beside.png").write_bytes(GIF)
    rows = [
        {"id": "below", "image": "file:pic.png"},
        {"id": "absolute", "image": f"file:{root}/pic.png"},
        {"id": "beside", "image": f"file:{tmp_path}/beside.png"},
        {"id": "dots", "image": "file:../beside.png"},
    ]
    dataset = {"path": str(tmp_path / "rows.jsonl"), "id": "id", "media_root": str(root)}
    # What the config itself spells out may lie anywhere.
    trial = project(tmp_path, served, rows, image(), image("file:../beside.png"), dataset=dataset)
    assert trial.run_here().returncode == 0
    assert {row["item_id"] for row in trial.results()} == {"below", "absolute"}
    assert all(data_url("image/gif", GIF) in json.dumps(seen.body) for seen in served.seen)
    assert {row["item_id"]: "leads out of" in row["message"] for row in trial.errors()} == {"beside": True, "dots": True}


def test_a_media_root_that_is_no_directory_is_a_mistake_of_the_config(tmp_path: Path, served: Served) -> None:
    dataset = {"path": str(tmp_path / "rows.jsonl"), "id": "id", "media_root": str(tmp_path / "nowhere")}
    done = project(tmp_path, served, [{"id": "a"}], dataset=dataset).run_here()
    assert done.returncode == 2
    assert "dataset.media_root" in done.stderr
    assert "is not a directory" in done.stderr


def test_files_of_inline_rows_lie_beside_the_config(tmp_path: Path, served: Served) -> None:
    (tmp_path / "pic.png").write_bytes(PNG)
    dataset = {"data": [{"id": "a", "image": "file:pic.png"}, {"id": "b", "image": "file:../pic.png"}], "id": "id"}
    trial = project(tmp_path, served, [], image(), dataset=dataset)
    assert trial.run_here().returncode == 0
    assert parts_sent(served) == [image(data_url("image/png", PNG))]
    (error,) = trial.errors()
    assert "leads out of" in error["message"]


@pytest.mark.parametrize(
    "url", ["file:{{item.image}}", "{% set row = item %}file:{{row['image']}}", "item.image", "file:{{'../secret.png'}}"]
)
def test_a_file_that_a_template_had_a_part_in_is_not_the_configs_own(tmp_path: Path, url: str) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "data").mkdir()
    row = {"image": "file:../secret.png" if url == "item.image" else "../secret.png"}
    with pytest.raises(RowError, match="leads out of"):
        rendered(image(url), row, files=MediaFiles(directory=tmp_path / "data"))


def test_a_dry_run_shows_placeholders_and_names_rows_without_their_file(tmp_path: Path, served: Served) -> None:
    (tmp_path / "pic.png").write_bytes(BIG)
    rows = [{"id": "here", "image": "file:pic.png"}, {"id": "gone", "image": "file:gone.png"}]
    done = project(tmp_path, served, rows, image()).run_here("--dry-run")
    assert placeholder("image/png", BIG) in done.stdout
    assert base64_of(BIG)[:60] not in done.stdout + done.stderr
    place = "configuration.messages.0.content.1.image_url.url"
    assert f"bad row: {tmp_path}/rows.jsonl:2 (gone): {place}: file:gone.png" in done.stdout
    assert "2 rows, 1 of them bad; 1 requests would be sent" in done.stdout
    assert served.seen == []


def test_a_check_asks_with_the_media_of_the_first_row(tmp_path: Path, served: Served) -> None:
    (tmp_path / "pic.png").write_bytes(PNG)
    rows = [{"id": "a", "image": "file:pic.png"}]
    config, _ = load_config(project(tmp_path, served, rows, image(), image("file:pic.png")).config, environment={})
    (own,) = needs_of(config, rows).own
    assert urls_of(own.request.content) == [data_url("image/png", PNG)] * 2


# --- inside the process ---


@pytest.mark.parametrize(
    ("rows", "size", "at_once"),
    [(1_000_000, 1_000_000, 256), (100, 100 << 20, 8), (100, 1000 << 20, 1), (1, 1 << 30, 1)],
)
def test_rows_with_pictures_are_read_fewer_at_a_time(rows: int, size: int, at_once: int) -> None:
    assert _rows_at_once(rows, size) == at_once


async def unasked(request: Request) -> Outcome:
    raise AssertionError(request)


def task_of(part: Any, files: MediaFiles, execute: Any = unasked) -> RequestTask:
    task = ChatCompletionConfig.model_validate(asking(part)).build(execute, files, InThisProcess())
    assert isinstance(task, RequestTask)
    return task


def rendered(part: Any, item: Mapping[str, Any], files: MediaFiles | None = None) -> Request:
    return task_of(part, files or MediaFiles()).render(Unit("a", 0, 0, "answer"), item)


def urls_of(body: str | bytes) -> list[str]:
    return [part["image_url"]["url"] for part in json.loads(body)["messages"][0]["content"][1:]]


@pytest.mark.parametrize(
    ("part", "item", "reason"),
    [
        (image("{{item.image}}"), {"image": Blob(PNG)}, "printed as text"),
        (
            {"type": "text", "text": "item.image"},
            {"image": Blob(PNG)},
            r"content\.1\.text: the bytes of a column cannot be sent",
        ),
        (image(), {"image": Blob(b"")}, "is empty"),
        (image(), {"image": Blob(b"text")}, "is not a picture"),
        (image(), {"image": Blob(PNG + bytes(10_000))}, "dataset.media_limit allows 9000"),
        (
            {"type": "input_audio", "input_audio": {"data": "item.image"}},
            {"image": Blob(PNG)},
            "is image/png, which is not a sound",
        ),
    ],
)
def test_bytes_that_cannot_be_sent_are_a_row_error(part: Any, item: Any, reason: str) -> None:
    with pytest.raises(RowError, match=reason) as raised:
        rendered(part, item, MediaFiles(limit=9000))
    assert raised.value.failure.error_type == "template"


class Waiting(MediaFiles):
    """Files on a disk that answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.ready = threading.Event(), threading.Event()

    def read(self, url: str, base: Path, *, anywhere: bool) -> Medium:
        self.asked.set()
        if not self.ready.wait(20):
            raise MediaError("nobody else had a turn while it was read")
        return super().read(url, base, anywhere=anywhere)


async def test_the_loop_goes_on_while_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "pic.png").write_bytes(PNG)
    files, sent = Waiting(), []

    async def execute(request: Request) -> Outcome:
        sent.append(request)
        return Outcome(answer=Failure(error_type="server", message=""), started_at=0, completed_at=0)  # type: ignore[arg-type]

    item = Item(item_id="a", index=0, row={"image": "file:pic.png"}, place=f"{tmp_path}/rows.jsonl:1")
    running = asyncio.create_task(task_of(image(), files, execute).run(Sample(item, 0), item.row))
    assert await asyncio.to_thread(files.asked.wait, 20)
    assert not running.done()
    files.ready.set()  # by the loop itself, which would never get here if it waited for the disk
    result: Result = await running
    assert [urls_of(request.content) for request in sent] == [[data_url("image/png", PNG)]]
    assert result.request is sent[0]


def test_what_many_rows_have_in_common_is_read_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "pic.png"
    path.write_bytes(PNG)
    files = MediaFiles()
    first = files.read("file:pic.png", tmp_path, anywhere=False)
    assert files.read(f"file:{path}", tmp_path, anywhere=False) is first
    path.write_bytes(GIF)
    assert files.read("file:pic.png", tmp_path, anywhere=False).media_type == "image/gif"


def test_no_more_is_kept_than_allowed(tmp_path: Path) -> None:
    files = MediaFiles(kept_bytes=5000)
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(PNG + bytes(1000))
        files.read(f"file:{number}.png", tmp_path, anywhere=False)
        assert files.bytes_kept <= 5000
    assert files.bytes_kept > 0
    (tmp_path / "large.png").write_bytes(PNG + bytes(9000))
    assert files.read("file:large.png", tmp_path, anywhere=False).size == len(PNG) + 9000
    assert files.bytes_kept <= 5000


def test_rows_do_not_see_each_others_media(tmp_path: Path) -> None:
    task = task_of(image(), MediaFiles())
    part = {"image": Blob(PNG)}
    first = task.render(Unit("a", 0, 0, "answer"), part)
    second = task.render(Unit("b", 1, 0, "answer"), {"image": Blob(GIF)})
    assert urls_of(first.content) == [data_url("image/png", PNG)]
    assert urls_of(second.content) == [data_url("image/gif", GIF)]
    assert isinstance(part["image"], Blob)


def test_neither_row_nor_config_changes_when_media_are_put_in(tmp_path: Path) -> None:
    (tmp_path / "pic.png").write_bytes(PNG)
    constant = task_of(image("file:pic.png"), MediaFiles(directory=tmp_path))
    task = asking() | {"configuration": {"model": "m", "messages": "item.messages"}}
    of_row = ChatCompletionConfig.model_validate(task).build(unasked, MediaFiles(), InThisProcess())
    assert isinstance(of_row, RequestTask)
    blob = Blob(PNG)
    item = {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, image(blob)]}]}
    for one in (constant, of_row):
        requests = [one.render(Unit("a", 0, sample, "answer"), item) for sample in range(2)]
        assert [urls_of(request.content) for request in requests] == [[data_url("image/png", PNG)]] * 2
    assert item["messages"][0]["content"][1] == image(blob)


def test_a_picture_is_not_estimated_as_so_much_text() -> None:
    assert 1000 < rendered(image(), {"image": Blob(BIG)}).token_estimate < 2000


JSON = st.recursive(
    TEXT | st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=8
)
PART = st.dictionaries(st.sampled_from(["type", "text", "image_url", "input_audio", "file", "url", "data"]), JSON)
LONG = st.text(min_size=1001, max_size=1100).map(lambda text: f"data:{text}")


@pytest.mark.long
@given(messages=st.lists(st.fixed_dictionaries({"content": st.lists(PART | LONG.map(image) | JSON) | JSON}) | JSON) | JSON)
def test_a_body_without_local_media_is_sent_exactly_as_it_is(messages: Any) -> None:
    body = {"model": "m", "messages": messages}
    made = encode_body(body, find_media(body), Origin(MediaFiles()))
    assert made.content == jsontext.encode(body)
    assert len(made.shown) <= len(made.content.decode())
