"""TLS of the listener for clients: the certificate, and sockets that can be used as plain ones."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.x509 import load_pem_x509_certificates

from pushserver.core.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["MAX_READ_BYTES", "RECORD_BYTES", "STEP_BYTES", "TlsSocket", "load_certificate"]

RECORD_BYTES = 16 * 1024
"""What a record holds at most (RFC 8446 section 5.1)."""
PIECE_BYTES = RECORD_BYTES + 512
"""What is taken from the kernel at once: a whole record, with what is around it."""
MAX_READ_BYTES = 2 * PIECE_BYTES
"""What that may say: the end of a record before it, too."""
MAX_UNSENT_BYTES = 4 * RECORD_BYTES
"""Answers of OpenSSL's own, and a record of ours."""
MAX_IDLE_BYTES = 4 * RECORD_BYTES
"""What may come in and say nothing, but for 32 times as much as what is said: a byte in a record costs 23."""
STEP_BYTES = 64 * 1024
"""What could be read in the time of a step of the handshake that is answered, which may be a signature."""

_CERTIFICATE, _KEY = "server.certfile", "server.keyfile"


class TlsSocket(socket.socket):
    """A socket in non-blocking mode that reads and writes like any other, after `do_handshake`.

    What is not possible now raises `BlockingIOError`, what is not as TLS has it `ssl.SSLError`.

    What the kernel has goes to OpenSSL in pieces. With a socket in its hands it reads on for as long as there
    is nothing for us, so whoever sends changes of the key (RFC 8446 section 4.6.3) and nothing else would
    hold the loop for ever.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self.setblocking(False)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent = b""
        """Records that the kernel did not take yet."""
        self._owed = 0
        """Bytes that are in the last of them and were not told to be taken: they come once more."""
        self._idle = 0
        self.cost = 0
        """How many bytes could have been read in the time that the last step or read took, about."""

    def do_handshake(self) -> None:
        """One step. Raises `ssl.SSLWantReadError` or `ssl.SSLWantWriteError` if there are more."""
        self.cost = 0
        with suppress(BlockingIOError):
            self.cost = self._feed()
        try:
            self._tls.do_handshake()
        finally:
            if self._outgoing.pending:
                self.cost = STEP_BYTES
            if not self._flush():
                raise ssl.SSLWantWriteError

    def recv(self, buflen: int = RECORD_BYTES, flags: int = 0) -> bytes:
        """All that one piece brings, up to `MAX_READ_BYTES`, even where less is asked for.

        Whoever waits for the socket to be readable would never hear of what is left in OpenSSL.
        """
        buffer = bytearray(MAX_READ_BYTES)
        return bytes(memoryview(buffer)[: self.recv_into(buffer)])

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """As `recv`, into a buffer that has to have room for `MAX_READ_BYTES`."""
        view = memoryview(buffer)
        if len(view) < MAX_READ_BYTES:
            raise ValueError(f"a read may bring {MAX_READ_BYTES} bytes")
        fed = 0
        # Something may have come in with the end of the handshake.
        with suppress(BlockingIOError):
            fed = self._feed()
        self._idle += fed
        if self._idle > MAX_IDLE_BYTES:
            # Changes of the key, which cost far more than they weigh.
            raise ssl.SSLError("the other side says nothing")
        size = 0
        try:
            while got := self._tls.read(MAX_READ_BYTES, view[size:]):
                size += got  # type: ignore[operator] # with a buffer it is how many there are
            self._end()
        except ssl.SSLWantReadError:
            if not size:
                raise BlockingIOError from None
        except ssl.SSLEOFError:
            self._end()
        except ssl.SSLError:
            if not size:
                raise
            self._end()
        finally:
            self._idle = max(0, self._idle - 32 * size)
            self.cost = size or 32 * fed
            self._flush()
        return size

    def _end(self) -> None:
        """Let the kernel say that this is the end: behind what was read it has to be heard of, too."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RD)

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """What the kernel takes of `data`, a record at a time. What was not taken has to be sent next."""
        if not self._flush():
            raise BlockingIOError
        view = memoryview(data)
        sent, self._owed = self._owed, 0
        while sent < len(view):
            size = self._tls.write(view[sent : sent + RECORD_BYTES])
            if not self._flush():
                self._owed = size
                break
            sent += size
        if not sent and view:
            raise BlockingIOError
        return sent

    def close(self) -> None:
        """Tell the other side, as far as the kernel takes it at once, and close. Twice is once."""
        with suppress(OSError, ValueError):
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        super().close()

    def _feed(self) -> int:
        """Give a piece to OpenSSL; its size. Raises `BlockingIOError` if there is none."""
        piece = super().recv(PIECE_BYTES)
        if piece:
            self._incoming.write(piece)
        else:
            self._incoming.write_eof()
        return len(piece)

    def _flush(self) -> bool:
        """Send what OpenSSL made; whether the kernel took all of it."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        if self._unsent:
            with suppress(BlockingIOError):
                self._unsent = self._unsent[super().send(self._unsent) :]
        if len(self._unsent) > MAX_UNSENT_BYTES:
            raise ssl.SSLError("the other side asks for more than it reads")
        return not self._unsent


def load_certificate(certfile: str, keyfile: str) -> ssl.SSLContext | None:
    """What accepted sockets are wrapped with, by `TlsSocket`; None without a certificate.

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
    try:
        context.load_cert_chain(certfile, keyfile, _no_password)
    except ssl.SSLError as error:
        raise ConfigError(_KEY, _why(error)) from None
    except OSError as error:
        # Taken away meanwhile.
        raise ConfigError(_KEY, f"cannot be read ({error.strerror})") from None
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
