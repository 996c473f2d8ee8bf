"""Exports: all items of an evaluation as JSON, JSON Lines or CSV, and signed URLs that are valid for an hour."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner import jsontext
from runner.service.schema import flat
from runner.service.standing import Standings
from runner.service.store import Record

__all__ = ["LARGEST_DIRECT", "is_signed", "pieces_of", "secret_in", "signed"]

LARGEST_DIRECT = 32 << 20
_VALID_S = 3600
#: A spreadsheet treats a cell that begins with one of these as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def secret_in(output: Path) -> bytes:
    """Return the secret that signs URLs. It is created once, and only its owner may read it. Raises OSError."""
    path = output / ".secret"
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, secrets.token_bytes(32))
        finally:
            os.close(handle)
    return path.read_bytes()


def signed(secret: bytes, name: str) -> str:
    """Return the query of a URL that is valid for an hour."""
    expires = str(int(time.time()) + _VALID_S)
    return f"expires={expires}&signature={_signature(secret, name, expires)}"


def is_signed(secret: bytes, name: str, query: Mapping[str, str]) -> bool:
    """Return whether a URL was signed by this service and has not expired."""
    expires, given = query.get("expires", ""), query.get("signature", "")
    is_ours = hmac.compare_digest(_signature(secret, name, expires).encode(), given.encode("utf-8", "replace"))
    return is_ours and expires.isdecimal() and int(expires) > time.time()


def _signature(secret: bytes, name: str, expires: str) -> str:
    return hmac.new(secret, f"{name}?{expires}".encode(), hashlib.sha256).hexdigest()


def pieces_of(standings: Standings, record: Record, kind: str) -> Iterator[bytes]:
    """Yield an export in chunks. Raises StorageError, OSError."""
    if kind == "csv":
        yield from _csv(standings, record)
        return
    separator, first = (b"\n", b"") if kind == "jsonl" else (b",", b"[")
    yield first
    for number, items in enumerate(standings.batches(record, record.rows)):
        if number:
            yield separator
        yield separator.join(map(jsontext.encode, items))
    yield b"\n" if kind == "jsonl" else b"]"


def _csv(standings: Standings, record: Record) -> Iterator[bytes]:
    """Yield the lines of a CSV. The items are read twice, because their columns are known only at the end."""
    columns: dict[str, None] = {"id": None}
    for items in standings.batches(record, record.rows):
        for item in items:
            columns.update(dict.fromkeys(_cells(item)))
    for task in record.tasks:
        columns[f"{task['alias']}.error"] = None
    yield _line(columns)
    for items in standings.batches(record, record.rows):
        for item in items:
            cells = _cells(item)
            yield _line([cells.get(name, "") for name in columns])


def _cells(item: Mapping[str, Any]) -> dict[str, str]:
    cells = {"id": item["id"]} | {name: _cell(value) for name, value in flat(item["data"])}
    cells |= {f"files.{name}": _cell(value) for name, value in (item["files"] or {}).items()}
    return cells | {f"{alias}.error": _cell(error["message"]) for alias, error in (item["task_errors"] or {}).items()}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return jsontext.encode_str(value)
    return f"'{value}" if value.startswith(_FORMULA) else value


def _line(cells: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode()
