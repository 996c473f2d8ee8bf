"""Decodes the lines of a journal, as far as a scan needs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeAlias

import msgspec

from runner.errors import RunDirError
from runner.fingerprint import fingerprint_of
from runner.secrets.redaction import REDACTED
from runner.storage.files import FileSystem
from runner.storage.journal import PREFIX_LENGTH, Line, read_segment
from runner.storage.records import FORMAT, Batch, Close, Control, EndHead, Files, Limit, Open, Start, Try

__all__ = ["Record", "fingerprint_in", "first_open", "record_of"]

Record: TypeAlias = Open | Files | Limit | Batch | Start | Try | Control | EndHead | Close

_LINE = msgspec.json.Decoder(Record)
_OPEN = b'{"kind":"open",'
#: The end of the head of an `end` line. Inside a JSON string the quotes would be escaped, so no text can look like it.
_BEHIND_HEAD = b',"item_id":'
#: Its offset in a line without a head, such as the first versions of this program wrote.
_WITHOUT_HEAD = PREFIX_LENGTH + len(b'{"kind":"end"')
_ITEM_ID = re.compile(rb',"item_id":("(?:[^"\\]|\\.)*")')
_NAME = msgspec.json.Decoder(str)
_REDACTED = REDACTED.encode()


def record_of(line: Line) -> Record | None:
    """Return the record of a line, for an `end` line only its head; None if the line is damaged."""
    if not line.is_sound:
        return None
    end = line.text.find(_BEHIND_HEAD)
    json = line.text[PREFIX_LENGTH:end] + b"}" if end > _WITHOUT_HEAD else line.text[PREFIX_LENGTH:]
    try:
        record: Record = _LINE.decode(json)
    except msgspec.MsgspecError:
        return None
    return record


def fingerprint_in(line: Line) -> int:
    """Return the fingerprint of the item's name in an `end` line; 0 if the name is missing or redacted."""
    found = _ITEM_ID.search(line.text, _WITHOUT_HEAD)
    return 0 if found is None or _REDACTED in found[1] else fingerprint_of(_NAME.decode(found[1]))


def first_open(segment: Path, files: FileSystem) -> Open | None:
    """Return a segment's `open` line if it has one.

    Raises RunDirError for a format that this program does not know, and for a segment without a readable line: its rows would
    be paid again, and there may be a copy of it.
    """
    lines = sound = 0
    for line in read_segment(segment, files):
        if line.payload is not None and line.payload.startswith(_OPEN):
            return _opened(line.payload, segment)
        lines += 1
        sound += line.is_sound
    if lines and not sound:
        raise RunDirError(
            f"{segment}: is damaged: none of its {lines} lines ({segment.stat().st_size} bytes) can be read; "
            "put it back from a copy, or move it out of the journal, and what it held is asked again"
        )
    return None


def _opened(payload: bytes, segment: Path) -> Open:
    raw = msgspec.json.decode(payload)
    if raw.get("format") != FORMAT:
        raise RunDirError(f"{segment}: has format {raw.get('format')}, this program reads format {FORMAT}; update the program")
    try:
        return msgspec.convert(raw, Open)
    except msgspec.ValidationError as error:
        raise RunDirError(f"{segment}: its first line was not written by this program: {error}") from error
