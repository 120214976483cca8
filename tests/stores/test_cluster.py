from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from pushserver.stores.cluster import Cluster, Node, slot_of
from pushserver.stores.faults import Redirect

SEED = ("seed", 6379)
A, B, C = (("10.0.0.1", 6379), ("10.0.0.2", 6379), ("10.0.0.3", 6379))


class Nodes:
    """What each node says of the slots: a map, or an error."""

    def __init__(self) -> None:
        self.said: dict[Node, list[object] | Exception] = {}
        self.asked: list[Node] = []
        self.closed: list[Node] = []

    def open_client(self, node: Node) -> Redis:
        nodes = self

        class Client:
            async def execute_command(self, *args: str) -> object:
                assert args == ("CLUSTER", "SLOTS")
                nodes.asked.append(node)
                said = nodes.said.get(node, RedisConnectionError("refused"))
                if isinstance(said, Exception):
                    raise said
                return said

            async def aclose(self) -> None:
                nodes.closed.append(node)

        return Client()  # type: ignore[return-value]


def served_by(*ranges: tuple[int, int, bytes | None, int]) -> list[object]:
    """As CLUSTER SLOTS has it: a master and a replica for each range."""
    return [
        [first, last, [host, port, b"id", []], [b"10.0.0.9", 6379, b"id", []]]
        for first, last, host, port in ranges
    ]


HALVES = served_by((0, 8191, b"10.0.0.1", 6379), (8192, 16383, b"10.0.0.2", 6379))


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def cluster(nodes: Nodes) -> Cluster:
    return Cluster(SEED, nodes.open_client)


def test_at_first_everything_is_asked_of_the_node_in_the_url(cluster: Cluster) -> None:
    assert cluster.nodes == {SEED}
    assert cluster.node_of(0) == cluster.node_of(16383) == SEED


@pytest.mark.gen_test
async def test_the_map_names_the_masters(cluster: Cluster, nodes: Nodes) -> None:
    nodes.said[SEED] = HALVES
    assert await cluster.learn([SEED])
    assert cluster.nodes == {A, B}
    assert [cluster.node_of(slot) for slot in (0, 8191, 8192, 16383)] == [A, A, B, B]
    assert nodes.asked == [SEED]


@pytest.mark.gen_test
async def test_a_slot_that_nobody_serves_is_asked_of_the_node_in_the_url(
    cluster: Cluster, nodes: Nodes
) -> None:
    nodes.said[SEED] = served_by((0, 100, b"10.0.0.1", 6379))
    await cluster.learn([SEED])
    assert cluster.node_of(101) == SEED


@pytest.mark.gen_test
async def test_the_first_that_answers_with_a_map_is_believed(cluster: Cluster, nodes: Nodes) -> None:
    """One is dead, one no cluster, one was taken out of it and knows nothing."""
    nodes.said = {A: ResponseError("ERR This instance has cluster support disabled"), B: [], C: HALVES}
    assert await cluster.learn([SEED, A, B, C])
    assert nodes.asked == [SEED, A, B, C]
    assert cluster.nodes == {A, B}


@pytest.mark.gen_test
async def test_the_node_in_the_url_is_asked_last_and_once(cluster: Cluster, nodes: Nodes) -> None:
    assert not await cluster.learn([A, SEED])
    assert nodes.asked == [A, SEED]
    nodes.asked.clear()
    assert not await cluster.learn([A, B])
    assert nodes.asked == [A, B, SEED]


@pytest.mark.gen_test
async def test_when_nobody_answers_what_was_known_stays(cluster: Cluster, nodes: Nodes) -> None:
    nodes.said[SEED] = HALVES
    await cluster.learn([SEED])
    nodes.said = {SEED: OSError("unreachable"), A: []}
    assert not await cluster.learn([A, B])
    assert cluster.nodes == {A, B}


@pytest.mark.parametrize("host", [None, b"", b"?"])
@pytest.mark.gen_test
async def test_a_node_without_a_host_is_at_the_one_that_was_asked(
    cluster: Cluster, nodes: Nodes, host: bytes | None
) -> None:
    nodes.said[A] = served_by((0, 16383, host, 7000))
    await cluster.learn([A])
    assert cluster.nodes == {("10.0.0.1", 7000)}


@pytest.mark.gen_test
async def test_a_slot_that_moved_is_at_its_new_node_and_no_other_is(cluster: Cluster, nodes: Nodes) -> None:
    nodes.said[SEED] = HALVES
    await cluster.learn([SEED])
    cluster.moved(Redirect(7, C, False))
    assert [cluster.node_of(slot) for slot in (6, 7, 8)] == [A, C, A]
    assert cluster.nodes == {A, B, C}


@pytest.mark.gen_test
async def test_a_node_has_one_client_until_it_is_let_go(cluster: Cluster, nodes: Nodes) -> None:
    clients = {node: cluster.client(node) for node in (A, B, C)}
    assert {node: cluster.client(node) for node in (A, B, C)} == clients
    await cluster.keep({A, B})
    assert nodes.closed == [C]
    assert cluster.client(A) is clients[A]
    assert cluster.client(C) is not clients[C]
    await cluster.aclose()
    assert sorted(nodes.closed) == [A, B, C, C]
    await cluster.aclose()
    assert len(nodes.closed) == 4


# -- where a command's key is


@pytest.mark.parametrize(
    "command",
    [
        "GET {k}x",
        "HSCAN {k}x 0 COUNT 500",
        "ZADD {k}x 1 m",
        "SET {k}x v EX 10 NX",
        "XADD {k}x * data 1",
        "XAUTOCLAIM {k}x group consumer 0 0-0 COUNT 1",
        "XINFO CONSUMERS {k}x group",
        "XGROUP CREATE {k}x group 0 MKSTREAM",
        "XREADGROUP GROUP group consumer COUNT 1 STREAMS {k}x >",
        "XREAD COUNT 1 STREAMS {k}x 0",
        "EVAL return(1) 2 {k}x {k}y STREAMS",
        "EVALSHA 0123 1 {k}x",
    ],
)
def test_the_slot_of_a_command_is_that_of_its_key(command: str) -> None:
    assert slot_of(command.encode().split()) == key_slot(b"k")


@pytest.mark.parametrize("command", ["PING", "INFO", "TIME", "SCRIPT FLUSH SYNC", "CONFIG SET maxmemory 1"])
def test_a_command_without_a_key_has_no_slot(command: str) -> None:
    assert slot_of(command.encode().split()) is None
