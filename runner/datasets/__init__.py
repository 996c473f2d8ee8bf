"""The dataset: files in, items out, one row at a time."""

from __future__ import annotations

from runner.datasets.files import FileIdentity
from runner.datasets.options import READING, ReadingOptions
from runner.datasets.some_rows import SomeRows
from runner.datasets.source import Dataset, Finished, Items, Survey, open_dataset

__all__ = ["READING", "Dataset", "FileIdentity", "Finished", "Items", "ReadingOptions", "SomeRows", "Survey", "open_dataset"]
