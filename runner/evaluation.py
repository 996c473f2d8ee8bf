"""An evaluation from config to results.

1  config, dataset        checked before anything is sent
2  run directory          made, or found again and compared (`pipeline.beginning`)
3  requests               samples ──► tasks ──► journal, progress (`running` lists the layers)
4  views                  journal ──► results.parquet, errors.parquet, evaluation.json
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.batch import Batch
from runner.batch.fitness import unfit_for_batches, without_limits
from runner.config.file import ConfigFile, Source, literals
from runner.config.loading import lacking, load_config
from runner.config.lookalikes import asking_the_same, mistakes_in_reading, unknown_columns
from runner.config.model import Config
from runner.datasets import Dataset, Items, ReadingOptions, open_dataset
from runner.datasets.remote import without_query
from runner.endpoint.connect import cap_concurrency, missing_places
from runner.errors import ConfigError, DatasetError, UsageError
from runner.keypaths import dotted
from runner.logs import cleaning, logger
from runner.pipeline.beginning import Beginning, Begun, Resume
from runner.pipeline.budget import Budget
from runner.pipeline.keeper import RunKeeper
from runner.pipeline.order import order_of
from runner.pipeline.pending import Pending
from runner.pipeline.rehearsal import NoCalls, rehearse, send_nothing
from runner.pipeline.rescoring import Rescoring
from runner.pipeline.resume import Asked
from runner.pipeline.steps import build_steps, ordered
from runner.results.closing import Report
from runner.results.progress import Progress
from runner.results.views import report_of
from runner.running import Running
from runner.secrets.redaction import Redactor, secrets_in
from runner.session import Session
from runner.storage.buckets import is_bucket, mirror_of
from runner.storage.files import FILES, FileSystem
from runner.storage.mirror import Mirror
from runner.structs import Struct, field, replace
from runner.templates.locators import written
from runner.types import CostOf

if TYPE_CHECKING:
    from runner.prices import Prices
    from runner.scale.driving import Driving
    from runner.scale.launching import Launcher
    from runner.scale.shards import Planned

__all__ = ["Evaluation", "Resume", "prepare"]

_log = logger(__name__)


class Evaluation(Struct, kw_only=True):
    """A checked evaluation, ready to run."""

    config: Config
    file: ConfigFile
    dataset: Items
    environment: Mapping[str, str]
    #: Removes every secret of this evaluation from all that is kept or shown.
    redactor: Redactor
    #: The prices of answers, if the config sets them.
    prices: Prices | None = None
    #: The run whose answers are taken; it must stay open.
    rescoring: Rescoring | None = None
    #: The batch that replaces the endpoints: files for a batch service, or its answers.
    batch: Batch | None = None
    #: True shows progress as a bar, False as log lines now and then, None not at all.
    bar: bool | None = True
    #: The file system of the run directory.
    files: FileSystem = FILES
    #: The directory that was made for the run; None: a new one below `output` of the config.
    made: Path | None = None
    #: Copies the run to a bucket, if `output` is one.
    mirror: Mirror | None = None
    #: Whether the Parquet files are made at the end.
    views: bool = True
    progress: Progress = field(default_factory=Progress)
    #: The config as it was passed, and its overrides: a worker reads them again.
    source: Source
    overrides: Sequence[str] = ()
    #: The run and its keeper, once it has begun.
    running: Running | Driving | None = None
    keeper: RunKeeper | None = None
    #: The reason to stop that was given before the run began.
    _drained: str | None = None

    def run(self, *, resume: Resume | bool = False, session: Session | None = None) -> Report:
        """Run, or resume, and write everything. Raises UsageError before anything is sent, StorageError later.

        `resume` may be True for the latest run. `session` has the event loop that sends the requests, a new one by default.
        """
        session = session or Session()
        if self.made is None:  # an evaluation that was accepted already is not refused for its first rows
            session.run(self.rehearse())
        asked = Resume() if resume is True else resume or None
        with cleaning(self.redactor.text), self._launcher() as launcher, self._begun(asked) as begun:
            if begun.is_finished:
                return report_of(begun.run, stopped=None, known=begun.ledger)
            if self.batch is not None:
                self.batch.begin(begun.run, begun.ledger)
            self.keeper = keeper = self._keeper(begun)
            self.running = running = self._running(begun, keeper, launcher)
            running.drained = self._drained  # another thread may have set it in between
            with self._mirrored(begun), keeper.opened():
                if self.batch is not None:
                    self.batch.write_to(keeper.journal)
                return keeper.finish(session.run(running.work(session.endpoints)))

    async def rehearse(self) -> None:
        """Raise UsageError if a metric could judge none of the first rows."""
        await rehearse(self.dataset.first_rows, build_steps(self.config, send_nothing, NoCalls()), self._place_of)

    def _place_of(self, alias: str) -> str:
        """Return the place of the configuration of a task in the config, with its line."""
        indexes = (index for index, task in enumerate(self.config.tasks) if alias in {part.name for part in task.parts})
        return self.file.place(("tasks", next(indexes), "configuration"))

    def _mirrored(self, begun: Begun) -> AbstractContextManager[None]:
        return nullcontext() if self.mirror is None else self.mirror.following(begun.run)

    def plan(self) -> Planned:
        """Make a run for shards, and the plan of its rows. Raises UsageError, StorageError."""
        from runner.scale.shards import make_plan
        from runner.scale.shares import unfit_elsewhere

        if mistakes := list(unfit_elsewhere(self.asked)):
            raise ConfigError(mistakes)
        if self.mirror is not None:
            raise UsageError("output: shards write into a directory that all machines share, and not into a bucket")
        session = Session()
        session.run(self.rehearse())
        with cleaning(self.redactor.text), self._begun(None) as begun:
            keeper = self._keeper(begun)
            keeper.engine = "shard"
            with keeper.opened():
                session.run(keeper.survey())
                return make_plan(keeper)

    @contextmanager
    def _begun(self, resume: Resume | None) -> Iterator[Begun]:
        if self.mirror is not None and resume is not None:
            self.mirror.fetch(self.config.name, resume.run)
            resume = replace(resume, run=resume.run and Path(resume.run).name)
        tasks = ordered(self.config)
        begun = Beginning(
            asked=self.asked,
            files=self.files,
            tasks=[(task.name, samples) for task, samples, _ in tasks],
            inputs={task.name: read for task, _, read in tasks},
            rescoring=self.rescoring,
            secrets=self.config.secrets(self.environment),
            made=self.made,
        ).begin(resume)
        try:
            yield begun
        finally:
            begun.end()

    def lacking(self) -> list[str]:
        """Return what the environment lacks, and needs before anything can be asked: a key, a passphrase."""
        return [self.redactor.text(line) for line in lacking(self.file, self.environment)]

    @property
    def asked(self) -> Asked:
        """The part of the evaluation that decides what is asked."""
        return Asked(config=self.config, file=self.file, dataset=self.dataset, redactor=self.redactor)

    def _keeper(self, begun: Begun) -> RunKeeper:
        asked = self.asked if begun.rows is None else self.asked.with_rows(begun.rows)
        tasks = [(task.name, samples) for task, samples, _ in ordered(self.config)]
        prices = self.prices
        self.progress.metric = self.config.first_metric
        if prices is not None:
            self.progress.cost = 0.0
        return RunKeeper(
            asked=asked,
            begun=begun,
            pending=Pending(
                dataset=asked.dataset,
                tasks=tasks,
                ledger=begun.ledger,
                retried=begun.retried,
                arrange=order_of(self.config),
            ),
            secrets=self.config.secrets(self.environment),
            progress=self.progress,
            engine=self.config.engine.kind if self._has_workers else None,
            cost_of=self.cost_of,
            batched=self.batch is not None and begun.asks,
            views=self.views,
            prices_used=None if prices is None else lambda: prices.used,
        )

    @property
    def cost_of(self) -> CostOf | None:
        """The function that returns the cost of an answer in dollars; None if no prices are set."""
        if self.prices is None:
            return None
        return self.prices.cost if self.batch is None else self.prices.cost_in_batch

    @property
    def waits(self) -> bool:
        """Whether only answers of batches are missing."""
        return self.keeper is not None and self.keeper.waits

    @property
    def _has_workers(self) -> bool:
        return self.config.engine.kind != "local" and self.rescoring is None and self.batch is None

    def _launcher(self) -> AbstractContextManager[Launcher | None]:
        """Return the launcher of the workers, or None if the run has none."""
        if not self._has_workers:
            return nullcontext()
        from runner.scale.launching import launcher_of  # late: a run in one process does not need it

        return launcher_of(self.config.engine)

    def _running(self, begun: Begun, keeper: RunKeeper, launcher: Launcher | None) -> Running | Driving:
        limits, ledger = self.config.limits, begun.ledger
        budget = Budget(
            max_tokens=limits.max_tokens,
            max_error_rate=limits.max_error_rate,
            tokens=0 if ledger is None else ledger.tokens,
            tokens_per_minute=limits.tokens_per_minute,
            max_cost=limits.max_cost,
            cost=0.0 if ledger is None else ledger.cost,
            cost_of=self.cost_of,
        )
        if launcher is not None:
            from runner.scale.starting import driving_of  # `_launcher` has loaded its package already

            told: dict[str, Any] = {"environment": self.environment, "source": self.source, "overrides": self.overrides}
            return driving_of(launcher, self.config, keeper, budget, bar=self.bar, **told)
        return Running(
            config=self.config,
            environment=self.environment,
            keeper=keeper,
            budget=budget,
            batch=self.batch,
            bar=self.bar,
        )

    def drain(self, reason: str) -> int:
        """Send no more requests. Those in flight have `limits.drain` seconds to finish; return their number."""
        self._drained = reason
        return 0 if self.running is None else self.running.drain(reason)

    def drop(self) -> None:
        """End at once, and drop the requests in flight."""
        if self.running is not None:
            self.running.drop()


def prepare(
    source: Source,
    overrides: Sequence[str] = (),
    *,
    rows: Sequence[dict[str, Any]] | None = None,
    rescoring: Rescoring | None = None,
    batch: Batch | None = None,
    environment: Mapping[str, str] | None = None,
    bar: bool | None = False,
    needs_keys: bool = True,
) -> Evaluation:
    """Read and check a config and open its dataset, or use `rows` instead. Raises UsageError with all mistakes.

    `rescoring` takes the answers of another run, and its rows too unless fresh ones are wanted. If nothing is asked, as with a
    `batch`, the endpoint need not exist. `needs_keys=False` does not check for keys; see `Evaluation.lacking`.
    """
    environment = os.environ if environment is None else environment
    asks = batch is None and (rescoring is None or rescoring.asks)
    config, file = load_config(source, overrides, environment, rows=rows, asks=asks and needs_keys)
    redactor = Redactor(config.secrets(environment))
    has_rows = rescoring is not None and not rescoring.fresh_rows
    dataset = rescoring.rows() if rescoring is not None and has_rows else _dataset_of(config, rows)
    prices, mispriced = _prices_of(config)
    unread = [*mistakes_in_reading(config.tasks, dataset), *unknown_columns(config.analysis, dataset)]
    mistakes = file.described([*unread, *mispriced])
    mistakes += file.described(list(missing_places(config, environment))) if asks else []
    mistakes += _unfit(Asked(config=config, file=file, dataset=dataset, redactor=redactor), batch)
    if mistakes:
        raise ConfigError(list(map(redactor.text, mistakes)))
    _warn_of_secrets(file)
    if not dataset.first_rows:
        where = ", ".join(map(without_query, config.dataset.path or ["data"]))
        raise DatasetError(f"{where}: the dataset has no rows, so there is nothing to ask")
    _warn_of_the_same(config, file, dataset)
    config, mirror = _with_mirror(cap_concurrency(config) if batch is None else without_limits(config))
    return Evaluation(
        config=config,
        mirror=mirror,
        file=file,
        dataset=dataset,
        environment=environment,
        redactor=redactor,
        prices=prices,
        rescoring=rescoring,
        batch=batch,
        source=source,
        overrides=overrides,
        bar=bar,
    )


def _unfit(asked: Asked, batch: Batch | None) -> Iterable[str]:
    """Return why a batch, or the workers of the config, cannot run what the config says."""
    if batch is not None:
        return asked.file.described(list(unfit_for_batches(asked.config, asked.redactor)))
    kind = asked.config.engine.kind
    if kind == "local" or not isinstance(asked.dataset, Dataset):
        return ()
    from runner.scale.shares import unfit, unfit_elsewhere  # late: a run in one process does not need it

    return unfit_elsewhere(asked) if kind == "ray" else unfit(asked.config, asked.dataset)


def _with_mirror(config: Config) -> tuple[Config, Mirror | None]:
    """Return a config that keeps results on this machine, and the mirror that copies them to a bucket, if `output` is one."""
    if not is_bucket(config.output):
        return config, None
    mirror, local = mirror_of(config.output)
    return config.model_copy(update={"output": str(local)}), mirror


def _prices_of(config: Config) -> tuple[Prices | None, list[Any]]:
    """Return the prices of answers, if the config sets them, and the mistakes in them."""
    if not config.prices and config.limits.max_cost is None:
        return None, []
    from runner.config.pricing import prices_of  # only a config with prices needs it

    prices, mispriced = prices_of(config)
    return prices, list(mispriced)


def _lines_of_runs(config: Config) -> Iterable[bytes] | None:
    """Return rows with the answers of two runs, if the config names runs as its dataset."""
    if config.dataset.runs is None or config.dataset.task is None:
        return None
    from runner.results.paired_rows import paired_rows  # late: few configs name runs

    return paired_rows({str(side): run for side, run in config.dataset.runs.items()}, config.dataset.task)


def _dataset_of(config: Config, rows: Sequence[dict[str, Any]] | None) -> Dataset:
    return open_dataset(
        path=config.dataset.path,
        data=config.dataset.data if rows is None else rows,
        is_given=rows is not None,
        id_column=config.dataset.id,
        limit=config.dataset.limit,
        shuffle=config.dataset.shuffle,
        options=ReadingOptions.of(config.dataset),
        lines=None if rows is not None else _lines_of_runs(config),
    )


def _warn_of_secrets(file: ConfigFile) -> None:
    """Warn of the places where the config itself holds a secret: more people read a config than an environment."""
    remedy = "put it into an environment variable and write ${NAME} in its place"
    for place in dict.fromkeys(place for place, _ in secrets_in(literals(file.document))):
        _log.warning("%s: %s: holds a secret as text; %s", file.place(place), dotted(place), remedy)


def _warn_of_the_same(config: Config, file: ConfigFile, dataset: Items) -> None:
    """Warn if every row would ask the same. It may be intended, as in a load test."""
    if (place := asking_the_same(config.tasks)) is not None:
        columns = ", ".join(written(name) for name in dataset.first_rows[0])
        what = "no request reads the dataset, so every row asks the same"
        _log.warning("%s: %s: %s; there is: %s", file.place(place), dotted(place), what, columns or "no column")
