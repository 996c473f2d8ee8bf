"""A small valid image and sound, computed without any files."""

from __future__ import annotations

import io
import math
import struct
import wave
import zlib

__all__ = ["COLOUR", "png", "wav"]

#: The colour of the picture. A model is unlikely to guess it without seeing the picture.
COLOUR = "orange"
_ORANGE = (255, 140, 0)
#: Large enough for models that cut pictures into patches of 28 pixels.
_PIXELS = 64

_RATE_HZ = 16_000
_TONE_HZ = 500  # divides the rate, so that the sound repeats exactly and compresses well
_SECONDS = 0.5
_LOUDNESS = 12_000


def png() -> bytes:
    """Return a square of one colour as a PNG."""
    row = b"\0" + bytes(_ORANGE) * _PIXELS  # each row begins with its filter: none
    header = struct.pack(">IIBBBBB", _PIXELS, _PIXELS, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB, not interlaced
    pieces = ((b"IHDR", header), (b"IDAT", zlib.compress(row * _PIXELS, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in pieces)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def wav() -> bytes:
    """Return half a second of a tone as a WAV: mono, 16 bits, 16 kHz."""
    period = _RATE_HZ // _TONE_HZ
    one = [round(_LOUDNESS * math.sin(2 * math.pi * step / period)) for step in range(period)]
    samples = one * int(_TONE_HZ * _SECONDS)
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE_HZ)
        sound.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return file.getvalue()
