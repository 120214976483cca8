"""Certificates that are refused by name, and sockets with TLS that are used as plain ones."""

from __future__ import annotations

import _ssl
import ctypes
import fcntl
import select
import socket
import ssl
import termios
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pushserver.core.errors import ConfigError
from pushserver.web.poller import Poller
from pushserver.web.tls import (
    MAX_READ_BYTES,
    PIECE_BYTES,
    RECORD_BYTES,
    STEP_BYTES,
    TlsSocket,
    load_certificate,
)
from pushserver.web.transport import SocketOptions, SocketTransport
from tests.engines.certificates import Authority

Pair = tuple[TlsSocket, ssl.SSLSocket]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    certificate, key = Authority(tmp_path, "authority").sign("localhost")
    return str(certificate), str(key)


def secured(files: tuple[str, str], ours: socket.socket, theirs: socket.socket) -> Iterator[Pair]:
    """Our end of a connection, and the client's, both in non-blocking mode, after the handshake."""
    theirs.setblocking(False)
    context = load_certificate(*files)
    assert context is not None
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
    server = TlsSocket(ours, context)
    client = client_context.wrap_socket(theirs, do_handshake_on_connect=False)
    open_ends: list[ssl.SSLSocket | TlsSocket] = [client, server]
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


@pytest.fixture
def pair(files: tuple[str, str]) -> Iterator[Pair]:
    yield from secured(files, *socket.socketpair())


@pytest.fixture
def tcp_pair(files: tuple[str, str]) -> Iterator[Pair]:
    """For many small records: a pair without TCP has room for a few hundred."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        yield from secured(files, listening.accept()[0], theirs)


class Nobody:
    """Owns a transport that ends."""

    def ended(self, *_: object) -> None:
        """Nothing to do."""


@pytest.mark.gen_test
async def test_nothing_is_written_past_tls(pair: Pair) -> None:
    options = SocketOptions(max_backlog=1000, max_frame_bytes=1000, send_buffer_bytes=0, user_timeout_ms=1000)
    transport = SocketTransport(pair[0], Nobody(), options, Poller(), client_ip="192.0.2.1", head=b"")  # type: ignore[arg-type]  # told of the end only
    transport.write(b"first")
    assert pair[1].recv(100) == b"first"
    assert transport.descriptor == -1
    transport.abort()


def reason(certfile: str, keyfile: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_certificate(certfile, keyfile)
    return str(refused.value)


def test_without_a_certificate_there_is_no_tls() -> None:
    assert load_certificate("", "") is None


def test_a_file_that_is_none_is_refused_by_the_name_of_its_setting(
    files: tuple[str, str], tmp_path: Path
) -> None:
    certfile, keyfile = files
    text = tmp_path / "text"
    text.write_text("no PEM")
    assert reason("/nowhere", keyfile) == "server.certfile: cannot be read (No such file or directory)"
    assert reason(certfile, "/nowhere") == "server.keyfile: cannot be read (No such file or directory)"
    assert reason(str(tmp_path), keyfile) == "server.certfile: cannot be read (Is a directory)"
    assert reason(str(text), keyfile) == "server.certfile: holds no certificate in PEM"
    assert reason(keyfile, keyfile) == "server.certfile: holds no certificate in PEM"
    assert reason(certfile, str(text)).startswith("server.keyfile: holds no private key in PEM")


def test_a_key_of_another_certificate_is_refused(files: tuple[str, str], tmp_path: Path) -> None:
    _, other = Authority(tmp_path, "authority").sign("other")
    assert reason(files[0], str(other)) == "server.keyfile: is not the key of server.certfile"


def test_a_key_with_a_password_is_refused_and_asked_for_on_no_terminal(
    files: tuple[str, str], tmp_path: Path
) -> None:
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


def test_where_nothing_came_it_blocks_as_any_socket(pair: Pair) -> None:
    server, _ = pair
    with pytest.raises(BlockingIOError):
        server.recv(100)
    with pytest.raises(BlockingIOError):
        server.recv_into(bytearray(MAX_READ_BYTES))


def test_nothing_of_a_record_is_left_behind(pair: Pair) -> None:
    """What OpenSSL kept would make no socket readable."""
    server, client = pair
    client.send(b"x" * RECORD_BYTES)
    assert server.recv(1) == b"x" * RECORD_BYTES
    client.send(b"y" * RECORD_BYTES)
    assert server.recv_into(bytearray(MAX_READ_BYTES)) == RECORD_BYTES
    with pytest.raises(ValueError, match=f"{MAX_READ_BYTES} bytes"):
        server.recv_into(bytearray(RECORD_BYTES))


def test_what_comes_before_an_end_is_read_and_then_the_end(pair: Pair) -> None:
    """All three in one piece: the kernel tells of the end no second time by itself."""
    server, client = pair
    client.send(b"the last")
    with suppress(ssl.SSLWantReadError):
        client.unwrap()
    assert server.recv(100) == b"the last"
    assert select.select([server], [], [], 5)[0]
    assert server.recv(100) == b""


def test_who_changes_keys_and_says_nothing_is_read_in_pieces(tcp_pair: Pair) -> None:
    """OpenSSL with a socket in its hands would read on while there is more, and there may always be."""
    server, client = tcp_pair
    change_keys(client, 2400)
    before = waiting(server)
    assert before > 1.5 * PIECE_BYTES
    with pytest.raises(BlockingIOError):
        server.recv(100)
    assert waiting(server) >= before - PIECE_BYTES
    with pytest.raises(ssl.SSLError, match="says nothing"):
        change_keys_without_end(server, client)


def test_a_read_that_says_nothing_costs_more_than_one_that_does(tcp_pair: Pair) -> None:
    server, client = tcp_pair
    client.send(b"x" * 1000)
    server.recv(100)
    assert server.cost == 1000
    with pytest.raises(BlockingIOError):
        server.recv(100)
    assert server.cost == 0
    change_keys(client, 100)
    assert select.select([server], [], [], 5)[0]
    with pytest.raises(BlockingIOError):
        server.recv(100)
    assert server.cost > 32 * 20


def test_a_step_of_the_handshake_costs_by_what_it_is_answered(files: tuple[str, str]) -> None:
    """Who drips bytes into it keeps nobody from being read."""
    context = load_certificate(*files)
    assert context is not None
    ours, theirs = socket.socketpair()
    hello, nothing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(nothing, hello, server_hostname="localhost").do_handshake()
    with TlsSocket(ours, context) as server, theirs:
        for part, cost in ((hello.read(1), 1), (hello.read(), STEP_BYTES)):
            theirs.send(part)
            with pytest.raises(ssl.SSLWantReadError):
                server.do_handshake()
            assert server.cost == cost


def test_who_asks_for_new_keys_and_does_not_read_them_is_ended(tcp_pair: Pair) -> None:
    server, client = tcp_pair
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with pytest.raises(ssl.SSLError, match="more than it reads"):
        change_keys_without_end(server, client, b"something " * 1000)


def test_small_records_are_no_idle_ones(pair: Pair) -> None:
    server, client = pair
    for _ in range(6000):
        client.send(b"x")
        assert server.recv(100) == b"x"


def waiting(sock: socket.socket) -> int:
    """Bytes in the kernel."""
    size = array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, size)
    return size[0]


def change_keys(client: ssl.SSLSocket, times: int, *, asks: bool = False) -> int:
    """Send so many changes of the key, fewer if the kernel takes no more; there is no Python for it."""
    library = ctypes.CDLL(_ssl.__file__)
    # An object of `_ssl` begins with its head (two words) and its socket; then comes OpenSSL's.
    tls = ctypes.c_void_p.from_address(id(client._sslobj) + 3 * ctypes.sizeof(ctypes.c_void_p))  # type: ignore[attr-defined]
    assert library.SSL_version(tls) == ssl.TLSVersion.TLSv1_3
    for done in range(times):
        if library.SSL_key_update(tls, int(asks)) != 1 or library.SSL_do_handshake(tls) != 1:
            return done
    return times


def change_keys_without_end(server: TlsSocket, client: ssl.SSLSocket, said: bytes = b"") -> None:
    """Each asks for one in return, and nothing of that is read."""
    while True:
        change_keys(client, 200, asks=True)
        with suppress(ssl.SSLWantWriteError):
            client.send(said)
        with suppress(BlockingIOError):
            server.recv(100)


def test_what_the_kernel_does_not_take_is_sent_next(pair: Pair) -> None:
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


def test_a_close_is_told_to_the_other_side(pair: Pair) -> None:
    """Else it cannot tell an end from a cut."""
    server, client = pair
    client.suppress_ragged_eofs = False  # type: ignore[attr-defined]  # typeshed leaves it out
    server.close()
    server.close()
    assert client.recv(100) == b""


def test_what_is_no_tls_is_an_error_as_of_a_socket(pair: Pair) -> None:
    server, client = pair
    socket.socket.send(client, b"plainly no record")
    with pytest.raises(OSError, match=r"WRONG_VERSION|wrong version"):
        server.recv(100)
