"""What a broken exchange is called: one kind and one message for each way a connection fails, whoever carries it.

`where` is always `host:port`. No message holds the text of a library's exception as it came: some hold headers or a URL.
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
    """Say that no connection came about. At the start of a run nothing else will, so that the first ones end it."""
    return _failed(ErrorType.CONNECT, message, retry=retry, stops_run="first")


def no_connection(where: str, error: OSError) -> AttemptError:
    """Say why the other side takes no connection."""
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        message = "no connection: too many open files; raise `ulimit -n` or lower limits.concurrency"
        return _failed(ErrorType.CONNECT, message)
    return without_connection(f"{where}: no connection: {reason(error)}")


def no_name(where: str, error: Exception) -> AttemptError:
    """Say that the host's name means no address."""
    return without_connection(f"{where}: the name cannot be resolved: {reason(error)}")


def connection_timed_out(where: str, *, tls: bool = False) -> AttemptError:
    """Say that a connection did not come about within its time."""
    hint = f"is the scheme right{'; is this http' if tls else ''}?"
    message = f"connect: no connection to {where} within its time (endpoint.timeout.connect); {hint}"
    return _failed(ErrorType.TIMEOUT, message, stops_run="first")


def client_certificate(where: str, words: str, *, is_missing: bool) -> AttemptError:
    """Say that a server does not like the certificate that it was shown, or that it was shown none."""
    said = words.replace("_", " ").lower()
    what = "asks for a client certificate" if is_missing else f"refuses the client certificate ({said})"
    return without_connection(f"{where}: the server {what}; see `endpoint.cert`", retry=False)


def closed_early(where: str) -> AttemptError:
    """Say that the server closed the connection where its answer should have come."""
    return _failed(ErrorType.CONNECT, f"{where}: the connection was closed before an answer came{MAY_BE_BILLED}")


def broke(where: str, error: Exception) -> AttemptError:
    """Say that the connection broke before an answer came."""
    return _failed(ErrorType.CONNECT, f"{where}: the connection broke: {reason(error)}{MAY_BE_BILLED}")


def no_http(where: str, words: str) -> AttemptError:
    """Say that what came is no HTTP. It has no status: one that a library makes up for it was never sent by anybody."""
    said = (words.splitlines() or [""])[0][:_LONGEST_WORDS]
    return _failed(ErrorType.INVALID_RESPONSE, f"{where}: does not speak HTTP: {said}")


def unsafe_header(name: str) -> AttemptError:
    """Say that a header cannot be sent, for it would end early."""
    message = f"the header {name!r} holds a line break or a NUL and is not sent; see `endpoint.headers` and the API key"
    return _failed(ErrorType.REQUEST, message, retry=False, stops_run="first")


def body_broke_off(where: str) -> AttemptError:
    """Say that a body began and did not come to its end."""
    message = f"{where}: the response's body broke off or is damaged{MAY_BE_BILLED}"
    return _failed(ErrorType.INVALID_RESPONSE, message)


def compressed_body_damaged(where: str, why: str) -> AttemptError:
    """Say that a compressed body cannot be unpacked."""
    message = f"{where}: the response's body broke off or is damaged: it is compressed, and {why}"
    return _failed(ErrorType.INVALID_RESPONSE, message, once=True)


def unsupported_encoding(where: str, why: str) -> AttemptError:
    """Say that a body is packed in a way that was not asked for."""
    return _failed(ErrorType.INVALID_RESPONSE, f"{where}: {why}", once=True)


def reason(error: Exception) -> str:
    """Return the system's words. Without an error number they are not its own, and may hold a URL with a secret in it."""
    number = getattr(error, "errno", None)
    said = getattr(error, "strerror", None)
    return said if isinstance(number, int) and isinstance(said, str) and "://" not in said else type(error).__name__


def _failed(
    error_type: ErrorType, message: str, *, retry: bool = True, once: bool = False, stops_run: str | None = None
) -> AttemptError:
    return AttemptError(Failure(error_type=error_type, message=message), retry=retry, once=once, stops_run=stops_run)
