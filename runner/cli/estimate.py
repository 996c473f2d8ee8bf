"""The cost of a run, estimated from its requests before any is sent: a range, and the requests that it leaves out."""

from __future__ import annotations

from collections.abc import Iterator

from runner import jsontext
from runner.prices import Prices, cost_of, dollars
from runner.structs import Struct
from runner.tasks.request import answer_limit
from runner.types import Request, Usage

__all__ = ["Estimate"]


class Estimate(Struct):
    """Counts requests that would be sent."""

    prices: Prices
    requests: int = 0
    prompt_tokens: int = 0
    #: The most tokens of the answers to requests that set a limit, and the number of requests that set none.
    answer_tokens: int = 0
    unlimited: int = 0
    #: Requests whose model has no price, and requests that read answers that do not exist yet.
    unpriced: int = 0
    reading: int = 0
    #: Requests that cannot be rendered without a real answer.
    untold: int = 0
    #: Dollars if every answer is empty, and if every answer is as long as it may be.
    least: float = 0.0
    most: float = 0.0

    def add(self, request: Request, samples: int, *, reads: bool) -> None:
        """Count a request that is sent `samples` times; `reads`: it reads an answer, which a stand-in replaces here."""
        prompt = request.prompt_estimate
        limit = 0 if request.embeds else answer_limit(jsontext.decode(request.shown))
        self.requests += samples
        self.reading += samples if reads else 0
        self.prompt_tokens += prompt * samples
        self.answer_tokens += (limit or 0) * samples
        self.unlimited += samples if limit is None else 0
        price = self.prices.find(None, request.model)
        asked = Usage(prompt_tokens=prompt, completion_tokens=0)
        answered = Usage(prompt_tokens=prompt, completion_tokens=limit or 0)
        least = None if price is None else cost_of(price, asked)
        most = None if price is None else cost_of(price, answered)
        if least is None or most is None:
            self.unpriced += samples
        else:
            self.least += least * samples
            self.most += most * samples

    def lines(self) -> Iterator[str]:
        """Yield the lines of the estimate, and of what it leaves out."""
        if not self.requests:
            return
        answers = f"answers at most {self.answer_tokens:,} (max_tokens)"
        if self.unlimited:
            answers = f"answers of any length ({self.unlimited:,} of {self.requests:,} without max_tokens)"
        yield f"prompt ≈ {self.prompt_tokens:,} tokens (4 characters a token), {answers} → {self._range()}"
        if self.unpriced and self.unpriced < self.requests:
            yield f"  without {self.unpriced:,} requests whose model has no price"
        if self.reading:
            yield f"  {self.reading:,} requests read answers that do not exist yet, so their prompts will have another length"
        if self.untold:
            yield f"  without {self.untold:,} requests that cannot be rendered without a real answer"

    def _range(self) -> str:
        if self.unpriced == self.requests:
            return "$? (no model has a price)"
        return f"{dollars(self.least)} {'or more' if self.unlimited else f'to {dollars(self.most)}'}"
