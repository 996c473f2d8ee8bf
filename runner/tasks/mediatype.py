"""Media types from content: the first bytes of a picture, sound, video or document tell its type."""

from __future__ import annotations

import base64
from typing import Any

from runner.types import Blob

__all__ = ["as_audio", "audio_format", "data_url", "media_type_of", "with_data_urls"]

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"#!AMR", "audio/amr"),
    (b"%PDF-", "application/pdf"),
)
#: By the first four letters of the file, and the four letters after its length.
_CHUNKED = {
    (b"RIFF", b"WEBP"): "image/webp",
    (b"RIFF", b"WAVE"): "audio/wav",
    (b"RF64", b"WAVE"): "audio/wav",
    (b"RIFF", b"AVI "): "video/x-msvideo",
    (b"FORM", b"AIFF"): "audio/aiff",
    (b"FORM", b"AIFC"): "audio/aiff",
}
#: Brands of ISO media files; any other brand is an MP4 video.
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "image/heic"),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), "audio/mp4"),
    b"qt  ": "video/quicktime",
}
_BMP_HEADER_SIZES = {12, 40, 52, 56, 64, 108, 124}
#: How many bytes are searched for the names of codecs and document types.
_HEAD = 64


def media_type_of(data: bytes) -> str | None:
    """Return the media type of a file's content, or None if it is unknown."""
    known = next((media_type for start, media_type in _STARTS if data.startswith(start)), None)
    if found := known or _CHUNKED.get((data[:4], data[8:12])):
        return found
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video/mp4")
    if data.startswith(b"OggS"):
        return "video/ogg" if b"\x80theora" in data[:_HEAD] else "audio/ogg"
    if data.startswith(b"\x1aE\xdf\xa3"):
        return "video/webm" if b"webm" in data[:_HEAD] else "video/x-matroska"
    # The two letters alone would make many texts a bitmap.
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "image/bmp"
    return _by_frame(data[:4])


def with_data_urls(value: Any) -> Any:
    """Return a row with its bytes as `data:` URLs, which JSON can hold and messages accept."""
    if isinstance(value, dict):
        return {key: with_data_urls(member) for key, member in value.items()}
    if isinstance(value, list):
        return [with_data_urls(member) for member in value]
    if isinstance(value, Blob):
        return data_url(media_type_of(value.data) or "application/octet-stream", value.data)
    return value


def data_url(media_type: str, data: bytes) -> str:
    """Return bytes as a `data:` URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _by_frame(head: bytes) -> str | None:
    """Return the type of a sound that has no file header, and begins with its first frame."""
    if len(head) < 4 or head[0] != 0xFF:  # noqa: PLR2004  the length and first byte of a frame header
        return None
    if head[1] & 0xF6 == 0xF0:  # noqa: PLR2004  12 bits of sync, layer 0: ADTS
        return "audio/aac"
    # 11 bits of sync, layer III; version, bit rate and sampling rate are not reserved, unlike in many UTF-16 texts.
    is_frame = head[1] & 0xE6 == 0xE2 and head[1] & 0x18 != 0x08  # noqa: PLR2004
    return "audio/mpeg" if is_frame and head[2] & 0xF0 != 0xF0 and head[2] & 0x0C != 0x0C else None  # noqa: PLR2004


def as_audio(media_type: str) -> str:
    """Return the type of a file that is known to be a sound: some containers hold both and do not say which."""
    return media_type.replace("video/", "audio/") if media_type in {"video/mp4", "video/webm", "video/ogg"} else media_type


def audio_format(media_type: str) -> str | None:
    """Return the `format` of an `input_audio` part, or None if the type is not a sound."""
    kind, _, name = as_audio(media_type).partition("/")
    return {"mpeg": "mp3", "mp4": "m4a"}.get(name, name) if kind == "audio" else None
