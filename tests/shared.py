"""Where the material that tests share lies; it is no part of the project, and tests that need it skip without it."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["CORPUS", "SHARED", "needs_shared"]

SHARED = Path(__file__).resolve().parents[2] / "shared"
CORPUS = SHARED / "corpus"

needs_shared = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of recordings is not at hand")
