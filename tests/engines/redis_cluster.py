"""A Redis Cluster of three masters as processes of the test run; each may be killed, restarted, frozen."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from redis.cluster import ClusterNode
from redis.cluster import RedisCluster as ClusterClient
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.engines.ports import free_port
from tests.engines.redis_server import CLUSTER_FILE, RedisServer

__all__ = ["RedisCluster"]

NODES = 3
SLOTS = 16384
READY_WITHIN_S = 30
_NODE_OPTIONS = (
    *("--cluster-enabled", "yes"),
    *("--cluster-config-file", CLUSTER_FILE),
    # Longer than a test freezes a node, or a busy machine lets one stand still: nobody is there to replace
    # it, and the others would take it for dead until seconds after it has come back.
    *("--cluster-node-timeout", "15000"),
    # Nothing here is about what a disk keeps.
    *("--appendfsync", "no"),
    # A node that is down takes its own slots with it and no others.
    *("--cluster-require-full-coverage", "no"),
)


class RedisCluster:
    """Three masters on ports of 127.0.0.1 which share the slots evenly and have no replicas."""

    def __init__(self, program: Path) -> None:
        self.nodes = [_Node(program) for _ in range(NODES)]
        self._formed = False

    @property
    def url(self) -> str:
        """Where clients connect to: any node, the first here."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    @property
    def ports(self) -> list[int]:
        """Of all nodes."""
        return [node.port for node in self.nodes]

    def client(self) -> ClusterClient:
        """A plain synchronous client of all nodes. Raises `RedisClusterException` if none of them runs."""
        nodes = [ClusterNode("127.0.0.1", port) for port in self.ports]
        return ClusterClient(startup_nodes=nodes, decode_responses=True, socket_timeout=5)

    def node_of(self, key: str) -> RedisServer:
        """The node that was given the slot of `key` when the cluster was formed."""
        slot = key_slot(key.encode())
        return next(node for number, node in enumerate(self.nodes) if slot in _slots_of(number))

    def start(self) -> None:
        """Start what does not run, form the cluster the first time, and wait until every slot is served."""
        for node in self.nodes:
            node.start()
        if not self._formed:
            self._form()
            self._formed = True
        give_up = time.monotonic() + READY_WITHIN_S
        while not all(_sees_all(node) for node in self.nodes):
            assert time.monotonic() < give_up, "the cluster does not form"
            time.sleep(0.02)

    def _form(self) -> None:
        for number, node in enumerate(self.nodes):
            slots = _slots_of(number)
            with node.client() as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER ADDSLOTSRANGE", slots[0], slots[-1])
                for other in self.nodes[:number]:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, other.bus_port)

    def begin_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """From now on `source` serves what it has of `slot`, and for the rest sends (ASK) to `target`."""
        _ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", _id_of(source))
        _ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", _id_of(target))

    def migrate(self, key: str, source: RedisServer, target: RedisServer) -> None:
        """Move one key of a slot that is moving."""
        _ask(source, "MIGRATE", "127.0.0.1", target.port, key, 0, 5000)

    def end_move(self, slot: int, target: RedisServer) -> None:
        """From now on `target` serves `slot`, and all others send there (MOVED)."""
        for node in (target, *(node for node in self.nodes if node is not target)):
            _ask(node, "CLUSTER SETSLOT", slot, "NODE", _id_of(target))

    def empty(self) -> None:
        """Delete every key and every script."""
        for node in self.nodes:
            with node.client() as client:
                client.flushall()
                client.script_flush()

    def kill(self) -> None:
        """End every node at once (kill -9); what the append-only files have stays."""
        for node in self.nodes:
            node.kill()

    def erase(self) -> None:
        """Delete the data of all nodes, which must not run; who serves which slots stays."""
        for node in self.nodes:
            node.erase()

    def freeze(self) -> None:
        """Let every node hang."""
        for node in self.nodes:
            node.freeze()

    def thaw(self) -> None:
        """Let every node go on."""
        for node in self.nodes:
            node.thaw()

    def remove(self) -> None:
        """Stop the nodes and delete their data."""
        for node in self.nodes:
            node.remove()


class _Node(RedisServer):
    def __init__(self, program: Path) -> None:
        # The usual bus port, 10000 above, may not exist or may be taken.
        self.bus_port = free_port()
        super().__init__(program, *_NODE_OPTIONS, "--cluster-port", str(self.bus_port))


def _slots_of(number: int) -> range:
    return range(SLOTS * number // NODES, SLOTS * (number + 1) // NODES)


def _ask(node: RedisServer, *args: str | int) -> Any:
    with node.client() as client:
        return client.execute_command(*args)


def _id_of(node: RedisServer) -> str:
    return str(_ask(node, "CLUSTER MYID"))


def _sees_all(node: RedisServer) -> bool:
    try:
        with node.client() as client:
            info: dict[str, str] = client.execute_command("CLUSTER INFO")
    except RedisError:  # it is loading
        return False
    return info["cluster_state"] == "ok" and info["cluster_slots_ok"] == str(SLOTS)
