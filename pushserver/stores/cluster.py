"""A cluster: which node serves which slot, and a client for each node.

redis-py's own cluster client is not used: when one node of a cluster is down it fails the commands to all
of them, closes every connection, and runs again what the others had carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.crc import key_slot

from pushserver.stores.faults import CLIENT_ERRORS, Redirect

__all__ = ["Cluster", "Node", "slot_of"]

Node: TypeAlias = tuple[str, int]
"""Host and port."""

_KEYLESS = {b"CONFIG", b"INFO", b"PING", b"SCRIPT", b"TIME"}
_KEY_AFTER = {b"XGROUP": 2, b"XINFO": 2, b"XREAD": None, b"XREADGROUP": None, b"EVAL": 3, b"EVALSHA": 3}
"""Where a command's key stands, if not first; None: after STREAMS."""


class Cluster:
    """The map of slots as far as it is known, and the clients of its nodes. Nothing is connected yet.

    What is unknown is asked of the node in the URL, whose answer (MOVED) tells it.
    """

    def __init__(self, seed: Node, open_client: Callable[[Node], Redis]) -> None:
        self._seed = seed
        self._open_client = open_client
        self._clients: dict[Node, Redis] = {}
        self._slots: dict[int, Node] = {}

    @property
    def nodes(self) -> set[Node]:
        """The nodes that serve slots; while none is known, the one in the URL."""
        return set(self._slots.values()) or {self._seed}

    def node_of(self, slot: int) -> Node:
        """The node that serves `slot`."""
        return self._slots.get(slot, self._seed)

    def client(self, node: Node) -> Redis:
        """The client of a node, the same each time."""
        if node not in self._clients:
            self._clients[node] = self._open_client(node)
        return self._clients[node]

    def moved(self, redirect: Redirect) -> None:
        """A node has told who serves a slot now."""
        self._slots[redirect.slot] = redirect.node

    async def learn(self, order: Iterable[Node]) -> bool:
        """Read the whole map from the first of `order` that answers, or from the node in the URL.

        False if nobody did; then what was known stays.
        """
        for node in dict.fromkeys((*order, self._seed)):
            try:
                answer = await self.client(node).execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            except CLIENT_ERRORS:
                continue
            slots = dict(_slots(answer, node[0]))
            if slots:
                self._slots = slots
                return True
        return False

    async def keep(self, nodes: Collection[Node]) -> None:
        """Close the clients of all other nodes."""
        for node in [node for node in self._clients if node not in nodes]:
            await self._clients.pop(node).aclose()

    async def aclose(self) -> None:
        """Close every client."""
        await self.keep(())


def slot_of(args: Sequence[Any]) -> int | None:
    """The slot of a command's first key; None if it has no key. No command of ours crosses slots."""
    name = _encoded(args[0])
    if name in _KEYLESS:
        return None
    at = _KEY_AFTER.get(name, 1)
    if at is None:
        at = [_encoded(arg) for arg in args].index(b"STREAMS") + 1
    return int(key_slot(_encoded(args[at])))


def _encoded(arg: Any) -> Any:
    return arg.encode() if isinstance(arg, str) else arg


def _slots(answer: Any, asked: str) -> Iterable[tuple[int, Node]]:
    """Slot and master from CLUSTER SLOTS. A host that is empty or unknown is the one that was asked."""
    for first, last, (host, port, *_), *_replicas in answer:
        node = (host.decode() if host and host != b"?" else asked, port)
        for slot in range(first, last + 1):
            yield slot, node
