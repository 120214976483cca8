"""A connection's socket, written and read directly."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from pushserver.core import deflate
from pushserver.core.close_codes import CloseCode
from pushserver.core.frames import Close, Event, Ping, Text, close_frame, text_frame
from pushserver.delivery.connection import Connection
from pushserver.web import transport as module
from pushserver.web.poller import Poller
from pushserver.web.tls import RECORD_BYTES
from pushserver.web.transport import SocketOptions, SocketTransport, read_some
from tests.core.client_frames import CLOSE, CONTINUATION, PING, TEXT
from tests.core.client_frames import client as client_frame
from tests.pod import eventually


class Told:
    """In place of a connection: how often it was told that something gets in the way."""

    def __init__(self) -> None:
        self.looks = 0

    def write_down(self) -> None:
        self.looks += 1


TOLD = Told()
CONNECTION = cast(Connection, TOLD)
HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
BYE = client_frame(CLOSE, b"\x03\xe8")


class Owner:
    """Notes what it is told; `on_events` may act on it as a session does."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.frames = 0
        self.violations: list[tuple[CloseCode, str]] = []
        self.ends: list[tuple[object, str, int | None]] = []
        self.on_events: Callable[[list[Event]], None] = lambda events: None

    def received(self, connection: Connection, events: list[Event], frames: int) -> None:
        assert connection is CONNECTION
        self.events += events
        self.frames += frames
        self.on_events(events)

    def violated(self, connection: Connection, code: CloseCode, reason: str) -> None:
        assert connection is CONNECTION
        self.violations.append((code, reason))

    def ended(self, connection: Connection | None, client_ip: str, code: int | None) -> None:
        self.ends.append((connection, client_ip, code))


class Line:
    """A transport at one end, a plain socket in the client's hands at the other."""

    def __init__(
        self,
        *,
        head: bytes = b"",
        early: bytes = b"",
        tcp: bool = False,
        inflates: bool = False,
        **options: int,
    ) -> None:
        ours, self.client = _tcp_pair() if tcp else socket.socketpair()
        ours.setblocking(False)
        self.client.settimeout(5)
        self.server_socket = ours
        self.owner = Owner()
        defaults = {
            "max_backlog": 1 << 20,
            "max_frame_bytes": 1 << 16,
            "send_buffer_bytes": 0,
            "user_timeout_ms": 1000,
        }
        self.options = SocketOptions(**{**defaults, **options})
        self.transport = SocketTransport(
            ours,
            self.owner,
            self.options,
            Poller(),
            client_ip="192.0.2.1",
            head=head,
            inflates=inflates,
        )
        self.before()
        self.transport.connection = CONNECTION
        self.transport.start(early)

    def before(self) -> None:
        """What happens before it starts."""

    @property
    def end(self) -> tuple[object, str, int | None]:
        """How it ended, which must have been once."""
        (end,) = self.owner.ends
        return end

    async def ended(self) -> int | None:
        """Wait for the end; the close code of it."""
        await eventually(lambda: self.owner.ends)
        return self.end[2]

    async def heard(self, count: int) -> None:
        """Wait until the owner was told of `count` events."""
        await eventually(lambda: len(self.owner.events) == count)

    def fill(self) -> bytes:
        """Write until the kernel takes no more; all that was written."""
        written = b""
        while not self.transport.buffered:
            data = text_frame(b"%08d" % len(written) * 1000)
            self.transport.write(data)
            written += data
        return written

    async def read(self, size: int) -> bytes:
        """The next `size` bytes for the client, read while the loop turns."""
        return await asyncio.get_running_loop().run_in_executor(None, self._read, size)

    async def rest(self) -> bytes:
        """All that comes for the client until the end of the stream."""
        return await asyncio.get_running_loop().run_in_executor(None, self._read, 1 << 30)

    def _read(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size and (data := self.client.recv(min(size - len(found), 1 << 16))):
            found += data
        return bytes(found)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.client.close()


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listening.getsockname())
        return listening.accept()[0], client


@pytest.fixture
def line(io_loop: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Line]]:
    """Makes lines, inside the loop, which are closed at the end. No goodbye runs into its time-out."""
    monkeypatch.setattr(module, "GOODBYE_S", 1000.0)
    lines: list[Line] = []

    def make(**options: Any) -> Line:
        lines.append(Line(**options))
        return lines[-1]

    yield make
    for one in lines:
        one.close()


Make = Callable[..., Line]


# -- writing


@pytest.mark.gen_test
async def test_the_answer_to_the_handshake_leaves_in_one_write_with_the_first_frame(line: Make) -> None:
    at = line(head=HEAD)
    at.transport.write(b"first")
    assert at.client.recv(1000) == HEAD + b"first"
    at.transport.write(b"second")
    assert at.client.recv(1000) == b"second"


@pytest.mark.gen_test
@pytest.mark.parametrize("tcp", [False, True])
async def test_what_the_kernel_does_not_take_is_kept_and_sent_in_order(line: Make, tcp: bool) -> None:
    at = line(tcp=tcp, max_backlog=1 << 24)
    written = at.fill()
    for number in range(100):
        at.transport.write(b"more %d" % number)
        written += b"more %d" % number
    waiting = at.transport.buffered
    before = at.transport.progressed_at
    assert waiting > 0
    assert await at.read(len(written)) == written
    assert at.transport.buffered == 0
    assert at.transport.progressed_at > before, "what the kernel takes is progress"
    at.transport.write(b"and now at once")
    assert at.client.recv(100) == b"and now at once"


@pytest.mark.gen_test
async def test_frames_may_be_written_to_the_descriptor_while_nothing_is_in_the_way(line: Make) -> None:
    at = line(head=HEAD, max_backlog=1 << 24)
    assert at.transport.descriptor == -1, "the answer to the handshake comes first"
    at.transport.write(b"first")
    assert at.transport.descriptor == at.server_socket.fileno()
    looks = TOLD.looks
    written = HEAD + b"first" + at.fill()
    assert (at.transport.descriptor, TOLD.looks) == (-1, looks + 1)
    assert await at.read(len(written)) == written
    await eventually(lambda: at.transport.descriptor == at.server_socket.fileno())
    at.transport.close(CloseCode.SERVICE_RESTART, "")
    assert (at.transport.descriptor, TOLD.looks) == (-1, looks + 2)
    at.transport.abort()
    assert (at.transport.descriptor, TOLD.looks) == (-1, looks + 3)


@pytest.mark.gen_test
async def test_what_the_descriptor_did_not_take_goes_out_before_what_is_written_next(line: Make) -> None:
    at = line(max_backlog=1 << 24)
    at.transport.write(b"first")
    large = b"x" * (1 << 23)
    at.transport.took(large, os.write(at.transport.descriptor, large))
    assert 0 < at.transport.buffered < len(large)
    assert at.transport.descriptor == -1
    at.transport.write(b"last")
    assert await at.read(len(large) + 9) == b"first" + large + b"last"


@pytest.mark.gen_test
async def test_a_descriptor_that_is_broken_ends_it_but_not_at_once(line: Make) -> None:
    at = line()
    at.transport.write(b"first")
    looks = TOLD.looks
    at.transport.took(b"into the void", -1)
    assert not at.owner.ends
    assert (at.transport.descriptor, TOLD.looks) == (-1, looks + 1)
    at.transport.write(b"again")
    assert await at.ended() is None
    assert at.client.recv(100) == b"first"


@pytest.mark.gen_test
async def test_a_client_that_takes_nothing_makes_no_progress(line: Make) -> None:
    at = line(max_backlog=1 << 24)
    at.fill()
    before = at.transport.progressed_at
    await asyncio.sleep(0)
    at.transport.write(b"more")
    assert at.transport.progressed_at == before


@pytest.mark.gen_test
async def test_a_backlog_beyond_its_bound_is_cut_and_logged_once(line: Make) -> None:
    at = line(max_backlog=100_000)
    at.fill()
    at.transport.write(b"x" * (100_000 - at.transport.buffered))
    assert at.transport.buffered == 100_000
    with capture_logs() as lines:
        for _ in range(10):
            at.transport.write(b"x" * 1000)
        assert not at.owner.ends, "not at once: the caller may be in a loop over connections"
        assert await at.ended() == CloseCode.NO_PROGRESS
    assert [(entry["event"], entry["client_ip"]) for entry in lines] == [("connection.backlog", "192.0.2.1")]
    assert at.transport.buffered == 0


@pytest.mark.gen_test
async def test_a_backlog_at_its_bound_stays(line: Make) -> None:
    at = line(max_backlog=100_000)
    written = at.fill()
    rest = b"x" * (100_000 - at.transport.buffered)
    at.transport.write(rest)
    assert await at.read(len(written + rest)) == written + rest
    assert not at.owner.ends


@pytest.mark.gen_test
async def test_the_cut_of_a_backlog_keeps_the_code_of_an_earlier_close(line: Make) -> None:
    at = line(max_backlog=100_000)
    at.fill()
    at.transport.write(b"x" * (100_000 - at.transport.buffered))
    at.transport.close(CloseCode.SERVICE_RESTART, "")
    assert await at.ended() == CloseCode.SERVICE_RESTART


@pytest.mark.gen_test
async def test_a_write_to_a_client_that_is_gone_ends_it_but_not_at_once(line: Make) -> None:
    at = line()
    at.client.close()
    at.transport.write(b"into the void")
    at.transport.write(b"again")
    assert not at.owner.ends
    assert await at.ended() is None


@pytest.mark.gen_test
async def test_a_backlog_for_a_client_that_resets_ends_it(line: Make) -> None:
    at = line(tcp=True, max_backlog=1 << 24)
    at.fill()
    _reset(at.client)
    assert await at.ended() is None


# -- reading


@pytest.mark.gen_test
async def test_events_come_in_order_with_the_number_of_their_frames(line: Make) -> None:
    at = line()
    fragments = client_frame(TEXT, b"a", fin=0) + client_frame(CONTINUATION, b"b")
    at.client.send(fragments + client_frame(PING, b"p"))
    await at.heard(2)
    assert at.owner.events == [Text(b"ab"), Ping(b"p")]
    assert at.owner.frames == 3


@pytest.mark.gen_test
async def test_fragments_that_make_no_message_are_counted_all_the_same(line: Make) -> None:
    at = line()
    at.client.send(client_frame(TEXT, b"", fin=0) + client_frame(CONTINUATION, b"", fin=0) * 9)
    await eventually(lambda: at.owner.frames == 10)
    assert at.owner.events == []


@pytest.mark.gen_test
async def test_half_a_frame_is_progress_and_tells_nobody(line: Make) -> None:
    at = line()
    before = at.transport.progressed_at
    at.client.send(client_frame(TEXT, b"hello")[:4])
    await eventually(lambda: at.transport.progressed_at > before)
    assert at.owner.frames == 0
    at.client.send(client_frame(TEXT, b"hello")[4:])
    await at.heard(1)
    assert at.owner.events == [Text(b"hello")]


@pytest.mark.gen_test
async def test_what_came_with_the_request_is_taken_first(line: Make) -> None:
    at = line(early=client_frame(TEXT, b"early")[:3])
    at.client.send(client_frame(TEXT, b"early")[3:] + client_frame(TEXT, b"later"))
    await at.heard(2)
    assert at.owner.events == [Text(b"early"), Text(b"later")]


@pytest.mark.gen_test
async def test_the_end_of_the_stream_ends_it(line: Make) -> None:
    at = line()
    at.client.close()
    assert await at.ended() is None
    assert at.end == (CONNECTION, "192.0.2.1", None)


@pytest.mark.gen_test
async def test_a_reset_ends_it(line: Make) -> None:
    at = line(tcp=True)
    _reset(at.client)
    assert await at.ended() is None


# -- closing


@pytest.mark.gen_test
async def test_our_close_ends_when_the_client_has_closed_too(line: Make) -> None:
    at = line()
    at.transport.close(CloseCode.KICKED, "out")
    at.transport.close(CloseCode.RATE, "a later one changes nothing")
    at.transport.write(b"and nothing goes out any more")
    assert at.client.recv(1000) == close_frame(4403, "out")
    assert not at.owner.ends
    at.client.send(BYE)
    assert await at.ended() == 4403
    assert await at.rest() == b""


@pytest.mark.gen_test
async def test_our_close_goes_out_after_what_was_written(line: Make) -> None:
    at = line(max_backlog=1 << 24)
    written = at.fill()
    at.transport.close(CloseCode.SERVICE_RESTART, "")
    assert await at.read(len(written) + 4) == written + close_frame(1012)
    at.client.send(BYE)
    assert await at.ended() == 1012


@pytest.mark.gen_test
async def test_a_client_that_never_answers_our_close_is_cut(
    line: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GOODBYE_S", 0.05)
    at = line()
    at.transport.close(CloseCode.SERVICE_RESTART, "")
    assert await at.ended() == 1012
    assert await at.rest() == close_frame(1012)


@pytest.mark.gen_test
async def test_a_client_that_reads_nothing_of_our_close_is_cut(
    line: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GOODBYE_S", 0.05)
    at = line(max_backlog=1 << 24)
    at.fill()
    at.transport.close(CloseCode.SERVICE_RESTART, "")
    assert await at.ended() == 1012


@pytest.mark.gen_test
async def test_the_clients_close_is_told_answered_and_ends_it(line: Make) -> None:
    at = line()
    at.owner.on_events = lambda events: at.transport.close(CloseCode.NORMAL, "")
    at.client.send(client_frame(TEXT, b"last") + BYE + client_frame(TEXT, b"after it"))
    assert await at.ended() == 1000
    assert at.owner.events == [Text(b"last"), Close(1000, "")]
    assert await at.rest() == close_frame(1000)


@pytest.mark.gen_test
async def test_the_answer_to_the_clients_close_waits_for_the_backlog(line: Make) -> None:
    at = line(max_backlog=1 << 24)
    at.owner.on_events = lambda events: at.transport.close(CloseCode.NORMAL, "")
    written = at.fill()
    at.client.send(BYE)
    await at.heard(1)
    assert await at.rest() == written + close_frame(1000)
    assert await at.ended() == 1000


@pytest.mark.gen_test
async def test_after_our_close_what_the_client_sends_is_ignored(line: Make) -> None:
    at = line()
    at.transport.close(CloseCode.RATE, "")
    at.client.send(client_frame(TEXT, b"late") * 100)
    await eventually(lambda: at.transport._late > 0)
    at.client.send(BYE)
    assert await at.ended() == 4429
    assert at.owner.events == []
    assert at.owner.frames == 0


@pytest.mark.gen_test
async def test_a_client_that_sends_on_and_on_after_our_close_is_cut(
    line: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would cost the loop more than before its close, and for seconds."""
    monkeypatch.setattr(module, "MAX_LATE_BYTES", 10_000)
    at = line()
    at.transport.close(CloseCode.RATE, "")
    late = client_frame(TEXT, b"x" * 100)
    at.client.send(late * (10_000 // len(late)))
    await eventually(lambda: at.transport._late > 9_000)
    assert not at.owner.ends, "some may still be on its way when our close reaches the client"
    at.client.send(late)
    assert await at.ended() == 4429


@pytest.mark.gen_test
async def test_a_violation_is_told_after_the_events_before_it_and_nothing_after_it(line: Make) -> None:
    at = line()
    at.client.send(client_frame(TEXT, b"good") + client_frame(TEXT, b"\xff") + client_frame(TEXT, b"never"))
    await eventually(lambda: at.owner.violations)
    assert at.owner.violations == [(CloseCode.INVALID_DATA, "text must be UTF-8")]
    before = at.transport.progressed_at
    at.client.send(client_frame(TEXT, b"nor this"))
    await eventually(lambda: at.transport.progressed_at > before)
    assert at.owner.events == [Text(b"good")]
    assert len(at.owner.violations) == 1


@pytest.mark.gen_test
async def test_a_violation_of_who_is_said_goodbye_to_already_is_not_told(line: Make) -> None:
    at = line()
    at.transport.close(CloseCode.KICKED, "")
    at.client.send(client_frame(TEXT, b"\xff"))
    await eventually(lambda: at.transport._late > 0)
    assert not at.owner.violations
    at.client.close()
    assert await at.ended() == CloseCode.KICKED


@pytest.mark.gen_test
async def test_a_violation_of_a_connection_that_was_never_opened_is_told_to_nobody(line: Make) -> None:
    at = line()
    at.transport.connection = None
    at.client.send(client_frame(TEXT, b"\xff"))
    at.client.close()
    await at.ended()
    assert not at.owner.violations


@pytest.mark.gen_test
async def test_a_violation_right_behind_the_clients_close_is_not_looked_at(line: Make) -> None:
    at = line()
    at.owner.on_events = lambda events: at.transport.close(CloseCode.NORMAL, "")
    at.client.send(BYE + b"\xff\xff\xff")
    assert await at.ended() == 1000
    assert not at.owner.violations


@pytest.mark.gen_test
async def test_a_close_from_within_an_event_ends_the_reading_of_that_frame(line: Make) -> None:
    """A rate limit closes while the client's own close waits in the same read."""
    at = line()
    at.owner.on_events = lambda events: at.transport.close(CloseCode.RATE, "")
    at.client.send(client_frame(TEXT, b"one") + BYE)
    assert await at.ended() == 4429


@pytest.mark.gen_test
async def test_an_abort_ends_it_at_once_and_twice_is_once(line: Make) -> None:
    at = line(max_backlog=1 << 24)
    at.fill()
    at.transport.abort()
    assert at.end == (CONNECTION, "192.0.2.1", None)
    at.transport.abort()
    assert len(at.owner.ends) == 1
    assert at.server_socket.fileno() == -1


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["write_down", "forget"])
async def test_an_error_of_ours_on_the_way_out_leaves_no_socket_behind(
    line: Make, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("an error of the test")

    on = line()
    monkeypatch.setattr(Told if step == "write_down" else Poller, step, broken)
    with pytest.raises(ValueError, match="of the test"):
        on.transport.abort()
    assert on.server_socket.fileno() == -1
    assert on.owner.ends == [(CONNECTION, "192.0.2.1", None)]
    if step == "write_down":
        # Or who has the descriptor next is not watched.
        assert len(on.transport._poller) == 0


@pytest.mark.gen_test
async def test_after_the_end_nothing_is_written_read_or_closed(line: Make) -> None:
    at = line(head=HEAD)
    at.transport.abort()
    at.transport.write(b"frame")
    at.transport.close(CloseCode.NORMAL, "")
    at.transport.start(client_frame(TEXT, b"early"))
    at.transport.readable()
    at.transport.writable()
    assert at.owner.events == []
    assert await at.rest() == b""


@pytest.mark.gen_test
async def test_what_the_kernel_does_not_take_before_it_starts_goes_out_later(
    line: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`welcome` may be large, and the buffer small."""
    written = b""

    def fill(at: Line) -> None:
        nonlocal written
        written = at.fill()

    monkeypatch.setattr(Line, "before", fill)
    at = line(max_backlog=1 << 24)
    assert at.transport.buffered
    assert await at.read(len(written)) == written
    assert not at.owner.ends


@pytest.mark.gen_test
async def test_callbacks_that_came_for_nothing_do_no_harm(line: Make) -> None:
    """The loop may call for a socket that has nothing, or takes nothing, after all."""
    at = line(max_backlog=1 << 24)
    written = at.fill()
    at.transport.readable()
    at.transport.writable()
    assert not at.owner.ends
    assert await at.read(len(written)) == written


@pytest.mark.gen_test
async def test_a_connection_that_was_never_opened_is_told_as_none(line: Make) -> None:
    at = line()
    at.transport.connection = None
    at.client.send(client_frame(TEXT, b"to nobody"))
    at.client.close()
    await at.ended()
    assert at.end == (None, "192.0.2.1", None)


@pytest.mark.gen_test
async def test_what_ended_is_freed_without_the_collector(line: Make) -> None:
    """With 10 000 connections a cycle in each is a pause of the whole pod."""
    gc.collect()
    before = _count(SocketTransport)
    gc.disable()
    try:
        at = line(max_backlog=1 << 24)
        at.fill()
        at.transport.close(CloseCode.NORMAL, "")
        at.transport.abort()
        at.transport = None  # type: ignore[assignment]
        await eventually(lambda: _count(SocketTransport) == before)
    finally:
        gc.enable()


def _count(kind: type) -> int:
    return sum(type(thing) is kind for thing in gc.get_objects())


# -- options


@pytest.mark.gen_test
async def test_the_options_are_really_set_on_a_tcp_socket(line: Make) -> None:
    at = line(tcp=True, send_buffer_bytes=32_768, user_timeout_ms=35_000)
    sock = at.server_socket
    at.options.apply(sock)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 32_768, "Linux doubles it"
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 35_000


@pytest.mark.gen_test
async def test_a_send_buffer_of_0_is_the_kernels_choice(line: Make) -> None:
    at = line(tcp=True, send_buffer_bytes=0)
    before = at.server_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    at.options.apply(at.server_socket)
    assert at.server_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before


@pytest.mark.gen_test
async def test_a_socket_that_is_not_tcp_is_left_as_it_is(line: Make) -> None:
    at = line(send_buffer_bytes=32_768)
    before = at.server_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    at.options.apply(at.server_socket)
    assert at.server_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# -- compression


@pytest.mark.gen_test
async def test_what_comes_compressed_is_taken_in_portions_that_hold_nobody_up(line: Make) -> None:
    """Each of 64 bytes says 64 KiB: all in one turn would be 16 MiB."""
    bomb = client_frame(TEXT | 0x40, deflated(b" " * 65_536))
    count = 16_384 // len(bomb)
    at = line(inflates=True)
    portions: list[int] = []
    at.owner.on_events = lambda events: portions.append(
        sum(len(event.payload) for event in events if isinstance(event, Text))
    )
    at.client.sendall(bomb * count)
    await at.heard(count)
    assert sum(portions) == count * 65_536
    assert max(portions) <= 1024 * 1100


@pytest.mark.gen_test
async def test_a_whole_record_of_what_is_compressed_is_taken_in_portions_with_turns_for_others(
    line: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket with TLS brings at least a record; what is behind it is not lost, nor its end."""
    bomb = client_frame(TEXT | 0x40, deflated(b" " * 65_536))
    count = 16_384 // len(bomb)
    monkeypatch.setattr(module, "read_some", lambda sock, most: read_some(sock, RECORD_BYTES))
    at = line(inflates=True)
    portions: list[int] = []
    at.owner.on_events = lambda events: portions.append(
        sum(len(event.payload) for event in events if isinstance(event, Text))
    )
    at.client.sendall(bomb * count + client_frame(TEXT | 0x40, deflated(b"the last")))
    await at.heard(count + 1)
    assert max(portions) <= 1024 * 1100
    assert at.owner.events[-1] == Text(b"the last")
    at.client.sendall(client_frame(PING, b"still here"))
    await at.heard(count + 2)
    at.client.close()
    await at.ended()


@pytest.mark.gen_test
async def test_who_is_cut_within_a_record_is_not_read_on(line: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_some", lambda sock, most: read_some(sock, RECORD_BYTES))
    at = line(inflates=True)
    at.owner.on_events = lambda events: at.transport.abort()
    at.client.sendall(client_frame(PING, b"1" * 100) * 50)
    await at.ended()
    assert 0 < at.owner.frames < 50


@pytest.mark.gen_test
async def test_what_fails_within_a_record_ends_the_connection(
    line: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of the record has no beginning: it must neither be read nor be waited for."""
    monkeypatch.setattr(module, "read_some", lambda sock, most: read_some(sock, RECORD_BYTES))
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    at = line(inflates=True)

    def fail(events: list[Event]) -> None:
        if at.owner.frames > 10:
            raise RuntimeError("ours")

    at.owner.on_events = fail
    at.client.sendall(client_frame(PING, b"1" * 100) * 50)
    await at.ended()
    assert len(failures) == 1


@pytest.mark.gen_test
async def test_bombs_behind_our_close_are_not_inflated(line: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    inflated: list[int] = []

    def inflate(payload: bytes, most: int) -> bytes:
        inflated.append(most)
        return payload

    at = line(inflates=True)
    at.transport.close(1012, "")
    monkeypatch.setattr(deflate, "inflate", inflate)
    at.client.sendall(client_frame(TEXT | 0x40, deflated(b" " * 65_536)) * 100 + BYE)
    await at.ended()
    assert inflated == []


def deflated(payload: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
