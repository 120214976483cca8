"""A real browser at a real pod."""

from __future__ import annotations

import pytest
from playwright.async_api import BrowserContext

from tests.admin_api import send, waiting
from tests.engines.engine import Engine
from tests.engines.ports import free_port
from tests.pod import eventually
from tests.pod_process import pod_processes

pytestmark = pytest.mark.system

WAITS = """
([url, token, count]) => new Promise((resolve, reject) => {
  const contents = []
  const socket = new WebSocket(url, ["pushserver.v1", `bearer.${token}`])
  socket.onclose = event => reject(new Error(`closed: ${event.code}`))
  socket.onmessage = event => {
    const frame = JSON.parse(event.data)
    if (frame.type === "message") contents.push(frame.content)
    if (contents.length === count) resolve(contents)
  }
})
"""
"""The contents of so many messages, in a page that has only what the browser has."""


@pytest.mark.gen_test(timeout=60)
async def test_a_browser_proves_receipt_without_any_code_of_ours(
    any_engine: Engine, browser: BrowserContext
) -> None:
    """It answers pings by itself, so what waited is settled though the page confirms nothing."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    async with pod_processes(any_engine.url) as pods:
        pod = await pods.start("pod-1", server={"port": port}, origin={"allow": [origin]})
        await send(pod, "alice", "hello")
        page = await browser.new_page()
        await page.goto(origin)
        shown = await page.evaluate(WAITS, [f"ws://127.0.0.1:{port}/ws", pod.token("alice"), 1])
        assert shown == ["hello"]

        async def settled() -> bool:
            return await waiting(pod, "alice") == 0

        await eventually(settled)
