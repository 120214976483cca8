"""Chromium as a process of the test run, and what a test does with it through Playwright."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, WebError, async_playwright

__all__ = ["Chromium", "chromium_program"]

START_WITHIN_S = 30
STOP_WITHIN_S = 10
PLAYWRIGHT_WITHIN_S = 20
"""What a test waits for a page to do, unless it says otherwise."""

_FLAGS = (
    "--headless",
    # Where tests run as root, or in a container without user namespaces, its sandbox cannot be made.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
_LAST = "about:blank"


def chromium_program() -> Path:
    """The chromium program; without one the test is skipped, or fails where CI=true."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found:
        return Path(found)
    reason = "needs Chromium (apt install chromium)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Chromium:
    """A headless Chromium with an empty profile, that tests share; each has a context of its own in it."""

    def __init__(self, program: Path) -> None:
        self._program = program
        # Killed, its children may write there for a moment longer.
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._profile = Path(self._folder.name, "profile")
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `remove`
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""

    def start(self) -> None:
        """Start it and wait until it can be driven. Twice is once."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [str(self._program), *_FLAGS, f"--user-data-dir={self._profile}", _LAST],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
            env={**os.environ, "TMPDIR": self._folder.name},
        )
        give_up = time.monotonic() + START_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, f"chromium ended\n{self._said()}"
            assert time.monotonic() < give_up, f"chromium does not start\n{self._said()}"
            time.sleep(0.02)

    def _answers(self) -> bool:
        """It writes where it listens, when it listens: a port, and the path of its debugger."""
        told = self._profile / "DevToolsActivePort"
        lines = told.read_text().split("\n") if told.exists() else []
        if len(lines) == 2:
            self._url = f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        return bool(self._url)

    def _said(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    @asynccontextmanager
    async def context(self) -> AsyncIterator[BrowserContext]:
        """A fresh context: no cookies, no storage, no cache, and gone afterwards with its pages.

        Fails at its end if a page threw an error that nobody caught, or let a rejection go unhandled.
        """
        uncaught: list[str] = []

        def note(error: WebError) -> None:
            uncaught.append(str(error.error))

        async with async_playwright() as playwright:
            browser = await playwright.chromium.connect_over_cdp(self._url)
            context = await browser.new_context()
            context.set_default_timeout(PLAYWRIGHT_WITHIN_S * 1000)
            context.on("weberror", note)
            try:
                yield context
            finally:
                await context.close()
                await browser.close()
        assert not uncaught, f"nobody caught: {uncaught}"

    def remove(self) -> None:
        """End it and delete its profile."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_WITHIN_S)
        self._output.close()
        self._folder.cleanup()
