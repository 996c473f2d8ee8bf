"""The evaluation service as a process that is killed, stopped and loaded: what a client sees of it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

from runner.storage.ledger import Ledger
from tests.commands import ROOT
from tests.reliability.endpoint import Behaviour, Endpoint, endpoint
from tests.reliability.figures import Measured

__all__ = ["measure_service_kills", "measure_service_load"]

EVALUATIONS, ROWS, KILLS, CONCURRENCY = 4, 5_000, 20, 32
_KILL_S = 6.0
_DRAIN_S = 3.0
_WITHIN_S = 1200.0
#: The large evaluation of the part about load.
_MANY = 1_000_000
_GET_MS, _POST_S, _POST_MB, _PAGE_MS, _FAILED_MS = 50.0, 30.0, 500.0, 50.0, 100.0


@dataclass
class _Service:
    """A service on a port of its own, that can be started again and again."""

    directory: Path
    endpoint: Endpoint
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Start, and return the seconds until it answers."""
        settings = self.directory / "service.yaml"
        limits = f"{{concurrency: {CONCURRENCY}, drain: {_DRAIN_S}}}"
        settings.write_text(
            f"listen: 127.0.0.1:{self.port}\noutput: {self.directory / 'out'}\nmodels: {{m: {{endpoint: local}}}}\n"
            f"endpoints: {{local: {{base_url: '{self.endpoint.url}', limits: {limits}}}}}\n"
        )
        began = time.monotonic()
        words = [sys.executable, "-m", "runner", "serve", str(settings)]
        self.process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while time.monotonic() - began < 60:
            with suppress(OSError):
                self.ask("GET", "/runner/health")
                return time.monotonic() - began
            time.sleep(0.05)
        raise TimeoutError("the service does not answer")

    def end(self, number: signal.Signals) -> float:
        """End it by a signal; return the seconds that it takes."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=60)
        return time.monotonic() - began

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        given = {"x-api-key": "k", "content-type": "application/json"} | {
            key.replace("_", "-"): one for key, one in headers.items()
        }
        request = urllib.request.Request(self.url + path, method=method, data=body, headers=given)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def create(self, rows: int, name: str, *, first: int = 0, **headers: str) -> str:
        return str(self.ask("POST", "/v5/evaluations", _body(rows, name, first), **headers)["id"])

    def is_over(self, one: str) -> bool:
        return bool(self.ask("GET", f"/v5/evaluations/{one}")["status"] != "running")

    def wait(self, *evaluations: str) -> None:
        until = time.monotonic() + _WITHIN_S
        while not all(map(self.is_over, evaluations)):
            if time.monotonic() > until:
                raise TimeoutError("the evaluations do not end")
            time.sleep(0.2)

    def peak_mb(self) -> float:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1000


def _body(rows: int, name: str, first: int) -> bytes:
    message = {"role": "user", "content": "item.q"}
    task = {"task_type": "chat_completion", "alias": "r", "configuration": {"model": "m", "messages": [message]}}
    data = [{"q": f"question {first + number}"} for number in range(rows)]
    return json.dumps({"name": name, "data": data, "tasks": [task]}).encode()


@contextmanager
def _service(directory: Path, behaviour: Behaviour) -> Iterator[tuple[_Service, Endpoint]]:
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with endpoint(behaviour) as served:
        service = _Service(directory, served, port)
        service.start()
        try:
            yield service, served
        finally:
            assert service.process is not None
            service.process.kill()
            service.process.wait()


def measure_service_kills(directory: Path, seconds: float) -> Measured:
    """Kill it while evaluations run, stop it in order, lose an answer; then count what became of each unit."""
    kills = min(KILLS, max(3, int(seconds / _KILL_S)))
    rows = ROWS * kills // KILLS
    draw = random.Random(20261128)
    with _service(directory, Behaviour(latency=(0.02, 0.06))) as (service, served):
        made = [service.create(rows, f"e{number}", first=number * rows) for number in range(EVALUATIONS)]
        for _ in range(kills):
            time.sleep(draw.uniform(0.3, 1.5))
            service.end(signal.SIGKILL)
            service.start()
        stopped_s = service.end(signal.SIGTERM)
        service.start()
        lost = _lost_answer(service)
        service.wait(*made)
        states = [service.ask("GET", f"/v5/evaluations/{one}") for one in made]
        answered = served.stats()["answered"]
    units = Counter(one["progress"]["items"]["successful"] for one in states)
    twice = sum(answered.values()) - len(answered)
    missing = EVALUATIONS * rows - sum(_units(directory / "out" / one) for one in made)
    value = (
        f"{kills} kills over {EVALUATIONS} x {rows:,} rows: {missing} missing, {twice} paid twice of at most "
        f"{kills * CONCURRENCY}; SIGTERM took {stopped_s:.1f} s with a drain of {_DRAIN_S:g} s; {lost}"
    )
    met = units == {rows: EVALUATIONS} and not missing and twice <= (kills + 1) * CONCURRENCY and stopped_s <= _DRAIN_S + 2
    return Measured(value, met=met and lost.startswith("one evaluation"))


def _units(run: Path) -> int:
    with closing(Ledger.read(run / "journal")) as ledger:
        return ledger.succeeded + ledger.failed


def _lost_answer(service: _Service) -> str:
    """Send the same body three times: as a retry whose answer was lost, and on purpose."""
    first = service.create(5, "lost", first=10**7, x_stainless_retry_count="0")
    again = service.create(5, "lost", first=10**7, x_stainless_retry_count="1")
    other = service.create(5, "lost", first=10**7, x_stainless_retry_count="0")
    service.wait(first, again, other)
    return (
        "one evaluation for a retry, two for two requests" if first == again != other else "a retry has made another evaluation"
    )


def measure_service_load(directory: Path, seconds: float, rows: int | None = None) -> Measured:
    """Send a very large evaluation, read pages of it and ask for another one meanwhile; then a small one beside it."""
    rows = rows or min(_MANY, max(20_000, int(_MANY * seconds / 120)))
    with _service(directory, Behaviour(latency=(0.02, 0.06))) as (service, served):
        alone_s = _small(service, 0)
        body = _body(rows, "large", 10**6)
        began = time.monotonic()
        large = str(service.ask("POST", "/v5/evaluations", body)["id"])
        posted_s = time.monotonic() - began
        time.sleep(2)
        pages = [
            _ms(service, f"/v5/evaluation-items?evaluation_id={large}&limit=100&starting_after={large}.{rows * 9 // 10}")
            for _ in range(40)
        ]
        failed = [_ms(service, f"/v5/evaluation-items?evaluation_id={large}&completion_status=failed") for _ in range(20)]
        beside_s = _small(service, 100)
        gets = _gets(service, large)
        memory = service.peak_mb()
        at_once = served.stats()["most_flying"]
    met = (
        posted_s <= _POST_S * rows / _MANY + 1
        and memory <= _POST_MB
        and _p99(pages) <= _PAGE_MS
        and _p99(failed) <= _FAILED_MS
        and beside_s <= 2 * alone_s + 1
        and at_once <= CONCURRENCY
        and _p99(gets) <= _GET_MS
    )
    value = (
        f"POST of {rows:,} rows {posted_s:.1f} s, {memory:.0f} MB; page at row {rows * 9 // 10:,} p99 {_p99(pages):.0f} ms; "
        f"failed items p99 {_p99(failed):.0f} ms; 100 rows {alone_s:.2f} s alone, {beside_s:.2f} s beside; "
        f"{at_once} in flight at most; GET p99 {_p99(gets):.0f} ms"
    )
    return Measured(value, met=met)


def _small(service: _Service, first: int) -> float:
    began = time.monotonic()
    small = service.create(100, "small", first=first)
    while not service.is_over(small):
        time.sleep(0.02)
    return time.monotonic() - began


def _ms(service: _Service, path: str) -> float:
    began = time.monotonic()
    service.ask("GET", path)
    return (time.monotonic() - began) * 1000


def _gets(service: _Service, large: str) -> list[float]:
    """Return how long a GET takes, while the large one runs and the files of another are made."""
    found: list[float] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            found.append(_ms(service, f"/v5/evaluations/{large}"))
            time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    other = service.create(3_000, "other", first=10**8)
    service.wait(other)
    time.sleep(3)
    ended.set()
    asking.join()
    return found


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]
