"""A marked key, sent to endpoints that echo it in every way they can, and to all the faults: it must be found nowhere."""

from __future__ import annotations

import base64
import gzip
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from html import unescape
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq

from tests.commands import Project, ask, questions
from tests.misbehaving import FAULTS, Misbehaving
from tests.reliability.endpoint import ECHOES, KINDS, Behaviour, endpoint
from tests.reliability.figures import Measured

__all__ = ["forms_of", "found_in", "measure_secrets", "places_of", "readings"]

#: With everything that JSON, URLs and base64 write in another way.
KEY = 'sk-CANARY/7f3a+9e1c==&x?"%20-0123456789'
HEADER = "hdr-CANARY-5b2d8c4f1a"
#: JSON in JSON in a log in a page is read so often at most.
_MOST_READINGS = 5
#: As JSON and JavaScript, and as Python's `repr`, write any character.
_HEXADECIMAL = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")
_TIMEOUT = {"connect": 1, "first_byte": 1, "idle": 1, "total": 2}
#: The time of a run ends those whose endpoint wishes for minutes of silence, which are granted.
_LIMITS = {
    "concurrency": 1,
    "max_attempts": 2,
    "give_up_after": 2,
    "fail_on_error": 1.0,
    "max_error_rate": 1.0,
    "max_wall_time": 30,
}


def forms_of(secret: str) -> list[str]:
    """Return a secret as it is, as a reader would have it who takes all escapes for such, and in base64 wherever it stands."""
    forms = [secret, *readings(secret.encode())]
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # The first and last letters depend on what stands around the secret: what is between does not.
            letters = encode(b"\0" * shift + secret.encode()).decode()
            whole = (len(secret.encode()) + shift) // 3 * 4
            forms.append(letters[4 if shift else 0 : whole])
    return list(dict.fromkeys(forms))


def readings(content: bytes) -> Iterator[str]:
    """Yield a text as it is, and as it is read once, twice and so on by what reads JSON, HTML, URLs and UTF-16."""
    text = content.decode("utf-8", "replace")
    yield text
    for _ in range(_MOST_READINGS):
        before = text
        text = _HEXADECIMAL.sub(lambda found: chr(int(found[1] or found[2], 16)), text).replace("\\", "")
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins the halves of a character
        text = unquote(unescape(text), errors="replace").replace("\0", "").replace("\ufffd", "")
        if text == before:
            return
        yield text


def found_in(secrets: Sequence[str], content: bytes) -> Iterator[str]:
    """Yield each form of a secret that a reader could find in a text."""
    forms = [form for secret in secrets for form in forms_of(secret)]
    for number, text in enumerate(readings(content)):
        yield from (f"{form[:12]!r}… (read {number} times)" for form in forms if form in text)


def places_of(secrets: Sequence[str], directory: Path, *printed: str) -> Iterator[str]:
    """Yield where a form of a secret stands: in names and bytes of files, in all of Parquet files, in what was printed."""
    texts = [(f"printed {number}", text.encode()) for number, text in enumerate(printed)]
    for path in (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()):
        texts += [(str(path), content) for content in _contents(path)]
        texts.append((f"the name of {path}", str(path).encode()))
    for place, content in texts:
        yield from (f"{place}: {form}" for form in found_in(secrets, content))


def _contents(path: Path) -> Iterator[bytes]:
    raw = path.read_bytes()
    yield raw
    if path.suffix == ".gz":
        yield gzip.decompress(raw)
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        yield repr(table.schema.metadata).encode() + repr(pq.read_metadata(path).metadata).encode()
        for column in table.columns:
            yield "\0".join(str(value) for value in column.to_pylist()).encode()


def measure_secrets(directory: Path, seconds: float) -> Measured:
    """Run everything that echoes, and then as many of the other faults as there is time for."""
    until = time.monotonic() + seconds
    places: list[str] = []
    hung: list[str] = []
    kinds = 0
    with endpoint() as served:
        # All after some good answers; then each kind at the very start, where many of them end the run.
        for first, stream in product([4, *range(0, -KINDS, -1)], [False, True]):
            if time.monotonic() < until:
                served.behave(Behaviour(echo_from=first, latency=(0, 0)))
                rows = 4 + 2 * len(ECHOES) if first > 0 else 2
                places += _try(directory / f"echo {first} {stream}", served.url, rows, hung, stream=stream)
                kinds += 1
    tried = 0
    with Misbehaving() as faults:
        for number, name in enumerate(["echo-key", *(name for name in FAULTS if name != "echo-key")]):
            if time.monotonic() < until:
                places += _try(directory / f"fault {number}", faults.at(name), 4, hung, stream=number % 2 == 1)
                tried += 1
    value = f"{len(places)} places, over {len(ECHOES)} kinds of echo in {kinds} runs and {tried} of {len(FAULTS)} faults"
    if places:
        value += f"; the first: {places[0]}"
    if hung:
        value += f"; did not end: {', '.join(hung)}"
    return Measured(value, met=not places and not hung)


def _try(directory: Path, url: str, rows: int, hung: list[str], *, stream: bool) -> list[str]:
    more: dict[str, Any] = {
        "endpoint": {
            "base_url": url,
            "headers": {"X-Api-Key": "${CANARY_HEADER}"},
            "timeout": _TIMEOUT,
            "record": str(directory / "results" / "recordings"),
        },
        "tasks": [ask(stream=stream)],
    }
    project = Project(
        directory, url, rows=questions(rows), limits=_LIMITS, more=more,
        environment={"OPENAI_API_KEY": KEY, "CANARY_HEADER": HEADER, "PYTHONASYNCIODEBUG": "1"},
    )  # fmt: skip
    try:
        found = project.run()
    except subprocess.TimeoutExpired:
        hung.append(url.rsplit("/", 2)[-2])
        return []
    return list(places_of([KEY, HEADER], directory / "results", found.stdout, found.stderr))
