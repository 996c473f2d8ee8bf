"""How a process is started for code of strangers: without an environment, and in a sandbox of the kernel where there is one.

The sandbox is bubblewrap's: no network, no other processes, and of all files Python's own, which cannot be written to.
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
#: What Python is linked with.
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")
_TRIED_WITHIN_S = 10.0
#: For root all but a namespace of users, in which it could not become nobody, as it does before strangers' code is run.
_OF_ROOT = (
    *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"),
)


class Start(Struct, frozen=True):
    """How a process is started."""

    #: What stands before the program, and the options of Python.
    before: Sequence[str]
    options: Sequence[str]
    #: None is that of this process.
    environment: Mapping[str, str] | None = None
    directory: str | None = None
    #: Where modules are looked for; None: where this process looks for them.
    modules: Sequence[str] | None = None


#: `-P`, for a directory `runner` where the program was started would come first.
AS_USUAL = Start((), ("-P",))


@cache
def confined() -> Start:
    """Return how code of strangers is started here; the first call tries it out, which takes some hundredths of a second."""
    bare = Start((), ("-I", "-S"), {}, "/", _modules())
    program = shutil.which("bwrap")
    if program is None:
        return bare
    before = [program, *_sandbox()]
    try:
        words = [*before, sys.executable, *bare.options, "-c", ""]
        done = subprocess.run(words, env={}, capture_output=True, timeout=_TRIED_WITHIN_S, check=False)  # noqa: S603  its own
        why = done.stderr.decode(errors="replace").strip()[:200] if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why is not None:
        _log.warning("%s does not work here (%s): functions of clients run without it", program, why)
        return bare
    return replace(bare, before=before)


def _modules() -> list[str]:
    """Return where Python's own modules are, and those that run apart, without what is installed."""
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
