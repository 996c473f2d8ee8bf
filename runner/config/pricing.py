"""The prices that a config names, and the mistakes in them that can be found before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.catalogue import PriceCatalogue
from runner.config.model import Config
from runner.keypaths import KeyPath
from runner.logs import logger
from runner.prices import Price, Prices
from runner.templates.compile import is_template

__all__ = ["prices_of"]

_log = logger(__name__)
_MAX_COST: KeyPath = ("limits", "max_cost")


def prices_of(config: Config) -> tuple[Prices | None, Sequence[tuple[KeyPath, str]]]:
    """Return the prices, None if there are none, and each mistake with its path.

    The models that the config itself names are looked up at once. A warning names the models without a price.
    """
    if not config.prices:
        has_limit = config.limits.max_cost is not None
        return None, [(_MAX_COST, "needs the prices of the models: set `prices`")] if has_limit else []
    catalogue = None
    if "auto" in config.prices.values():
        try:
            catalogue = PriceCatalogue(next(iter(config.endpoint.urls), None))
        except ImportError:
            return None, [(("prices",), "`auto` needs the library genai-prices: pip install 'batch-eval-runner[prices]'")]
    listed = {glob: None if one == "auto" else Price(**one.model_dump()) for glob, one in config.prices.items()}
    prices = Prices(listed, catalogue)
    models = dict(_models_of(config))
    unpriced = {task: model for task, model in models.items() if model is not None and prices.find(None, model) is None}
    if unpriced and len(unpriced) == len(models) and config.limits.max_cost is not None:
        named = ", ".join(sorted(set(unpriced.values())))
        return prices, [(_MAX_COST, f"cannot be enforced, because `prices` has no price for any model that is asked: {named}")]
    for task, model in unpriced.items():
        _log.warning("`prices` has no price for %s: the cost of `%s` is not known", model, task)
    return prices, []


def _models_of(config: Config) -> Iterator[tuple[str, str | None]]:
    """Yield each task that asks with its model, None if rows choose the model."""
    for task in config.tasks:
        if task.judges:
            continue
        settings = task.settings.verbatim
        model = (settings.get("extra_body") or {}).get("model", settings.get("model"))
        yield task.name, model if isinstance(model, str) and not is_template(model) else None
