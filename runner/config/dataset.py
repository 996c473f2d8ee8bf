"""The section `dataset` of a config: where the rows come from, and how they are read."""

from __future__ import annotations

import difflib
from encodings import aliases
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from runner.config.paths import PathText
from runner.datasets.remote import what_is_wrong
from runner.tasks.fields import StrictModel
from runner.tasks.mediafiles import DEFAULT_LIMIT

__all__ = ["DatasetConfig"]


class DatasetConfig(StrictModel):
    """Where the rows come from."""

    path: list[PathText] | None = None
    """A file, a glob, or a list of them: .jsonl .ndjson .json .csv .tsv .parquet .arrow, text also with .gz .bz2 .xz .zst.
    URLs work too: s3:// gs:// hf:// http:// https://."""
    data: list[dict[str, Any]] | None = None
    """The rows themselves."""
    runs: dict[Literal["a", "b"], str] | None = None
    """Two runs, `{a: results/x/latest, b: results/y/latest}`: the rows of `a`, with the answers of both as `a` and `b`."""
    task: str | None = None
    """With `runs`: the alias of the task whose answers are taken."""
    id: str | None = None
    """The column with the id of each row, or the path of a value inside it, such as `meta.id`. Default: a hash of the row."""
    encoding: str | None = None
    """The encoding of text files, such as `cp1252`; a byte-order mark in a file takes precedence. Default: UTF-8."""
    delimiter: str | None = None
    """The character between the cells of CSV files, such as `;`. Default: a comma; in .tsv files a tab."""
    quoting: bool | None = None
    """Whether quotes in CSV files enclose cells (true) or are text (false).
    Default: true. With tabs between cells the file decides; if the file does not make it clear, that is an error."""
    types: dict[str, Literal["int", "float", "bool", "json"]] = Field(default_factory=dict)
    """The types of CSV columns, by their names. An empty cell is null. Default: text."""
    field: str | None = None
    """The key of the list of rows, if a .json file is one object."""
    limit: Annotated[int, Field(ge=0)] | None = None
    """Only the first N rows."""
    shuffle: int | None = None
    """A seed: the rows are taken in a random order drawn from it. That reads the dataset once before the start."""
    media_root: PathText | None = None
    """The directory to which `file:` values are relative. Files that rows name must lie below it.
    Default: the directory of the dataset file; for rows in the config, the directory of the config."""
    media_limit: Annotated[int, Field(ge=1)] = DEFAULT_LIMIT
    """The largest picture, sound, video or document that is sent, in bytes before base64."""

    @field_validator("path", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("path")
    @classmethod
    def _can_be_read(cls, value: list[str] | None) -> list[str] | None:
        if wrong := [what for one in value or () if (what := what_is_wrong(one)) is not None]:
            raise ValueError("; ".join(wrong))
        return value

    @field_validator("encoding")
    @classmethod
    def _is_encoding(cls, value: str | None) -> str | None:
        try:
            if value is None or "a".encode(value).decode(value) == "a":
                return value
        except (LookupError, ValueError):
            pass
        known = {*filter(lambda name: not name.endswith("_codec"), aliases.aliases.values()), "utf_8_sig"}
        near = difflib.get_close_matches(str(value).lower().replace("-", "_"), sorted(known), n=1)
        what = f"did you mean {near[0]!r}?" if near else "use one of Python's, such as utf-8, utf-16, cp1252, latin-1, gb18030"
        raise ValueError(f"{value!r} is not a text encoding; {what}")

    @field_validator("delimiter")
    @classmethod
    def _is_delimiter(cls, value: str | None) -> str | None:
        value = "\t" if value == r"\t" else value
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError(f"{value!r} cannot separate cells; write one character, such as ';', '|' or '\\t'")
        return value

    @field_validator("media_root")
    @classmethod
    def _is_directory(cls, value: str | None) -> str | None:
        if value is not None and not Path(value).is_dir():
            raise ValueError(f"{value!r} is not a directory (the path is relative to {Path.cwd()})")
        return value

    @model_validator(mode="after")
    def _has_rows(self) -> DatasetConfig:
        if [self.path, self.data, self.runs].count(None) != 2:  # noqa: PLR2004  all but one
            raise ValueError("needs exactly one of `path`, `data` and `runs`")
        if self.runs is not None and (len(self.runs) != 2 or self.task is None):  # noqa: PLR2004  one for each side
            raise ValueError("`runs` needs both `a` and `b`, and `task`, the alias of the answers")
        if self.runs is None and self.task is not None:
            raise ValueError("`task` works only with `runs`")
        return self
