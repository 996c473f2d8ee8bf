"""What answers cost, in dollars: the prices of models, and what they make of the tokens of an answer.

A run without prices does not load this.
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
#: Servers name models as they like: so many pairs of names are remembered.
_MOST_REMEMBERED = 1000


class Price(Struct, frozen=True, kw_only=True):
    """What the tokens of a model cost, in $ per million."""

    input: float
    #: Of those tokens of a prompt that the server had cached; None: what others cost.
    cached_input: float | None = None
    #: None where the model writes nothing, as one of embeddings.
    output: float | None = None
    #: What an answer of a batch costs of what others do, as 0.5; None: the same.
    batch: float | None = None
    #: What each request costs besides, in $.
    request: float = 0.0
    #: Prices of requests whose prompt has more than so many tokens, the longest last.
    above: tuple[tuple[int, Price], ...] = ()

    def at(self, prompt_tokens: int) -> Price:
        """Return the price of requests with so long a prompt."""
        return next((price for start, price in reversed(self.above) if prompt_tokens > start), self)


def cost_of(price: Price, usage: Usage, *, embeds: bool = False, is_batched: bool = False) -> float | None:
    """Return what so many tokens cost, in $; None where the server has not said them, or no price covers them.

    Counts that cannot be count as not said. Of a prompt no more is cached than all of it. `embeds` says that nothing was
    written; `is_batched`, that the answer came from a batch.
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
    """Return an amount as people read it, with at least two digits of what is not 0."""
    digits = 4 if amount == 0 else max(4, 1 - math.floor(math.log10(abs(amount))))
    return f"${amount:,.{digits}f}"


class Catalogue(Protocol):
    """Knows the prices of many models."""

    @property
    def version(self) -> str:
        """Which edition it is."""

    def find(self, model: str) -> tuple[str, Price] | None:
        """Return a model's name in the catalogue and its price, or None."""


class Prices:
    """The prices of a run.

    A model's is that of its exact name, else that of the longest glob which fits it. The name by which the server calls it
    comes first, then the one that was asked for; a glob of nothing but stars is for what has no price by either name.
    """

    def __init__(self, listed: Mapping[str, Price | None], catalogue: Catalogue | None = None) -> None:
        """Take prices by names and globs; None stands for whatever the catalogue says."""
        self._listed, self._catalogue = listed, catalogue
        self._globs = sorted(listed, key=lambda glob: -len(glob))
        self._known: dict[tuple[str | None, str | None], Price | None] = {}
        self._used: dict[str, Price] = {}

    def cost(self, request: Request, response: Response) -> float | None:
        """Return what an answer has cost, in $; None where that is not known."""
        price = self.find(response.response_model, request.model)
        return None if price is None else cost_of(price, response.usage, embeds=request.embeds)

    def cost_in_batch(self, request: Request, response: Response) -> float | None:
        """Return the same of an answer that came from a batch."""
        price = self.find(response.response_model, request.model)
        return None if price is None else cost_of(price, response.usage, embeds=request.embeds, is_batched=True)

    def find(self, served: Any, asked: Any) -> Price | None:
        """Return the price of a model by the server's name and by the one that was asked for, or None."""
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
        """Yield what a name is listed as, the best first."""
        if name in self._listed:
            yield name
        yield from (glob for glob in self._globs if glob != name and fnmatchcase(name, glob))

    @property
    def used(self) -> dict[str, Any]:
        """The figures that were used, by how they are listed or by their names in the catalogue, and its version."""
        models = {name: _figures(price) for name, price in sorted(self._used.items())}
        return {"models": models} | ({} if self._catalogue is None else {"genai_prices": self._catalogue.version})


def _figures(price: Price) -> dict[str, Any]:
    """Return a price as evaluation.json has it: what is unknown or not there is left out."""
    found = {name: value for name, value in asdict(price).items() if value is not None and value not in (0.0, ())}
    found |= {"input": price.input}
    if price.output is not None:
        found["output"] = price.output
    if price.above:
        found["above"] = [{"prompt_tokens": start, **_figures(one)} for start, one in price.above]
    return found
