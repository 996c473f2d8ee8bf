"""The client's certificate, for servers that ask for one. Loads it into a TLS context, or says why it cannot.

OpenSSL's own errors name neither the file nor what is wrong with it. Messages show only the path of a key, never its content.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from runner.structs import Struct

__all__ = ["ClientCert"]

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
#: The end of the first line of any kind of private key.
_KEY = b"PRIVATE KEY-----"
_LARGEST_FILE = 1 << 20


class ClientCert(Struct, frozen=True, kw_only=True):
    """A certificate and its key, which may both be in one file."""

    certificate: str
    key: str
    #: Decrypts the key, if it is encrypted.
    passphrase: str | None = None
    #: The environment variable with the passphrase, for messages.
    passphrase_env: str | None = None

    def load(self, context: ssl.SSLContext) -> None:
        """Load both into a context. Raises ValueError, which names the file and the remedy."""
        self._look_into(self.certificate, _CERTIFICATE, "certificate", "`endpoint.cert.certificate`")
        self._look_into(self.key, _KEY, "private key", "`endpoint.cert.key`")
        asked = False

        def passphrase() -> str:
            nonlocal asked
            asked = True
            return self.passphrase or ""

        try:
            # Without this callback OpenSSL would ask for the passphrase at the terminal.
            context.load_cert_chain(self.certificate, self.key, passphrase)
        except (OSError, ValueError) as error:
            raise ValueError(self._why_not(error, asked=asked)) from None

    def _why_not(self, error: Exception, *, asked: bool) -> str:
        if asked and self.passphrase is None:
            return f"{self.key!r}: the key is encrypted; name the environment variable with its passphrase in `passphrase_env`"
        if asked:
            return f"{self.key!r}: the passphrase in {self.passphrase_env} does not open the key"
        if "MISMATCH" in str(getattr(error, "reason", "")).upper():
            return f"{self.key!r}: the key does not belong to the certificate in {self.certificate!r}"
        return f"{self.certificate!r}: certificate and key cannot be read as PEM; is one of them damaged?"

    @staticmethod
    def _look_into(path: str, mark: bytes, what: str, field: str) -> None:
        try:
            with Path(path).open("rb") as file:
                text = file.read(_LARGEST_FILE)
        except FileNotFoundError:
            raise ValueError(f"{path!r} is not there (the path is relative to {Path.cwd()})") from None
        except OSError as error:
            raise ValueError(f"{path!r} cannot be read: {error.strerror}") from None
        if mark not in text:
            raise ValueError(f"{path!r} holds no {what} in PEM form; name the file that holds it in {field}")
