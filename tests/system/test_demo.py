"""The demonstration page of development mode: in a browser, by keyboard, and closed to everybody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.pod import eventually
from tests.pod_process import PodProcess
from tests.raw_http import Answer, Headers, ask
from tests.system.test_development import served

pytestmark = pytest.mark.system

TOKEN, MESSAGES = "/demo/token", "/demo/messages"
ALICE = {"user": "alice"}
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


async def post(pod: PodProcess, path: str, body: Any, **changed: str | None) -> Answer:
    """As the page does; `changed` replaces or removes a header."""
    text = json.dumps(body).encode()
    own = f"127.0.0.1:{pod.port}"
    headers: dict[str, str | None] = {
        "host": own,
        "origin": f"http://{own}",
        "content_type": "application/json",
        "content_length": str(len(text)),
        **changed,
    }
    sent = [(name.replace("_", "-"), value) for name, value in headers.items() if value is not None]
    return await ask(pod.port, sent, method="POST", path=path, body=text)


async def get(pod: PodProcess, path: str, *more: tuple[str, str], host: str = "") -> Answer:
    headers: Headers = [("Host", host or f"localhost:{pod.port}"), *more]
    return await ask(pod.port, headers, path=path)


@pytest.mark.gen_test(timeout=60)
async def test_only_the_page_itself_on_this_host_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as pod:
        assert (await post(pod, TOKEN, ALICE)).status == 200
        elsewhere: dict[str, dict[str, str | None]] = {
            "another site": {"origin": "http://evil.example"},
            "another port of this host": {"origin": "http://127.0.0.1:3000"},
            "the same name by another scheme": {"origin": f"https://127.0.0.1:{pod.port}"},
            "a page that tells no origin": {"origin": "null"},
            "no page at all": {"origin": None},
            "a site that the browser knows for another": {"sec_fetch_site": "cross-site"},
            "another port, as the browser sees it": {"sec_fetch_site": "same-site"},
            "behind a proxy": {"x_forwarded_for": "203.0.113.7"},
            "behind another": {"x_real_ip": "203.0.113.7"},
            "behind one that names itself only": {"via": "1.1 proxy"},
        }
        for name, changed in elsewhere.items():
            for path in (TOKEN, MESSAGES):
                assert (await post(pod, path, ALICE, **changed)).status == 403, name
        rebound = f"evil.example:{pod.port}"
        for path in ("/demo", "/demo/users/alice"):
            assert (await get(pod, path)).status == 200
            assert (await get(pod, path, host=rebound)).status == 421
            assert (await get(pod, path, host=f"127.0.0.1.evil.example:{pod.port}")).status == 421
            assert (await get(pod, path, ("Sec-Fetch-Site", "cross-site"))).status == 403
        assert (await post(pod, TOKEN, ALICE, host=rebound, origin=f"http://{rebound}")).status == 421
        # By nginx, which names this host and says nothing of itself, most often by HTTP/1.0.
        host = [("Host", f"127.0.0.1:{pod.port}")]
        assert (await ask(pod.port, host, path="/demo/users/alice", version="HTTP/1.0")).status == 403
        # No form can send this, and no cross-site script without a question that nobody answers.
        assert (await post(pod, TOKEN, ALICE, content_type="text/plain")).status == 415


@pytest.mark.gen_test(timeout=60)
async def test_a_bad_request_is_told_by_its_field(tmp_path: Path) -> None:
    async with served(tmp_path) as pod:
        for body, code in [
            ([], "bad_field"),
            ({"user": 1}, "bad_field"),
            ({"user": ""}, "bad_username"),
            ({"user": "alice", "categories": {"shoe": ["43"]}}, "bad_field"),
        ]:
            answer = await post(pod, TOKEN, body)
            assert (answer.status, answer.code) == (400, code), body
        assert (await post(pod, TOKEN, "x" * 20_000)).status == 413
        assert (await post(pod, MESSAGES, {"to": {}, "content": 1})).code == "bad_field"
        for path in ("/demo", "/demo/users/alice"):
            assert (await ask(pod.port, [("Host", "localhost")], method="DELETE", path=path)).status in {
                403,
                405,
            }


async def press(page: Page, *keys: str) -> None:
    for key in keys:
        await page.keyboard.press(key)


@pytest.mark.gen_test(timeout=90)
async def test_the_page_works_by_keyboard_and_shows_what_is_hostile_as_text(
    tmp_path: Path, browser: BrowserContext
) -> None:
    async with served(tmp_path) as pod:
        page = await browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        await page.set_viewport_size({"width": 360, "height": 740})
        await page.goto(f"http://localhost:{pod.port}/demo")
        # Connect as alice, with a category.
        await press(page, "Tab", "Tab")
        await page.keyboard.type("vip=3")
        await press(page, "Enter")
        await expect(page.locator("#state")).to_have_text("live")
        await expect(page.locator("#presence")).to_have_text(pod.name)
        # To herself: the text, then the button behind it.
        await press(page, *["Tab"] * 4)
        await page.keyboard.insert_text("")
        await press(page, "Control+A")
        await page.keyboard.insert_text(HOSTILE)
        await press(page, "Tab", "Enter")
        await expect(page.locator("#messages li").first).to_contain_text(HOSTILE)
        await expect(page.locator("#sent")).to_contain_text("1 online")
        await expect(page.locator("#exposures")).to_have_text("1")
        await expect(page.locator("#waiting")).to_have_text("0")
        # To the category: back over button, text and name to the choice.
        await press(page, *["Shift+Tab"] * 3, "ArrowDown", "Tab", "Control+A")
        await page.keyboard.type("vip=3")
        await press(page, "Enter")
        await expect(page.locator("#messages li")).to_have_count(2)
        # What is wrong is told.
        await press(page, "Control+A")
        await page.keyboard.type("shoe=43")
        await press(page, "Enter")
        await expect(page.locator("#problem")).to_contain_text("shoe")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            "too wide for a phone"
        )
        await page.locator("#toggle").click()
        await expect(page.locator("#state")).to_have_text("closed")
        await expect(page.locator("#presence")).to_have_text("no pod")
        # One is the browser's own line on the 400 above.
        assert [said for said in complaints if "400" not in said] == []
        await page.close()
        await eventually(lambda: pod.events("request.failed") == [])
