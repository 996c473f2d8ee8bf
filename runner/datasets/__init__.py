"""The dataset: files in, items out, one row at a time."""

from __future__ import annotations

from runner.datasets.options import READING, ReadingOptions
from runner.datasets.source import Dataset, FileIdentity, open_dataset

__all__ = ["READING", "Dataset", "FileIdentity", "ReadingOptions", "open_dataset"]
