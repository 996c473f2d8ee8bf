"""The dataset: files in, items out, one row at a time."""

from __future__ import annotations

from runner.datasets.files import FileIdentity
from runner.datasets.options import READING, ReadingOptions
from runner.datasets.rows import Cursor, Mark
from runner.datasets.some_rows import SomeRows, mark_before
from runner.datasets.source import Dataset, Finished, Items, Survey, open_dataset

__all__ = [
    "READING",
    "Cursor",
    "Dataset",
    "FileIdentity",
    "Finished",
    "Items",
    "Mark",
    "ReadingOptions",
    "SomeRows",
    "Survey",
    "mark_before",
    "open_dataset",
]
