"""How many tokens an answer has used: as the server counted them, or estimated by length if it did not.

This is the only place that decides it. Both limits, the progress, and the journal, from which a resume learns the sum, use it.

A failed attempt counts nothing, though it may be billed. Servers hardly ever say what it used, and with estimates an outage of
an hour could use up a budget without a single token being charged.
"""

from __future__ import annotations

from typing import NamedTuple

from runner import jsontext
from runner.types import Request, Response

__all__ = ["LARGEST_COUNT", "Used", "count_of", "estimate", "total_of", "used_by"]

#: The largest number that a column can hold.
LARGEST_COUNT = 2**63 - 1
#: English has four letters to a token. Scripts with three bytes to a letter have about one token to a letter.
_BYTES_PER_TOKEN = 4


class Used(NamedTuple):
    """The tokens of one answer."""

    tokens: int
    #: Whether the server counted them.
    is_said: bool


def count_of(value: object) -> int | None:
    """Return a count of tokens, also if JSON has it as 5.0; None for a value that is no count: text, -1, 0.5."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT else None


def total_of(prompt: int | None, completion: int | None, total: int | None) -> int | None:
    """Return the total of the server, else the sum of both parts, if both are known."""
    if total is not None or prompt is None or completion is None:
        return total
    return count_of(prompt + completion)


def estimate(length: int) -> int:
    """Return the estimated tokens of a text by its length in bytes."""
    return -(-length // _BYTES_PER_TOKEN)


def used_by(request: Request, response: Response) -> Used:
    """Return the tokens that an answer has used.

    A total of 0, or less than its parts, does not count: some servers fill in zeros. A part that the server does not count is
    estimated.
    """
    usage = response.usage
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    said = max(usage.total_tokens or 0, (prompt or 0) + (completion or 0))
    if said and (usage.total_tokens or (prompt is not None and completion is not None)):
        return Used(min(said, LARGEST_COUNT), True)
    about = (prompt or request.prompt_estimate) + (completion or (0 if request.embeds else estimate(_length(response))))
    return Used(min(about, LARGEST_COUNT), False)


def _length(response: Response) -> int:
    """Return how many bytes the model wrote in all choices, without logprobs."""
    if response.choices is None:
        written = response.output, response.reasoning, response.refusal, response.tool_calls
        return sum(len(text.encode("utf-8", "replace")) for text in written if text)
    choices = jsontext.decode(response.choices)
    return sum(len(jsontext.encode({**choice, "logprobs": None})) for choice in choices)
