"""Buckets of S3 and Google Cloud Storage, in which runs are kept. Their libraries find the credentials."""

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
    """Return whether a path is a URL of a bucket."""
    return "://" in place


def unfit(place: str) -> str | None:
    """Return why nothing can be kept at a path, or None. No request is sent."""
    if not is_bucket(place):
        return None
    if (found := _URL.fullmatch(place)) is None:
        return f"results cannot be kept in {place.partition('://')[0]}://; use s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
    if "@" in found["path"].partition("/")[0]:
        return "must not hold a user or password; credentials come from the environment"
    if find_spec(_NEEDED[found["scheme"]]) is None:
        return f"needs {_NEEDED[found['scheme']]}, which is not installed: pip install 'batch-eval-runner[remote]'"
    return None


def mirror_of(place: str) -> tuple[Mirror, Path]:
    """Return the mirror of a bucket, and the local directory of its copies. Raises StorageError."""
    local = _local(place)
    return Mirror(_Bucket(place), local), local


def brought(run: str) -> Path:
    """Copy a run from a bucket to this machine; return its directory. Raises StorageError, RunDirError if there is no run."""
    if (wrong := unfit(run)) is not None:
        raise RunDirError(f"{run}: {wrong}")
    output, name, found = run.rstrip("/").rsplit("/", 2)
    bucket = _Bucket(output)
    if found == "latest":
        found = Mirror(bucket, _local(output)).latest(name) or found
    if not bucket.names(f"{name}/{found}/journal/"):
        raise RunDirError(f"{run}: is not a run (it has no journal); write s3://BUCKET/PREFIX/NAME/RUN_ID or …/NAME/latest")
    directory = _local(output) / name / found
    bring(bucket, f"{name}/{found}", directory)
    return directory


def _local(place: str) -> Path:
    """Return the directory on this machine for the copies of a bucket."""
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
        """Return the names of all objects that begin with `below`, and their sizes."""
        with self._saying(below):
            found: Mapping[str, Any] = self._files.find(f"{self._root}/{below.rstrip('/')}", detail=True)
        return {path.removeprefix(f"{self._root}/"): int(info["size"]) for path, info in found.items()}

    def read(self, name: str) -> bytes:
        """Return the content of an object."""
        with self._saying(name):
            return bytes(self._files.cat_file(f"{self._root}/{name}"))

    def write(self, name: str, content: bytes | Path) -> None:
        """Create an object from bytes or from a file."""
        with self._saying(name):
            if isinstance(content, Path):
                self._files.put_file(str(content), f"{self._root}/{name}")
            else:
                self._files.pipe_file(f"{self._root}/{name}", content)

    def delete(self, name: str) -> None:
        """Delete an object."""
        with self._saying(name):
            self._files.rm_file(f"{self._root}/{name}")
