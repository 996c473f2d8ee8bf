"""A running shard: it has a part of the rows, a part of the limits, and a segment of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from runner.config.model import Config
from runner.config.sections import LimitsConfig
from runner.datasets import Dataset
from runner.errors import UsageError
from runner.logs import logger
from runner.pipeline.budget import Budget
from runner.pipeline.pending import Pending
from runner.pipeline.resume import Asked, identity_of
from runner.running import Running
from runner.scale.leased import Leased
from runner.scale.segment import SegmentKeeper
from runner.scale.shards import Planned, leases_of
from runner.scale.shares import shares_of, stamps_of, with_shares
from runner.storage.ledger import Ledger
from runner.structs import Struct, replace
from runner.types import CostOf

__all__ = ["Shard"]

_log = logger(__name__)


class Shard(Struct, frozen=True):
    """One of `of` parts of a planned run; `number` counts from 0."""

    plan: Planned
    number: int
    of: int
    #: How many shards run at a time and share the limits.
    at_once: int
    #: Whether units that ended as errors are asked again.
    retries: bool = False

    @contextmanager
    def begun(
        self, asked: Asked, environment: Mapping[str, str], cost_of: CostOf | None, *, bar: bool | None
    ) -> Iterator[Running]:
        """Take the rows that lack a result, open a segment, and yield this shard's run. Raises UsageError, StorageError."""
        plan, run, dataset = self.plan, self.plan.run, asked.dataset
        assert isinstance(dataset, Dataset), "rows of another run have no shards"
        self._check_same(asked.config)
        self._warn_of_auto(asked.config.limits)
        config = self._with_shares(asked.config)
        run.lock_shared()
        ledger = Ledger.read(run.journal, run.files, tasks=plan.tasks)
        try:
            self._check_files(dataset, ledger)
            retried = frozenset(alias for alias, _ in plan.tasks) if self.retries else frozenset[str]()
            pending = Pending(dataset=dataset, tasks=plan.tasks, ledger=ledger, retried=retried)
            repeats = max(samples for _, samples in plan.tasks)
            leased = Leased(dataset, asked.config, repeats, lambda: None, journal=run.journal)
            for lease in leases_of(plan, pending, plan.part(self.number, self.of)):
                leased.add(lease)
            leased.close()
            budget = self._budget(asked.config.limits, ledger, cost_of)
        finally:
            ledger.close()
        keeper = SegmentKeeper(
            run=run,
            asked=replace(asked, config=config),
            tasks=plan.tasks,
            engine="shard",
            slot=self.number,
            pending=leased,
            secrets=config.secrets(environment),
            cost_of=cost_of,
        )
        keeper.progress.total = leased.ahead * pending.width
        keeper.progress.cost = None if cost_of is None else 0.0
        keeper.progress.metric = config.first_metric
        try:
            with keeper.opened():
                yield Running(config=config, environment=environment, keeper=keeper, budget=budget, bar=bar)
        finally:
            run.unlock()

    def _check_same(self, config: Config) -> None:
        own, planned = identity_of(config), self.plan.identity
        if other := sorted(path for path in {*own, *planned} if own.get(path) != planned.get(path)):
            raise UsageError(f"{', '.join(other)}: has changed since the plan was made; undo the change, or make a new plan")

    def _warn_of_auto(self, limits: LimitsConfig) -> None:
        if self.at_once > 1 and limits.finds_concurrency:
            _log.warning(
                "limits.concurrency is auto, and each of %d shards finds a number of its own, together too many for one "
                "server; set a number, or use --at-once 1 if each shard has a server of its own",
                self.at_once,
            )

    def _check_files(self, dataset: Dataset, ledger: Ledger) -> None:
        """Raise UsageError if the content of a file has changed. The content is read only if a size or time has changed."""
        if stamps_of(dataset) == self.plan.stamps:
            return
        survey = dataset.survey()
        before = {name: content for name, _, content in ledger.files}
        now = {} if survey is None else {one.name: one.content for one in survey.identities}
        if changed := [name for name in {**before, **now} if before.get(name) != now.get(name)]:
            raise UsageError(f"{changed[0]}: has changed since the plan was made; restore it, or make a new plan")

    def _with_shares(self, config: Config) -> Config:
        shares = shares_of(config, self.number % self.at_once, self.at_once)
        for endpoint, part in shares.items():
            if (name := next((name for name, value in part.items() if not value), None)) is not None:
                limits, place = (config.endpoints[endpoint], f"endpoints.{endpoint}.") if endpoint else (config, "")
                what = f"{getattr(limits.limits, name)} are not enough for {self.at_once} shards at a time"
                raise UsageError(f"{place}limits.{name}: {what}; raise it, or run fewer at a time and set --at-once")
        return with_shares(config, shares, max_tokens=None, max_cost=None)

    def _budget(self, limits: LimitsConfig, ledger: Ledger, cost_of: CostOf | None) -> Budget:
        """Return a budget with a part of the remaining tokens and dollars: a shard does not know what other shards use."""
        tokens, cost = limits.max_tokens, limits.max_cost
        return Budget(
            max_tokens=None if tokens is None else ledger.tokens + max(0, tokens - ledger.tokens) // self.of,
            max_error_rate=limits.max_error_rate,
            tokens=ledger.tokens,
            tokens_per_minute=limits.tokens_per_minute,
            max_cost=None if cost is None else ledger.cost + max(0.0, cost - ledger.cost) / self.of,
            cost=ledger.cost,
            cost_of=cost_of,
        )
