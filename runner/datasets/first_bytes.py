"""The format of a file by its first bytes, if its name says something else."""

from __future__ import annotations

import re

from runner.datasets.files import File
from runner.errors import DatasetError

__all__ = ["check_first_bytes"]

#: The first bytes of files, their ending, and what they are. No text begins like this.
_BEGINNINGS = (
    (rb"\x1f\x8b", ".gz", "packed with gzip"),
    (rb"BZh[1-9]1AY&SY", ".bz2", "packed with bzip2"),
    (rb"\xfd7zXZ\x00", ".xz", "packed with xz"),
    (rb"\x28\xb5\x2f\xfd", ".zst", "packed with zstd"),
    (rb"PAR1", ".parquet", "a Parquet file"),
    (rb"ARROW1", ".arrow", "an Arrow file"),
    (rb"PK\x03\x04", None, "a ZIP archive, or a spreadsheet: unpack it, or save it as CSV in UTF-8"),
    (rb"version https://git-lfs", None, "only a Git LFS pointer in place of the file: `git lfs pull` fetches the file"),
    (rb"(?i)\s*<(?:!doctype\s+html|html)\b", None, "a web page: open it in a browser, it may say why it is not a dataset"),
)


def check_first_bytes(path: File, start: bytes) -> None:
    """Raise DatasetError for a file whose first bytes, a few dozen of them, are those of another format."""
    for beginning, ending, what in _BEGINNINGS:
        if ending != path.suffix.lower() and re.match(beginning, start):
            raise DatasetError(f"{path}: is {what}{f'; its name has to end in {ending}' if ending else ''}")
