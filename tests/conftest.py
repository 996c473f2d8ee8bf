"""Set-up for all tests: their processes find compiled modules, and what is costly to start is started by one worker alone."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

#: Files whose tests all go to one worker: a model is loaded there, or a package imported that takes seconds.
TOGETHER = ("tests/test_real_server.py", "tests/test_openai_client.py", "tests/test_metric_similarity.py")


def pytest_configure() -> None:
    """Let Python keep bytecode, and no test depend on how fast the machine is.

    Without bytecode each of some thousand processes would compile the whole package anew. Hypothesis by itself fails an example
    that takes longer than 200 ms.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    settings.register_profile("any machine", deadline=None)
    settings.load_profile("any machine")


class _Sharing(LoadScopeScheduling):  # type: ignore[misc]  # the package ships no types
    """The files of `TOGETHER` come first, for they take longest; all others are shared out test by test."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.endswith(TOGETHER) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Sharing(config, log)
