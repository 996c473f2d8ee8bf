"""How the files of a dataset are to be read, where they do not say it themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.structs import Struct, field

__all__ = ["LONGEST_ROW", "READING", "ReadingOptions"]

#: A longer row of a text file is no row but an accident, and reading it whole would cost the memory of it.
LONGEST_ROW = 16 * 1024 * 1024
#: The options that say what files mean: with another value of one, a run is another evaluation.
READING = ("encoding", "delimiter", "quoting", "types", "field")


class ReadingOptions(Struct, frozen=True, kw_only=True):
    """The options of `dataset` that say what its files mean."""

    #: The encoding of text without a byte-order mark; None: UTF-8.
    encoding: str | None = None
    #: What stands between cells; None: what the format's name says.
    delimiter: str | None = None
    #: Whether quotes hold cells together (True) or are text (False); None: as the file shows.
    quoting: bool | None = None
    #: What the cells of columns are, by the column's name; others are text.
    types: Mapping[str, str] = field(default_factory=dict)
    #: The key of the list in which the rows of a JSON object are.
    field: str | None = None
    #: The length of the longest row of a text file.
    longest: int = LONGEST_ROW

    @classmethod
    def of(cls, dataset: Any) -> ReadingOptions:
        """Return the options of a `dataset` section: a row may be as long as its largest medium is in base64."""
        longest = max(LONGEST_ROW, dataset.media_limit * 4 // 3 + (1 << 20))
        return cls(longest=longest, **{name: getattr(dataset, name) for name in READING})
