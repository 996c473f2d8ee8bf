"""The order of rows: how close to the shortest possible time a run comes whose requests are of very different length."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

from tests.benchmarks.endpoint import Endpoint, arrivals_endpoint
from tests.benchmarks.jobs import Job, runner_command, write_config
from tests.benchmarks.lab import Lab
from tests.benchmarks.table import Row, middle, spread

__all__ = ["order"]

#: An answer takes so many microseconds for each byte of its request, of which a row has so many in the median.
_BYTE_US, _BYTES = 200, 1500


def order(lab: Lab) -> Row:
    """Measure runs of the same rows, as they are and with the longest first; of each round the rows are others."""
    job = Job(rows=100 if lab.quick else 400, concurrency=8 if lab.quick else 32)
    found: dict[str, list[float]] = {"as_is": [], "longest_first": []}
    with lab.scratch() as directory, arrivals_endpoint(lab.endpoint_core) as endpoint:
        for number in range(lab.rounds):
            dataset = _rows(directory, job, number)
            for name, times in found.items():
                times.append(_against_bound(lab, job, dataset, endpoint, name))
    as_is, longest = found["as_is"], found["longest_first"]
    return Row(
        measure=f"seconds against the shortest possible; {job.concurrency} in flight, {job.rows} rows, lognormal, sigma 1",
        runner=f"longest_first {spread(longest, '.2f')}",
        reference=f"as_is {spread(as_is, '.2f')}",
        ratio=f"{middle(longest) / middle(as_is):.2f}",
        reached=middle(longest) <= 1.1,
        note="the shortest possible is the longest request, or the sum of all by the number in flight, whichever is more",
    )


def _rows(directory: Path, job: Job, seed: int) -> Path:
    draw = random.Random(seed)
    path = directory / f"rows-{seed}.jsonl"
    lengths = (int(_BYTES * draw.lognormvariate(0, 1)) for _ in range(job.rows))
    path.write_text("".join(json.dumps({"id": f"row-{n}", "prompt": "x" * length}) + "\n" for n, length in enumerate(lengths)))
    return path


def _against_bound(lab: Lab, job: Job, dataset: Path, endpoint: Endpoint, name: str) -> float:
    """Return how many times the shortest possible time a run has taken, from its first request to its last answer."""
    own = Path(tempfile.mkdtemp(dir=dataset.parent))
    config = write_config(own, job, base_url=endpoint.base_url(byte_us=_BYTE_US), dataset=dataset)
    run = lab.watched(name, job, runner_command(config, "--set", f"limits.order={name}"), own, endpoint=endpoint)
    waits: list[float] = endpoint.ask("/waits")
    shortest_s = max(sum(waits) / job.concurrency, *waits)
    return (run.answers()[-1][0] - run.first) / shortest_s
