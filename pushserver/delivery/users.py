"""What back ends and operators ask about users, and do to them, on whatever pod they are."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from pushserver.core.categories import Categories
from pushserver.core.errors import InvalidFieldError
from pushserver.delivery.feeds import Feeds
from pushserver.delivery.manager import Manager
from pushserver.stores.category_store import CategoryStore
from pushserver.stores.content import ContentStore
from pushserver.stores.feed_entry import Hint, Kick, Recategorize
from pushserver.stores.inbox import Inbox
from pushserver.stores.lease import LeaseStore
from pushserver.stores.presence import PresenceStore

__all__ = ["Users"]

GONE_S = 2.0
"""How long an erasure waits for the user's connections to be gone."""
LOOK_S = 0.05


class Users:
    """Every method may raise `StoreError`; repeating any of them is harmless.

    `manager` has the connections of this pod, None in a process that is none.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        contents: ContentStore,
        categories: CategoryStore,
        presence: PresenceStore,
        leases: LeaseStore,
        feeds: Feeds,
        manager: Manager | None,
        stored_categories: bool,
    ) -> None:
        self._inbox = inbox
        self._contents = contents
        self._categories = categories
        self._presence = presence
        self._leases = leases
        self._feeds = feeds
        self._manager = manager
        self._stored_categories = stored_categories

    async def describe(self, user: str) -> dict[str, object]:
        """Where a user is and what waits: presence by pod, connections on this pod, categories, inbox."""
        pods = await self._presence.pods_of(user)
        waiting, parked = await self._inbox.waiting(user)
        here = () if self._manager is None else self._manager.of(user)
        return {
            "user": user,
            "online": bool(pods),
            "pods": pods,
            "connections": [
                {
                    "id": one.id,
                    "state": one.state.value,
                    "unconfirmed": one.ledger.unconfirmed,
                    "ip": one.client_ip,
                }
                for one in here
            ],
            "categories": await self._read_categories(user),
            "inbox": {"waiting": waiting, "parked": parked},
        }

    async def _read_categories(self, user: str) -> object:
        try:
            return await self._categories.read(user)
        except ValueError as error:
            return {"error": str(error)}

    async def inbox(self, user: str) -> list[str]:
        """The ids that wait, oldest first."""
        return await self._inbox.ids(user)

    async def parked(self, user: str) -> list[str]:
        """The ids that were taken out of the inbox as poison."""
        return await self._inbox.parked(user)

    async def put_back(self, user: str, message_id: str) -> bool:
        """Put a parked message back, behind all that waits; False if it is not parked."""
        appended = await self._inbox.put_back(user, message_id)
        if appended is None:
            return False
        await self._feeds.hint([(Hint(user, appended.seq, message_id), appended.pods)], None)
        return True

    async def set_categories(self, user: str, categories: Categories) -> list[str]:
        """Store categories in place of the former ones; live connections move. The pods that were told.

        A connect that read the former ones meanwhile finds out when it writes its presence. Raises
        `InvalidFieldError` where categories do not come from Redis.
        """
        if not self._stored_categories:
            raise InvalidFieldError("categories", "are not stored: see the setting categories.source")
        pods = await self._categories.write(user, categories)
        return await self._feeds.tell(pods, Recategorize(user))

    async def disconnect(self, user: str) -> list[str]:
        """Close the user's connections with 4403; the pods that were told. Who comes back is let in."""
        return await self._feeds.tell(await self._presence.pods_of(user), Kick(user))

    async def erase(self, user: str) -> list[str]:
        """Disconnect the user and remove every key there is; the pods that were told.

        Presence goes with the connections, and comes again with a client that comes back at once. Messages
        that were not settled count one erased user each, which a crash right after the removal may leave out.
        """
        told = await self.disconnect(user)
        with suppress(TimeoutError):
            async with asyncio.timeout(GONE_S):
                await self._gone(user)
        await self._contents.erased(await self._inbox.erase(user))
        return told

    async def _gone(self, user: str) -> None:
        # Nobody here is told when another pod has written.
        while await self._presence.pods_of(user):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        # What a pod writes of who leaves (the cursor) goes out with the removal of presence.
        await asyncio.sleep(LOOK_S)

    async def pods(self) -> list[dict[str, object]]:
        """Every pod there is, by name: boot, host, address, version, started and expires (ms), alive,
        and the milliseconds that its lease has left, below 0 once it ran out."""
        names = sorted(await self._leases.pods())
        abouts = await asyncio.gather(*map(self._leases.describe, names))
        now_ms = await self._leases.now_ms()
        return [_pod(name, about, now_ms) for name, about in zip(names, abouts, strict=True)]


def _pod(name: str, about: dict[str, str], now_ms: int) -> dict[str, object]:
    numbers = {key: int(about[key]) for key in ("boot", "started", "expires") if about.get(key, "").isdigit()}
    texts = {key: about.get(key, "") for key in ("host", "address", "version")}
    left = {"lease_left_ms": numbers["expires"] - now_ms} if "expires" in numbers else {}
    alive = numbers.get("expires", 0) > now_ms and "claimed" not in about
    return {"pod": name, **numbers, **left, **texts, "alive": alive}
