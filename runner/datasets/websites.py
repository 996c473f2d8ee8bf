"""Objects at plain URLs and on the Hugging Face Hub, which has such URLs too; read in ranges."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from runner.datasets.objects import GoneError, Object, PassingError, StoreError, close_with, of_status

__all__ = ["Hub", "Website"]

_CHUNK = 1 << 16
_CONNECT_S, _READ_S = 10.0, 30.0
_PARTIAL, _OK, _TOO_FAR = 206, 200, 416
_TOTAL = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")


class _Ranges:
    """Reads ranges of URLs: over connections that are kept open, with the environment's proxies and .netrc."""

    def __init__(self) -> None:
        import aiohttp
        import fsspec

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)
        client = {"auto_decompress": False, "trust_env": True, "timeout": timeout}
        self._files: Any = fsspec.filesystem("http", client_kwargs=client, skip_instance_cache=True)
        close_with(self, self._files)

    async def read(
        self, url: str, start: int, end: int, into: bytearray, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str]]:
        """Append the bytes of a range; return the object's size and the headers of the answer. Raises StoreError."""
        import aiohttp

        session = await self._files.set_session()
        asked = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity", **headers}
        try:
            async with session.get(url, headers=asked) as answer:
                total = _TOTAL.fullmatch(answer.headers.get("Content-Range", ""))
                if answer.status == _TOO_FAR and total and total[1] == "0":
                    return 0, answer.headers
                if answer.status == _OK:
                    if answer.headers.get("Content-Length") == "0":
                        return 0, answer.headers
                    raise StoreError(
                        "this server has no ranges, so a broken download could not be continued; download the file"
                    )
                if answer.status != _PARTIAL or total is None:
                    raise of_status(answer.status, answer.reason or "")
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    into += chunk
                return int(total[1]), answer.headers
        except aiohttp.TooManyRedirects as error:
            raise StoreError("it has too many redirects") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # The message of the error may hold the URL's query.
            why = getattr(getattr(error, "os_error", None), "strerror", None) or type(error).__name__
            raise PassingError(f"the connection broke: {why}") from error

    def read_now(self, url: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
        """Return an object's size and its headers. It may block for long. Raises StoreError."""
        from fsspec.asyn import sync

        found: tuple[int, Mapping[str, str]] = sync(self._files.loop, self.read, url, 0, 1, bytearray(), headers)
        return found


class Website:
    """`http://` and `https://`: one object for each URL, because web servers do not list their files."""

    def __init__(self) -> None:
        self._ranges = _Ranges()

    def find(self, url: str) -> Sequence[Object]:
        """Return the object of a URL."""
        if "*" in urlsplit(url).path:
            raise StoreError("a web server does not list its files; name each")
        size, headers = self._ranges.read_now(url, {})
        return [Object(url, shown(url), size, _content_of(headers))]

    async def read(self, found: Object, start: int, end: int, into: bytearray) -> None:
        """Append the bytes of a range. The answer is checked too, because not every server knows conditional requests."""
        tag = found.content.removeprefix("etag:")
        condition = {"If-Match": tag} if tag.startswith('"') else {}
        got = bytearray()
        try:
            size, headers = await self._ranges.read(found.key, start, end, got, condition)
        except PassingError:
            into += got
            raise
        if (size, _content_of(headers)) != (found.size, found.content):
            raise GoneError("it was replaced")
        into += got


def _content_of(headers: Mapping[str, str]) -> str:
    """Return the identity of the content, from the headers."""
    if tag := headers.get("ETag"):
        return f"etag:{tag}"
    return f"modified:{headers['Last-Modified']}" if "Last-Modified" in headers else ""


def shown(url: str) -> str:
    """Return a URL without its query, which may hold a signature."""
    return urlunsplit(urlsplit(url)._replace(query="", fragment=""))


class Hub:
    """`hf://datasets/OWNER/NAME/PATH`: files of a fixed commit, whatever is committed later."""

    def __init__(self) -> None:
        from huggingface_hub import HfApi, HfFileSystem

        # The library reads this variable only once, when it is loaded.
        self._endpoint = os.environ.get("HF_ENDPOINT") or None
        self._files: Any = HfFileSystem(endpoint=self._endpoint, skip_instance_cache=True, use_listings_cache=False)
        self._api = HfApi(endpoint=self._endpoint)
        self._ranges = _Ranges()

    def find(self, url: str) -> Sequence[Object]:
        """Return the object of a URL, or all that a glob matches, in the commit that its revision points to now."""
        try:
            return self._found(url.partition("://")[2])
        except StoreError:
            raise
        except Exception as error:
            raise self._meaning(error) from error

    def _found(self, path: str) -> list[Object]:
        from huggingface_hub import hf_hub_url

        place: Any = self._files.resolve_path(path)
        if not hasattr(place, "repo_id"):
            raise StoreError(
                "a bucket of the Hub cannot be read; name a file of a repository, such as hf://datasets/OWNER/NAME/PATH"
            )
        commit = self._api.repo_info(place.repo_id, repo_type=place.repo_type, revision=place.revision).sha
        before = path.removesuffix(place.path_in_repo)
        pinned = f"{place.repo_type}s/{place.repo_id}@{commit}/"
        if glob.has_magic(place.path_in_repo):
            infos = self._files.glob(pinned + place.path_in_repo, detail=True)
        else:
            infos = {path: self._files.info(pinned + place.path_in_repo)}
            if infos[path]["type"] != "file":
                raise StoreError("is a directory; name its files, such as .../*.jsonl")
        objects = []
        for _, info in sorted(infos.items()):
            if info["type"] == "file":
                name = info["name"].split(f"@{commit}/", 1)[1]
                key = hf_hub_url(place.repo_id, name, repo_type=place.repo_type, revision=commit, endpoint=self._endpoint)
                objects.append(Object(key, f"hf://{before}{name}", info["size"], _content_in(info)))
        return objects

    async def read(self, found: Object, start: int, end: int, into: bytearray) -> None:
        """Append the bytes of a range."""
        from huggingface_hub import get_token

        token = get_token()
        await self._ranges.read(found.key, start, end, into, {"Authorization": f"Bearer {token}"} if token else {})

    @staticmethod
    def _meaning(error: Exception) -> StoreError:
        cause = error if hasattr(error, "response") else error.__cause__
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            meaning = of_status(status, "")
            how = "; a private or gated repository needs HF_TOKEN" if not isinstance(meaning, PassingError) else ""
            return type(meaning)(f"{meaning}{how}")
        if isinstance(error, FileNotFoundError):
            return GoneError("there is no such file or repository; a private or gated one needs HF_TOKEN")
        if isinstance(error, ValueError | NotImplementedError):
            return StoreError(" ".join(str(error).split()))
        return PassingError(f"the Hub cannot be reached: {type(error).__name__}")


def _content_in(info: Mapping[str, Any]) -> str:
    """Return the identity of a file's content: the SHA-256 of a large file, and Git's hash of another."""
    lfs = info.get("lfs")
    found = lfs.get("sha256") if isinstance(lfs, Mapping) else getattr(lfs, "sha256", None)
    return str(found) if found else f"git:{info['blob_id']}"
