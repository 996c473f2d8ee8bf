"""What an answer has used, in tokens: as the server counted them, and by its length where the server did not say.

It is decided here alone. Both limits, the progress and the journal, of which a resume learns what was used, count by it.

An attempt that failed counts nothing, though it may have been billed: what it used is hardly ever said, and by estimates an
outage of an hour would use up a budget of which nobody was charged a token.
"""

from __future__ import annotations

from typing import NamedTuple

from runner import jsontext
from runner.types import Request, Response

__all__ = ["LARGEST_COUNT", "Used", "count_of", "estimate", "total_of", "used_by"]

#: A column holds no larger one.
LARGEST_COUNT = 2**63 - 1
#: English takes four letters to a token; a script whose letters take three bytes each has about one token to each.
_BYTES_PER_TOKEN = 4


class Used(NamedTuple):
    """What one answer has used."""

    tokens: int
    #: Whether the server said it.
    is_said: bool


def count_of(value: object) -> int | None:
    """Return a count of tokens, also where JSON has it as 5.0; None for what is none: a word, a negative number, a half."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT else None


def total_of(prompt: int | None, completion: int | None, total: int | None) -> int | None:
    """Return the total of what the server said: its own, else the sum of both parts, where both are known."""
    if total is not None or prompt is None or completion is None:
        return total
    return count_of(prompt + completion)


def estimate(length: int) -> int:
    """Return how many tokens a text of so many bytes is."""
    return -(-length // _BYTES_PER_TOKEN)


def used_by(request: Request, response: Response) -> Used:
    """Return what an answer has used.

    A total that is less than its parts is none, and neither is one of 0: some servers fill in zeros. Of two parts, the one
    that the server does not tell is estimated.
    """
    usage = response.usage
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    said = max(usage.total_tokens or 0, (prompt or 0) + (completion or 0))
    if said and (usage.total_tokens or (prompt is not None and completion is not None)):
        return Used(min(said, LARGEST_COUNT), True)
    about = (prompt or request.prompt_estimate) + (completion or (0 if request.embeds else estimate(_length(response))))
    return Used(min(about, LARGEST_COUNT), False)


def _length(response: Response) -> int:
    """Return the bytes that the model wrote: of all choices, but without the probabilities of their tokens."""
    if response.choices is None:
        written = response.output, response.reasoning, response.refusal, response.tool_calls
        return sum(len(text.encode("utf-8", "replace")) for text in written if text)
    choices = jsontext.decode(response.choices.encode())
    return sum(len(jsontext.encode({**choice, "logprobs": None})) for choice in choices)
