"""Objects in buckets of S3 and Google Cloud Storage. Their libraries find the credentials."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runner.datasets.objects import GoneError, Object, PassingError, StoreError, close_with, of_status

__all__ = ["GoogleBuckets", "S3Buckets"]

_CHUNK = 1 << 16
_CONNECT_S, _READ_S = 10.0, 30.0
_MAGIC = re.compile(r"[*?\[]")
_QUERY = re.compile(r"\?[^\s'\"]*")


class S3Buckets:
    """`s3://bucket/key`, at Amazon or at AWS_ENDPOINT_URL; without credentials, objects that everybody may read."""

    def __init__(self) -> None:
        self._files = self._connected(anon=False)
        close_with(self, self._files)
        self._is_anonymous = False

    @staticmethod
    def _connected(*, anon: bool) -> Any:
        import s3fs

        # The reader retries by itself: it knows how many bytes it has.
        config = {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S, "retries": {"max_attempts": 0}}
        files = s3fs.S3FileSystem(anon=anon, config_kwargs=config, skip_instance_cache=True, use_listings_cache=False)
        files.retries = 1
        return files

    def find(self, url: str) -> Sequence[Object]:
        """Return the object of a URL, or all that a glob matches."""
        from botocore.exceptions import NoCredentialsError

        try:
            try:
                return self._found(url)
            except NoCredentialsError:
                self._files, self._is_anonymous = self._connected(anon=True), True
                close_with(self, self._files)
                return self._found(url)
        except Exception as error:
            raise self._meaning(error) from error

    def _found(self, url: str) -> list[Object]:
        path = url.partition("://")[2]
        infos = _infos(self._files, path)
        if not infos:  # a wrong or closed bucket looks like one without such objects
            bucket, _, key = path.partition("/")
            self._files.call_s3("list_objects_v2", Bucket=bucket, Prefix=_MAGIC.split(key)[0], MaxKeys=1)
        return [
            Object(info["name"], f"s3://{info['name']}", int(info["size"]), f"etag:{info['ETag']}" if info.get("ETag") else "")
            for info in infos
        ]

    async def read(self, found: Object, start: int, end: int, into: bytearray) -> None:
        """Append the bytes of a range."""
        bucket, _, key = found.key.partition("/")
        etag = found.content.removeprefix("etag:")
        as_it_was = {"IfMatch": etag} if etag else {}
        try:
            answer = await self._files._call_s3(  # noqa: SLF001  no public method continues a range in its middle
                "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **as_it_was
            )
            body = answer["Body"]
            try:
                while chunk := await body.read(_CHUNK):
                    into += chunk
            finally:
                body.close()
        except Exception as error:
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> StoreError:
        from botocore import exceptions

        cause = error.__cause__ if isinstance(error.__cause__, exceptions.ClientError) else error
        if isinstance(cause, exceptions.ClientError):
            meaning = _of_an_answer(cause.response)
            if self._is_anonymous and not isinstance(meaning, GoneError | PassingError):
                how = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
                return StoreError(f"{meaning}, and no credentials are found: {how}")
            return meaning
        if isinstance(error, FileNotFoundError):
            return GoneError("there is no such object")
        passing = (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError)
        if isinstance(error, exceptions.BotoCoreError) and not isinstance(error, passing):
            return StoreError(" ".join(str(error).split()))
        return _of_a_connection(error)


def _of_an_answer(answer: Mapping[str, Any]) -> StoreError:
    """Return the error that a refusal of S3 means."""
    said = answer.get("Error", {})
    code, what = str(said.get("Code", "")), str(said.get("Message", ""))
    if code == "NoSuchBucket":
        return GoneError(f"there is no such bucket ({code})")
    if code == "RequestTimeout":
        return PassingError(code)
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return of_status(status, what if not code or code.isdecimal() else f"{code}: {what}".removesuffix(": "))


class GoogleBuckets:
    """`gs://bucket/key`; without credentials, objects that everybody may read."""

    def __init__(self) -> None:
        from gcsfs.core import GCSFileSystem  # the plain one: it asks for nothing but objects

        self._files = GCSFileSystem(skip_instance_cache=True, use_listings_cache=False)
        close_with(self, self._files)

    def find(self, url: str) -> Sequence[Object]:
        """Return the object of a URL, or all that a glob matches."""
        try:
            infos = _infos(self._files, url.partition("://")[2])
        except Exception as error:
            raise self._meaning(error) from error
        return [
            Object(info["name"], f"gs://{info['name']}", int(info["size"]), f"generation:{info['generation']}")
            for info in infos
        ]

    async def read(self, found: Object, start: int, end: int, into: bytearray) -> None:
        """Append the bytes of a range. If the object was replaced, its generation is gone, and that is an error."""
        generation = found.content.removeprefix("generation:")
        try:
            into += await self._files._cat_file(found.key, start=start, end=end, generation=generation)  # noqa: SLF001
        except Exception as error:
            raise self._meaning(error) from error

    @staticmethod
    def _meaning(error: Exception) -> StoreError:
        code = getattr(error, "code", None)
        if isinstance(error, FileNotFoundError):
            return GoneError("there is no such object")
        if isinstance(error, PermissionError) or str(error).startswith("Forbidden"):
            return StoreError("access is refused; set GOOGLE_APPLICATION_CREDENTIALS, or log in with gcloud")
        if isinstance(code, int):
            return of_status(code, str(getattr(error, "message", "")))
        return _of_a_connection(error)


def _infos(files: Any, path: str) -> list[dict[str, Any]]:
    """Return what a file system knows about a path, or about the matches of a glob. Raises the file system's errors."""
    if not glob.has_magic(path):
        infos: Iterable[dict[str, Any]] = [files.info(path)]
        if any(info["type"] != "file" for info in infos):
            raise IsADirectoryError
    else:
        infos = files.glob(path, detail=True).values()
    return sorted((info for info in infos if info["type"] == "file"), key=lambda info: str(info["name"]))


def _of_a_connection(error: Exception) -> StoreError:
    """Return the meaning of an error that is not an answer of the store."""
    if isinstance(error, IsADirectoryError):
        return StoreError("is a directory; name its files, such as .../*.jsonl")
    said = _QUERY.sub("", " ".join(str(error).split()))
    return PassingError(f"{type(error).__name__}: {said}"[:200].removesuffix(": "))
