"""TLS of the listener for clients: the certificate, and sockets that can be used as plain ones."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.x509 import load_pem_x509_certificates

from pushserver.core.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["RECORD_BYTES", "TlsSocket", "load_certificate"]

RECORD_BYTES = 16 * 1024
"""What a record holds at most (RFC 8446 section 5.1)."""

_CERTIFICATE, _KEY = "server.certfile", "server.keyfile"


class TlsSocket(ssl.SSLSocket):
    """A socket in non-blocking mode that reads and writes like any other, after `do_handshake`.

    What is not possible now raises `BlockingIOError`. OpenSSL's wish to do the other thing first is the
    same: without renegotiation there is none that lasts.
    """

    def recv(self, buflen: int = RECORD_BYTES, flags: int = 0) -> bytes:
        """At least a whole record, even where less is asked for.

        Whoever waits for the socket to be readable would never hear of what is left in OpenSSL.
        """
        try:
            return super().recv(max(buflen, RECORD_BYTES), flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        """As `recv`, into a buffer that has to have room for a record."""
        try:
            return super().recv_into(buffer, nbytes, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """What the kernel takes of `data`, a record at a time. What was not taken has to be sent next."""
        view, sent = memoryview(data), 0
        try:
            while sent < len(view):
                sent += super().send(view[sent : sent + RECORD_BYTES], flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not sent:
                raise BlockingIOError from None
        return sent

    def close(self) -> None:
        """Tell the other side, as far as the kernel takes it at once, and close. Twice is once."""
        with suppress(OSError, ValueError):
            self.unwrap()
        super().close()


def load_certificate(certfile: str, keyfile: str) -> ssl.SSLContext | None:
    """What accepted sockets are wrapped with, as `TlsSocket`; None without a certificate.

    Reads both files, so it may block. Raises `ConfigError` naming the setting.
    """
    if not certfile:
        return None
    _check_certificate(certfile)
    _read(_KEY, keyfile)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # For protocols that a certificate of the same name is shared with.
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = TlsSocket
    try:
        context.load_cert_chain(certfile, keyfile, _no_password)
    except ssl.SSLError as error:
        raise ConfigError(_KEY, _why(error)) from None
    return context


def _check_certificate(path: str) -> None:
    try:
        load_pem_x509_certificates(_read(_CERTIFICATE, path))
    except ValueError:
        raise ConfigError(_CERTIFICATE, "holds no certificate in PEM") from None


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(setting, f"cannot be read ({error.strerror})") from None


def _no_password() -> str:
    # Asked for when there is one; OpenSSL would ask on the terminal.
    raise ConfigError(_KEY, "must not be encrypted")


def _why(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"is not the key of {_CERTIFICATE}"
    return f"holds no private key in PEM that can be used ({error.reason or 'unreadable'})"
