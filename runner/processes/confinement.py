"""How a process for code of strangers is started: without an environment, and in a sandbox of the kernel if there is one.

The sandbox is bubblewrap's. It has no network, no other process and no file except those of Python, which are read-only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from runner.logs import logger
from runner.structs import Struct, replace

__all__ = ["AS_USUAL", "Start", "confined"]

_log = logger(__name__)
#: The directory of this package.
_OWN = Path(__file__).parents[1]
_APART = _OWN / "foreign"
#: The libraries that Python is linked with.
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")
_TRIED_WITHIN_S = 10.0
#: Root keeps its namespace of users. In a new one it could not become `nobody`, which it does before it runs such code.
_OF_ROOT = (
    *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"),
)


class Start(Struct, frozen=True):
    """How a process is started."""

    #: The words before Python, and the options of Python.
    before: Sequence[str]
    options: Sequence[str]
    #: None: the environment of this process.
    environment: Mapping[str, str] | None = None
    directory: str | None = None
    #: The value of `sys.path`; None: that of this process.
    modules: Sequence[str] | None = None


#: `-P`, because a folder `runner` in the current directory would come first.
AS_USUAL = Start((), ("-P",))


@cache
def confined() -> Start:
    """Return how code of strangers is started here. The first call tries the sandbox, for some hundredths of a second."""
    bare = Start((), ("-I", "-S"), {}, "/", _modules())
    program = shutil.which("bwrap")
    if program is None:
        return bare
    before = [program, *_sandbox()]
    try:
        words = [*before, sys.executable, *bare.options, "-c", ""]
        done = subprocess.run(words, env={}, capture_output=True, timeout=_TRIED_WITHIN_S, check=False)  # noqa: S603  this program's own words
        why = done.stderr.decode(errors="replace").strip()[:200] if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why is not None:
        _log.warning("%s does not work here (%s): functions of clients run without it", program, why)
        return bare
    return replace(bare, before=before)


def _modules() -> list[str]:
    """Return the places of Python's own modules and of `foreign/`, without installed packages."""
    library = sysconfig.get_path("stdlib")
    inside = os.path.join(library, "")  # noqa: PTH118  as paths of modules are written
    return [one for one in sys.path if f"{one}{os.sep}".startswith(inside) and "-packages" not in one] + [str(_APART)]


def _sandbox() -> list[str]:
    places = dict.fromkeys((sys.base_prefix, sys.prefix, str(Path(sys.executable).resolve().parent), str(_OWN)))
    words = [*(_OF_ROOT if os.geteuid() == 0 else ("--unshare-all",)), "--die-with-parent", "--dev", "/dev"]
    for place in _SYSTEM:
        words += ["--ro-bind-try", place, place]
    for place in places:
        words += ["--ro-bind", place, place]
    return words
