"""An evaluation from config to results.

1  config, dataset        checked before anything is sent
2  run directory          made, or found again and compared (`pipeline.beginning`)
3  requests               samples ──► tasks ──► journal, progress (`running` has the way of a row)
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
    #: Takes every secret of this evaluation out of what is kept or shown.
    redactor: Redactor
    #: What answers cost, where the config says it.
    prices: Prices | None = None
    #: The run whose answers are to be taken; it has to stay open.
    rescoring: Rescoring | None = None
    #: What stands in the place of the endpoints: files for a batch service, or its answers.
    batch: Batch | None = None
    #: Whether progress is a bar; if not, a log line now and then. None: nothing is shown.
    bar: bool | None = True
    #: Where the run is kept.
    files: FileSystem = FILES
    #: The directory that was made for its run; None: it is made below the config's `output`.
    made: Path | None = None
    #: Keeps the run in a bucket too, where `output` is one.
    mirror: Mirror | None = None
    #: Whether it makes the Parquet files at its end.
    views: bool = True
    progress: Progress = field(default_factory=Progress)
    #: The config as it was passed, with what overrides it: a worker reads it again.
    source: Source
    overrides: Sequence[str] = ()
    #: The run, once it has begun, and what keeps it.
    running: Running | Driving | None = None
    keeper: RunKeeper | None = None
    #: Why the run is to stop, where that was said before it began.
    _drained: str | None = None

    def run(self, *, resume: Resume | bool = False, session: Session | None = None) -> Report:
        """Run, or resume, and write everything. Raises UsageError before anything is sent, StorageError later.

        `resume` may be True for the latest run. `session` is where its requests are sent from, a loop of its own by default.
        """
        session = session or Session()
        if self.made is None:  # who has made it already does not take it back for its first rows
            session.run(self.rehearse())
        asked = Resume() if resume is True else resume or None
        with cleaning(self.redactor.text), self._launcher() as launcher, self._begun(asked) as begun:
            if begun.is_finished:
                return report_of(begun.run, stopped=None, known=begun.ledger)
            if self.batch is not None:
                self.batch.begin(begun.run, begun.ledger)
            self.keeper = keeper = self._keeper(begun)
            self.running = running = self._running(begun, keeper, launcher)
            running.drained = self._drained  # which may have been said by another thread in between
            with self._mirrored(begun), keeper.opened():
                if self.batch is not None:
                    self.batch.write_to(keeper.journal)
                return keeper.finish(session.run(running.work(session.endpoints)))

    async def rehearse(self) -> None:
        """Raise UsageError where a metric could judge none of the first rows."""
        await rehearse(self.dataset.first_rows, build_steps(self.config, send_nothing, NoCalls()), self._place_of)

    def _place_of(self, alias: str) -> str:
        """Return where in the config a task is configured."""
        indexes = (index for index, task in enumerate(self.config.tasks) if alias in {part.name for part in task.parts})
        return self.file.place(("tasks", next(indexes), "configuration"))

    def _mirrored(self, begun: Begun) -> AbstractContextManager[None]:
        return nullcontext() if self.mirror is None else self.mirror.following(begun.run)

    def plan(self) -> Planned:
        """Make a run whose rows are asked by shards, and their plan. Raises UsageError, StorageError."""
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
        """Return what the environment has to have before anything can be asked: a key, a passphrase."""
        return [self.redactor.text(line) for line in lacking(self.file, self.environment)]

    @property
    def asked(self) -> Asked:
        """What is to be asked."""
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
        """What tells the cost of an answer, in dollars, where prices are set."""
        if self.prices is None:
            return None
        return self.prices.cost if self.batch is None else self.prices.cost_in_batch

    @property
    def waits(self) -> bool:
        """Whether all that it lacks are the answers of batches."""
        return self.keeper is not None and self.keeper.waits

    @property
    def _has_workers(self) -> bool:
        return self.config.engine.kind != "local" and self.rescoring is None and self.batch is None

    def _launcher(self) -> AbstractContextManager[Launcher | None]:
        """Return what starts workers, for a run that has some."""
        if not self._has_workers:
            return nullcontext()
        from runner.scale.launching import launcher_of  # late: a run in one process has no use for it

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
            from runner.scale.starting import driving_of  # it is loaded already

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
        """Send nothing more; return how many requests are in flight, which may finish within `limits.drain` seconds."""
        self._drained = reason
        return 0 if self.running is None else self.running.drain(reason)

    def drop(self) -> None:
        """End at once, without what is in flight."""
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
    """Read and check a config and open its dataset, or take the rows in its place. Raises UsageError with all that is wrong.

    With `rescoring` the rows and answers are another run's; where nothing is to be asked, as by a `batch`, the endpoint need
    not be there. `needs_keys` is False for who checks everything but what the environment has; see `Evaluation.lacking`.
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
    """Return why a batch, or a config's workers, cannot do what the config says."""
    if batch is not None:
        return asked.file.described(list(unfit_for_batches(asked.config, asked.redactor)))
    kind = asked.config.engine.kind
    if kind == "local" or not isinstance(asked.dataset, Dataset):
        return ()
    from runner.scale.shares import unfit, unfit_elsewhere  # late: a run in one process has no use for it

    return unfit_elsewhere(asked) if kind == "ray" else unfit(asked.config, asked.dataset)


def _with_mirror(config: Config) -> tuple[Config, Mirror | None]:
    """Return a config whose results are kept on this machine, and what keeps them in a bucket too, where that is wanted."""
    if not is_bucket(config.output):
        return config, None
    mirror, local = mirror_of(config.output)
    return config.model_copy(update={"output": str(local)}), mirror


def _prices_of(config: Config) -> tuple[Prices | None, list[Any]]:
    """Return what answers cost, where the config says it, and what is wrong with that."""
    if not config.prices and config.limits.max_cost is None:
        return None, []
    from runner.config.pricing import prices_of  # only who has prices pays for it

    prices, mispriced = prices_of(config)
    return prices, list(mispriced)


def _lines_of_runs(config: Config) -> Iterable[bytes] | None:
    """Return the rows of two runs' answers, where the config names runs as its dataset."""
    if config.dataset.runs is None or config.dataset.task is None:
        return None
    from runner.results.paired_rows import paired_rows  # late: hardly any config does

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
    """Name the places where the config itself holds a secret: it is read by more people than the environment is."""
    remedy = "put it into an environment variable and write ${NAME} in its place"
    for place in dict.fromkeys(place for place, _ in secrets_in(literals(file.document))):
        _log.warning("%s: %s: holds a secret as text; %s", file.place(place), dotted(place), remedy)


def _warn_of_the_same(config: Config, file: ConfigFile, dataset: Items) -> None:
    """Say where every row would ask the same; it may be meant, as for a load."""
    if (place := asking_the_same(config.tasks)) is not None:
        columns = ", ".join(written(name) for name in dataset.first_rows[0])
        what = "no request reads the dataset, so every row asks the same"
        _log.warning("%s: %s: %s; there is: %s", file.place(place), dotted(place), what, columns or "no column")
