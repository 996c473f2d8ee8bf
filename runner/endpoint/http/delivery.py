"""Whether a request can have come to the server before its connection broke, as the kernel on this side knows it.

A server that closes a connection says with its FIN what had come until then. What the FIN does not acknowledge was never
handed to the server: its kernel throws it away, and answers with an RST. So a request of which nothing is acknowledged at
the end of a connection was read by nobody. (A server that ends only its sending may still read; it could not answer.)

An RST alone says nothing. It carries an acknowledgement too, but Linux drops the connection without looking at it, and that
of a request which has just been read is held back for a moment. The same RST comes where a server closes while the request
lies unread in its kernel. So where no FIN came, a request was never read only if nothing of it has left this machine.

The figures are those of `TCP_INFO` (tcp(7)), `struct tcp_info` in linux/tcp.h: `tcpi_bytes_acked` since Linux 4.1,
`tcpi_bytes_sent` and `tcpi_bytes_retrans` since 4.19. Elsewhere nothing is known.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import NamedTuple, Protocol

__all__ = ["Delivery", "delivery_of", "was_undelivered"]

#: The three figures, where they stand in `struct tcp_info`; it grows at its end only.
_FIGURES = struct.Struct("=120xQ72xQQ")
#: The SYN is acknowledged like a byte.
_SYN = 1


class Delivery(NamedTuple):
    """How far what was written to a connection has come, in bytes since its beginning."""

    #: What has left this machine, each byte counted once.
    sent: int
    #: What the other side's kernel has taken.
    acknowledged: int


class _Socket(Protocol):
    """A socket, or what an event loop shows of one."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """Return an option as bytes."""


def delivery_of(sock: _Socket) -> Delivery | None:
    """Ask the kernel about a connection, also a broken one that is not closed yet; None where it cannot tell."""
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
    whether the server's FIN came. What was written before must be accounted for to the byte: a system that only pretends to
    count says zero.
    """
    if delivery is None or before == 0:
        return False
    return delivery.sent == before or (ended and delivery.acknowledged == before)
