"""Set-up for all tests: the processes that they start find compiled modules, as those of an installed package do."""

from __future__ import annotations

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Keep bytecode in pytest's cache; without it each of some thousand processes would compile the whole package anew."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if config.cache is not None:
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(config.cache.mkdir("bytecode")))
