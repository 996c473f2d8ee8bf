"""Makes a run that was killed near its end: `python -m tests.benchmarks.oldrun CONFIG FINISHED [PLANNED RUN]`.

Its journal is written by the runner's own tasks, records and journal: of each of the first FINISHED rows the line that its
request was begun, and the line with its answer. Only the network is missing.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from itertools import islice
from pathlib import Path

from runner.evaluation import Evaluation, prepare
from runner.pipeline.resume import identity_of
from runner.pipeline.steps import build_steps
from runner.processes.pool import ProcessPool
from runner.scale.shards import read_plan
from runner.storage.journal import Journal
from runner.storage.records import FORMAT, Files, Open, Start, end_of
from runner.storage.rundir import RunDir
from runner.tasks.base import Task, wall_clock_us
from runner.types import Outcome, Request, Response, Sample, Usage

__all__: list[str] = []

_WORDS = 'the model answers with plain text, café and a "quote" of tokens. '


def opening(evaluation: Evaluation, run: RunDir, task: Task) -> Open:
    config = evaluation.config
    return Open(
        format=FORMAT,
        run_id=run.run_id,
        name=config.name,
        at=wall_clock_us(),
        host=socket.gethostname(),
        pid=os.getpid(),
        tasks=[(task.alias, 1)],
        identity=identity_of(config),
        files=evaluation.dataset.sizes(),
        concurrency=config.limits.first_in_flight,
    )


async def answered(request: Request) -> Outcome:
    """Answer at once, as the fast endpoint would."""
    text = f"Answer to #{request.unit.item_index}#: {_WORDS * 3}"
    escaped = text.replace('"', '\\"')
    identity = f"chatcmpl-{request.unit.item_index:016x}"
    body = (
        f'{{"id":"{identity}","object":"chat.completion","created":1700000000,"model":"mock-model","choices":[{{"index":0,'
        f'"message":{{"role":"assistant","content":"{escaped}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],'
        '"usage":{"prompt_tokens":40,"completion_tokens":42,"total_tokens":82,"prompt_tokens_details":{"cached_tokens":0}},'
        '"system_fingerprint":"fp_mock"}'
    )
    usage = Usage(prompt_tokens=40, completion_tokens=42, total_tokens=82, cached_tokens=0)
    response = Response(
        output=text,
        finish_reason="stop",
        usage=usage,
        response_id=identity,
        response_model="mock-model",
        system_fingerprint="fp_mock",
        body=body,
        latency_s=0.05,
    )
    now = wall_clock_us()
    return Outcome(answer=response, attempts=1, wire_s=0.05, started_at=now - 50_000, completed_at=now)


async def fill(evaluation: Evaluation, run: RunDir, finished: int) -> None:
    """Write the journal."""
    (step,) = build_steps(evaluation.config, answered, ProcessPool())
    journal = Journal(run.journal)
    for _ in range(2):
        journal.append(opening(evaluation, run, step.task))
    survey = evaluation.dataset.survey()
    assert survey is not None
    journal.append(Files(files=[(file.name, file.size, file.content) for file in survey.identities]))
    for item in islice(evaluation.dataset, finished):
        journal.append(Start(item_index=item.index, task=step.task.alias))
        result = await step.task.run(Sample(item, 0), item.row)
        journal.append(end_of(result, evaluation.config.endpoint.name, ran_us=journal.ran_us))
    journal.close()


def main(config: Path, finished: int, planned: Path | None) -> None:
    evaluation = prepare(config)
    if planned is None:
        run = RunDir.create(Path(evaluation.config.output), evaluation.config.name)
        run.write_config(evaluation.file.rerunnable_text())
        run.write_evaluation({"status": "running"})
    else:
        run = read_plan(planned).run
    asyncio.run(fill(evaluation, run, finished))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
