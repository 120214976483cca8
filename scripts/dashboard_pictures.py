#!/usr/bin/env python3
"""Make the pictures of the dashboard in docs/: pods with made-up users, in a real browser.

    .venv/bin/python scripts/dashboard_pictures.py [--folder docs]

Needs redis-server and Chromium; takes half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from playwright.async_api import Page

from tests.admin_api import call
from tests.client import Client, Closed
from tests.engines.chromium import Chromium, chromium_program
from tests.engines.ports import free_port
from tests.engines.redis_server import RedisServer, redis_program
from tests.pod_process import PodProcess, pod_processes

USERS = 120
SECONDS = 32
WIDE, TELEPHONE = (1080, 1320), (360, 1500)


async def main(folder: Path) -> None:
    """Make both."""
    engine, chromium = RedisServer(redis_program()), Chromium(chromium_program())
    try:
        engine.start()
        chromium.start()
        async with AsyncExitStack() as stack:
            pods = await stack.enter_async_context(pod_processes(engine.url, pod={"lease_ms": 15_000}))
            first, second = [
                await pods.start(name, server={"port": free_port()}) for name in ("push-1", "push-2")
            ]
            clients = await crowd(first, second)
            stack.push_async_callback(leave, clients)
            context = await stack.enter_async_context(chromium.context())
            page = await context.new_page()
            hide = await context.new_cdp_session(page)
            await hide.send("Emulation.setScrollbarsHidden", {"hidden": True})
            await page.goto(f"http://127.0.0.1:{first.admin_port}/dashboard")
            await asyncio.gather(
                traffic(first), *(read(client) for client in clients), pictures(page, folder)
            )
    finally:
        chromium.remove()
        engine.remove()


async def crowd(first: PodProcess, second: PodProcess) -> list[Client]:
    """Users with categories, most of them on the first pod."""
    chance = random.Random(1)
    clients = []
    for number in range(USERS):
        about = {
            "vip": [str(min(6, int(chance.expovariate(0.5))))],
            "level": [str(chance.randint(1, 7))],
            "hall": [chance.choice(("north", "south", "harbour"))],
        }
        user = f"user-{number}"
        await call(first.admin_port, "PUT", f"/v1/users/{user}/categories", about)
        pod = first if chance.random() < 0.75 else second
        clients += [await pod.connect(user) for _ in range(chance.choice((1, 1, 2)))]
    return clients


async def traffic(pod: PodProcess) -> None:
    """What a back end sends, now more and now less."""
    chance, port = random.Random(2), pod.admin_port
    for second in range(SECONDS):
        for _ in range(chance.randint(3, 12) + (20 if 9 < second < 14 else 0)):
            users = [f"user-{chance.randrange(USERS)}" for _ in range(chance.randint(1, 4))]
            await call(port, "POST", "/v1/messages", {"to": {"users": users}, "content": {"n": second}})
        if second % 8 == 3:
            await call(
                port, "POST", "/v1/messages", {"to": {"categories": {"hall": ["north"]}}, "content": 1}
            )
        with suppress(Closed):
            await (await pod.connect(f"guest-{second}")).close()
        await asyncio.sleep(0.8)


async def read(client: Client) -> None:
    """Confirm whatever comes, until nothing more does."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SECONDS + 3):
            while True:
                await client.frame()


async def pictures(page: Page, folder: Path) -> None:
    """Both, while there is traffic."""
    await asyncio.sleep(SECONDS - 10)
    await fill_in(page)
    await picture(page, folder / "dashboard.png", WIDE, "light")
    await picture(page, folder / "dashboard-phone.png", TELEPHONE, "dark")


async def fill_in(page: Page) -> None:
    """Look at somebody, explain something, and begin to write."""
    await page.get_by_label("User name", exact=True).fill("user-7")
    await page.get_by_role("button", name="Look").click()
    await page.locator("#names").fill("user-7\nuser-8")
    await page.get_by_label("JSON").check()
    await page.get_by_label("What clients get").fill('{"title": "Your bonus is here", "amount": 25.00}')
    await page.get_by_role("button", name="Send", exact=True).click()
    await page.locator("#send-result:not(:empty)").wait_for()
    await page.get_by_role("button", name="Explain", exact=True).click()
    await page.locator("#explained dt").first.wait_for()
    await asyncio.sleep(3)


async def picture(page: Page, file: Path, size: tuple[int, int], scheme: str) -> None:
    """One picture, of the page's top."""
    await page.set_viewport_size({"width": size[0], "height": size[1]})
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    taken = await page.screenshot(path=file)
    print(f"{file}: {len(taken)} bytes")


async def leave(clients: Sequence[Client]) -> None:
    """Everybody goes."""
    for client in clients:
        client.vanish()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "docs")
    asyncio.run(main(parser.parse_args().folder))
