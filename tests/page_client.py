"""The client for browsers in a page of a real one, and what it told the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.async_api import BrowserContext, Page

from tests.pod import eventually

__all__ = ["PageClient", "origin", "page_client"]

_OPEN = """
async ([url, options, source]) => {
  const { Client } = await import(source);
  if (options.storage) options.storage = window[options.storage];
  window.told = [];
  window.client = new Client(url, { token: () => window.newToken(), ...options });
  for (const type of ["message", "welcome", "live", "state", "error"]) {
    client.on(type, ({ cause, ...event }) => { told.push([type, event]); });
  }
  client.on("message", message => window.work?.(message));
  client.open();
}
"""
"""`window.work` may be put there: a listener that takes its time, or fails."""


def origin(port: int) -> str:
    """Of pages that come from the pod on this port."""
    return f"http://127.0.0.1:{port}"


class PageClient:
    """A page with a client. `reload` makes both anew, with what the page's storage holds."""

    def __init__(self, page: Page, port: int, options: dict[str, Any]) -> None:
        self.page = page
        self._port = port
        self._options = options

    async def open(self) -> None:
        """Load the page and open the client."""
        # Shown as a text, and good for a page's origin; a browser keeps no page that was an error.
        await self.page.goto(origin(self._port) + "/pushserver.js")
        url = f"ws://127.0.0.1:{self._port}/ws"
        await self.page.evaluate(_OPEN, [url, self._options, "/pushserver.js"])

    async def told(self, kind: str) -> list[Any]:
        """The events of a kind, so far."""
        wanted = "kind => told.filter(([type]) => type === kind).map(([, event]) => event)"
        events: list[Any] = await self.page.evaluate(wanted, kind)
        return events

    async def contents(self) -> list[Any]:
        """Of the messages, so far."""
        return [message["content"] for message in await self.told("message")]

    async def states(self) -> list[str]:
        """Every state so far, in order."""
        return [event["state"] for event in await self.told("state")]

    async def until(self, state: str, within_s: float = 20) -> None:
        """Wait for a state."""

        async def is_there() -> bool:
            return bool(await self.page.evaluate("state => client.state === state", state))

        await eventually(is_there, within_s)

    async def until_told(self, kind: str, count: int) -> list[Any]:
        """Wait for so many events of a kind; all of them."""

        async def enough() -> list[Any]:
            found = await self.told(kind)
            return found if len(found) >= count else []

        found: list[Any] = await eventually(enough)
        return found


async def page_client(
    browser: BrowserContext, port: int, new_token: Callable[[], str], **options: Any
) -> PageClient:
    """A page of the pod on `port` with a client, opened. `new_token` may raise; `options` as of the module.

    `storage` is given by its name in the window.
    """
    page = await browser.new_page()
    await page.expose_function("newToken", new_token)
    client = PageClient(page, port, options)
    await client.open()
    return client
