"""The dataset: files in, items out, one row at a time."""

from __future__ import annotations

from runner.datasets.source import Dataset, open_dataset

__all__ = ["Dataset", "open_dataset"]
