#!/usr/bin/env python3
"""Fuzz the front's reader of request heads: whatever it takes, Tornado's server takes, and reads just so.

Run by `scripts/fuzz heads`. An input is what a client sends first.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["pushserver.web.head"]):
    from pushserver.web.head import MAX_HEAD_BYTES, find_end

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import BaseIOStream

from tests.web.test_head import GOOD, HOSTILE, SNIPPETS, grouped, read

TORNADO_END = re.compile(rb"\r?\n\r?\n")


class Sent(BaseIOStream):
    """A stream on which all has come that ever will."""

    def __init__(self, data: bytes) -> None:
        super().__init__(read_chunk_size=MAX_HEAD_BYTES * 4)
        self._left = data

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """The next bytes; none is the end."""
        data, self._left = self._left, b""
        if not data:
            self.close()
            return None
        buf[: len(data)] = data
        return len(data)

    def write_to_fd(self, data: memoryview) -> int:
        """A refusal, which nobody reads."""
        return len(data)

    def _add_io_state(self, state: int) -> None:
        """Nothing to wait for: whoever waits for more waits for ever, which the fuzzer finds."""

    def close_fd(self) -> None:
        """There is none."""


class Taken(HTTPMessageDelegate):
    """What Tornado's server made of the head."""

    def __init__(self, stream: Sent) -> None:
        self._stream = stream
        self.request: HTTPServerRequest | None = None
        self.body = b""

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        """As `HTTPServer` has it, which judges Host there."""
        assert isinstance(start_line, RequestStartLine)
        self.request = HTTPServerRequest(start_line=start_line, headers=headers)

    def data_received(self, chunk: bytes) -> None:
        """A body."""
        self.body += chunk

    def finish(self) -> None:
        """The request is whole: nobody answers it."""
        self._stream.close()


async def by_tornado(data: bytes) -> Taken:
    """The whole way through Tornado's parser."""
    stream = Sent(data)
    taken = Taken(stream)
    parameters = HTTP1ConnectionParameters(max_header_size=MAX_HEAD_BYTES, max_body_size=1)
    connection = HTTP1Connection(stream, False, parameters)  # type: ignore[arg-type]
    await connection._read_message(taken)
    return taken


LOOP = asyncio.new_event_loop()


def check(data: bytes) -> None:
    """Raise `AssertionError` where the two do not agree."""
    found = TORNADO_END.search(data)
    end = find_end(data, 0)
    assert end == (found.end() if found else 0)
    half = len(data) // 2
    assert end == (find_end(data[:half], 0) or find_end(data, half))
    ours = read(data[:end]) if end else None
    if ours is None:
        return
    taken = LOOP.run_until_complete(by_tornado(data))
    theirs = taken.request
    assert theirs is not None, "refused"
    assert not taken.body
    headers = grouped(list(theirs.headers.get_all()))
    assert [ours.host] == headers.pop("Host")
    assert (ours.method, ours.path, ours.query) == (theirs.method, theirs.path, theirs.query)
    assert theirs.version == "HTTP/1.1"
    assert grouped(list(ours.headers)) == headers


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Mostly a head's own words at other places, or letters that a head may hold; else any bytes."""
    chance = random.Random(seed)
    if chance.random() < 0.2:
        return bytes(atheris.Mutate(data, max_size))
    if chance.random() < 0.7:
        # What it has come to is mostly far from any head by now.
        data = GOOD
    for _ in range(chance.randint(1, 4)):
        at, gone = chance.randint(0, len(data)), chance.choice((0, 0, 1, 1, 2, 10))
        put = chance.choice((*SNIPPETS, b"", b"\r\nA:b", bytes((chance.randint(32, 126),))))
        data = data[:at] + put + data[at + gone :]
    return data[:max_size]


def main() -> None:
    """Fuzz, beginning with the heads of the tests."""
    logging.disable()
    asyncio.set_event_loop(LOOP)
    corpus = Path(sys.argv[-1])
    for number, head in enumerate([GOOD, *HOSTILE.values()]):
        if len(head) < 1024:
            (corpus / f"case-{number}").write_bytes(head)
    atheris.enabled_hooks.add("RegEx")
    # One change at a time: after several it is no head any more.
    atheris.Setup([*sys.argv[:-1], "-mutate_depth=1", sys.argv[-1]], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
