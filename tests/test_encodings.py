"""Compressed bodies come out whole, in small pieces, and hold nobody up, whatever they hold."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.endpoint.http.encodings import Decoder, decoder_of
from runner.endpoint.http.transport import NetworkReply
from runner.errors import AttemptError

LARGEST = 1 << 15


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def decoded(pieces: Iterable[bytes]) -> bytes:
    decoder, out = Decoder(), []
    for piece in pieces:
        decoder.feed(piece)
        while not decoder.is_hungry:
            out.append(decoder.take())
            assert len(out[-1]) <= LARGEST
    return b"".join(out)


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(st.lists(st.binary(max_size=50), min_size=1), st.integers(1, 40))
def test_members_come_out_one_after_the_other_however_they_are_cut(members: list[bytes], size: int) -> None:
    assert decoded(in_pieces(b"".join(map(gzip.compress, members)), size)) == b"".join(members)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
@pytest.mark.parametrize("size", [1 << 12, 1 << 20])
def test_a_large_body_comes_out_in_small_pieces(pack: Callable[[bytes], bytes], size: int) -> None:
    data = b"".join(b"line %d\n" % number for number in range(100_000)) + b" " * (4 << 20)
    assert decoded(in_pieces(pack(data), size)) == data


@pytest.mark.long
def test_a_body_that_holds_nothing_is_given_up() -> None:
    assert decoded([gzip.compress(b"") * 10_000 + gzip.compress(b"x")]) == b"x"
    with pytest.raises(zlib.error, match="decompress to nothing"):
        decoded([gzip.compress(b"") * 200_000])


class Pieces(NetworkReply):
    """A reply of pieces that are all there already."""

    def __init__(self, *pieces: bytes, encoding: str = "") -> None:
        super().__init__("host:1", 200, {"content-encoding": encoding})
        self._pieces = [*pieces]

    async def _read_on(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def close(self, *, answered: bool = False) -> None:
        pass


async def read_beside_others(reply: NetworkReply) -> tuple[int, int, int]:
    """Return the size and number of the pieces, and how many turns others had meanwhile."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    size = number = 0
    try:
        while piece := await reply.read():
            assert len(piece) <= LARGEST
            size, number = size + len(piece), number + 1
    finally:
        beside.cancel()
    return size, number, turns


@pytest.mark.parametrize(
    "reply",
    [Pieces(b"x" * (10 << 20)), Pieces(gzip.compress(b"x" * (10 << 20)), encoding="gzip")],
    ids=["plain", "gzip"],
)
async def test_others_have_their_turn_between_the_pieces(reply: NetworkReply) -> None:
    size, number, turns = await read_beside_others(reply)
    assert (size, number) == (10 << 20, 320)
    assert turns >= number - 1


async def test_others_have_their_turn_where_nothing_comes_out() -> None:
    with pytest.raises(AttemptError, match="decompress to nothing"):
        await read_beside_others(Pieces(gzip.compress(b"") * 200_000, encoding="gzip"))
    size, _, turns = await read_beside_others(Pieces(gzip.compress(b"") * 40_000 + gzip.compress(b"x"), encoding="gzip"))
    assert size == 1
    assert turns > 100


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_what_was_not_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="are accepted"):
        decoder_of(encoding, b"\x1f\x8b\x08")
