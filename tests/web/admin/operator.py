"""An operator in a real browser, at the dashboard of a whole pod."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import BrowserContext, ConsoleMessage, Locator, Page, Request, expect

from tests.engines.chromium import PLAYWRIGHT_WITHIN_S
from tests.pod import Pod, running_pod, settings

__all__ = ["KEY", "Operator", "operator"]

KEY = "the-key-of-an-operator"

# By default five seconds, which a busy machine takes for nothing.
expect.set_options(timeout=PLAYWRIGHT_WITHIN_S * 1000)


class Operator:
    """What an operator does with the page, and sees there."""

    def __init__(self, pod: Pod, page: Page) -> None:
        self.pod = pod
        self.page = page
        self.url = f"http://127.0.0.1:{pod.server.admin_port}/dashboard"
        self.asked: list[Request] = []
        """Every request of the page."""
        self.violations: list[str] = []
        """What the browser did not let the page do."""
        page.on("request", self._asked)
        page.on("console", self._note)

    def _asked(self, request: Request) -> None:
        self.asked.append(request)

    def _note(self, message: ConsoleMessage) -> None:
        if any(word in message.text for word in ("Content Security Policy", "Trusted", "Refused")):
            self.violations.append(message.text)

    def the(self, element: str) -> Locator:
        """An element by its id."""
        return self.page.locator(f"#{element}")

    def button(self, name: str) -> Locator:
        """A button by what stands on it."""
        return self.page.get_by_role("button", name=name, exact=True)

    async def unlock(self, key: str = KEY) -> None:
        """Type a key."""
        await self.page.get_by_label("API key").fill(key)
        await self.button("Unlock").click()

    async def open(self) -> None:
        """Load the page, unlock it, and wait for what it shows."""
        await self.page.goto(self.url)
        await self.unlock()
        await expect(self.the("status")).to_have_text("Live")

    async def look_now(self) -> None:
        """Have the page look at once, as it does when it is shown again."""
        await self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    async def figure(self, name: str, value: str) -> None:
        """Wait until a figure is shown."""
        shown = self.page.locator("#figures > div", has=self.page.get_by_text(name, exact=True))
        await expect(shown.locator("dd").first).to_contain_text(value)

    async def look(self, user: str) -> None:
        """Look at a user."""
        await self.page.get_by_label("User name", exact=True).fill(user)
        await self.button("Look").click()
        await expect(self.the("seen-user")).to_be_visible()

    async def write(self, to: str, names: str, content: str, *, kind: str = "text") -> None:
        """Fill in a message, and ask to send it."""
        await self.page.get_by_label(to, exact=True).check()
        if names:
            await self.the("names").fill(names)
        await self.page.get_by_label(kind, exact=True).check()
        await self.page.get_by_label("What clients get").fill(content)
        await self.button("Send").click()

    async def confirm(self, what: str, *, yes: bool = True) -> None:
        """Answer the question that is asked."""
        await expect(self.the("confirm-what")).to_contain_text(what)
        await (self.the("confirm-yes") if yes else self.button("Cancel")).click()
        await expect(self.the("confirm")).to_be_hidden()

    async def fits(self) -> None:
        """Fail if anything is wider than the window."""
        wide = await self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide[0] <= wide[1], wide


@asynccontextmanager
async def operator(
    redis_url: str, browser: BrowserContext, *, keys: Sequence[str] = (KEY,), **sections: Any
) -> AsyncIterator[Operator]:
    """An operator with an empty page, at a pod of theirs. Fails if the page's own rules stopped it."""
    configured = settings(redis_url, admin={"port": 0, "api_keys": list(keys)}, **sections)
    async with running_pod(configured) as pod:
        page = await browser.new_page()
        one = Operator(pod, page)
        yield one
        await page.close()
        assert not one.violations, one.violations
