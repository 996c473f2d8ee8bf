"""The prices that the library genai-prices knows, of the models of public endpoints."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

from runner.prices import Price

__all__ = ["PriceCatalogue"]


class PriceCatalogue:
    """Prices of models at an endpoint, or, where the library does not know the endpoint, at those who made them.

    They are those of the moment; nothing is fetched.
    """

    def __init__(self, base_url: str | None) -> None:
        """Find whose endpoint it is. Raises ImportError where the library is not installed."""
        import genai_prices
        from genai_prices.data_snapshot import get_snapshot

        self.version: str = genai_prices.__version__
        self._provider: str | None = None
        if base_url is not None:
            with suppress(LookupError):
                self._provider = get_snapshot().find_provider(None, None, base_url).id

    def find(self, model: str) -> tuple[str, Price] | None:
        """Return a model's name in the library, behind whose it is, and its price; None where it has no price by tokens."""
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
    """Return the price of prompts of more tokens than so many; None: of the shortest."""
    prompt, cached, output = (_at(start, kind) for kind in kinds)
    assert prompt is not None
    return Price(input=prompt, cached_input=cached, output=output, request=request, above=above)


def _at(start: int | None, kind: Any) -> float | None:
    """Return one figure, which may depend on the length of the prompt."""
    if kind is None or isinstance(kind, Decimal):
        return None if kind is None else float(kind)
    fitting = [tier.price for tier in kind.tiers if start is not None and tier.start <= start]
    return float(fitting[-1] if fitting else kind.base)
