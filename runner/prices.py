"""The costs of answers, in dollars: the prices of models, applied to the tokens of an answer.

A run without prices does not load this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Protocol

from runner.structs import Struct, asdict
from runner.types import Request, Response, Usage
from runner.usage import count_of

__all__ = ["Catalogue", "Price", "Prices", "cost_of", "dollars"]

_PER = 1e6
#: The most pairs of names that are remembered: servers name models as they like.
_MOST_REMEMBERED = 1000


class Price(Struct, frozen=True, kw_only=True):
    """The price of the tokens of a model, in $ per million."""

    input: float
    #: The price of prompt tokens that the server had cached; None: the same as `input`.
    cached_input: float | None = None
    #: None if the model writes nothing, such as an embedding model.
    output: float | None = None
    #: The price of an answer in a batch as a share of the usual price, such as 0.5; None: the usual price.
    batch: float | None = None
    #: The price of each request in addition, in $.
    request: float = 0.0
    #: The prices of requests whose prompt has more than this many tokens, in ascending order.
    above: tuple[tuple[int, Price], ...] = ()

    def at(self, prompt_tokens: int) -> Price:
        """Return the price of requests with a prompt of this length."""
        return next((price for start, price in reversed(self.above) if prompt_tokens > start), self)


def cost_of(price: Price, usage: Usage, *, embeds: bool = False, is_batched: bool = False) -> float | None:
    """Return the cost of an answer, in $; None if the server has not reported its tokens, or there is no price for them.

    Impossible counts are treated as not reported. No more tokens can be cached than the prompt has. `embeds`: nothing was
    written; `is_batched`: the answer came from a batch.
    """
    prompt, completion = count_of(usage.prompt_tokens), 0 if embeds else count_of(usage.completion_tokens)
    if prompt is None or completion is None or prompt + completion == 0:  # some servers fill in zeros
        return None
    price = price.at(prompt)
    if completion and price.output is None:
        return None
    cached = min(count_of(usage.cached_tokens) or 0, prompt)
    cached_price = price.input if price.cached_input is None else price.cached_input
    cost = (prompt - cached) * price.input + cached * cached_price + completion * (price.output or 0.0)
    factor = price.batch if is_batched and price.batch is not None else 1.0
    return (cost / _PER + price.request) * factor


def dollars(amount: float) -> str:
    """Return an amount for people, with at least two digits that are not leading zeros."""
    digits = 4 if amount == 0 else max(4, 1 - math.floor(math.log10(abs(amount))))
    return f"${amount:,.{digits}f}"


class Catalogue(Protocol):
    """Knows the prices of many models."""

    @property
    def version(self) -> str:
        """The version of the catalogue."""

    def find(self, model: str) -> tuple[str, Price] | None:
        """Return a model's name in the catalogue and its price, or None."""


class Prices:
    """The prices of a run.

    The price of a model is that of its exact name, else that of the longest glob that matches it. The server's name for the
    model comes first, then the name in the request. A glob of only stars is used if neither name has another price.
    """

    def __init__(self, listed: Mapping[str, Price | None], catalogue: Catalogue | None = None) -> None:
        """Take prices by names and globs; None means the price in the catalogue."""
        self._listed, self._catalogue = listed, catalogue
        self._globs = sorted(listed, key=lambda glob: -len(glob))
        self._known: dict[tuple[str | None, str | None], Price | None] = {}
        self._used: dict[str, Price] = {}

    def cost(self, request: Request, response: Response) -> float | None:
        """Return the cost of an answer, in $; None if it is not known."""
        price = self.find(response.response_model, request.model)
        return None if price is None else cost_of(price, response.usage, embeds=request.embeds)

    def cost_in_batch(self, request: Request, response: Response) -> float | None:
        """Return the cost of an answer that came from a batch, in $; None if it is not known."""
        price = self.find(response.response_model, request.model)
        return None if price is None else cost_of(price, response.usage, embeds=request.embeds, is_batched=True)

    def find(self, served: Any, asked: Any) -> Price | None:
        """Return the price of a model by the server's name and by the name in the request, or None."""
        names = (served if isinstance(served, str) else None, asked if isinstance(asked, str) else None)
        if names not in self._known:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[names] = self._look_up(dict.fromkeys(name for name in names if name))
        return self._known[names]

    def _look_up(self, names: Mapping[str, Any]) -> Price | None:
        entries = [(name, glob) for name in names for glob in self._globs_of(name)]
        for name, glob in sorted(entries, key=lambda entry: not entry[1].strip("*")):
            listed = self._listed[glob]
            found = (glob, listed) if listed is not None else self._in_catalogue(name)
            if found is not None:
                self._used[found[0]] = found[1]
                return found[1]
        return None

    def _in_catalogue(self, name: str) -> tuple[str, Price] | None:
        return None if self._catalogue is None else self._catalogue.find(name)

    def _globs_of(self, name: str) -> Iterator[str]:
        """Yield the listed names and globs that match a name, the best first."""
        if name in self._listed:
            yield name
        yield from (glob for glob in self._globs if glob != name and fnmatchcase(name, glob))

    @property
    def used(self) -> dict[str, Any]:
        """The prices that were used, by their listed names or their names in the catalogue, and the catalogue's version."""
        models = {name: _figures(price) for name, price in sorted(self._used.items())}
        return {"models": models} | ({} if self._catalogue is None else {"genai_prices": self._catalogue.version})


def _figures(price: Price) -> dict[str, Any]:
    """Return a price for evaluation.json, without unknown and absent parts."""
    found = {name: value for name, value in asdict(price).items() if value is not None and value not in (0.0, ())}
    found |= {"input": price.input}
    if price.output is not None:
        found["output"] = price.output
    if price.above:
        found["above"] = [{"prompt_tokens": start, **_figures(one)} for start, one in price.above]
    return found
