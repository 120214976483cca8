"""What benches put into Redis and look up there, past the pods, whose processor time this does not touch."""

from __future__ import annotations

import json
from binascii import crc_hqx
from collections.abc import Iterable, Iterator
from typing import Any

from engines import Engine
from machine import BenchError, wait_for
from redis import Redis

__all__ = ["Exposures", "client_of", "inboxes_empty", "insert", "rest", "with_categories", "with_strangers"]

PREFIX = "ps:"
SLOTS = 16384
IN_ONE_GO = 20_000
"""Commands sent before their answers are read."""
MARK = b'"confirmed_at":'
"""What each exposure in an event has once."""
Command = tuple[str, ...]
"""The name of a command, a key whose hash tag is a user, and the rest."""


def insert(engine: Engine, commands: Iterable[Command]) -> None:
    """Mass insertion: the commands as they go over the wire, each to the node of its user."""
    clients = engine.clients
    waiting: list[list[Command]] = [[] for _ in clients]
    for command in commands:
        node = _node_of(command[1], len(clients))
        waiting[node].append(command)
        if len(waiting[node]) == IN_ONE_GO:
            _send(clients[node], waiting[node])
            waiting[node] = []
    for client, some in zip(clients, waiting, strict=True):
        _send(client, some)


def _node_of(key: str, nodes: int) -> int:
    if nodes == 1:
        return 0
    tag = key.partition("{")[2].partition("}")[0] or key
    slot = crc_hqx(tag.encode(), 0) % SLOTS
    return next(node for node in range(nodes) if slot < SLOTS * (node + 1) // nodes)


def client_of(engine: Engine, key: str) -> Redis:
    """A plain client of the node that has the key."""
    clients = engine.clients
    return clients[_node_of(key, len(clients))]


def _send(client: Redis, commands: list[Command]) -> None:
    if not commands:
        return
    connection = client.connection_pool.get_connection()
    text = "".join(
        f"*{len(command)}\r\n" + "".join(f"${len(part)}\r\n{part}\r\n" for part in command)
        for command in commands
    )
    connection.send_packed_command([text.encode()])  # type: ignore[no-untyped-call]
    for _ in commands:
        connection.read_response()
    client.connection_pool.release(connection)


def with_categories(prefix: str, count: int) -> Iterator[Command]:
    """Categories for users `prefix`0.. : all are vip 3, and in one of ten halls."""
    for number in range(count):
        key = f"{PREFIX}categories:{{{prefix}{number}}}"
        yield ("HSET", key, "version", "1", "vip", '["3"]', "hall", json.dumps([f"h{number % 10}"]))


def with_strangers(count: int) -> Iterator[Command]:
    """Users who are on another pod and have a message waiting: presence, inbox and its number."""
    for number in range(count):
        user = f"stranger-{number}"
        yield (
            "HSET",
            f"{PREFIX}presence:{{{user}}}",
            f"{user}:elsewhere",
            '{"boot":1,"since":1700000000000}',
        )
        yield ("RPUSH", f"{PREFIX}inbox:{{{user}}}", f"m-{number}")
        yield ("SET", f"{PREFIX}seq:{{{user}}}", "1")


def rest(engine: Engine) -> None:
    """Wait until no node writes its file anew, which takes what the load's processor has."""
    clients = engine.clients

    def at_rest() -> bool:
        return not any(client.info("persistence")["aof_rewrite_in_progress"] for client in clients)

    wait_for(at_rest, "the append-only file", every_s=0.5)


def inboxes_empty(engine: Engine, users: Iterable[str]) -> bool:
    """Whether nothing waits for any of them."""
    clients = engine.clients
    pipelines = [client.pipeline(transaction=False) for client in clients]
    for user in users:
        key = f"{PREFIX}inbox:{{{user}}}"
        pipelines[_node_of(key, len(clients))].exists(key)
    return not any(sum(pipeline.execute()) for pipeline in pipelines)


class Exposures:
    """Counts exposures in the stream as they come."""

    def __init__(self, engine: Engine) -> None:
        self._key = f"{PREFIX}exposures"
        self._client = client_of(engine, self._key)
        self._last: Any = b"-"
        self.count = 0

    def wait(self, count: int, within_s: float = 90) -> None:
        """Return when so many have come. Raises `BenchError`."""
        try:
            wait_for(lambda: self._read() >= count, f"{count} exposures", within_s)
        except BenchError as error:
            raise BenchError(f"{error}; {self.count} came") from None

    def skip(self) -> None:
        """Do not count what is there."""
        self._read()
        self.count = 0

    def forget(self) -> None:
        """Take what was counted out of the stream, as a consumer does."""
        if self._last != b"-":
            self._client.xtrim(self._key, minid=self._last.removeprefix(b"("))

    def _read(self) -> int:
        while entries := self._entries():
            for name, fields in entries:
                self.count += fields[b"data"].count(MARK)
                self._last = b"(" + name
        return self.count

    def _entries(self) -> Any:
        return self._client.xrange(self._key, min=self._last, count=1000)
