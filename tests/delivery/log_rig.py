"""A rig whose pod follows the log and writes cursors; users come through the steps of a handshake."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pushserver.core.jsontext import dump
from pushserver.core.publication import Publication, Published
from pushserver.delivery.publish import Publisher
from pushserver.stores.stream import position_of
from tests.delivery.rig import Line, Rig, rig
from tests.delivery.wire import PING, Wire, _frames
from tests.pod import eventually

__all__ = ["Brisk", "LogRig", "Target", "log_rig", "to_categories"]

Target = Mapping[str, Sequence[str]]


def to_categories(
    message_id: str, target: Target, *, content: Any = "hello", ttl_s: int = 3600, offline: bool = True
) -> Publication:
    """A message to whom `target` means; no kind means everyone."""
    categories = {kind: tuple(values) for kind, values in target.items()}
    return Publication(message_id, dump(content), ttl_s, categories=categories, offline=offline)


class Brisk(Wire):
    """A wire whose client answers each ping at once."""

    line: Line | None = None

    def write(self, data: bytes) -> None:
        super().write(data)
        for opcode, payload in _frames(data):
            if opcode == PING and self.line is not None:
                self.line.pong(payload)


class LogRig(Rig):
    """Shortcuts for what tests of the log do."""

    async def follow(self) -> None:
        """Load the tail, and follow the log."""
        await self.app.log_follower.load()
        self.app.tasks.spawn(self.app.log_follower.run(), "log")

    def write_cursors(self) -> None:
        """Begin to write cursors."""
        self.app.tasks.spawn(self.app.cursors.run(), "cursors")

    @property
    def publisher(self) -> Publisher:
        """Of this pod."""
        return self.app.publisher

    async def tell(self, message_id: str, target: Target | None = None, **options: Any) -> Published:
        """Publish to whom `target` means; `options` as of `to_categories`."""
        return await self.publisher.publish(to_categories(message_id, target or {}, **options))

    async def told(self, *ids: str, target: Target | None = None) -> None:
        """Publish these, one after the other, and wait until the pod has dealt with all of them."""
        for message_id in ids:
            await self.tell(message_id, target)
        await self.offered()

    async def offered(self) -> None:
        """Wait until the pod has dealt with all that the log holds."""
        last = (await self.app.stores.log.range()).last
        await eventually(lambda: self.app.tail.offered >= last)

    async def come(self, user: str = "alice", **options: Any) -> Line:
        """Connect as a handshake does: the cursor first. `options` as of `open`."""
        return self.open(user, log_at=await self.app.cursors.start(user), **options)

    async def comes(self, user: str = "alice", **options: Any) -> Line:
        """As `come`, and wait until it is caught up."""
        line = await self.come(user, **options)
        await line.live()
        return line

    async def brisk(self, user: str = "alice", **options: Any) -> Line:
        """A user who is caught up and answers each ping at once."""
        wire = Brisk()
        line = await self.come(user, wire=wire, **options)
        wire.line = line
        await line.live()
        return line

    async def confirms(self, *lines: Line) -> None:
        """These clients answer a ping that is sent now, and what that confirms is settled."""
        for line in lines:
            line.connection.ping(0.0)
            line.pong()
        await self.settled()

    async def cursor(self, user: str = "alice") -> int | None:
        """Where the user stands in Redis."""
        held = await self.app.stores.commands.call("GET", self.app.stores.cursors._keys.cursor(user))
        return None if held is None else position_of(held)

    async def at(self, message_id: str) -> int:
        """The place of a message in the log."""
        return (await self.places())[message_id]

    async def places(self) -> dict[str, int]:
        """The place of every message in the log."""
        span = await self.app.stores.log.range()
        pages = [page async for page in self.app.stores.log.past(span.last)]
        return {one.message_id: one.position for page in pages for one in page if one.target is not None}

    async def exposed(self) -> list[tuple[str, str, str]]:
        """(message, user, source) of every exposure so far."""
        entries = await self.app.stores.commands.call("XRANGE", "ps:exposures", "-", "+")
        events = [json.loads(dict(zip(flat[::2], flat[1::2], strict=True))[b"data"]) for _, flat in entries]
        return [
            (event["message_id"], shown["username"], event["source"])
            for event in events
            for shown in event["exposures"]
        ]


@asynccontextmanager
async def log_rig(
    redis_url: str, *, follow: bool = True, cursors: bool = True, **sections: Mapping[str, Any]
) -> AsyncIterator[LogRig]:
    """A rig on the log; `follow` and `cursors` off: not yet."""
    async with rig(redis_url, **sections) as plain:
        on = LogRig(plain.app)
        if follow:
            await on.follow()
        if cursors:
            on.write_cursors()
        yield on
