"""A single call in a process of its own, for code without an event loop. It uses the program and the messages of the pool."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from typing import Any

from runner.processes.pool import CHILD, CallError, NoProcessError, places, raised

__all__ = ["call_once"]

_LENGTH = struct.Struct(">I")
_GRACE_S = 60.0


def call_once(function: str, *args: Any, seconds: float, memory: int) -> Any:
    """Return the value of `module:function`, which has `seconds` of wall time. Raises CallError, NoProcessError.

    Arguments and value are JSON values. `memory` is the limit of the process, in bytes.
    """
    messages = ((places(), memory), (function, args, seconds, seconds))
    data = b"".join(_LENGTH.pack(len(text)) + text for text in (json.dumps(message).encode() for message in messages))
    try:
        done = subprocess.run(  # noqa: S603  this program's own words
            [sys.executable, "-P", str(CHILD)],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds + _GRACE_S,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise CallError("time", f"it takes more than {seconds:g} s") from error
    except OSError as error:
        raise NoProcessError(f"no process can be started: {error}") from error
    answers = _answers(done.stdout)
    if len(answers) < len(messages):
        is_over = done.returncode in {-14, -27}  # SIGALRM, SIGPROF
        what = f"it takes more than {seconds:g} s" if is_over else f"its process died (exit code {done.returncode})"
        raise CallError("time" if is_over else "died", what)
    worked, value = answers[1]
    if not worked:
        raise raised(*value)
    return value


def _answers(data: bytes) -> list[Any]:
    found = []
    while len(data) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack(data[: _LENGTH.size])[0]
        found.append(json.loads(data[_LENGTH.size : end]))
        data = data[end:]
    return found
