"""Pictures, sounds, videos and documents in chat messages: found in a body, read, and put in as base64.

A body is encoded once, with marks in place of the media. With the real media for the marks it is the body that is sent. With
placeholders for the marks it is the body that files keep. So base64 is never searched, escaped or copied more than that.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runner import jsontext
from runner.errors import RowError
from runner.keypaths import KeyPath, dotted
from runner.structs import Struct, replace
from runner.tasks.mediafiles import MediaError, MediaFiles, Medium, is_file_url, medium_of
from runner.tasks.mediatype import as_audio, audio_format
from runner.templates.compile import is_template
from runner.types import Blob, ErrorType

__all__ = [
    "MEMBERS",
    "Body",
    "Found",
    "Origin",
    "encode_body",
    "encode_plain",
    "find_media",
    "is_medium",
    "media_of",
    "spelled_out",
    "with_medium",
]

#: The kinds of parts, each with the key that holds the medium in its long form.
MEMBERS = {"image_url": "url", "audio_url": "url", "video_url": "url", "input_audio": "data", "file": "file_data"}
#: The keys of a medium in Hugging Face's Parquet files.
_STRUCT = frozenset({"bytes", "path"})
#: Up to this many characters, base64 from the row or the config is kept as it is.
_LONGEST_SHOWN = 1000
#: With fewer bytes than this, the work takes less time than the start of a thread for it.
_SMALL = 1 << 16
#: Random and never shown, so that no row can contain it.
_MARK = secrets.token_hex(16)
_MARKED = re.compile(rb'"%b-(\d+)"' % _MARK.encode())
_BLOB_AS_TEXT = re.compile(r"<\d+ bytes, sha256 [0-9a-f]{16}>")
_IN_EVERY_BLOB = b" bytes, sha256 "
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DECODED_AT_ONCE = 1 << 20
_LONGEST_NAME = 200


class Found(Struct, frozen=True):
    """A medium in a body that cannot be sent, or cannot be shown, as it is."""

    #: The path of its member in the body, such as ("messages", 0, "content", 1, "image_url").
    path: KeyPath
    #: The value at this path: a mapping, or in the short form the medium itself.
    member: Any
    #: The mapping's key that holds the medium; None in the short form.
    key: str | None
    #: The medium: a `file:`, a `Blob`, a struct of bytes and path, or long base64.
    value: Any

    @property
    def kind(self) -> str:
        """The kind of part, such as `image_url`."""
        return str(self.path[-1])

    @property
    def place(self) -> KeyPath:
        """The path of the medium itself."""
        return self.path if self.key is None else (*self.path, self.key)

    @property
    def slow(self) -> bool:
        """Whether it would block the event loop: it is read from a disk, or is large."""
        value = self.value.get("bytes") if isinstance(self.value, dict) else self.value
        if isinstance(value, Blob):
            return len(value.data) > _SMALL
        return not isinstance(value, str) or is_file_url(value) or len(value) > _SMALL

    def with_text(self, text: str) -> Any:
        """Return the member with this text in place of the medium."""
        return text if self.key is None else {**self.member, self.key: text}


class SpelledOut(str):
    """A `file:` that is written in the config itself, not given by a row: it may lead anywhere."""

    __slots__ = ()


class Origin(Struct, frozen=True):
    """Where a body comes from. This decides which files its `file:` values may name."""

    files: MediaFiles
    #: The place of the row, as `file:line`.
    place: str | None = None

    def medium(self, found: Found) -> Medium:
        """Return the medium that was found. It blocks on files. Raises MediaError."""
        value = found.value
        if isinstance(value, str):
            return self._read(value)
        if isinstance(value, Blob):
            return self._hold(value)
        name = value.get("path")
        if isinstance(value.get("bytes"), Blob):
            return replace(self._hold(value["bytes"]), name=Path(name).name if isinstance(name, str) else None)
        return self._read(f"file:{name}")

    def _read(self, url: str) -> Medium:
        file, _, _ = (self.place or "").rpartition(":")
        is_elsewhere, is_spelled_out = "://" in file, isinstance(url, SpelledOut)
        if is_elsewhere and not is_spelled_out and not self.files.has_root:
            raise MediaError("the dataset is not on this machine; set dataset.media_root to the directory of its files here")
        base = self.files.base(None if file in {"", "data"} or is_elsewhere else Path(file))
        return self.files.read(url, base, anywhere=is_spelled_out)

    def _hold(self, blob: Blob) -> Medium:
        str(blob)  # computes the hash here, mostly in a thread; the row is shown with it later
        return medium_of(blob.data, self.files.limit)


class Body(NamedTuple):
    """A request's body as JSON."""

    #: As it is sent.
    content: bytes
    #: As it is kept in files, with placeholders.
    shown: str
    #: How many placeholders there are.
    media: int = 0


def spelled_out(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body that is not rendered yet, with its own `file:` values marked as SpelledOut."""
    for found in find_media(body):
        if isinstance(found.value, str) and not is_template(found.value):
            body = _with(body, found.path, found.with_text(SpelledOut(found.value)))
    return body


def is_medium(path: KeyPath) -> bool:
    """Return whether a path in the messages is that of a medium, such as (0, "content", 1, "image_url", "url")."""
    last, before = path[-1], path[-2] if len(path) > 1 else None
    return last in MEMBERS or (before in MEMBERS and MEMBERS[str(before)] == last)


def media_of(part: Mapping[str, Any]) -> tuple[str | None, list[Any]]:
    """Return the kind of a part and its media: none for a null, all of a list. The kind is None if it can have no medium."""
    given = part.get("type")
    kind = given if given is not None else next((kind for kind in MEMBERS if kind in part), None)
    if kind not in MEMBERS or kind not in part:
        return None, []
    member, key = part[kind], MEMBERS[kind]
    if isinstance(member, dict) and not member.keys() <= _STRUCT:
        if key not in member or (member[key] is None and member.get("file_id") is not None):
            return None, []
        member = member[key]
    return kind, [one for one in (member if isinstance(member, list) else [member]) if not _is_missing(one)]


def with_medium(part: Mapping[str, Any], kind: str, medium: Any) -> dict[str, Any]:
    """Return a part with another medium."""
    member = part[kind]
    is_long = isinstance(member, dict) and MEMBERS[kind] in member
    return {**part, kind: {**member, MEMBERS[kind]: medium} if is_long else medium}


def _is_missing(medium: Any) -> bool:
    """Return whether a medium is null, or the struct of nulls that Hugging Face's Parquet files hold instead."""
    is_struct = isinstance(medium, dict) and medium.keys() <= _STRUCT
    return medium is None or (is_struct and all(member is None for member in medium.values()))


def find_media(body: Mapping[str, Any]) -> list[Found]:
    """Return the media in the messages that cannot be sent, or cannot be shown, as they are."""
    messages = body.get("messages")
    return [
        found
        for index, message in enumerate(messages if isinstance(messages, list) else ())
        if isinstance(message, dict) and isinstance(parts := message.get("content"), list)
        for number, part in enumerate(parts)
        if isinstance(part, dict)
        for found in _in_part(part, ("messages", index, "content", number))
    ]


def _in_part(part: Mapping[str, Any], path: KeyPath) -> Iterator[Found]:
    for kind, key in MEMBERS.items():
        member = part.get(kind)
        if isinstance(member, dict) and key in member:
            if _needs_work(member[key]):
                yield Found((*path, kind), member, key, member[key])
        elif member is not None and _needs_work(member):
            yield Found((*path, kind), member, None, member)


def _needs_work(value: Any) -> bool:
    if isinstance(value, str):
        is_long = len(value) > _LONGEST_SHOWN and not _ELSEWHERE.match(value)
        return is_long or is_file_url(value) or _BLOB_AS_TEXT.fullmatch(value) is not None
    return isinstance(value, Blob) or _is_struct(value)


def _is_struct(value: Any) -> bool:
    """Return whether a value is a struct of Hugging Face's Parquet files: the bytes, or a path to them."""
    if not isinstance(value, dict) or not value.keys() <= _STRUCT:
        return False
    return isinstance(value.get("bytes"), Blob) or isinstance(value.get("path"), str)


def encode_plain(body: Mapping[str, Any]) -> bytes:
    """Return a body without media as JSON. Raises RowError (template) for bytes that would be sent as their placeholder."""
    content = jsontext.encode(body)
    if _IN_EVERY_BLOB in content and (path := _path_of_blob(body, ("configuration",))) is not None:
        parts = ", ".join(f"{kind}.{key}" for kind, key in MEMBERS.items())
        what = f"{dotted(path)}: the bytes of a column cannot be sent here; put them into {parts} of a content part"
        raise RowError(ErrorType.TEMPLATE, what)
    return content


def _path_of_blob(value: Any, path: KeyPath) -> KeyPath | None:
    if isinstance(value, Blob):
        return path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (_path_of_blob(member, (*path, step)) for step, member in members)
    return next((one for one in found if one is not None), None)


def encode_body(body: Mapping[str, Any], found: Sequence[Found], origin: Origin) -> Body:
    """Read the media and put them into the body. It blocks if one of them is slow. Raises RowError (template)."""
    marked: Any = body
    sent: list[Sequence[bytes]] = []
    shown: list[Sequence[bytes]] = []
    for number, one in enumerate(found):
        try:
            member, as_sent, as_shown = _filled(one, f"{_MARK}-{number}", origin)
        except MediaError as error:
            raise RowError(ErrorType.TEMPLATE, f"{_named(one, origin)} {error}") from error
        marked = _with(marked, one.path, member)
        sent.append(as_sent)
        shown.append([as_shown])
    pieces = _MARKED.split(encode_plain(marked))
    return Body(_joined(pieces, sent), _joined(pieces, shown).decode(), len(found))


def _joined(pieces: Sequence[bytes], media: Sequence[Sequence[bytes]]) -> bytes:
    """Put the media in place of the marks: every second piece is the number of a medium."""
    flat = (part for index, piece in enumerate(pieces) for part in (media[int(piece)] if index % 2 else (piece,)))
    return b"".join(flat)


def _filled(found: Found, mark: str, origin: Origin) -> tuple[Any, Sequence[bytes], bytes]:
    """Return a part's member with a mark for its medium, and the medium as it is sent and as it is shown."""
    value = found.value
    if isinstance(value, str) and not is_file_url(value):
        if _BLOB_AS_TEXT.fullmatch(value):
            raise MediaError("is the bytes of a column printed as text; write a locator such as `item.image`, without braces")
        return found.with_text(mark), [jsontext.encode(value)], jsontext.encode(_placeholder_of_text(value))
    medium = origin.medium(found)
    if found.kind in {"audio_url", "input_audio"}:
        medium = replace(medium, media_type=as_audio(medium.media_type))
    start = b"" if found.kind == "input_audio" else b"data:%b;base64," % medium.media_type.encode()
    shown = f"<{medium.media_type}, {medium.size} bytes, sha256 {medium.sha256}>"
    return _member(found, mark, medium), [b'"', start, medium.base64, b'"'], jsontext.encode(shown)


def _member(found: Found, mark: str, medium: Medium) -> Any:
    """Return a part's member with the mark, and with what its kind requires: the format of a sound, the name of a document."""
    if found.kind not in {"input_audio", "file"}:
        return found.with_text(mark)
    given = {} if found.key is None else found.member
    member = {**given, MEMBERS[found.kind]: mark}
    if found.kind == "file":
        return member if medium.name is None else {"filename": medium.name, **member}
    if given.get("format") is None:
        member["format"] = audio_format(medium.media_type)
    if member["format"] is None:
        raise MediaError(f"is {medium.media_type}, which is not a sound")
    return member


def _with(value: Any, path: Sequence[str | int], member: Any) -> Any:
    """Return a copy with this member at a path; all values that are not on the path are shared with other rows."""
    if not path:
        return member
    copy: Any = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = _with(copy[path[0]], path[1:], member)
    return copy


def _named(found: Found, origin: Origin) -> str:
    """Return the path and the name of a medium, for the beginning of a message."""
    value, row = found.value, "" if origin.place is None else f" ({origin.place})"
    if isinstance(value, dict):
        value = value.get("bytes") or f"file:{value.get('path')}"
    return f"{dotted(('configuration', *found.place))}: {str(value)[:_LONGEST_NAME]}{row}"


def _placeholder_of_text(text: str) -> str:
    """Return the placeholder for a long `data:` URL or base64 from the row or the config."""
    header, comma, payload = text.partition(",") if text.startswith("data:") else ("", "", text)
    decoded = _size_and_digest(payload) if header.endswith(";base64") or not comma else None
    if decoded is None:
        return f"<{len(text)} characters, sha256 {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()}>"
    media_type = header[5:].partition(";")[0][:_LONGEST_NAME]
    return f"<{media_type or 'base64'}, {decoded[0]} bytes, sha256 {decoded[1]}>"


def _size_and_digest(base64: str) -> tuple[int, str] | None:
    """Return the number of decoded bytes and their SHA-256, or None if the text is not base64."""
    digest, size = hashlib.sha256(), 0
    try:
        for start in range(0, len(base64), _DECODED_AT_ONCE):
            piece = binascii.a2b_base64(base64[start : start + _DECODED_AT_ONCE], strict_mode=True)
            digest.update(piece)
            size += len(piece)
    except ValueError:
        return None
    return size, digest.hexdigest()
