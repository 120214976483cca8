"""Publish: content first, then each inbox (or the log), then hints to the pods where the users are.

The inbox is written before presence is read, in one script: a connect writes presence before it reads the
inbox, so one of the two always sees the message.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from typing import Any

from pushserver.core.clock import StoreClock
from pushserver.core.errors import InvalidFieldError, StoreError
from pushserver.core.message import message_parts
from pushserver.core.metrics import Metrics
from pushserver.core.publication import Publication, Published
from pushserver.delivery.feeds import Feeds, Text
from pushserver.delivery.publish_order import Place, PublishOrder
from pushserver.stores.content import ContentStore, PublishRecord, Recording
from pushserver.stores.feed_entry import Hint, Push
from pushserver.stores.inbox import Appended, Inbox
from pushserver.stores.lease import LeaseStore
from pushserver.stores.log import LogStore
from pushserver.stores.presence import PresenceStore

__all__ = ["Publisher"]

SLICE = 1000
"""Users whose appends are begun in one callback of the loop."""
PUSH_USERS = 500
"""Users that one entry of a feed names."""
MAX_TIME_DIGITS = 13
OUTLIVES_S = 60
"""So long the record of a publish outlives the ids remembered with the inboxes, which are written after it:
an id that is free for another message is remembered nowhere any more."""
_Outcomes = list[Appended | StoreError]
"""Of the appends to some inboxes, in their order."""
_LOG = ("",)
"""Stands for the log where inboxes are named; no user is called so."""


class Publisher:
    """Publishes messages and recalls them."""

    def __init__(
        self,
        *,
        contents: ContentStore,
        inbox: Inbox,
        log: LogStore,
        presence: PresenceStore,
        leases: LeaseStore,
        feeds: Feeds,
        clock: StoreClock,
        metrics: Metrics,
        idempotency_s: int,
        inline_bytes: int,
        max_bytes: int,
        max_ttl_s: int,
    ) -> None:
        self._contents = contents
        self._inbox = inbox
        self._log = log
        self._presence = presence
        self._leases = leases
        self._feeds = feeds
        self._clock = clock
        self._metrics = metrics
        self._idempotency_s = idempotency_s
        self._inline_bytes = inline_bytes
        self._max_bytes = max_bytes
        self._max_ttl_s = max_ttl_s
        self._order = PublishOrder()

    def new_id(self) -> str:
        """An id that sorts by time: milliseconds in hex, then 64 random bits."""
        return f"{self._clock.now_ms():011x}-{secrets.token_hex(8)}"

    async def publish(self, publication: Publication) -> Published:
        """Store a message as durably as `redis.durability` says, and hint at it.

        Repeating the same publication completes what an earlier call began, and reaches nobody twice. What
        is published first by one process is stored first in each inbox, and in the log; a message for those
        who are live is not stored. That everybody has it is noted in its record before this returns:
        `reconcile` holds delivery to that. Raises `InvalidFieldError` if it is too large, `IdReusedError`,
        `RecalledError`, or `StoreError`: then some inboxes may have it.
        """
        head, tail = message_parts(publication.id, publication.content)
        size = len(head.encode()) + len(tail.encode()) + MAX_TIME_DIGITS
        if size > self._max_bytes:
            raise InvalidFieldError(
                "content", f"makes a message of {size} bytes, more than {self._max_bytes}"
            )
        places = [self._order.place(inboxes) for inboxes in _inboxes(publication)]
        try:
            recording = self._contents.publish(publication, self._idempotency_s + OUTLIVES_S)
            ahead = await self._append_behind(publication, places, recording)
            record = await recording
            text = f"{head}{record.queued_at}{tail}".encode()
            if publication.offline:
                return await self._store(publication, record, text, places, ahead)
            return await self._to_the_live(publication, record, text)
        finally:
            for place in places:
                place.leave()

    async def _store(
        self,
        publication: Publication,
        record: PublishRecord,
        text: bytes,
        places: Sequence[Place],
        ahead: _Outcomes | None,
    ) -> Published:
        # A repeat may say a stored text in other words: whoever needs it reads what is stored.
        small = record.new and len(text) <= self._inline_bytes
        expires_at = record.queued_at + publication.ttl_s * 1000
        if publication.categories is None:
            inlined = (text, expires_at) if small else None
            return await self._to_users(publication, record, inlined, places, ahead)
        inline = text.decode() if small else ""
        await places[0].come()
        appending = asyncio.ensure_future(
            self._log.append(publication.id, publication.categories, inline, expires_at)
        )
        places[0].leave()
        return Published(publication.id, duplicate=not await appending)

    async def recall(self, message_id: str) -> bool:
        """Take back what is not delivered yet, on every pod; False if no such message is known.

        Raises `StoreError`; a repeat completes it.
        """
        known = await self._contents.recall(message_id, self._max_ttl_s)
        if known:
            await self._log.recall(message_id)
        return known

    # -- to users

    async def _to_users(
        self,
        publication: Publication,
        record: PublishRecord,
        inline: Text | None,
        places: Sequence[Place],
        ahead: _Outcomes | None,
    ) -> Published:
        new = online = 0
        for place in places:
            users = place.inboxes
            appended, ahead = ahead or await self._append(place, publication, had_it=record.accepted), None
            stored = [one for one in appended if isinstance(one, Appended)]
            new += sum(one.new for one in stored)
            online += sum(bool(one.pods) for one in stored)
            noted: Awaitable[Any] | None = None
            if place is places[-1] and len(stored) == len(users) and not record.accepted:
                # On its way with the hints, so nobody waits for it longer than for them.
                accepted_at = max(self._clock.now_ms(), record.queued_at)
                noted = self._contents.accepted(publication.id, accepted_at)
            await self._hint(users, publication.id, appended, inline)
            for one in appended:
                if isinstance(one, StoreError):
                    raise one
            if noted is not None:
                await noted
        return Published(publication.id, not new, len(publication.users), online)

    async def _append_behind(
        self, publication: Publication, places: Sequence[Place], recording: Recording
    ) -> _Outcomes | None:
        """Append to the first inboxes without waiting for the content's answer, which saves a round trip.

        Only of an id that nothing on record can refuse, and where the engine carries the append out behind
        the content; if that was refused, so is the append.
        """
        if not (publication.id_is_new and publication.users and places and self._contents.comes_first):
            return None
        await places[0].come()
        if recording.failed:
            return None
        return await self._append(places[0], publication, unanswered=True)

    async def _append(
        self, place: Place, publication: Publication, *, had_it: bool = False, unanswered: bool = False
    ) -> _Outcomes:
        await place.come()
        # All are waited for: those that were stored are hinted at, also when another was not.
        appending = self._inbox.append_to_all(
            place.inboxes, publication.id, publication.ttl_s, had_it=had_it, unanswered=unanswered
        )
        place.leave()
        return await appending

    async def _hint(
        self,
        users: Sequence[str],
        message_id: str,
        appended: _Outcomes,
        inline: Text | None,
    ) -> None:
        """Hint at all that waits, also at what an earlier call appended: perhaps it was never hinted at."""
        hints = [
            (Hint(user, one.seq, message_id), one.pods)
            for user, one in zip(users, appended, strict=True)
            if isinstance(one, Appended) and one.waiting and one.pods
        ]
        self._metrics.evicted.inc(sum(one.evicted for one in appended if isinstance(one, Appended)))
        await self._feeds.hint(hints, inline)

    # -- to those only who are live

    async def _to_the_live(self, publication: Publication, record: PublishRecord, text: bytes) -> Published:
        """No promise but one: a repeat of what was handed to the pods is not pushed again."""
        is_for_users = publication.categories is None
        count = len(publication.users) if is_for_users else None
        if record.sent:
            return Published(publication.id, True, count, 0 if is_for_users else None)
        if is_for_users:
            online: int | None = await self._push_to_users(publication, text)
        else:
            entry = Push(publication.id, text, categories=publication.categories)
            await self._feeds.tell(await self._leases.pods(), entry)
            online = None
        await self._contents.sent(publication.id)
        return Published(publication.id, False, count, online)

    async def _push_to_users(self, publication: Publication, text: bytes) -> int:
        online = 0
        for start in range(0, len(publication.users), PUSH_USERS):
            users = publication.users[start : start + PUSH_USERS]
            where = await asyncio.gather(*map(self._presence.pods_of, users))
            online += sum(map(bool, where))
            on: defaultdict[str, list[str]] = defaultdict(list)
            for user, pods in zip(users, where, strict=True):
                for pod in pods:
                    on[pod].append(user)
            entries = (
                self._feeds.tell([pod], Push(publication.id, text, there)) for pod, there in on.items()
            )
            await asyncio.gather(*entries)
        return online


def _inboxes(publication: Publication) -> list[Sequence[str]]:
    """Where a message is stored, in the parts that are begun at once."""
    if not publication.offline:
        return []
    if publication.categories is not None:
        return [_LOG]
    users = publication.users
    return [users[start : start + SLICE] for start in range(0, len(users), SLICE)]
