"""The errors of a broken exchange: one kind and one message for each way a connection fails, for all transports.

`where` is always `host:port`. No message holds the full text of a library's exception, because some hold headers or a URL.
"""

from __future__ import annotations

import errno

from runner.endpoint.answers.responses import MAY_BE_BILLED
from runner.errors import AttemptError
from runner.types import ErrorType, Failure

__all__ = [
    "body_broke_off",
    "broke",
    "client_certificate",
    "closed_early",
    "compressed_body_damaged",
    "connection_timed_out",
    "no_connection",
    "no_http",
    "no_name",
    "reason",
    "unsafe_header",
    "unsupported_encoding",
    "without_connection",
]

_LONGEST_WORDS = 200


def without_connection(message: str, *, retry: bool = True) -> AttemptError:
    """Return the error of a connection that failed to open. It stops a run in which nothing has succeeded yet."""
    return _failed(ErrorType.CONNECT, message, retry=retry, stops_run="first")


def no_connection(where: str, error: OSError) -> AttemptError:
    """Return the error of a connection that the server or this system refuses."""
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        message = "no connection: too many open files; raise `ulimit -n` or lower limits.concurrency"
        return _failed(ErrorType.CONNECT, message)
    return without_connection(f"{where}: no connection: {reason(error)}")


def no_name(where: str, error: Exception) -> AttemptError:
    """Return the error of a host name without an address."""
    return without_connection(f"{where}: the name cannot be resolved: {reason(error)}")


def connection_timed_out(where: str, *, tls: bool = False) -> AttemptError:
    """Return the error of a connection that did not open in time."""
    hint = f"is the scheme right{'; is this http' if tls else ''}?"
    message = f"connect: no connection to {where} within its time (endpoint.timeout.connect); {hint}"
    return _failed(ErrorType.TIMEOUT, message, stops_run="first")


def client_certificate(where: str, words: str, *, is_missing: bool) -> AttemptError:
    """Return the error of a server that rejects the client's certificate, or asks for one and gets none."""
    said = words.replace("_", " ").lower()
    what = "asks for a client certificate" if is_missing else f"refuses the client certificate ({said})"
    return without_connection(f"{where}: the server {what}; see `endpoint.cert`", retry=False)


def closed_early(where: str) -> AttemptError:
    """Return the error of a connection that the server closed instead of answering."""
    return _failed(ErrorType.CONNECT, f"{where}: the connection was closed before an answer came{MAY_BE_BILLED}")


def broke(where: str, error: Exception) -> AttemptError:
    """Return the error of a connection that broke before an answer came."""
    return _failed(ErrorType.CONNECT, f"{where}: the connection broke: {reason(error)}{MAY_BE_BILLED}")


def no_http(where: str, words: str) -> AttemptError:
    """Return the error of a reply that is not HTTP. It has no status, even if a library invents one."""
    said = (words.splitlines() or [""])[0][:_LONGEST_WORDS]
    return _failed(ErrorType.INVALID_RESPONSE, f"{where}: does not speak HTTP: {said}")


def unsafe_header(name: str) -> AttemptError:
    """Return the error of a header that cannot be sent, because a line break or a NUL would end it early."""
    message = f"the header {name!r} holds a line break or a NUL and is not sent; see `endpoint.headers` and the API key"
    return _failed(ErrorType.REQUEST, message, retry=False, stops_run="first")


def body_broke_off(where: str) -> AttemptError:
    """Return the error of a body that broke off."""
    message = f"{where}: the response's body broke off or is damaged{MAY_BE_BILLED}"
    return _failed(ErrorType.INVALID_RESPONSE, message)


def compressed_body_damaged(where: str, why: str) -> AttemptError:
    """Return the error of a compressed body that cannot be decompressed."""
    message = f"{where}: the response's body broke off or is damaged: it is compressed, and {why}"
    return _failed(ErrorType.INVALID_RESPONSE, message, once=True)


def unsupported_encoding(where: str, why: str) -> AttemptError:
    """Return the error of a body in an encoding that was not requested."""
    return _failed(ErrorType.INVALID_RESPONSE, f"{where}: {why}", once=True)


def reason(error: Exception) -> str:
    """Return the system's message, else the error's type. Without an error number a message may hold a URL with a secret."""
    number = getattr(error, "errno", None)
    said = getattr(error, "strerror", None)
    return said if isinstance(number, int) and isinstance(said, str) and "://" not in said else type(error).__name__


def _failed(
    error_type: ErrorType, message: str, *, retry: bool = True, once: bool = False, stops_run: str | None = None
) -> AttemptError:
    return AttemptError(Failure(error_type=error_type, message=message), retry=retry, once=once, stops_run=stops_run)
