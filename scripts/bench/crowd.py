"""The load generator: a crowd of WebSocket clients in a process of its own, cheap for each frame.

One epoll loop reads raw sockets, counts message frames and answers pings. Bytes that were read before are not
parsed again: of a broadcast every connection gets the same. Run as a program it takes commands, a JSON
object on a line each, and answers each with one; meanwhile it goes on reading and answering pings. `Crowd` is
the side that gives the commands. Nothing of it is shared with the server.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import heapq
import json
import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from machine import LOAD, BenchError, cpu, pin

__all__ = ["Crowd", "Latency"]

LIVE = b'{"type":"live"'
MESSAGE = b'{"type":"message"'
STAMP = b'"ts":'
BIND_NO_PORT = 24
"""IP_BIND_ADDRESS_NO_PORT: the port is chosen when the other side is known."""
TOKEN_S = 7200
AT_A_TIME = 64
"""Handshakes on their way at once, unless said otherwise."""
EVENTS = 64
"""Sockets read between two looks at the clock."""
KNOWN = 256
"""Reads whose content is remembered."""
BUFFER = 256 * 1024
PORTS_OF_ADDRESS = 10_000
"""Connections from one address of 127.0.0.0/8: beyond it the kernel finds free ports but slowly."""
CURVE = 100
"""Points of a distribution that is kept for a plot."""


class Read(NamedTuple):
    """What some bytes from a server hold."""

    messages: int
    size: int
    """Bytes of their frames."""
    live: bool
    pings: int
    pongs: bytes
    """The answer to the pings in it."""
    rest: bytes
    """The begin of a frame whose end has not come."""


def parse(data: bytes) -> Read:
    """Count the frames. The pongs are masked with zeros, which is a mask."""
    at, messages, taken, live, pings, pongs, length = 0, 0, 0, False, 0, b"", len(data)
    while length - at >= 2:
        size, start = data[at + 1], at + 2
        if size == 126:
            size, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
        elif size == 127:
            size, start = int.from_bytes(data[at + 2 : at + 10]), at + 10
        if length < start + size:
            break
        opcode = data[at] & 0x0F
        if opcode == 1:
            # Only messages are ever compressed (RSV1), and nobody looks into them here.
            if data[at] & 0x40 or data.startswith(MESSAGE, start):
                messages += 1
                taken += start + size - at
            live = live or data.startswith(LIVE, start)
        elif opcode == 9:
            pings += 1
            pongs += bytes((0x8A, 0x80 | size)) + b"\0\0\0\0" + data[start : start + size]
        at = start + size
    return Read(messages, taken, live, pings, pongs, data[at:])


class Client:
    """One connection that is not live yet, or whose next bytes need thought."""

    __slots__ = ("buffer", "number", "refusals", "sock", "upgraded", "written")

    def __init__(self, number: int) -> None:
        self.number = number
        self.refusals = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """Before each try to connect."""
        self.sock: socket.socket | None = None
        self.written = False
        self.upgraded = False
        self.buffer = b""


class Clients:
    """All clients of this process, and what they have counted."""

    def __init__(self, network: int) -> None:
        self._network = network
        self._epoll = select.epoll()
        self._epoll.register(0, select.EPOLLIN)
        self._requests: list[bytes] = []
        self._ports: list[int] = []
        self._pending: dict[int, Client] = {}
        self._live: dict[int, Client] = {}
        self._partial: dict[int, bytes] = {}
        self._known: dict[bytes, Read] = {}
        self._again: list[tuple[float, int, Client]] = []
        self._begun = 0
        self._until = 0
        self._at_a_time = AT_A_TIME
        self._pace_s = 0.0
        self._next_at = 0.0
        self._stamped = False
        self._reconnects = False
        self._asked: dict[str, Any] | None = None
        self._give_up = 0.0
        self._input = b""
        self.messages = 0
        self.message_bytes = 0
        self.pings = 0
        self.refusals = self.most_refusals = 0
        self.ended = 0
        self.times: list[tuple[int, int]] = []
        self.live_times: list[tuple[float, int]] = []
        self.latencies: list[int] = []

    # -- the loop

    def run(self) -> None:
        """Until the input ends."""
        while True:
            self._begin_what_is_due()
            for fd, _ in self._epoll.poll(self._timeout(), EVENTS):
                if fd in self._live:
                    self._read_live(fd)
                elif fd:
                    self._read_pending(fd)
                elif not self._command():
                    return
            self._answer()

    def _timeout(self) -> float:
        now = time.monotonic()
        due = self._give_up if self._asked else now + 60
        if self._again:
            due = min(due, self._again[0][0])
        if self._begun < self._until and len(self._pending) < self._at_a_time:
            due = min(due, self._next_at)
        return max(0.0, due - now)

    def _read_live(self, fd: int) -> None:
        try:
            data = os.read(fd, BUFFER)
        except OSError:
            data = b""
        if not data:
            self._end(fd, self._live.pop(fd))
            return
        if self._partial:
            data = self._partial.pop(fd, b"") + data
        read = self._known.get(data) or self._parsed(data)
        if read.rest:
            self._partial[fd] = read.rest
        if read.pongs:
            self.pings += read.pings
            with contextlib.suppress(OSError):
                os.write(fd, read.pongs)
        if read.messages:
            self.messages += read.messages
            self.message_bytes += read.size
            if self._stamped:
                self._read_stamps(data)
            else:
                self._arrived(read.messages)

    def _parsed(self, data: bytes) -> Read:
        if len(self._known) > KNOWN:
            self._known.clear()
        read = self._known[data] = parse(data)
        return read

    def _arrived(self, count: int) -> None:
        self.times.append((time.monotonic_ns(), count))

    def _read_stamps(self, data: bytes) -> None:
        now, at = time.monotonic_ns(), data.find(STAMP)
        while at >= 0:
            end = data.find(b"}", at)
            self.latencies.append(now - int(data[at + len(STAMP) : end]))
            at = data.find(STAMP, end)

    # -- connecting

    def _begin_what_is_due(self) -> None:
        now = time.monotonic()
        while self._again and self._again[0][0] <= now:
            self._connect(heapq.heappop(self._again)[2])
        while self._begun < self._until and len(self._pending) < self._at_a_time and now >= self._next_at:
            self._next_at = max(self._next_at, now - 0.1) + self._pace_s
            self._connect(Client(self._begun))
            self._begun += 1

    def _connect(self, client: Client) -> None:
        client.begin_anew()
        client.sock = sock = socket.socket()
        sock.setblocking(False)
        part = client.number // PORTS_OF_ADDRESS
        sock.setsockopt(socket.IPPROTO_IP, BIND_NO_PORT, 1)
        sock.bind((f"127.{self._network}.{random.randrange(1, 4)}.{1 + part}", 0))
        port = self._ports[(client.number + client.refusals) % len(self._ports)]
        sock.connect_ex(("127.0.0.1", port))
        self._pending[sock.fileno()] = client
        self._epoll.register(sock.fileno(), select.EPOLLOUT)

    def _read_pending(self, fd: int) -> None:
        client = self._pending[fd]
        assert client.sock is not None
        try:
            if not client.written:
                client.sock.sendall(self._requests[client.number])
                client.written = True
                self._epoll.modify(fd, select.EPOLLIN)
                return
            data = client.sock.recv(BUFFER)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return
            data = b""
        client.buffer += data
        if not data:
            self._refused(fd, client, self._retry_after(client.buffer))
        elif client.upgraded or self._upgraded(client):
            self._look_for_live(fd, client)

    def _upgraded(self, client: Client) -> bool:
        head, found, rest = client.buffer.partition(b"\r\n\r\n")
        if not found or not head.startswith(b"HTTP/1.1 101"):
            return False
        client.upgraded, client.buffer = True, rest
        return True

    def _look_for_live(self, fd: int, client: Client) -> None:
        read = parse(client.buffer)
        client.buffer = read.rest
        if read.pongs and client.sock is not None:
            self.pings += read.pings
            client.sock.send(read.pongs)
        if read.messages:
            self.messages += read.messages
            self.message_bytes += read.size
            self._arrived(read.messages)
        if not read.live:
            return
        del self._pending[fd]
        self._live[fd] = client
        if client.buffer:
            self._partial[fd] = client.buffer
        self.live_times.append((time.monotonic(), len(self._live)))

    def _retry_after(self, answer: bytes) -> float:
        for line in answer.partition(b"\r\n\r\n")[0].lower().split(b"\r\n"):
            if line.startswith(b"retry-after:"):
                return float(line.partition(b":")[2])
        return 0.5

    def _refused(self, fd: int, client: Client, seconds: float) -> None:
        """Come again as clients are asked to: after what the server says, and up to a second more."""
        del self._pending[fd]
        self._close(client)
        client.refusals += 1
        self.refusals += 1
        self.most_refusals = max(self.most_refusals, client.refusals)
        at = time.monotonic() + seconds + random.random()
        heapq.heappush(self._again, (at, client.number, client))

    def _end(self, fd: int, client: Client) -> None:
        """The server has ended a live connection."""
        self._partial.pop(fd, None)
        self._close(client)
        self.ended += 1
        if self._reconnects:
            client.refusals = 0
            self._connect(client)

    def _close(self, client: Client) -> None:
        assert client.sock is not None
        self._epoll.unregister(client.sock.fileno())
        client.sock.close()

    # -- commands

    def _command(self) -> bool:
        data = os.read(0, BUFFER)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._asked = json.loads(line)
            self._give_up = time.monotonic() + self._asked.get("within_s", 60)
            getattr(self, f"_do_{self._asked['do']}")(self._asked)
        return bool(data)

    def _do_connect(self, asked: dict[str, Any]) -> None:
        names = [f"{asked['prefix']}{asked['first'] + n}" for n in range(asked["count"])]
        now = int(time.time())
        for name in names:
            claims = {"sub": name, "iat": now, "exp": now + TOKEN_S}
            token = jwt.encode(claims, asked["secret"], "HS256") if asked["secret"] else ""
            self._requests.append(_request(token, offers=asked["offers"]))
        self._ports = asked["ports"]
        self._at_a_time = asked["at_a_time"]
        self._pace_s = 1 / asked["per_s"] if asked["per_s"] else 0.0
        self._until += asked["count"]
        # Making tokens is no part of it.
        asked["began"] = self._next_at = time.monotonic()
        asked["clock"] = time.process_time()

    def _do_count(self, asked: dict[str, Any]) -> None:
        """Begin to count anew; what for is said by the fields."""
        self.messages = self.message_bytes = self.pings = self.refusals = self.ended = 0
        self.most_refusals = 0
        self.times.clear()
        self.live_times.clear()
        self.latencies.clear()
        self._stamped = asked["stamped"]
        self._reconnects = asked["reconnects"]
        self._ports = asked["ports"] or self._ports
        self._at_a_time = 1 << 30 if self._reconnects else self._at_a_time

    def _do_messages(self, asked: dict[str, Any]) -> None:
        """Answered when so many have come since the count began."""

    def _do_live(self, asked: dict[str, Any]) -> None:
        """Answered when so many are live, after so many have ended."""

    def _do_state(self, asked: dict[str, Any]) -> None:
        """Answered at once."""

    def _do_leave(self, _asked: dict[str, Any]) -> None:
        """End all connections."""
        for client in (*self._live.values(), *self._pending.values()):
            self._close(client)
        for store in (self._live, self._pending, self._partial, self._known):
            store.clear()
        self._requests.clear()
        self._again.clear()
        self._begun = self._until = 0

    def _fulfilled(self, asked: dict[str, Any]) -> bool:
        if asked["do"] == "connect":
            return len(self._live) >= self._until
        if asked["do"] == "messages":
            return self.messages >= int(asked["count"])
        if asked["do"] == "live":
            return self.ended >= int(asked["ended"]) and len(self._live) >= int(asked["count"])
        return True

    def _answer(self) -> None:
        asked = self._asked
        if asked is None:
            return
        late = time.monotonic() >= self._give_up
        if not late and not self._fulfilled(asked):
            return
        self._asked = None
        answer: dict[str, Any] = {
            "late": late,
            "live": len(self._live),
            "messages": self.messages,
            "message_bytes": self.message_bytes,
            "pings": self.pings,
            "refusals": self.refusals,
            "most_refusals": self.most_refusals,
            "ended": self.ended,
        }
        if asked["do"] == "connect":
            answer["seconds"] = time.monotonic() - asked["began"]
            answer["cpu"] = time.process_time() - asked["clock"]
        elif asked["do"] == "messages":
            answer["latency"] = self._latency(asked["since_ns"])
        elif asked["do"] == "live":
            answer["live_times"] = _thinned(self.live_times)
        os.write(1, json.dumps(answer).encode() + b"\n")

    def _latency(self, since_ns: int) -> dict[str, Any]:
        if self._stamped:
            values = sorted(self.latencies)
        else:
            values = sorted(at - since_ns for at, count in self.times for _ in range(count))
        return _distribution([value / 1e6 for value in values])


def _distribution(values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {"p50": 0.0, "p99": 0.0, "last": 0.0, "curve": []}
    last = len(values) - 1
    return {
        "p50": values[last // 2],
        "p99": values[int(last * 0.99)],
        "last": values[-1],
        "curve": [round(values[last * n // CURVE], 3) for n in range(CURVE + 1)],
    }


def _thinned(points: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    step = max(1, len(points) // (2 * CURVE))
    return [*points[:-1:step], *points[-1:]]


def _request(token: str, *, offers: bool) -> bytes:
    offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if offers else ""
    return (
        "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"{offer}Authorization: Bearer {token}\r\n\r\n"
    ).encode()


class Latency(NamedTuple):
    """Milliseconds until a share of the deliveries had come; `curve` is a point for each per cent."""

    p50: float
    p99: float
    last: float
    curve: list[float]


class Crowd:
    """A crowd in its own process. Each call returns when it is done; raises `BenchError` if it is not."""

    _networks = 0

    def __init__(self) -> None:
        # Addresses of one's own: ports of the last crowd are still taken for a while.
        Crowd._networks += 1
        network = (os.getpid() + Crowd._networks) % 250 + 1
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(network)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        pin(self._process.pid, LOAD)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return cpu(self._process.pid)

    def connect(
        self,
        ports: Sequence[int],
        count: int,
        *,
        secret: str,
        first: int = 0,
        prefix: str = "user-",
        at_a_time: int = AT_A_TIME,
        per_s: float = 0,
        offers: bool = False,
    ) -> dict[str, Any]:
        """Connect users `prefix``first`.. to the ports in turn, and wait until they are live.

        `per_s` bounds the pace (0: not); `offers`: they ask for compression. Who is refused comes again.
        Answers what `state` does, and the `seconds` it took and the `cpu` seconds that it cost the crowd.
        """
        return self._ask(
            "connect",
            ports=list(ports),
            count=count,
            secret=secret,
            first=first,
            prefix=prefix,
            at_a_time=at_a_time,
            per_s=per_s,
            offers=offers,
            within_s=300,
        )

    def count(
        self, *, stamped: bool = False, reconnects: bool = False, ports: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Begin to count messages, pings and refusals anew.

        `stamped`: latencies count from the `ts` in each content (the last field, nanoseconds of the monotonic
        clock). `reconnects`: who is cut off comes again at once, to `ports`.
        """
        return self._ask("count", stamped=stamped, reconnects=reconnects, ports=list(ports))

    def messages(self, count: int, since_ns: int = 0, within_s: float = 60) -> Latency:
        """Wait until so many, and no more, have come since the count began; how long after `since_ns`."""
        answer = self._ask("messages", count=count, since_ns=since_ns, within_s=within_s)
        if answer["messages"] > count:
            raise BenchError(f"{answer['messages']} messages came, and {count} were sent")
        return Latency(**answer["latency"])

    def live(self, count: int, ended: int, within_s: float = 120) -> list[tuple[float, int]]:
        """Wait until so many are live again, after so many were cut; (monotonic seconds, live) in between."""
        times: list[tuple[float, int]] = self._ask("live", count=count, ended=ended, within_s=within_s)[
            "live_times"
        ]
        return times

    def state(self) -> dict[str, Any]:
        """What was counted so far."""
        return self._ask("state")

    def leave(self) -> None:
        """End all connections."""
        self._ask("leave")

    def _ask(self, do: str, **fields: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("the load generator ended")
        answer: dict[str, Any] = json.loads(line)
        if answer["late"]:
            raise BenchError(
                f"the load generator waited in vain: {do} {fields.get('count')}, it has {answer}"
            )
        return answer


if __name__ == "__main__":
    # Nothing here is a cycle, and a collection would be taken for latency.
    gc.disable()
    Clients(int(sys.argv[1])).run()
