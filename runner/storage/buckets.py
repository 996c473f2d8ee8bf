"""Buckets of S3 and Google Cloud Storage, in which runs are kept; credentials are found as their libraries do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runner.errors import RunDirError, StorageError
from runner.storage.mirror import Mirror, bring

__all__ = ["brought", "is_bucket", "mirror_of", "unfit"]

_URL = re.compile(r"(?P<scheme>s3|gs)://(?P<path>.+)")
_NEEDED = {"s3": "s3fs", "gs": "gcsfs"}
_QUERY = re.compile(r"\?[^\s'\"]*")


def is_bucket(place: str) -> bool:
    """Whether a place is a URL of a bucket."""
    return "://" in place


def unfit(place: str) -> str | None:
    """Return why nothing can be kept in a place, without asking for it, or None."""
    if not is_bucket(place):
        return None
    if (found := _URL.fullmatch(place)) is None:
        return f"{place.partition('://')[0]}:// is no place for results; known are s3://BUCKET/PREFIX and gs://BUCKET/PREFIX"
    if "@" in found["path"].partition("/")[0]:
        return "must not hold a user or password; credentials come from the environment"
    if find_spec(_NEEDED[found["scheme"]]) is None:
        return f"needs {_NEEDED[found['scheme']]}, which is not installed: pip install 'batch-eval-runner[remote]'"
    return None


def mirror_of(place: str) -> tuple[Mirror, Path]:
    """Return the mirror of a bucket, and the local directory that stands for it. Raises StorageError."""
    local = _local(place)
    return Mirror(_Bucket(place), local), local


def brought(run: str) -> Path:
    """Bring a run here from a bucket; return its directory. Raises RunDirError where there is none, StorageError."""
    if (wrong := unfit(run)) is not None:
        raise RunDirError(f"{run}: {wrong}")
    output, name, found = run.rstrip("/").rsplit("/", 2)
    bucket = _Bucket(output)
    if found == "latest":
        found = Mirror(bucket, _local(output)).latest(name) or found
    if not bucket.names(f"{name}/{found}/journal/"):
        raise RunDirError(f"{run}: is no run (it has no journal); name one as s3://BUCKET/PREFIX/NAME/RUN_ID or …/NAME/latest")
    directory = _local(output) / name / found
    bring(bucket, f"{name}/{found}", directory)
    return directory


def _local(place: str) -> Path:
    """Return where what is kept in a bucket is on this machine."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "runner", *place.rstrip("/").replace("://", "/").split("/"))


class _Bucket:
    """Objects below a URL."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self.url = url.rstrip("/")
        with self._saying(""):
            self._files, self._root = url_to_fs(self.url, skip_instance_cache=True, use_listings_cache=False)

    @contextmanager
    def _saying(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            said = _QUERY.sub("", " ".join(str(error).split()))[:200]
            raise StorageError(f"{self.url}/{name}: {type(error).__name__}: {said}".removesuffix(": ")) from error

    def names(self, below: str) -> Mapping[str, int]:
        """Return the names of all objects that begin like this, and their sizes."""
        with self._saying(below):
            found: Mapping[str, Any] = self._files.find(f"{self._root}/{below.rstrip('/')}", detail=True)
        return {path.removeprefix(f"{self._root}/"): int(info["size"]) for path, info in found.items()}

    def read(self, name: str) -> bytes:
        """Return an object."""
        with self._saying(name):
            return bytes(self._files.cat_file(f"{self._root}/{name}"))

    def write(self, name: str, content: bytes | Path) -> None:
        """Make an object, of bytes or of a file."""
        with self._saying(name):
            if isinstance(content, Path):
                self._files.put_file(str(content), f"{self._root}/{name}")
            else:
                self._files.pipe_file(f"{self._root}/{name}", content)

    def delete(self, name: str) -> None:
        """Delete an object."""
        with self._saying(name):
            self._files.rm_file(f"{self._root}/{name}")
