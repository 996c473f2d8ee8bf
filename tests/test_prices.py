"""What an answer costs follows from its tokens and the price of its model; what is not known is null, and never 0 or less."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from genai_prices import Usage as Counted
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from runner.catalogue import PriceCatalogue
from runner.prices import Price, Prices, cost_of, dollars
from runner.storage.records import End
from runner.types import Request, Response, Unit, Usage

OPENAI = "https://api.openai.com/v1"
MINI = Price(input=0.15, cached_input=0.075, output=0.60, batch=0.5)


def usage(prompt: int | None, completion: int | None, cached: int | None = None) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)


# --- the cost of an answer ---


@pytest.mark.parametrize(
    ("price", "used", "cost"),
    [
        (MINI, usage(1_000_000, 0), 0.15),
        (MINI, usage(0, 1_000_000), 0.60),
        (MINI, usage(1000, 500), (1000 * 0.15 + 500 * 0.60) / 1e6),
        (MINI, usage(1000, 500, 0), (1000 * 0.15 + 500 * 0.60) / 1e6),
        (MINI, usage(1000, 500, 400), (600 * 0.15 + 400 * 0.075 + 500 * 0.60) / 1e6),
        (MINI, usage(1000, 500, 1000), (1000 * 0.075 + 500 * 0.60) / 1e6),
        # Without a price for what is cached it costs what all costs.
        (Price(input=2, output=8), usage(1000, 500, 400), (1000 * 2 + 500 * 8) / 1e6),
        # What is free is known to be free.
        (Price(input=0, output=0), usage(1000, 500), 0.0),
        (Price(input=1, cached_input=0, output=1), usage(1000, 0, 1000), 0.0),
        # What the server has not said is not known.
        (MINI, usage(None, None), None),
        (MINI, usage(1000, None), None),
        (MINI, usage(None, 500), None),
        (MINI, usage(0, 0), None),
        # Counts that cannot be.
        (MINI, usage(-1000, 500), None),
        (MINI, usage(1000, -500), None),
        (MINI, usage(1000, 500, -400), (1000 * 0.15 + 500 * 0.60) / 1e6),
        (MINI, usage(1000, 500, 5000), (1000 * 0.075 + 500 * 0.60) / 1e6),
        # A price without what answers cost is one of embeddings.
        (Price(input=2), usage(1000, 0), 0.002),
        (Price(input=2), usage(1000, 1), None),
        # Besides by tokens by the request, and dearer where prompts are long.
        (Price(input=1, output=1, request=0.012), usage(1000, 0), 0.013),
        (Price(input=1, output=1, above=((500, Price(input=2, output=3)),)), usage(500, 10), 0.00051),
        (Price(input=1, output=1, above=((500, Price(input=2, output=3)),)), usage(501, 10), 0.001032),
    ],
)
def test_the_cost_of_an_answer(price: Price, used: Usage, cost: float | None) -> None:
    assert cost_of(price, used) == (None if cost is None else pytest.approx(cost, rel=1e-12))


def test_an_embedding_has_no_written_tokens_and_a_batch_costs_a_part() -> None:
    assert cost_of(Price(input=2), usage(1000, None), embeds=True) == pytest.approx(0.002)
    assert cost_of(MINI, usage(1000, 500), is_batched=True) == pytest.approx(0.000225)
    assert cost_of(Price(input=1, output=1), usage(1000, 0), is_batched=True) == pytest.approx(0.001)


_COUNT = st.none() | st.integers(-(2**70), 2**70) | st.integers(-5, 5000)
_DOLLARS = st.floats(0, 1e6)


@given(
    st.builds(Price, input=_DOLLARS, cached_input=st.none() | _DOLLARS, output=st.none() | _DOLLARS),
    st.builds(usage, _COUNT, _COUNT, _COUNT),
)
def test_no_cost_is_negative(price: Price, used: Usage) -> None:
    cost = cost_of(price, used)
    assert cost is None or cost >= 0


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.0000"),
        (1.23456, "$1.2346"),
        (12345.6, "$12,345.6000"),
        (0.00123, "$0.0012"),
        (0.000012345, "$0.000012"),
        (3e-9, "$0.0000000030"),
    ],
)
def test_amounts(amount: float, text: str) -> None:
    assert dollars(amount) == text


# --- which price is a model's ---


def priced(*names: str) -> dict[str, Price | None]:
    """Return a list of prices that are told apart by their place in it, from 1."""
    return {name: Price(input=number, output=number) for number, name in enumerate(names, 1)}


@pytest.mark.parametrize(
    ("listed", "served", "asked", "expected"),
    [
        (["gpt-4o"], None, "gpt-4o", 1),
        (["gpt-4o"], None, "gpt-4o-mini", None),
        (["gpt-4o"], None, "GPT-4o", None),
        (["gpt-4o*"], None, "gpt-4o-mini", 1),
        # The exact name, then the longest glob, wherever they stand.
        (["gpt-4o-*", "gpt-4o-mini", "*"], None, "gpt-4o-mini", 2),
        (["*", "gpt-*", "gpt-4o-*"], None, "gpt-4o-mini", 3),
        (["gpt-4o-*", "gpt-*", "*"], None, "gpt-4o-mini", 1),
        (["llama[3]", "llama*"], None, "llama[3]", 1),
        # The model that has answered, then the one that was asked.
        (["gpt-4o", "gpt-4o-2024-08-06"], "gpt-4o-2024-08-06", "gpt-4o", 2),
        (["gpt-4o"], "gpt-4o-2024-08-06", "gpt-4o", 1),
        (["gpt-4o", "gpt-4o-2024*"], "gpt-4o-2024-08-06", "gpt-4o", 2),
        # What is listed by its name is not what all others are.
        (["gpt-4o", "*"], "gpt-4o-2024-08-06", "gpt-4o", 1),
        (["gpt-4o", "*"], "x", "y", 2),
        (["m"], "", "m", 1),
        (["m"], "m", None, 1),
        (["m"], None, {"row": "gave it"}, None),
        ([], "m", "m", None),
    ],
)
def test_the_price_of_a_model(listed: list[str], served: str | None, asked: Any, expected: int | None) -> None:
    price = Prices(priced(*listed)).find(served, asked)
    assert (None if price is None else price.input) == expected


class Known:
    """A catalogue of a few models."""

    version = "7"

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self.prices = prices
        self.asked: list[str] = []

    def find(self, model: str) -> tuple[str, Price] | None:
        self.asked.append(model)
        return (f"maker/{model}", self.prices[model]) if model in self.prices else None


def answered(prices: Prices, model: str, served: str | None) -> float | None:
    request = Request(unit=Unit("a", 0, 0, "t"), path="/x", model=model, content=b"", shown="{}", stream=False)
    return prices.cost(request, Response(output="a", response_model=served, usage=usage(1_000_000, 0)))


def test_a_catalogue_is_asked_once_for_each_model_and_what_it_said_is_kept() -> None:
    catalogue = Known({"a": Price(input=5, output=6), "b-1": Price(input=7, output=0)})
    prices = Prices({"own": Price(input=1, output=2), "unused": Price(input=9), "*": None}, catalogue)
    asked = [("a", "a"), ("b", "b-1"), ("own", "own-1"), ("c", "c"), ("b", None)]
    assert [answered(prices, *one) for one in asked * 3] == [5, 7, 1, None, None] * 3
    assert sorted(catalogue.asked) == ["a", "b", "b-1", "c"]
    assert prices.used == {
        "models": {
            "maker/a": {"input": 5, "output": 6},
            "maker/b-1": {"input": 7, "output": 0},
            "own": {"input": 1, "output": 2},
        },
        "genai_prices": "7",
    }


def test_many_names_of_models_are_not_all_remembered() -> None:
    prices = Prices(priced("m"))
    for number in range(5000):
        assert answered(prices, "m", f"m-{number}") == 1
    assert len(prices._known) <= 1000


# --- the library ---

LIBRARY = [
    ("gpt-4o-mini", OPENAI, usage(1000, 50, 200)),
    ("gpt-4o-mini-2024-07-18", OPENAI, usage(1000, 50)),
    ("gpt-4o-mini", "http://127.0.0.1:8000/v1", usage(7, 3)),
    ("gpt-4o-mini", None, usage(7, 3)),
    ("text-embedding-3-small", OPENAI, usage(1000, 0)),
    ("claude-sonnet-4-5", "https://api.anthropic.com/v1", usage(1000, 50, 10)),
    ("claude-sonnet-4-5", "https://api.anthropic.com/v1", usage(200_000, 50, 10)),
    ("claude-sonnet-4-5", "https://api.anthropic.com/v1", usage(200_001, 50, 10)),
    ("sonar", "https://api.perplexity.ai", usage(1000, 50)),
]


@pytest.mark.parametrize(("model", "url", "used"), LIBRARY)
def test_the_librarys_prices_are_what_the_library_itself_reckons(model: str, url: str | None, used: Usage) -> None:
    found = PriceCatalogue(url).find(model)
    assert found is not None
    counted = Counted(
        input_tokens=used.prompt_tokens, output_tokens=used.completion_tokens, cache_read_tokens=used.cached_tokens or 0
    )
    expected = calc_price(counted, model, provider_id=found[0].partition("/")[0])
    assert cost_of(found[1], used) == pytest.approx(float(expected.total_price), rel=1e-12)
    assert found[0] == f"{expected.provider.id}/{expected.model.id}"


@pytest.mark.parametrize(("model", "url"), [("m", None), ("m", OPENAI), ("", None), ("claude-sonnet-4-5", OPENAI)])
def test_what_the_library_does_not_know_has_no_price(model: str, url: str | None) -> None:
    assert PriceCatalogue(url).find(model) is None


# --- a plain run ---


@pytest.mark.long
def test_a_run_without_prices_loads_nothing_of_this() -> None:
    program = (
        "import sys, runner.cli.run, runner.evaluation\n"
        "runner.evaluation.prepare('configs/eval.yaml')\n"
        "print([name for name in sys.modules if 'price' in name or 'pricing' in name or 'runner.catalogue' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_an_answer_cost_stands_before_its_item() -> None:
    """So that a resume learns it without reading the line to its end."""
    names = End.__struct_fields__
    assert names.index("cost") < names.index("item_id")
