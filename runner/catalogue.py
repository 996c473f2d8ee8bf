"""The prices in the library genai-prices, for the models of public endpoints."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

from runner.prices import Price

__all__ = ["PriceCatalogue"]


class PriceCatalogue:
    """The prices of models at an endpoint; if the library does not know the endpoint, those of the model's maker.

    They are the current prices in the installed library; nothing is fetched.
    """

    def __init__(self, base_url: str | None) -> None:
        """Find the provider of the endpoint. Raises ImportError if the library is not installed."""
        import genai_prices
        from genai_prices.data_snapshot import get_snapshot

        self.version: str = genai_prices.__version__
        self._provider: str | None = None
        if base_url is not None:
            with suppress(LookupError):
                self._provider = get_snapshot().find_provider(None, None, base_url).id

    def find(self, model: str) -> tuple[str, Price] | None:
        """Return PROVIDER/MODEL as the library names them, and the price; None without a price for input tokens."""
        from genai_prices import Usage, calc_price

        try:
            found = calc_price(Usage(), model, provider_id=self._provider)
        except LookupError:
            return None
        price = _price_in(found.model_price)
        return None if price is None else (f"{found.provider.id}/{found.model.id}", price)


def _price_in(figures: Any) -> Price | None:
    kinds = (figures.input_mtok, figures.cache_read_mtok, figures.output_mtok)
    if figures.input_mtok is None:
        return None
    starts = sorted({tier.start for kind in kinds for tier in getattr(kind, "tiers", ())})
    request = float(figures.requests_kcount or 0) / 1000
    above = tuple((start, _price_at(start, *kinds, request=request)) for start in starts)
    return _price_at(None, *kinds, request=request, above=above)


def _price_at(start: int | None, *kinds: Any, request: float, above: tuple[tuple[int, Price], ...] = ()) -> Price:
    """Return the price of prompts with more tokens than `start`; None: that of the shortest prompts."""
    prompt, cached, output = (_at(start, kind) for kind in kinds)
    assert prompt is not None
    return Price(input=prompt, cached_input=cached, output=output, request=request, above=above)


def _at(start: int | None, kind: Any) -> float | None:
    """Return one price, which may depend on the length of the prompt."""
    if kind is None or isinstance(kind, Decimal):
        return None if kind is None else float(kind)
    fitting = [tier.price for tier in kind.tiers if start is not None and tier.start <= start]
    return float(fitting[-1] if fitting else kind.base)
