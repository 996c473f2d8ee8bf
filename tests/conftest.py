"""Set-up for all tests: how much is tried, who runs what, and that their processes find compiled modules."""

from __future__ import annotations

import gc
import logging
import os
import signal
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.scratch import MEMORY, has_room
from tests.variations import CAMPAIGN, EXAMPLES

#: Files whose tests all go to one worker: they share a model, a package, a run or all of the source, which takes seconds.
TOGETHER = (
    *("tests/test_real_server.py", "tests/test_openai_client.py"),
    *("tests/test_metric_similarity.py", "tests/test_architecture.py", "tests/test_wire.py", "tests/test_notebook.py"),
)


def pytest_configure() -> None:
    """Let Python keep bytecode, put files of tests into memory, and let no test depend on how fast the machine is.

    Without bytecode each of some hundred processes would compile the whole package anew. Hypothesis by itself fails an example
    that takes longer than 200 ms.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:  # as of what runs in the background; programs would inherit it
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    # What a server's thread of another test says while it ends is no word of the test that runs by then.
    logging.getLogger("asyncio").addFilter(lambda record: "socket.send() raised" not in record.getMessage())
    if has_room():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    # The test command draws the same examples each time: only the code decides whether it passes. The campaign draws new ones.
    settings.register_profile("any machine", deadline=None, max_examples=EXAMPLES, derandomize=not CAMPAIGN)
    settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """Spare the collector what stays to the end: it would look through some thousand tests again and again."""
    gc.collect()
    gc.freeze()


class _Sharing(LoadScopeScheduling):  # type: ignore[misc]  # the package ships no types
    """What is given to a worker at once: the files of `TOGETHER`, otherwise a test with all its parameters."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.endswith(TOGETHER) else nodeid.partition("[")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Sharing(config, log)
