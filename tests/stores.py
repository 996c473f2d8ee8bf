"""Stores of objects for tests, on real sockets: a web server with ranges, a hub, and buckets as Google's API has them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from aiohttp import web

__all__ = ["COMMIT", "Buckets", "Hub", "Website", "etag_of", "jsonl"]

COMMIT = "c0ffee" + "0" * 34
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@lru_cache(16)
def etag_of(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


async def ranged(
    request: web.Request, content: bytes, *, breaks_after: int | None = None, has_conditions: bool = True
) -> web.StreamResponse:
    """Answer with a range, or break off in its middle."""
    tag = etag_of(content)
    if has_conditions and request.headers.get("If-Match", tag) != tag:
        return web.Response(status=412)
    found = _RANGE.fullmatch(request.headers["Range"])
    assert found is not None
    start, end = int(found[1]), min(int(found[2]) + 1, len(content))
    if start >= end:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
    answer = web.StreamResponse(status=206, headers={"ETag": tag, "Content-Range": f"bytes {start}-{end - 1}/{len(content)}"})
    answer.content_length = end - start
    await answer.prepare(request)
    await answer.write(content[start:end] if breaks_after is None else content[start : min(end, start + breaks_after)])
    if breaks_after is not None:
        assert request.transport is not None
        request.transport.close()  # what was written still goes out
    return answer


@dataclass
class Website:
    """Files by their paths."""

    files: dict[str, bytes] = field(default_factory=dict)
    #: The `Range` of each request, behind its path and query.
    asked: list[tuple[str, str]] = field(default_factory=list)
    #: Answered as these statuses say, by path.
    refused: dict[str, int] = field(default_factory=dict)
    #: So many of the next ranges of rows break off after so many bytes.
    breaks: int = 0
    breaks_after: int = 1000
    #: Whether it knows `If-Match`.
    has_conditions: bool = True

    async def answer(self, request: web.Request, _body: Any) -> web.StreamResponse:
        asked = request.headers.get("Range", "")
        self.asked.append((request.path_qs, asked))
        if (status := self.refused.get(request.path)) is not None:
            return web.Response(status=status, text=f"you may not: {request.path_qs}")
        if request.path not in self.files:
            return web.Response(status=404)
        breaks_after = None
        if self.breaks and asked != "bytes=0-0":
            self.breaks -= 1
            breaks_after = self.breaks_after
        content = self.files[request.path]
        return await ranged(request, content, breaks_after=breaks_after, has_conditions=self.has_conditions)


@dataclass
class Hub:
    """One dataset of the Hugging Face Hub, with files of its newest commit; all others are private."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    #: The path, and the `Authorization`, of each request.
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    #: Where it keeps files, the URL of another server, and what comes as `Authorization` there.
    storage: str = ""
    tokens_elsewhere: set[str | None] = field(default_factory=set)

    async def answer(self, request: web.Request, _body: Any) -> web.StreamResponse:
        self.asked.append((request.path, request.headers.get("Authorization")))
        api, files = f"/api/datasets/{self.name}", f"/datasets/{self.name}/resolve/{COMMIT}/"
        if request.path in {api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"}:
            return web.json_response({"id": self.name, "sha": COMMIT, "siblings": [], "private": False, "tags": []})
        if request.path.startswith(f"{api}/tree/{COMMIT}"):
            below = request.path.removeprefix(f"{api}/tree/{COMMIT}").strip("/")
            return web.json_response(list(self._tree(below, recursive=request.query.get("recursive") == "true")))
        if request.path.startswith(files):
            raise web.HTTPFound(f"{self.storage}/{request.path.removeprefix(files)}?signature=of-the-hub")
        return web.Response(status=401, headers={"X-Error-Code": "RepoNotFound"})

    async def elsewhere(self, request: web.Request, _body: Any) -> web.StreamResponse:
        """Answer as the server with the files does."""
        self.tokens_elsewhere.add(request.headers.get("Authorization"))
        return await ranged(request, self.files[request.path.removeprefix("/")])

    def _tree(self, below: str, *, recursive: bool) -> Iterator[dict[str, Any]]:
        folders = {name.rpartition("/")[0] for name in self.files} - {"", below}
        for path in sorted({*folders, *self.files}):
            if path.rpartition("/")[0] == below or (recursive and path.startswith(f"{below}/")):
                yield self._entry(path) if path in self.files else {"type": "directory", "path": path, "size": 0, "oid": "0"}

    def _entry(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        entry = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        if name.endswith(".parquet"):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return entry


@dataclass
class Buckets:
    """A bucket of Google Cloud Storage."""

    bucket: str
    files: dict[str, bytes] = field(default_factory=dict)
    generation: int = 1

    async def answer(self, request: web.Request, _body: Any) -> web.StreamResponse:
        objects = f"/storage/v1/b/{self.bucket}/o"
        name = request.path.rpartition(f"{objects}/")[2]
        if request.path == objects:
            prefix = request.query.get("prefix", "")
            return web.json_response({"items": [self._entry(one) for one in self.files if one.startswith(prefix)]})
        if name not in self.files or request.query.get("generation", str(self.generation)) != str(self.generation):
            return web.json_response({"error": {"code": 404, "message": "No such object"}}, status=404)
        if request.query.get("alt") == "media":
            return await ranged(request, self.files[name])
        return web.json_response(self._entry(name))

    def _entry(self, name: str) -> dict[str, Any]:
        size, generation = str(len(self.files[name])), str(self.generation)
        return {"kind": "storage#object", "bucket": self.bucket, "name": name, "size": size, "generation": generation}
