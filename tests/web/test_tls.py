"""Certificates that are refused by name, and sockets with TLS that are used as plain ones."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pushserver.core.errors import ConfigError
from pushserver.web.tls import RECORD_BYTES, TlsSocket, load_certificate
from tests.engines.certificates import Authority

Pair = tuple[TlsSocket, ssl.SSLSocket]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    certificate, key = Authority(tmp_path, "authority").sign("localhost")
    return str(certificate), str(key)


@pytest.fixture
def pair(files: tuple[str, str]) -> Iterator[Pair]:
    """Our end of a connection, in non-blocking mode, and the client's, after the handshake."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    context = load_certificate(*files)
    assert context is not None
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
    server = context.wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
    client = client_context.wrap_socket(theirs, do_handshake_on_connect=False)
    assert isinstance(server, TlsSocket)
    open_ends: list[ssl.SSLSocket] = [client, server]
    while open_ends:
        for one in list(open_ends):
            try:
                one.do_handshake()
                open_ends.remove(one)
            except ssl.SSLWantReadError:
                pass
    yield server, client
    server.close()
    client.close()


def reason(certfile: str, keyfile: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_certificate(certfile, keyfile)
    return str(refused.value)


def test_without_a_certificate_there_is_no_tls():
    assert load_certificate("", "") is None


def test_a_file_that_is_none_is_refused_by_the_name_of_its_setting(files: tuple[str, str], tmp_path: Path):
    certfile, keyfile = files
    text = tmp_path / "text"
    text.write_text("no PEM")
    assert reason("/nowhere", keyfile) == "server.certfile: cannot be read (No such file or directory)"
    assert reason(certfile, "/nowhere") == "server.keyfile: cannot be read (No such file or directory)"
    assert reason(str(tmp_path), keyfile) == "server.certfile: cannot be read (Is a directory)"
    assert reason(str(text), keyfile) == "server.certfile: holds no certificate in PEM"
    assert reason(keyfile, keyfile) == "server.certfile: holds no certificate in PEM"
    assert reason(certfile, str(text)).startswith("server.keyfile: holds no private key in PEM")


def test_a_key_of_another_certificate_is_refused(files: tuple[str, str], tmp_path: Path):
    _, other = Authority(tmp_path, "authority").sign("other")
    assert reason(files[0], str(other)) == "server.keyfile: is not the key of server.certfile"


def test_a_key_with_a_password_is_refused_and_asked_for_on_no_terminal(
    files: tuple[str, str], tmp_path: Path
):
    key = serialization.load_pem_private_key(Path(files[1]).read_bytes(), None)
    encrypted = tmp_path / "encrypted"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    assert reason(files[0], str(encrypted)) == "server.keyfile: must not be encrypted"


def test_where_nothing_came_it_blocks_as_any_socket(pair: Pair):
    server, _ = pair
    with pytest.raises(BlockingIOError):
        server.recv(100)
    with pytest.raises(BlockingIOError):
        server.recv_into(bytearray(RECORD_BYTES))


def test_nothing_of_a_record_is_left_behind(pair: Pair):
    """What OpenSSL kept would make no socket readable."""
    server, client = pair
    client.send(b"x" * RECORD_BYTES)
    assert server.recv(1) == b"x" * RECORD_BYTES
    client.send(b"y" * RECORD_BYTES)
    assert server.recv_into(bytearray(RECORD_BYTES)) == RECORD_BYTES
    assert server.pending() == 0


def test_what_the_kernel_does_not_take_is_sent_next(pair: Pair):
    """More may have come to it by then, as to a backlog."""
    server, client = pair
    data = bytes(range(256)) * 20_000
    sent, received = 0, b""
    blocked = 0
    while sent < len(data):
        try:
            # Never less than was tried before.
            sent += server.send(data[sent:])
        except BlockingIOError:
            blocked += 1
            received += client.recv(1 << 20)
    while len(received) < len(data):
        received += client.recv(1 << 20)
    assert received == data
    assert blocked


def test_a_close_is_told_to_the_other_side(pair: Pair):
    """Else it cannot tell an end from a cut."""
    server, client = pair
    client.suppress_ragged_eofs = False
    server.close()
    server.close()
    assert client.recv(100) == b""


def test_what_is_no_tls_is_an_error_as_of_a_socket(pair: Pair):
    server, client = pair
    socket.socket.send(client, b"plainly no record")
    with pytest.raises(OSError, match=r"WRONG_VERSION|wrong version"):
        server.recv(100)
