"""Whether the server can have read a request before its connection broke, by the figures of the local kernel.

When a server closes a connection, its FIN acknowledges the bytes that have arrived. The server never reads later bytes: its
kernel drops them, and answers with an RST. So if nothing of a request is acknowledged when a connection ends, the server has
not read it. (A server that closes only its sending side may still read, but cannot answer.)

An RST alone proves nothing. It carries an acknowledgement too, but Linux drops the connection without looking at it. And the
acknowledgement of a request that was just read may be delayed for a moment. The same RST comes if a server closes while the
request lies unread in its kernel. So without a FIN, a request is certainly unread only if none of it has left this machine.

The figures come from `TCP_INFO` (tcp(7)), `struct tcp_info` in linux/tcp.h: `tcpi_bytes_acked` since Linux 4.1,
`tcpi_bytes_sent` and `tcpi_bytes_retrans` since 4.19. On other systems nothing is known.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import NamedTuple, Protocol

__all__ = ["Delivery", "delivery_of", "was_undelivered"]

#: The three figures, at their offsets in `struct tcp_info`, which only grows at its end.
_FIGURES = struct.Struct("=120xQ72xQQ")
#: The SYN counts as one acknowledged byte.
_SYN = 1


class Delivery(NamedTuple):
    """How far the bytes written to a connection have come, counted since its beginning."""

    #: How many have left this machine, each counted once.
    sent: int
    #: How many the server's kernel has acknowledged.
    acknowledged: int


class _Socket(Protocol):
    """A socket, or an event loop's view of one."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """Return an option as bytes."""


def delivery_of(sock: _Socket) -> Delivery | None:
    """Ask the kernel about a connection, even a broken one that is not closed yet; None if the kernel cannot say."""
    if sys.platform != "linux":
        return None
    try:
        figures = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _FIGURES.size)
    except OSError:
        return None
    if len(figures) < _FIGURES.size:
        return None
    acknowledged, sent, sent_again = _FIGURES.unpack(figures)
    return Delivery(sent - sent_again, acknowledged - _SYN)


def was_undelivered(delivery: Delivery | None, before: int, *, ended: bool) -> bool:
    """Return whether it is certain that the server has read nothing of a request that broke.

    `before` is the number of bytes written to the connection before the request; with 0 nothing is certain. `ended` says
    whether the server's FIN came. The earlier bytes must be counted exactly: a system that does not really count reports 0.
    """
    if delivery is None or before == 0:
        return False
    return delivery.sent == before or (ended and delivery.acknowledged == before)
