"""Values packed into a page: JSON, compressed, as letters that no page takes for anything else."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

__all__ = ["packed"]

#: The next levels take three times as long, and save a fiftieth.
_LEVEL = 6


def packed(value: Any) -> str:
    """Return a value as Base64 of gzip of its JSON; the same value always gives the same."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), _LEVEL, mtime=0)).decode()
