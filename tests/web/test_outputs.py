"""What gets out: no token anywhere, and no client that writes a line of the log by itself."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import jwt
import pytest
from prometheus_client import generate_latest

from pushserver.core.context import Context
from pushserver.delivery.session import Sessions
from tests.client import Client, connect
from tests.core.client_frames import CLOSE, TEXT
from tests.pod import SECRET, eventually
from tests.raw_http import Headers, ask, handshake, head
from tests.web.admin.desk import desk
from tests.web.conftest import LogLines
from tests.web.doorway import Doorway, doorway

PAGE = "https://page.example"
SECTIONS: dict[str, Any] = {"origin": {"allow": [PAGE]}, "auth": {"query_token": True}}
HOSTILE = "\x85\x9b31m\xa0\xad"
"""What may stand in a head: the control characters above ASCII, a line's end among them."""


def ways(token: str) -> list[tuple[str, Headers]]:
    """Every way to bring a token, as path and headers."""
    return [
        ("/ws", handshake(token=token)),
        ("/ws", handshake(("Cookie", f"pushserver_token={token}"), ("Origin", PAGE))),
        ("/ws", handshake(("Sec-WebSocket-Protocol", f"pushserver.v1, bearer.{token}"))),
        (f"/ws?token={token}", handshake()),
        (f"/ws?t%6fken={token}", handshake()),
    ]


async def said(door: Doorway, sent: bytes) -> bytes:
    """All that the server says until it ends the connection, or the first frame behind a 101."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(sent)
    found = b""
    try:
        while not re.match(rb"HTTP/1.1 101 .*\r\n\r\n..", found, re.DOTALL):
            more = await asyncio.wait_for(reader.read(4096), 5)
            if not more:
                break
            found += more
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return found


def metrics(door: Doorway) -> str:
    return generate_latest(door.app.metrics.registry).decode()


@pytest.mark.gen_test
async def test_no_token_is_in_a_log_an_answer_or_a_metric(log_lines: LogLines) -> None:
    def fail_for_some(ctx: Context) -> None:
        if ctx.request.header("X-Fail"):
            raise RuntimeError("a link that fails")

    async with doorway(links=[fail_for_some], **SECTIONS) as door:
        believed = door.token("alice")
        tokens = [believed, door.token(ttl_s=-60), believed[:-4] + "AAAA", believed.replace(".", "-")]
        answers = []
        for token in tokens:
            for path, headers in ways(token):
                request = head(headers, path=path)
                for sent in (
                    request,
                    head([*headers, ("X-Fail", "1")], path=path),
                    head([*headers, ("Origin", "https://evil.example")], path=path),
                    head([*headers, ("Upgrade", "h2c")], path=path),
                    head(headers, path=path, method="POST"),
                    head([*headers, ("Content-Length", "9")], path=path),
                    head(headers, path="/nowhere" + path),
                    head(headers, path=f"{path}{'&' if '?' in path else '?'}user=bob"),
                    request.replace(b"Bearer", b"Bearer\x01"),
                    request.replace(token.encode(), token.encode() + b"\x01"),
                    request.replace(b"HTTP/1.1", b"HTTP/9.9"),
                    request.replace(b"host: 127.0.0.1\r\n", b""),
                    head([*headers, ("Authorization", "Bearer another")], path=path),
                    head(headers, path=path + "&a" * 2000 if "?" in path else path + "?" + "a&" * 2000),
                ):
                    answers.append(await said(door, sent))
        assert sum(b'"type":"welcome"' in answer for answer in answers) >= len(ways(""))
        everything = b"".join(answers).decode("latin-1") + metrics(door) + json.dumps(log_lines())
        for token in tokens:
            for part in (token, token.rpartition(".")[2], token[:40]):
                assert part not in everything


@pytest.mark.gen_test
async def test_no_token_is_in_what_an_error_of_ours_writes(
    log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("an error of ours")

    async with doorway(**SECTIONS) as door:
        monkeypatch.setattr(Sessions, "open", fail)
        token = door.token()
        for path, headers in ways(token):
            await said(door, head(headers, path=path))
        lines = log_lines()
        assert [line["event"] for line in lines if line["level"] == "error"] == ["request.failed"] * 5
        assert token not in json.dumps(lines)


@pytest.mark.gen_test
async def test_no_token_of_a_refresh_is_in_a_log_or_an_answer(log_lines: LogLines) -> None:
    async with doorway() as door:
        for token in (door.token("alice"), door.token("bob"), "SECRET.TOKEN.FORM", door.token() + "x"):
            for frame in (
                json.dumps({"type": "refresh", "token": token}),
                json.dumps({"type": "refresh", "token": [token]}),
                json.dumps({"type": token}),
                f'{{"type":"refresh","token":"{token}"',
            ):
                client = await door.connect("alice")
                await client.send_frame(TEXT, frame.encode())
                await client.send({"type": "ping"})
                answered = await everything_until_pong(client)
                assert token not in answered
        assert "SECRET.TOKEN" not in json.dumps(log_lines())
        assert "eyJ" not in metrics(door)


async def everything_until_pong(client: Client) -> str:
    frames: list[Any] = []
    try:
        while not frames or frames[-1]["type"] != "pong":
            frames.append(await client.frame())
    except Exception as closed:
        frames.append(str(closed))
    return json.dumps(frames)


# -- injection


@pytest.mark.gen_test
async def test_one_refused_handshake_is_one_line_whatever_is_in_it(log_lines: LogLines) -> None:
    sections: dict[str, Any] = {"proxy": {"trusted": ["127.0.0.1"], "platform": "X-Client"}}
    async with doorway(**sections) as door:
        for path, headers in (
            (f"/ws?x={HOSTILE}", handshake(token="bad")),
            ("/ws?x=%0d%0alevel=error%1b[2J", handshake(token="bad")),
            ("/ws", handshake(("User-Agent", HOSTILE), token="bad")),
            ("/ws", handshake(("X-Forwarded-For", f"1.2.3.4{HOSTILE}"), token="bad")),
            ("/ws", handshake(("X-Client", HOSTILE + "\ta client"), token="bad")),
            ("/ws", handshake(("Origin", HOSTILE), token="bad")),
            ("/ws", handshake(("Sec-WebSocket-Protocol", HOSTILE), token="bad")),
        ):
            answer = await ask(door.port, headers, path=path)
            assert answer.status in {400, 401, 403}
            lines = log_lines()
            assert [line["event"] for line in lines] == ["handshake.refused"], (path, headers)
            assert lines[0]["status"] == answer.status


@pytest.mark.gen_test
async def test_a_request_that_is_no_handshake_is_one_line_at_most(log_lines: LogLines) -> None:
    async with doorway() as door:
        for sent in (
            head(handshake(), path=f"/{HOSTILE}"),
            head(handshake(upgrade=None), path=f"/ws?{HOSTILE}"),
            head(handshake(), method="TRACE"),
            head(handshake(host=HOSTILE)),
            b"GET /ws HTTP/1.1\r\nHost: a\r\nX: a\rb\x1b[2J\r\n\r\n",
            b"GET /ws HTTP/1.1\r\nHost: a\r\nX" + HOSTILE.encode("latin-1") + b": b\r\n\r\n",
            b'GET /\r\n{"level":"error"} HTTP/1.1\r\n\r\n',
            b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x00" * 100 + b"\r\n\r\n",
            head(handshake(("Content-Length", HOSTILE))),
            head(handshake(("Transfer-Encoding", HOSTILE))),
        ):
            await said(door, sent)
            lines = log_lines()
            assert len(lines) <= 1, sent
            assert not any(line["level"] in {"error", "critical"} or "exception" in line for line in lines)


@pytest.mark.gen_test
async def test_a_name_cannot_forge_a_line(log_lines: LogLines) -> None:
    async with doorway() as door:
        for name in ("a\nlevel=error", "a\r", "\x1b[2J", "a\x85b", "a\u2028b", "a\u202eb", "\x00"):
            refused = await door.refusal(forged(name))
            assert refused.status == 401
            (line,) = log_lines()
            assert line["event"] == "handshake.refused"
        await door.connect('a"\\ ={}\u00a0\U0001f600')
        (line,) = log_lines()
        assert (line["event"], line["user"]) == ("connection.opened", 'a"\\ ={}\u00a0\U0001f600')


def forged(name: str) -> str:
    """A token for a name that `make_token` would refuse."""
    return jwt.encode({"sub": name, "exp": time.time() + 600}, SECRET, "HS256")


@pytest.mark.gen_test
async def test_a_close_reason_cannot_forge_a_line(log_lines: LogLines) -> None:
    async with doorway() as door:
        client = await door.connect()
        log_lines()
        await client.send_frame(CLOSE, b"\x0f\x9f\r\nlevel=error \x1b[2J\xc2\x85")
        await client.closed()
        await eventually(lambda: door.inside == 0)
        (line,) = log_lines()
        assert (line["event"], line["user"], line["code"]) == ("connection.closed", "alice", 1000)


@pytest.mark.gen_test
async def test_the_admin_listener_writes_no_line_for_a_refusal_and_no_key_anywhere(
    log_lines: LogLines,
) -> None:
    async with desk("right-key-of-the-tests") as at:
        bodies = b""
        for key in ("right-key-of-the-tests", "wrong-key-of-the-tests", "wrong-key-of-the-tests\x01"):
            for path in (
                "/v1/stats",
                "/v1/users/%0a",
                "/v1/users/%ff",
                f"/{HOSTILE}",
                "/metrics",
                f"/v1?key={key}",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
                writer.write(head([("Host", "a"), ("Authorization", f"Bearer {key}")], path=path))
                bodies += await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
                writer.close()
        lines = log_lines()
        assert lines == []
        assert (
            "key-of-the-tests"
            not in json.dumps(lines)
            + bodies.decode("latin-1")
            + generate_latest(at.metrics.registry).decode()
        )


@pytest.mark.gen_test
async def test_a_welcome_tells_nothing_but_what_it_is_for() -> None:
    async with doorway() as door:
        client = await connect(door.port, door.token())
        door.clients.append(client)
        welcome = await client.frame()
        assert welcome.keys() == {"type", "connection", "pod", "user", "categories", "expires", "version"}
