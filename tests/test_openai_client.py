"""The official `openai` package and this client, asked for the same recorded answers by the same server, must agree.

The manifest names the recordings with which the package itself fails; there it must fail as expected, and this client not.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from runner.types import Response
from tests.shared import needs_shared
from tests.test_corpus import ask_all, calls_of, manifest, served
from tests.variations import CAMPAIGN

pytestmark = [
    needs_shared,
    pytest.mark.skipif(not importlib.util.find_spec("openai"), reason="needs the package openai"),
]

MESSAGES = [{"role": "user", "content": "?"}]
#: How the package is known to fail.
FAILURES = {"sdk_raised", "sdk_differs"}


class Answer(NamedTuple):
    """What both must agree on."""

    #: The text of each choice.
    texts: list[str]
    #: The id, name and arguments of each tool call of the first choice.
    calls: list[tuple[str, str, str]]
    #: Prompt, completion and total tokens.
    usage: tuple[int | None, ...]


def answered(key: str | None = None) -> list[dict[str, Any]]:
    """Return the recorded answers, or those that the manifest marks with a key."""
    return [entry for entry in manifest() if not entry["exception"] and (key is None or key in entry)]


def spread(entries: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Choose entries such that every provider and quirk comes before any of them comes again."""
    left, seen, chosen = list(entries), set[Any](), list[dict[str, Any]]()
    while left and len(chosen) < count:
        best = max(left, key=lambda entry: len(features(entry) - seen))
        if not features(best) - seen:
            seen.clear()
        seen |= features(best)
        left.remove(best)
        chosen.append(best)
    return chosen


def features(entry: dict[str, Any]) -> set[Any]:
    path = entry["endpoint"]
    return {(path, quirk) for quirk in entry["quirks"]} | {(path, entry["provider"], entry["src"])}


# --- what the package says ---


async def ask_package(url: str, entries: Sequence[dict[str, Any]]) -> list[Any]:
    """Return each answer, or the exception that was raised."""
    places = asyncio.Semaphore(4)

    async def ask(client: Any, entry: dict[str, Any]) -> Any:
        at = client.with_options(base_url=f"{url}/r/{quote(entry['file'])}/v1")
        async with places:
            return await KINDS["chat" in entry["endpoint"], bool(entry["stream"])](at)

    from openai import AsyncOpenAI  # which takes seconds: only who needs it waits for it

    async with AsyncOpenAI(api_key="none", base_url=url, max_retries=0, timeout=30) as client:
        return await asyncio.gather(*(ask(client, entry) for entry in entries), return_exceptions=True)


async def chat(client: Any) -> Answer:
    return of_chat(await client.chat.completions.create(model="m", messages=MESSAGES))


async def streamed_chat(client: Any) -> Answer:
    async with client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
        return of_chat(await stream.get_final_completion())


async def text(client: Any) -> Answer:
    found = await client.completions.create(model="m", prompt="?")
    return Answer([choice.text or "" for choice in found.choices], [], of_usage(found.usage))


async def streamed_text(client: Any) -> Answer:
    """The package has no reassembly for text completions: the pieces are put together here."""
    texts: dict[int, str] = {}
    usage = None
    async for chunk in await client.completions.create(model="m", prompt="?", stream=True):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.text or "")
        usage = chunk.usage or usage
    return Answer([texts[index] for index in sorted(texts)], [], of_usage(usage))


KINDS: dict[tuple[bool, bool], Callable[[Any], Any]] = {
    (True, True): streamed_chat,
    (True, False): chat,
    (False, True): streamed_text,
    (False, False): text,
}


def of_chat(found: Any) -> Answer:
    calls = [(call.id, call.function.name, call.function.arguments) for call in found.choices[0].message.tool_calls or []]
    return Answer([choice.message.content or "" for choice in found.choices], calls, of_usage(found.usage))


def of_usage(usage: Any) -> tuple[int | None, ...]:
    return tuple(getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))


# --- what this client says ---


def of_response(found: Any) -> Answer:
    assert isinstance(found, Response), found
    texts = [found.output or ""]
    if found.choices:
        texts = [one.get("text") or (one.get("message") or {}).get("content") or "" for one in json.loads(found.choices)]
    calls = [(call["id"], call["name"], call["arguments"]) for call in calls_of(found)]
    return Answer(texts, calls, of_usage(found.usage))


@pytest.fixture(scope="module")
def stripped() -> Iterator[str]:
    """Serve the recordings as the servers sent them: the recorder has put nulls in."""
    with served(["--nulls", "strip"]) as url:
        yield url


def both(url: str, entries: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Any, Answer]]:
    """Yield what the package and what this client says of each recording."""
    theirs = asyncio.run(ask_package(url, entries))
    ours = asyncio.run(ask_all(url, entries))
    for entry, package, response in zip(entries, theirs, ours, strict=True):
        yield entry, package, of_response(response)


@pytest.mark.long
@pytest.mark.parametrize(("stream", "count"), [(True, 60 if CAMPAIGN else 20), (False, 20 if CAMPAIGN else 10)])
def test_both_read_the_same(stripped: str, stream: bool, count: int) -> None:
    chosen = spread([entry for entry in answered() if entry["stream"] == stream and not FAILURES & set(entry)], count)
    wrong = [
        f"{entry['file']}: the package reads {package!r}, this client {ours!r}"
        for entry, package, ours in both(stripped, chosen)
        if package != ours
    ]
    assert len(chosen) == count
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong)


def test_an_answer_cut_off_by_its_length_is_one(stripped: str) -> None:
    for entry, package, ours in both(stripped, answered("sdk_raised")):
        assert type(package).__name__ == entry["sdk_raised"] == "LengthFinishReasonError"
        assert ours.texts == [entry["expected"]["content"] or ""]


def test_an_id_that_comes_again_is_the_same(stripped: str) -> None:
    for entry, package, ours in both(stripped, answered("sdk_differs")):
        (difference,) = entry["sdk_differs"].values()
        assert package.calls[0][0] == difference["openai_sdk"]
        assert ours.calls[0][0] == difference["expected"]
        assert ours == package._replace(calls=[(difference["expected"], *package.calls[0][1:])])


def test_members_that_are_null_are_as_absent(stripped: str) -> None:
    chosen = spread([entry for entry in answered("sdk_fails_with_nulls") if not FAILURES & set(entry)], 15 if CAMPAIGN else 5)
    with served([]) as with_nulls:
        for (entry, package, ours), (_, without, _) in zip(both(with_nulls, chosen), both(stripped, chosen), strict=True):
            assert type(package).__name__ == entry["sdk_fails_with_nulls"] == "AssertionError"
            assert ours == without
