"""How many may come, before anybody is verified."""

from __future__ import annotations

import heapq
import random
from types import SimpleNamespace
from typing import Any

import pytest

from pushserver.core.context import Context
from pushserver.web.chain import CLIENT_IP
from pushserver.web.chain.admission import Admission, address_key
from tests.web.chain.contexts import answer, context, run


def admission(**limits: int) -> Admission:
    defaults = {"max_connections": 100, "per_ip": 0, "handshakes_per_s": 0, "retry_after_s": 1}
    return Admission(**{**defaults, **limits})


async def come(link: Admission, address: str = "192.0.2.1", *later: Any) -> Context:
    return await run(link.handle, *later, keys={CLIENT_IP: address})


@pytest.mark.parametrize(
    "address, key",
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("2001:db8:1:3::", "2001:db8:1:3::"),
        ("::1", "::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("any text: a platform header may hold it", "any text: a platform header may hold it"),
    ],
)
def test_an_ipv6_host_counts_by_its_64_and_all_else_by_its_text(address: str, key: str) -> None:
    assert address_key(address) == key


def test_an_ipv4_mapped_address_counts_as_the_ipv4_address_it_is() -> None:
    """A proxy on a dual-stack socket writes all IPv4 clients so; they are not one address."""
    assert address_key("::ffff:192.0.2.1") == "192.0.2.1"


@pytest.mark.gen_test
async def test_who_is_let_in_counts_until_leaving() -> None:
    link = admission(max_connections=2)
    for _ in range(2):
        assert answer(await come(link)) == (None, "")
    refused = await come(link)
    assert answer(refused) == (503, "full")
    assert refused.writer.headers["Retry-After"] == "1"
    link.left("192.0.2.1")
    assert answer(await come(link)) == (None, "")
    assert link.inside == 2


@pytest.mark.gen_test
async def test_each_address_has_its_own_count() -> None:
    link = admission(per_ip=1)
    assert answer(await come(link, "2001:db8::1")) == (None, "")
    assert answer(await come(link, "2001:db8::2")) == (429, "too_many_connections")
    assert answer(await come(link, "2001:db8:0:1::2")) == (None, "")
    assert answer(await come(link, "192.0.2.1")) == (None, "")
    link.left("2001:db8::ffff")
    assert answer(await come(link, "2001:db8::2")) == (None, "")


@pytest.mark.gen_test
async def test_a_limit_of_0_per_address_is_none() -> None:
    link = admission(per_ip=0)
    for _ in range(50):
        assert answer(await come(link)) == (None, "")


@pytest.mark.gen_test
async def test_handshakes_of_one_second_are_limited_and_there_is_room_for_more_by_and_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 7.75
    monkeypatch.setattr("pushserver.web.chain.admission.time", SimpleNamespace(monotonic=lambda: now))
    link = admission(handshakes_per_s=2)
    answers = [answer(await come(link)) for _ in range(3)]
    assert answers == [(None, ""), (None, ""), (503, "busy")]
    now = 8.0
    assert answer(await come(link)) == (503, "busy"), "half a handshake"
    now = 8.25
    assert [answer(await come(link)) for _ in range(2)] == [(None, ""), (503, "busy")]
    now = 99.0
    answers = [answer(await come(link)) for _ in range(3)]
    assert answers == [(None, ""), (None, ""), (503, "busy")], "no more than in a second"


@pytest.mark.parametrize("flood_s", [0.1, 0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("begins", [7.0, 7.3, 7.9])
@pytest.mark.gen_test
async def test_of_a_crowd_that_comes_again_when_it_is_told_to_nobody_is_refused_twice(
    monkeypatch: pytest.MonkeyPatch, flood_s: float, begins: float
) -> None:
    """A crowd of three times what a second takes, wherever in a second its first tries begin."""
    now, chance = 0.0, random.Random(1)
    monkeypatch.setattr("pushserver.web.chain.admission.time", SimpleNamespace(monotonic=lambda: now))
    link = admission(handshakes_per_s=100, max_connections=1000)
    tries = [(begins + chance.random() * flood_s, number, 1) for number in range(333)]
    heapq.heapify(tries)
    while tries:
        now, number, count = heapq.heappop(tries)
        told = (await come(link)).writer.headers.get("Retry-After")
        if told is not None:
            assert count == 1, (now, number)
            heapq.heappush(tries, (now + int(told) + chance.random(), number, count + 1))
    assert link.inside == 333
    assert now - begins < 6


@pytest.mark.gen_test
async def test_a_crowd_is_told_to_come_again_second_by_second_so_that_nobody_is_refused_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 7.9
    monkeypatch.setattr("pushserver.web.chain.admission.time", SimpleNamespace(monotonic=lambda: now))
    link = admission(handshakes_per_s=10)

    async def told() -> int:
        return int((await come(link)).writer.headers.get("Retry-After", "0"))

    first = [await told() for _ in range(10 + 7 + 7 + 3)]
    assert first == [0] * 10 + [1] * 7 + [2] * 7 + [3] * 3
    now = 8.9
    again = [await told() for _ in range(10 + 1)]
    assert again == [0] * 10 + [2]
    now = 20.0
    assert [await told() for _ in range(11)] == [0] * 10 + [1]


@pytest.mark.gen_test
async def test_a_flood_is_told_to_come_again_within_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushserver.web.chain.admission.time", SimpleNamespace(monotonic=lambda: 5.0))
    link = admission(handshakes_per_s=1)
    headers = [(await come(link)).writer.headers.get("Retry-After") for _ in range(100)]
    assert headers[1:31] == [str(second) for second in range(1, 31)]
    assert set(headers[31:]) == {"30"}


@pytest.mark.gen_test
async def test_nobody_is_let_in_while_the_pod_leaves() -> None:
    link = admission()
    link.draining = True
    refused = await come(link)
    assert answer(refused) == (503, "draining")
    assert refused.writer.headers["Retry-After"] == "1"


@pytest.mark.gen_test
async def test_who_was_in_the_chain_when_the_leaving_began_is_refused_too() -> None:
    """Drain says goodbye to those it finds; one who came after that would hold up the exit."""
    link = admission()

    def leave(ctx: Context) -> None:
        link.draining = True

    assert answer(await come(link, "192.0.2.1", leave)) == (503, "draining")
    assert link.inside == 0


@pytest.mark.gen_test
async def test_a_refusal_of_a_later_link_stands_when_the_leaving_began_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = admission()

    def leave_and_refuse(ctx: Context) -> None:
        link.draining = True
        ctx.abort_with_status(401)

    assert (await come(link, "192.0.2.1", leave_and_refuse)).refusal_status == 401
    assert link.inside == 0
    assert not caplog.records, "the response would complain of a second status"


@pytest.mark.gen_test
async def test_whom_a_later_link_refuses_no_longer_counts() -> None:
    link = admission(per_ip=1, max_connections=1)
    for _ in range(3):
        await come(link, "192.0.2.1", Context.abort)
        assert link.inside == 0


@pytest.mark.gen_test
async def test_whom_a_later_link_fails_on_no_longer_counts() -> None:
    link = admission()

    def fail(ctx: Context) -> None:
        assert link.inside == 1
        raise ZeroDivisionError

    ctx = context(link.handle, fail, keys={CLIENT_IP: "192.0.2.1"})
    with pytest.raises(ZeroDivisionError):
        await ctx.next()
    assert link.inside == 0


@pytest.mark.gen_test
async def test_who_stays_after_a_refusal_counts_until_leaving() -> None:
    link = admission(per_ip=1)
    link.stays("192.0.2.1")
    assert answer(await come(link)) == (429, "too_many_connections")
    link.left("192.0.2.1")
    assert answer(await come(link)) == (None, "")


@pytest.mark.gen_test
async def test_an_address_that_left_leaves_nothing_behind() -> None:
    link = admission(per_ip=10)
    for number in range(100):
        await come(link, f"192.0.2.{number}")
        link.left(f"192.0.2.{number}")
        await come(link, f"2001:db8:{number}::1", Context.abort)
    assert link.inside == 0
    assert not link._by_address
