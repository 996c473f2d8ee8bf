"""How the files of a dataset are read, if the files do not say it themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.structs import Struct, field

__all__ = ["LONGEST_ROW", "READING", "ReadingOptions"]

#: A longer row of a text file is probably an accident, and reading it whole would cost too much memory.
LONGEST_ROW = 16 * 1024 * 1024
#: The options that decide what files mean: with another value, a run is another evaluation.
READING = ("encoding", "delimiter", "quoting", "types", "field")


class ReadingOptions(Struct, frozen=True, kw_only=True):
    """The options of `dataset` that decide what its files mean."""

    #: The encoding of text without a byte-order mark; None: UTF-8.
    encoding: str | None = None
    #: The delimiter between cells; None: the default of the format.
    delimiter: str | None = None
    #: Whether quotes enclose cells (True) or are text (False); None: the file decides.
    quoting: bool | None = None
    #: The types of columns, by their names; other columns are text.
    types: Mapping[str, str] = field(default_factory=dict)
    #: The key of the list that holds the rows of a JSON object.
    field: str | None = None
    #: The length of the longest row of a text file.
    longest: int = LONGEST_ROW

    @classmethod
    def of(cls, dataset: Any) -> ReadingOptions:
        """Return the options of a `dataset` section: a row may be as long as its largest medium is in base64."""
        longest = max(LONGEST_ROW, dataset.media_limit * 4 // 3 + (1 << 20))
        return cls(longest=longest, **{name: getattr(dataset, name) for name in READING})
