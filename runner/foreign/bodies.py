"""The positions of the members of a large JSON body.

Finding them takes long, and would block the whole program meanwhile.
"""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["has_more_values", "places"]

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])


def has_more_values(text: bytes | msgspec.Raw, most: int) -> bool:
    """Return whether JSON has more values, by its commas and brackets. Many values cost more than their bytes show."""
    text = bytes(text)
    return _marks(text) > most and _marks(_STRINGS.sub(b"", text)) > most


def _marks(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def places(path: str, limits: tuple[int, int, int]) -> dict[str, Any]:
    """Return the object in a file without `data`, a list, as `said`, and write the positions of the list's members.

    These are pairs of a start and an end, as 64-bit numbers in the file `PATH.places`; `count` is their number. If `data` is
    there but not a list, `other` is its text. `limits` are the most members of the list, and the most bytes and values of
    the rest of the object. A mistake is returned as `wrong`, with its `kind`.
    """
    most, longest, most_values = limits
    content = Path(path).read_bytes()
    try:
        members = _MEMBERS.decode(content)
    except msgspec.ValidationError:
        return {"wrong": "Input should be a valid dictionary", "kind": "dict_type"}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return {"wrong": f"JSON decode error: {error}", "kind": "json_invalid"}
    rows = members.pop("data", None)
    said = msgspec.json.encode(members)
    if len(said) > longest or has_more_values(said, most_values):
        return {"wrong": f"has more than {longest} bytes or {most_values} values outside `data`", "kind": "too_long"}
    try:
        return {"said": said.decode(), **_rows(Path(path), content, rows, most, longest)}
    except UnicodeDecodeError as error:
        return {"wrong": f"JSON decode error: {error.reason}", "kind": "json_invalid"}


def _rows(path: Path, content: bytes, rows: msgspec.Raw | None, most: int, longest: int) -> dict[str, Any]:
    if rows is None or bytes(rows) == b"null":
        return {"count": None, "other": None}
    try:
        pieces = _ROWS.decode(rows)
    except msgspec.MsgspecError:
        other = bytes(rows)
        return {"count": None, "other": other.decode() if len(other) <= longest else "0"}
    if len(pieces) <= most:
        _write(Path(f"{path}.places"), content, content.index(bytes(rows)) + 1, pieces)
    return {"count": len(pieces), "other": None}


def _write(path: Path, content: bytes, start: int, pieces: list[msgspec.Raw]) -> None:
    """Write the position of each piece. Between two are only a comma and white space, so it is the next match of its bytes."""
    places = array("Q")
    for raw in pieces:
        piece = bytes(raw)
        start = content.index(piece, start)
        places.extend((start, start + len(piece)))
        start += len(piece)
    path.write_bytes(places.tobytes())
