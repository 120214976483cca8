"""Which lane a command takes.

There are two to a single engine, one for publishes and one for all else; in a cluster, two to each node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from pushserver.stores.cluster import Cluster, Node, slot_of
from pushserver.stores.command import Command
from pushserver.stores.faults import Redirect
from pushserver.stores.lane import Client, Lane

__all__ = ["ClusterLanes", "Lanes", "NodeLanes", "OneEngine"]

log = structlog.get_logger(__name__)

MAX_REDIRECTS = 5
"""How often a command follows a slot from node to node."""
LEARN_EVERY_S = 1.0
"""The map of a cluster is read at most this often."""


@dataclass(frozen=True, slots=True)
class NodeLanes:
    """The lanes to one engine, or to one node of a cluster."""

    ordinary: Lane
    publish: Lane

    def send(self, command: Command) -> None:
        """Send a command down the lane that it takes."""
        (self.publish if command.publishes else self.ordinary).send(command)

    @property
    def away(self) -> bool:
        """The node does not answer. The ordinary lane says so, which heartbeats keep in use.

        The publish lane may be idle from then on, and would never hear that it is back.
        """
        return self.ordinary.away

    @property
    def waiting(self) -> int:
        """Commands not yet sent."""
        return self.ordinary.waiting + self.publish.waiting

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing travels."""
        return self.ordinary.idle and self.publish.idle

    def take_waiting(self) -> list[Command]:
        """Give up all that was not sent yet; somebody else will send it."""
        return self.ordinary.take_waiting() + self.publish.take_waiting()

    async def close(self) -> list[Command]:
        """Wait for what travels; answers what still waits."""
        left = await asyncio.gather(self.ordinary.close(), self.publish.close())
        return [command for commands in left for command in commands]


class Lanes(Protocol):
    """The lanes there are."""

    @property
    def all(self) -> Sequence[NodeLanes]:
        """Those in use."""

    @property
    def away(self) -> bool:
        """Nobody answers: the engine does not, or no node of the cluster."""

    def send(self, command: Command) -> None:
        """Send a command to where its key is."""

    def follow(self, command: Command, redirect: Redirect) -> bool:
        """Send a command where a node said it belongs; False if that is no help."""

    def doubt(self) -> None:
        """A node failed: perhaps another serves its slots now."""

    def heard(self) -> None:
        """Somebody answered."""

    async def every(self) -> Sequence[NodeLanes]:
        """Those to each node there is, after looking which there are."""

    async def close(self) -> list[Command]:
        """Wait for what travels; answers what was never sent."""


class OneEngine:
    """The lanes to an engine that is no cluster."""

    def __init__(self, lanes: NodeLanes) -> None:
        self.all = (lanes,)
        self.send = lanes.send
        self.close = lanes.close

    @property
    def away(self) -> bool:
        """It does not answer."""
        return self.all[0].away

    def follow(self, command: Command, redirect: Redirect) -> bool:
        """It is a node of a cluster after all, and the URL does not say so."""
        return False

    def doubt(self) -> None:
        """There is no other."""

    def heard(self) -> None:
        """Its lanes know."""

    async def every(self) -> Sequence[NodeLanes]:
        """The one's."""
        return self.all


class ClusterLanes:
    """Lanes to the nodes of a cluster, which come and go with them.

    A node that is down or slow holds up its own users and no others. When one fails, or says that a slot
    has moved, the map is read anew, and what waits for a node that lost its slots goes to the new one.
    """

    def __init__(self, cluster: Cluster, build: Callable[[Client], NodeLanes]) -> None:
        self._cluster = cluster
        self._build = build
        self._lanes: dict[Node, NodeLanes] = {}
        self._learning: asyncio.Task[None] | None = None
        self._next = 0.0
        self._silent = False
        """Every node was asked for the map, none answered, and none has answered anything since."""
        self._closed = False

    @property
    def all(self) -> Sequence[NodeLanes]:
        """Those in use."""
        return list(self._lanes.values())

    @property
    def away(self) -> bool:
        """No node answers. Nothing may go to some of them, whose lanes would never hear it."""
        return self._silent or (bool(self._lanes) and all(lanes.away for lanes in self.all))

    def send(self, command: Command) -> None:
        """Send a command to where its key is, as far as that is known; one without a key, to any node."""
        slot = slot_of(command.args)
        node = self._any() if slot is None else self._cluster.node_of(slot)
        self._lanes_to(node).send(command)

    def _any(self) -> Node:
        return min(self._cluster.nodes, key=self._is_away)

    def _is_away(self, node: Node) -> bool:
        return node in self._lanes and self._lanes[node].away

    def _lanes_to(self, node: Node) -> NodeLanes:
        if node not in self._lanes:
            self._lanes[node] = self._build(self._cluster.client(node))
        return self._lanes[node]

    def follow(self, command: Command, redirect: Redirect) -> bool:
        """Send a command where a node said it belongs; False after too many such turns."""
        command.redirects += 1
        if command.redirects > MAX_REDIRECTS:
            return False
        if not redirect.asking:
            self.doubt()
        if not redirect.node[0]:
            # "The host that you asked": the map will tell.
            return False
        if not redirect.asking:
            self._cluster.moved(redirect)
        command.asking = redirect.asking
        self._lanes_to(redirect.node).send(command)
        return True

    def doubt(self) -> None:
        """A node failed or lost a slot: read the map anew, as soon as it may be read again."""
        if self._learning is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._learning = loop.create_task(self._learn_at(self._next), name="redis cluster map")
            self._learning.add_done_callback(self._learned)

    async def _learn_at(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(when - loop.time())
        self._next = loop.time() + LEARN_EVERY_S
        await self._learn()

    def heard(self) -> None:
        """A node answered."""
        self._silent = False

    def _learned(self, task: asyncio.Task[None]) -> None:
        self._learning = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("redis.cluster_map_unread", error=repr(error))

    async def every(self) -> Sequence[NodeLanes]:
        """Those to each node there is, after looking which there are."""
        await self._learn()
        return [self._lanes_to(node) for node in self._cluster.nodes]

    async def _learn(self) -> None:
        # A dead node costs a time-out, so it is asked last.
        self._silent = not await self._cluster.learn(sorted(self._cluster.nodes, key=self._is_away))
        if not self._silent:
            await self._leave()

    async def _leave(self) -> None:
        """Take what waits to where it belongs now, and let go of nodes that serve nothing."""
        nodes = self._cluster.nodes
        for node, lanes in list(self._lanes.items()):
            for command in lanes.take_waiting():
                self.send(command)
            if node not in nodes and lanes.idle:
                del self._lanes[node]
        await self._cluster.keep(nodes | self._lanes.keys())

    async def close(self) -> list[Command]:
        """Wait for what travels; answers what was never sent."""
        self._closed = True
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)
        # All at once: if the wait is cancelled, each of them is closed all the same.
        left = await asyncio.gather(*(lanes.close() for lanes in self.all))
        return [command for commands in left for command in commands]
