"""The sections of a config apart from its data and endpoint: limits, analysis, prices, engine and cache."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from runner.config.paths import PathText
from runner.datasets.remote import is_remote
from runner.durations import seconds_in
from runner.tasks.fields import StrictModel
from runner.templates.locators import steps_of

__all__ = ["AnalysisConfig", "CacheConfig", "EngineConfig", "LimitsConfig", "Price", "PriceConfig", "Rates", "Seconds"]

Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]


#: The tags are not keys of the file, so they do not look like keys.
_Concurrency = Annotated[
    Annotated[Literal["auto"], Tag("[auto]")] | Annotated[int, Field(ge=1, le=100_000), Tag("[number]")],
    Discriminator(lambda value: "[auto]" if value == "auto" else "[number]"),
]
#: The number of requests in flight with which `auto` begins.
_FIRST_IN_FLIGHT = 8


class Rates(StrictModel):
    """How fast an endpoint may be asked."""

    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    """The most requests per second; set this or `requests_per_minute`."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """The most requests per minute; set this or `requests_per_second`."""
    tokens_per_minute: Annotated[int, Field(gt=0)] | None = None
    """The most tokens per minute, of prompts and answers together, as the server counts them."""

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if self.requests_per_second is not None and self.requests_per_minute is not None:
            raise ValueError("takes requests_per_second or requests_per_minute, not both")
        return self


class LimitsConfig(Rates):
    """How fast the endpoint may be asked, and when to give up. May change freely when a run is resumed."""

    concurrency: _Concurrency = 32
    """The most requests in flight; `auto` finds how many bring the most answers, up to `max_concurrency`."""
    max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """The most requests in flight if `concurrency` is `auto`."""
    order: Literal["as_is", "longest_first", "prefix"] = "as_is"
    """Which of the next ten thousand rows is asked first. `as_is`: the first. `longest_first`: the one with the most tokens,
    counting those that its answer may have. `prefix`: the one whose prompt sorts next, so that prompts that begin alike
    follow each other."""
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 5
    """Failed attempts that make a row an error; failures while the endpoint is down do not count. Fewer are enough if the
    server refuses (3) or its answers are of no use (2). It takes ten answers of 429 while other requests are answered."""
    max_row_time: Seconds = 7200.0
    """Seconds of attempts and back-offs after which a row that only fails is an error."""
    max_wall_time: Seconds | None = None
    """Seconds after which a start of the run stops by itself; a resume has as many again."""
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens of all starts, prompts and completions together, after which the run stops by itself; to go on, raise it."""
    max_cost: Annotated[float, Field(gt=0)] | None = None
    """Dollars of all starts, by `prices`, after which the run stops by itself; to go on, raise it."""
    max_error_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The run stops by itself when more than this share of a task's last 200 results are errors; 1.0: never.
    Rows that fail while the endpoint works for others (5xx, 401, 403, 404, 429, timeouts, broken connections) do not count."""
    give_up_after: Seconds = 600.0
    """Seconds for which the endpoint may be down before the run stops by itself, to be resumed."""
    drain: Annotated[float, Field(ge=0)] = 25.0
    """Seconds for which requests in flight may finish after a signal, `max_wall_time`, or a stop because of the endpoint."""
    fail_on_error: Annotated[int | float, Field(ge=0)] = 0.05
    """The share (0.0 to 1.0) or number of results that may be errors before the exit code is 1."""

    @field_validator("concurrency", mode="before")
    @classmethod
    def _number_or_auto(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "auto" and not value.strip().isdecimal():
            raise ValueError(f"should be a number or `auto`, got {value!r}")
        return value

    @field_validator("fail_on_error")
    @classmethod
    def _share_or_count(cls, value: float) -> float:
        if type(value) is float and value > 1:
            raise ValueError("is a share from 0.0 to 1.0, or a whole number of rows")
        return value

    def errors_allowed(self, rows: int) -> float:
        """Return how many of `rows` results may be errors before the exit code is 1."""
        return self.fail_on_error * rows if isinstance(self.fail_on_error, float) else self.fail_on_error

    @property
    def finds_concurrency(self) -> bool:
        """Whether the number of requests in flight is found while the run goes on."""
        return self.concurrency == "auto"

    @property
    def most_in_flight(self) -> int:
        """The most requests in flight."""
        return self.max_concurrency if self.concurrency == "auto" else self.concurrency

    @property
    def first_in_flight(self) -> int:
        """How many requests are in flight at first."""
        return min(_FIRST_IN_FLIGHT, self.max_concurrency) if self.concurrency == "auto" else self.concurrency

    def with_most_in_flight(self, most: int) -> LimitsConfig:
        """Return the same limits with another maximum of requests in flight."""
        return self.model_copy(update={"max_concurrency" if self.finds_concurrency else "concurrency": most})


def _is_column(value: str) -> str:
    if steps_of(value) is None:
        raise ValueError(f"{value!r} is not a column of the row; write it as item.category")
    return value


_Column = Annotated[str, AfterValidator(_is_column)]


_Dollars = Annotated[float, Field(ge=0)]


class PriceConfig(StrictModel):
    """What the tokens of a model cost, in $ per million."""

    input: _Dollars
    """Tokens of the prompt."""
    cached_input: _Dollars | None = None
    """Tokens of the prompt that the server had cached. Default: the same as `input`."""
    output: _Dollars | None = None
    """Tokens of the answer, reasoning included. Default: not known, so that only embeddings have a price."""
    batch: Annotated[float, Field(ge=0, le=1)] | None = None
    """The factor of the price for answers of a batch, such as 0.5. Default: 1."""


#: The tags are not keys of the file, so they do not look like keys.
Price = Annotated[
    Annotated[Literal["auto"], Tag("[auto]")] | Annotated[PriceConfig, Tag("[price]")],
    Discriminator(lambda value: "[auto]" if isinstance(value, str) else "[price]"),
]


class AnalysisConfig(StrictModel):
    """How the scores are computed. May change freely: it does not change what is asked."""

    by: list[_Column | Annotated[list[_Column], Field(min_length=1)]] = Field(default_factory=list)
    """Groups of items by a column, such as `item.category`, or by crossed columns, such as `[item.category, item.level]`."""
    cluster: _Column | None = None
    """The column of clusters, such as the text that several questions are about. Default: each item is a cluster of its own."""
    gates: list[str] = Field(default_factory=list)
    """The gates that `compare` checks if no `--gate` is given, such as `correct >= -0.01`."""


class EngineConfig(StrictModel):
    """Where a run is executed. It is not part of the evaluation, and may change at every start."""

    kind: Literal["local", "processes", "ray"] = "local"
    """`local`: in this process; `processes`: in worker processes of this machine; `ray`: in workers on a Ray cluster."""
    workers: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """The number of workers, which share `limits`. Default: the number of CPUs of this machine or the cluster."""
    address: str = "auto"
    """The Ray cluster, as HOST:PORT. `auto` finds the one that runs here, `local` starts one on this machine for the run."""


class CacheConfig(StrictModel):
    """Answers of earlier runs to the very same requests. It is not part of the evaluation, and may change at every start."""

    path: PathText = ".runner-cache/responses.sqlite"
    """The file of answers, which many runs may share."""
    mode: Literal["read_write", "read", "write", "off"] = "read_write"
    """`read`: new answers are not kept; `write`: everything is asked, and kept for later."""
    max_age: str | None = "30d"
    """How old an answer may be, such as `30d` or `12h`; null: any age."""

    @field_validator("path")
    @classmethod
    def _is_here(cls, value: str) -> str:
        if is_remote(value):
            raise ValueError(f"{value!r} is a URL; the file of the cache has to be on this machine")
        return value

    @field_validator("max_age")
    @classmethod
    def _is_duration(cls, value: str | None) -> str | None:
        if value is not None:
            seconds_in(value)
        return value

    @property
    def max_age_s(self) -> int | None:
        """How old an answer may be, in seconds; None: any age."""
        return None if self.max_age is None else seconds_in(self.max_age)

    @property
    def reads(self) -> bool:
        """Whether answers are taken from the cache."""
        return self.mode in {"read_write", "read"}

    @property
    def writes(self) -> bool:
        """Whether new answers are kept in the cache."""
        return self.mode in {"read_write", "write"}
