"""What is published first is stored first, wherever the contents are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tornado.ioloop import IOLoop

from pushserver.core.metrics import Metrics
from pushserver.core.publication import Publication
from pushserver.delivery import publish as publish_module
from pushserver.delivery.feeds import Feeds
from pushserver.delivery.publish import Publisher
from pushserver.delivery.publish_order import Place, PublishOrder
from pushserver.delivery.tasks import Tasks
from pushserver.parts import Stores, build_publisher, build_stores
from tests.engines.redis_cluster import RedisCluster
from tests.pod import settings
from tests.texts import to_users

IDS = [f"m-{number:03}" for number in range(100)]


@pytest.fixture
def clustered(io_loop: IOLoop, redis_cluster: RedisCluster, metrics: Metrics) -> Iterator[Stores]:
    """Stores on a cluster of three masters that know, as those of a started pod do, who has which slot."""
    built = build_stores(settings(redis_cluster.url), redis_cluster.url, "pod-1", metrics)
    io_loop.run_sync(built.commands.learn_nodes)
    yield built
    io_loop.run_sync(built.close)


@pytest.fixture
def publisher(clustered: Stores, metrics: Metrics) -> Publisher:
    feeds = Feeds(clustered.feeds, clustered.presence, metrics, Tasks(metrics))
    return build_publisher(settings(""), clustered, feeds, metrics)


@pytest.mark.gen_test
async def test_in_a_cluster_an_inbox_has_them_in_order(publisher: Publisher, clustered: Stores) -> None:
    await asyncio.gather(*(publisher.publish(to_users(["alice"], 1, one)) for one in IDS))
    assert (await clustered.inbox.read("alice", 1000)).ids == IDS


@pytest.mark.gen_test
async def test_in_a_cluster_new_ids_wait_for_their_contents(publisher: Publisher, clustered: Stores) -> None:
    """An append that is asked for behind its content may be carried out before it there."""
    new = [replace(to_users(["alice"], 1, one), id_is_new=True) for one in IDS]
    for one in await asyncio.gather(*map(publisher.publish, new)):
        assert not one.duplicate
    assert (await clustered.inbox.read("alice", 1000)).ids == IDS
    assert not clustered.contents.comes_first


@pytest.mark.gen_test
async def test_in_a_cluster_every_inbox_has_them_in_order_beyond_a_slice(
    publisher: Publisher, clustered: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd ones go to everybody, even ones to some, named in the opposite order."""
    monkeypatch.setattr(publish_module, "SLICE", 3)
    users = [f"u-{number}" for number in range(10)]
    to = [users if number % 2 else users[8:1:-1] for number in range(len(IDS))]
    await asyncio.gather(
        *(publisher.publish(to_users(some, 1, one)) for one, some in zip(IDS, to, strict=True))
    )
    for user in users:
        meant = [one for one, some in zip(IDS, to, strict=True) if user in some]
        assert (await clustered.inbox.read(user, 1000)).ids == meant


@pytest.mark.gen_test
async def test_in_a_cluster_the_log_has_them_in_order(publisher: Publisher, clustered: Stores) -> None:
    await asyncio.gather(*(publisher.publish(Publication(one, "1", 60, categories={})) for one in IDS))
    entries = await clustered.commands.call("XRANGE", "ps:log", "-", "+")
    assert [flat[1].decode() for _, flat in entries] == IDS


# -- places


@pytest.fixture
def order() -> PublishOrder:
    return PublishOrder()


async def came(place: Place) -> bool:
    """Whether its turn has come, as far as it is ever going to by what was done."""
    coming = asyncio.ensure_future(place.come())
    for _ in range(3):
        await asyncio.sleep(0)
    if coming.done():
        return True
    coming.cancel()
    return False


@pytest.mark.gen_test
async def test_who_has_nobody_before_may_come_at_once(order: PublishOrder) -> None:
    order.place(["alice", "bob"])
    assert await came(order.place(["carol"]))


@pytest.mark.gen_test
async def test_it_waits_for_all_who_share_an_inbox(order: PublishOrder) -> None:
    first, second = order.place(["alice"]), order.place(["bob", "carol"])
    third = order.place(["carol", "alice"])
    assert not await came(third)
    first.leave()
    assert not await came(third)
    second.leave()
    assert await came(third)


@pytest.mark.gen_test
async def test_who_fails_early_lets_nobody_overtake(order: PublishOrder) -> None:
    first, second, third = (order.place(["alice"]) for _ in range(3))
    second.leave()
    assert not await came(third)
    first.leave()
    assert await came(third)


@pytest.mark.gen_test
async def test_who_gave_up_waiting_holds_nobody(order: PublishOrder) -> None:
    first, second, third = (order.place(["alice"]) for _ in range(3))
    assert not await came(second)  # cancelled
    second.leave()
    first.leave()
    first.leave()
    assert await came(third)


@pytest.mark.gen_test
async def test_any_number_may_fail_before_the_first(order: PublishOrder) -> None:
    places = [order.place(["alice"]) for _ in range(5000)]
    for place in reversed(places[:-1]):
        place.leave()
    assert await came(places[-1])


def test_what_was_left_is_forgotten(order: PublishOrder) -> None:
    places = [order.place(["alice", "bob"]), order.place(["bob", "carol"])]
    for place in reversed(places):
        place.leave()
    assert not order._last
