"""What a client was told holds after a kill: the directory is copied at some moment, as a kill leaves it, and served again."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner.results.views import export
from runner.service import supervisor
from runner.service.kept import append, lines_of
from tests.faulty_files import files_no_larger_than
from tests.service import Running, chat
from tests.serving import Served, chat_answer

ROWS = [{"q": str(number)} for number in range(3)]


class Gate:
    """An endpoint that answers once it may."""

    def __init__(self) -> None:
        self.is_open, self.begun = threading.Event(), threading.Event()

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.begun.set()
        await asyncio.to_thread(self.is_open.wait, 20)
        return web.json_response(chat_answer(body["messages"][0]["content"]))


def killed(service: Running, path: Path) -> Path:
    """Return a directory for a service that finds what a kill would leave of this one now."""
    path.mkdir()
    shutil.copytree(service.path / "out", path / "out")
    return path


@pytest.mark.parametrize("how", ["cancel", "archive", "resume"])
def test_who_was_told_that_it_ends_is_not_charged_for_more(tmp_path: Path, how: str) -> None:
    gate = Gate()
    with Served(gate.answer) as endpoint, Served() as later:
        with Running(tmp_path / "s", endpoint) as service:
            made = service.create([*ROWS] * 10, chat())["id"]
            assert gate.begun.wait(10)
            if how == "archive":
                assert service.ask("DELETE", f"/v5/evaluations/{made}")[0] == 200
            else:
                assert service.ask("POST", f"/runner/evaluations/{made}/cancel")[0] == 200
            if how == "resume":
                gate.is_open.set()
                service.ended(made)
                gate.is_open.clear()
                assert service.ask("POST", f"/runner/evaluations/{made}/resume")[0] == 200
            left = killed(service, tmp_path / "t")
            gate.is_open.set()
        with Running(left, later) as service:
            ended = service.ended(made)
    if how == "resume":
        assert (ended["status"], ended["status_reason"]) == ("completed", None)
    else:
        why = {"cancel": "cancelled by local", "archive": "archived while it ran"}[how]
        assert (ended["status"], ended["status_reason"], len(later.seen)) == ("failed", why, 0)


def test_who_sees_that_it_has_ended_finds_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(directory: Path) -> Any:
        begun.set()
        assert may_end.wait(20)
        return export(directory)

    with Served() as endpoint:
        with Running(tmp_path / "s", endpoint) as service:
            monkeypatch.setattr(supervisor, "export", slow)
            made = service.create(ROWS, chat())["id"]
            assert begun.wait(20)
            _, found = service.ask("GET", f"/v5/evaluations/{made}")
            assert (found["status"], found["progress"]["items"]["pending"]) == ("running", 0)
            left = killed(service, tmp_path / "t")
            may_end.set()
            assert service.ended(made)["status"] == "completed"
            assert service.ask("HEAD", f"/runner/evaluations/{made}/results.parquet")[0] == 200
            assert service.ask("POST", f"/runner/evaluations/{made}/resume")[0] == 200
            assert service.ended(made)["status"] == "completed"
        with Running(left, endpoint) as service:
            assert service.ended(made)["status"] == "completed"
            assert service.ask("HEAD", f"/runner/evaluations/{made}/results.parquet")[0] == 200
    assert len(endpoint.seen) == len(ROWS)


def test_a_version_of_a_dataset_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    with Served() as endpoint:
        with Running(tmp_path / "s", endpoint) as service:
            made = service.ask("POST", "/v5/datasets", {"name": "d", "data": ROWS})[1]["id"]
            path = service.path / "out" / "datasets" / made / "items.jsonl"
            first = path.read_bytes()
            assert service.ask("POST", "/v5/dataset-items/batch", {"dataset_id": made, "data": ROWS})[0] == 200
            whole = path.read_bytes()
        for length in range(len(first), len(whole) + 1):
            if length in {len(first) + 5, len(first) + whole[len(first) :].index(b"\n") + 1, len(whole) - 1, len(whole)}:
                path.write_bytes(whole[:length])
                with Running(tmp_path / "s", endpoint) as service:
                    found = service.ask("GET", f"/v5/dataset-items?dataset_id={made}")[1]["total"]
                    version = service.ask("GET", f"/v5/datasets/{made}")[1]["current_version_num"]
                    assert (found, version) == ((6, 2) if length == len(whole) else (3, 1)), length
        half = service.path / "out" / "datasets" / ".new-ds_1"
        half.mkdir()
        with Running(tmp_path / "s", endpoint) as service:
            assert not half.exists()


def test_what_cannot_be_read_is_left_out_and_the_rest_is_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Served() as endpoint:
        with Running(tmp_path / "s", endpoint) as service:
            names = [service.create(ROWS)["id"] for _ in range(2)]
            datasets = [service.ask("POST", "/v5/datasets", {"name": "d", "data": ROWS})[1]["id"] for _ in range(2)]
        out = service.path / "out"
        for path in (out / names[0], out / "datasets" / datasets[0]):
            (path / "request.json").write_bytes((path / "request.json").read_bytes()[:30])
        (out / "questions" / "questions.jsonl").write_text('{"id": \n')
        with caplog.at_level(logging.WARNING), Running(tmp_path / "s", endpoint) as service:
            assert [one["id"] for one in service.ask("GET", "/v5/evaluations")[1]["items"]] == names[1:]
            assert [one["id"] for one in service.ask("GET", "/v5/datasets")[1]["items"]] == datasets[1:]
    assert len([line for line in caplog.messages if "skipped, because it cannot be read" in line]) == 3


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "changes.jsonl"
    append(path, [b'{"name":"one"}'])
    with files_no_larger_than(40), pytest.raises(OSError, match="too large"):
        append(path, [b'{"name":"' + b"x" * 100 + b'"}'])
    append(path, [b'{"name":"two"}'])
    assert lines_of(path) == [b'{"name":"one"}', b'{"name":"two"}']


def test_more_may_be_made_while_somebody_looks(tmp_path: Path) -> None:
    class Another:
        """Whoever looks at it finds that there is one more."""

        def __init__(self, records: dict[str, Any]) -> None:
            self.records = records

        def __getattr__(self, name: str) -> str | None:
            self.records[str(len(self.records))] = self
            return None if name == "archived_at" else name

    with Running(tmp_path / "s") as running:
        service = running.service
        for kept in (service.store, service.datasets, service.questions):
            kept.records["0"] = Another(kept.records)  # type: ignore[assignment]
            assert len(kept.of("account", archived=False)) == 1
        assert len(service.store.all) > 1
        service.store.records.clear()
