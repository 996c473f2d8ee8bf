"""Set-up for all tests: the processes that they start find compiled modules, as those of an installed package do."""

from __future__ import annotations

import os


def pytest_configure() -> None:
    """Let Python keep bytecode; without it each of some thousand processes would compile the whole package anew."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
