"""The handshake: what is refused before the chain runs, and how a chain's end becomes an answer."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from pushserver.core.context import Context
from pushserver.web.chain import CLOSE_CODE
from tests.callbacks import short_callbacks
from tests.cpu_time import measured_again
from tests.pod import eventually
from tests.raw_http import Answer, ask, handshake, head, read_answer
from tests.web.doorway import Doorway, doorway

ODD = [("X-Odd", "\xe9")]
"""Makes a head none that the front reads itself: Tornado does."""
METHODS = ("HEAD", "OPTIONS", "TRACE", "PUT", "POST", "PATCH", "DELETE", "CONNECT", "get", "X-BREW")


def of_one_form(answer: Answer) -> bool:
    """Whether an error says what it is in JSON, and nothing about what it runs on."""
    error = answer.json["error"]
    return error.keys() == {"code", "message"} and answer.headers["server"] == "pushserver"


# -- what is no handshake


@pytest.mark.gen_test
async def test_every_other_method_is_405() -> None:
    async with doorway() as door:
        for method in METHODS:
            answer = await ask(door.port, handshake(token=door.token()), method=method)
            assert answer.status == 405, method
            assert answer.headers["allow"] == "GET", method
            assert answer.headers["connection"] == "close", method
            assert method == "HEAD" or of_one_form(answer), method


@pytest.mark.gen_test
async def test_no_method_on_any_path_is_an_error_of_ours() -> None:
    async with doorway() as door:
        for method in METHODS:
            for path in ("/", "/favicon.ico", "//evil.example", "/metrics", "*", "evil.example:443"):
                answer = await ask(door.port, handshake(token=door.token()), path=path, method=method)
                assert answer.status in {400, 404, 405}, (method, path)
                assert "location" not in answer.headers, (method, path)


@pytest.mark.gen_test
async def test_a_handshake_with_a_body_is_refused() -> None:
    async with doorway() as door:
        for headers, body in (
            ([("Content-Length", "1")], b"x"),
            ([("Content-Length", "00")], b""),
            ([("Transfer-Encoding", "chunked")], b"0\r\n\r\n"),
        ):
            answer = await ask(door.port, handshake(*headers, token=door.token()), body=body)
            assert (answer.status, answer.code) == (400, "bad_handshake"), headers


@pytest.mark.gen_test
async def test_a_larger_body_is_refused_by_its_header() -> None:
    """It is Tornado's own answer, which has no body: what was announced is not read."""
    async with doorway() as door:
        for headers in (
            [("Content-Length", "2")],
            [("Content-Length", "100000000000")],
            [("Content-Length", "-1")],
            [("Content-Length", "1"), ("Content-Length", "2")],
            [("Content-Length", "1"), ("Transfer-Encoding", "chunked")],
            [("Transfer-Encoding", "gzip")],
        ):
            assert (await ask(door.port, handshake(*headers, token=door.token()))).status == 400, headers
        assert (
            await ask(door.port, handshake(("Transfer-Encoding", "chunked")), body=b"ffffffffff\r\n")
        ).status == 400


@pytest.mark.gen_test
async def test_a_content_length_of_0_is_no_body() -> None:
    async with doorway() as door:
        client = await door.connect(headers=[("Content-Length", "0")])
        assert client.headers["upgrade"] == "websocket"


@pytest.mark.gen_test
async def test_a_request_that_asks_for_no_websocket_is_426() -> None:
    async with doorway() as door:
        for changed in (
            {"upgrade": None},
            {"upgrade": "h2c"},
            {"upgrade": "websocket, h2c"},
            {"upgrade": "web socket"},
            {"connection": None},
            {"connection": "keep-alive"},
            {"connection": "keep-alive, upgraded"},
            {"connection": ""},
        ):
            answer = await door.ask(**changed)
            assert (answer.status, answer.code) == (426, "upgrade_required"), changed
            assert answer.headers["upgrade"] == "websocket", changed


@pytest.mark.gen_test
async def test_connection_and_upgrade_are_read_in_any_letter_case_and_place() -> None:
    async with doorway() as door:
        for changed in (
            {"connection": "keep-alive, Upgrade"},
            {"connection": "UPGRADE ,keep-alive"},
            {"upgrade": "WebSocket"},
        ):
            assert (await door.ask(**changed)).status == 101, changed
        assert (await door.ask(("Connection", "keep-alive"))).status == 101


@pytest.mark.gen_test
async def test_only_version_13_is_spoken() -> None:
    async with doorway() as door:
        for version in (None, "", "12", "8", "14", "013", "13, 8", "1 3"):
            answer = await door.ask(sec_websocket_version=version)
            assert (answer.status, answer.code) == (426, "upgrade_required"), version
            assert answer.headers["sec-websocket-version"] == "13", version
        assert (await door.ask(("Sec-WebSocket-Version", "13"))).status == 426


@pytest.mark.gen_test
async def test_a_key_has_to_be_16_bytes_in_base64_and_one() -> None:
    async with doorway() as door:
        for key in (None, "", "short", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "x" * 10_000):
            answer = await door.ask(sec_websocket_key=key)
            assert (answer.status, answer.code) == (400, "bad_handshake"), key
        again = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        assert (await door.ask(again)).code == "bad_handshake"
        answer = await door.ask()
        assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.gen_test
async def test_http_1_0_has_no_upgrade() -> None:
    async with doorway() as door:
        answer = await ask(door.port, handshake(token=door.token()), version="HTTP/1.0")
        assert (answer.status, answer.code) == (400, "bad_handshake")


@pytest.mark.gen_test
async def test_text_that_is_no_http_is_400() -> None:
    async with doorway() as door:
        for sent in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /ws\r\n\r\n",
            b"GET /ws HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
            b"GET /ws HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n",
            b"GET /ws HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(sent)
            assert (await read_answer(reader)).status == 400, sent
            writer.close()


@pytest.mark.gen_test
async def test_every_other_path_is_404_without_a_redirect() -> None:
    async with doorway() as door:
        for path in (
            "/",
            "//evil.example",
            "//evil.example/ws",
            "/\\evil.example",
            "/%2f%2fevil.example",
            "/%5cevil.example",
            "/ws/",
            "/ws/..",
            "/ws%0a",
            "/%77s",
            "/WS",
            "/./ws",
            "http://evil.example/ws",
            "*",
            "/ws;a",
            "/../../etc/passwd",
            "/\xff",
            "/" + "a" * 20_000,
        ):
            answer = await ask(door.port, handshake(token=door.token()), path=path)
            assert (answer.status, answer.code) == (404, "not_found"), path
            assert "location" not in answer.headers, path
            assert of_one_form(answer), path


@pytest.mark.gen_test
async def test_extensions_are_declined_whatever_the_offer() -> None:
    """A bad offer of permessage-deflate was a 500 in Tornado's own protocol."""
    async with doorway() as door:
        for offer in (
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=99",
            "permessage-deflate; client_max_window_bits=; =; ;;",
            "permessage-deflate; " * 500,
            ", ,",
            "__proto__; toString",
        ):
            answer = await door.ask(("Sec-WebSocket-Extensions", offer.strip()))
            assert answer.status == 101, offer
            assert "sec-websocket-extensions" not in answer.headers, offer


@pytest.mark.gen_test
async def test_what_is_answered_before_the_chain_is_counted_by_status_only() -> None:
    async with doorway() as door:
        await door.ask(upgrade=None)
        await door.ask(sec_websocket_key="x")
        assert (door.handshakes("426"), door.handshakes("400")) == (1, 1)
        assert door.inside == 0


@measured_again
@pytest.mark.gen_test
async def test_costly_heads_cost_no_callback_more_than_its_share() -> None:
    """32 KiB of head at most; whatever is in it, the loop is held for less than 50 ms."""
    size = 31_000
    names = [f"{number:x}" for number in range(size // 9)]
    sections: dict[str, Any] = {
        "proxy": {"trusted": ["127.0.0.0/8"]},
        "auth": {"query_token": True},
        "origin": {"allow": ["https://page.example"]},
    }
    async with doorway(**sections) as door:
        with short_callbacks():
            for more in (
                [("Cookie", "a=b;" * (size // 4))],
                [("Cookie", '="\\";' * (size // 5))],
                [(name, "") for name in names],
                [("a", "")] * (size // 5),
                [("Sec-WebSocket-Protocol", ",".join(names))],
                [("Sec-WebSocket-Protocol", "a " * (size // 2))],
                [("Connection", "a," * (size // 2))],
                [("X-Forwarded-For", "127.0.0.1," * (size // 10))],
                [("Authorization", "Bearer " + "a." * (size // 2))],
            ):
                assert (await door.ask(*more)).status in {101, 400, 401}
            for query in ("a&" * (size // 2), "%61" * (size // 3), "token=a&" * 100, "&" * size):
                assert (await door.ask(path=f"/ws?{query}")).status in {101, 400, 401}


@measured_again
@pytest.mark.gen_test
async def test_a_head_beyond_its_bound_ends_the_connection_unread() -> None:
    async with doorway() as door:
        with short_callbacks():
            for more in ([("Cookie", "a" * 65_536)], [("a", "b")] * 10_000):
                assert (await door.ask(*more)).status == 0
        assert (await door.ask(path="/ws?" + "a" * 65_536)).status == 0


# -- how a chain's end becomes an answer


def refuse_with_json(ctx: Context) -> None:
    ctx.abort_with_status_json(403, {"error": {"code": "vip", "message": "VIPs only"}, "level": 3})


async def refuse_with_json_later(ctx: Context) -> None:
    await asyncio.sleep(0)
    refuse_with_json(ctx)


@pytest.mark.gen_test
@pytest.mark.parametrize("link", [refuse_with_json, refuse_with_json_later])
async def test_a_link_of_the_packages_user_may_refuse_with_its_own_json(link: Any) -> None:
    async with doorway(links=[link]) as door:
        answer = await door.ask()
        assert answer.status == 403
        assert answer.json == {"error": {"code": "vip", "message": "VIPs only"}, "level": 3}
        assert (len(door.app.manager), door.inside, door.handshakes("403")) == (0, 0, 1)


@pytest.mark.gen_test
async def test_a_bare_abort_refuses_the_upgrade_with_403() -> None:
    async with doorway(links=[Context.abort]) as door:
        answer = await door.ask()
        assert (answer.status, answer.code) == (403, "refused")
        assert (len(door.app.manager), door.inside) == (0, 0)


@pytest.mark.gen_test
async def test_an_abort_with_a_status_only_still_has_a_json_body() -> None:
    async with doorway(links=[lambda ctx: ctx.abort_with_status(418)]) as door:
        answer = await door.ask()
        assert (answer.status, answer.code) == (418, "refused")


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_is_sent_without_one(status: int) -> None:
    async with doorway(links=[lambda ctx: ctx.abort_with_status(status)]) as door:
        answer = await door.ask()
        assert answer.status == status
        assert "content-type" not in answer.headers


@pytest.mark.gen_test
async def test_a_link_that_never_calls_next_lets_through() -> None:
    """As in gin: only an abort stops the chain."""
    seen = []
    async with doorway(links=[lambda ctx: seen.append("first"), lambda ctx: seen.append("second")]) as door:
        await door.connect()
    assert seen == ["first", "second"]


@pytest.mark.gen_test
async def test_a_link_may_look_at_the_end_of_the_chain() -> None:
    seen = []

    async def around(ctx: Context) -> None:
        seen.append("before")
        await ctx.next()
        seen.append("after")

    async with doorway(links=[around, lambda ctx: seen.append("inner")]) as door:
        await door.connect()
    assert seen == ["before", "inner", "after"]


@pytest.mark.gen_test
async def test_a_link_finds_what_the_chain_noted() -> None:
    seen: list[Context] = []
    async with doorway(links=[seen.append]) as door:
        token = door.token("bob", categories={"vip": 3})
        client = await door.connect(token=token)
        assert client.headers["upgrade"] == "websocket"
    (ctx,) = seen
    assert ctx.must_get("user") == "bob"
    assert ctx.must_get("client_ip") == "127.0.0.1"
    assert ctx.must_get("categories") == {"vip": ("3",)}
    assert ctx.must_get("identity").username == "bob"
    assert ctx.full_path() == "/ws"


def fail(ctx: Context) -> None:
    raise RuntimeError("what only the log may know")


async def fail_later(ctx: Context) -> None:
    await asyncio.sleep(0)
    raise RuntimeError("what only the log may know")


@pytest.mark.gen_test
@pytest.mark.parametrize("link", [fail, fail_later])
async def test_a_link_that_fails_is_500_and_one_event_of_the_log(link: Any) -> None:
    async with doorway(links=[link]) as door:
        with capture_logs() as lines:
            answer = await door.ask()
        assert (answer.status, answer.code) == (500, "internal")
        assert b"only the log" not in answer.body
        assert b"Traceback" not in answer.body
        assert [line["event"] for line in lines if line["log_level"] == "error"] == ["handshake.failed"]
        assert (len(door.app.manager), door.inside) == (0, 0)


@pytest.mark.gen_test
async def test_headers_of_a_refusal_are_sent_whatever_text_they_hold() -> None:
    def refuse(ctx: Context) -> None:
        ctx.header("X-Reason", "nein \u2013 не\r\nInjected: yes\x1b")
        ctx.header("X-Latin", "\xe9")
        ctx.abort()

    async with doorway(links=[refuse]) as door:
        answer = await door.ask()
    assert answer.status == 403
    assert answer.headers["x-reason"].encode("latin-1").decode() == "nein \u2013 не  Injected: yes "
    assert answer.headers["x-latin"] == "\xe9"
    assert "injected" not in answer.headers


@pytest.mark.gen_test
async def test_a_link_may_refuse_by_a_close_code() -> None:
    def close(ctx: Context) -> None:
        ctx.set(CLOSE_CODE, 4403)
        ctx.abort()

    async with doorway(links=[close]) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(head(handshake(token=door.token())))
        assert (await read_answer(reader)).status == 101
        assert await reader.readexactly(4) == b"\x88\x02" + (4403).to_bytes(2)
        writer.close()
        assert len(door.app.manager) == 0


@pytest.mark.gen_test
async def test_a_close_code_without_an_abort_refuses_nobody() -> None:
    async with doorway(links=[lambda ctx: ctx.set(CLOSE_CODE, 4403)]) as door:
        await door.connect()
        assert door.inside == 1


# -- whom the chain outlives


async def begin(door: Doorway) -> asyncio.StreamWriter:
    """A handshake whose answer nobody waits for."""
    _, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(head(handshake(token=door.token())))
    return writer


@pytest.mark.gen_test
async def test_a_client_that_is_lost_in_the_chain_ends_it_and_is_not_registered() -> None:
    reached, ends = asyncio.Event(), []

    async def hang(ctx: Context) -> None:
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async with doorway(links=[hang]) as door:
        writer = await begin(door)
        await reached.wait()
        assert door.inside == 1
        writer.transport.abort()
        await eventually(lambda: door.handshakes("lost") == 1)
        assert ends == ["cancelled"]
        assert (len(door.app.manager), door.inside) == (0, 0)


@pytest.mark.gen_test
async def test_a_client_that_is_lost_while_the_chain_cannot_be_stopped_is_not_registered() -> None:
    reached, release = asyncio.Event(), asyncio.Event()

    async def go_on(ctx: Context) -> None:
        reached.set()
        work = asyncio.ensure_future(release.wait())
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                lost.set()

    lost = asyncio.Event()
    async with doorway(links=[go_on]) as door:
        writer = await begin(door)
        await reached.wait()
        writer.transport.abort()
        await lost.wait()
        release.set()
        await eventually(lambda: door.handshakes("lost") == 1)
        assert (len(door.app.manager), door.inside) == (0, 0)


@pytest.mark.gen_test
@pytest.mark.parametrize("more", [[], ODD], ids=["front", "Tornado"])
async def test_a_client_that_is_lost_in_the_very_turn_the_chain_ends_is_not_registered(more: Any) -> None:
    """Then the socket is closed already, and nobody was told yet: there is none to take over."""
    doors: list[Doorway] = []

    async def lose(ctx: Context) -> None:
        await asyncio.sleep(0)
        for arrival in list(doors[0].server.arrivals):
            arrival.cut()
        for connection in doors[0].server._http._connections:
            connection.stream.close()

    async with doorway(links=[lose]) as door:
        doors.append(door)
        with capture_logs() as lines:
            assert (await door.ask(*more)).status == 0
            await eventually(lambda: door.handshakes("lost") == 1)
        assert not [line for line in lines if line["log_level"] == "error"]
        assert (len(door.app.manager), door.inside) == (0, 0)


@pytest.mark.gen_test
async def test_a_chain_that_hangs_is_503_at_the_deadline() -> None:
    async def hang(ctx: Context) -> None:
        await asyncio.Event().wait()

    async with doorway(links=[hang], limits={"handshake_timeout_s": 0.5}) as door:
        answer = await door.ask()
        assert (answer.status, answer.code) == (503, "timeout")
        assert answer.headers["retry-after"] == "1"
        assert door.inside == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("more", [[], ODD], ids=["front", "Tornado"])
async def test_the_deadline_runs_from_the_accept_and_not_from_the_request(
    more: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(ctx: Context) -> None:
        await asyncio.Event().wait()

    async with doorway(links=[hang], limits={"handshake_timeout_s": 1000}) as door:
        # All that is accepted was so long ago, as far as deadlines go.
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() - 1000)
        monkeypatch.setattr("pushserver.web.arrival.time", clock)
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(head(handshake(*more, token=door.token())))
        if not more:
            await eventually(lambda: door.inside == 1)
            (arrival,) = door.server.arrivals
            assert door.server.deadlines._due[arrival] <= asyncio.get_running_loop().time() + 1000
            arrival.overdue()
        assert (await read_answer(reader)).code == "timeout"
        writer.close()


@pytest.mark.gen_test
async def test_a_chain_that_needs_no_waiting_is_never_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Tornado reads; the front's deadline cannot come in between."""
    async with doorway(limits={"handshake_timeout_s": 1000}) as door:
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() - 1000)
        monkeypatch.setattr("pushserver.web.arrival.time", clock)
        assert (await door.ask(*ODD, token="")).code == "not_authenticated"
