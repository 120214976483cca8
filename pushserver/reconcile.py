"""Reconciling: whatever was accepted for a user is exposed, waits, or is known to have gone otherwise.

    accepted = users exposed + waiting + expired + evicted + recalled + parked + erased (+ difference)

Redis is read first and the database of exposures after it: what had left an inbox by then had its exposure
handed over before. Each user counts once, in the first place that fits, so one whose exposure is stored and
whose entry is about to be removed is no surplus. A difference may only mean that an exposure is on its way to
the database, so it is looked at again for a while before it is believed.

What was accepted is read from Redis: of a message that Redis has lost, nothing is missed. So it is asked the
other way round, too: whether Redis knows the messages of all exposures that it must have on record still.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from pushserver.core.counting import SHOWN
from pushserver.stores.whereabouts import MessageRecord, Whereabouts

__all__ = ["Balance", "Kept", "Reconciled", "Reconciler", "Unknown"]

MESSAGES_AT_ONCE = 500
USERS_AT_ONCE = 100_000
"""What is asked of the database in one go: about 20 MB of names."""
FIRST_PAUSE_S = 0.2
MOST_PAUSE_S = 5.0
"""Between two looks at what differs."""
MARGIN_MS = 300_000
"""For what expires while it is looked for, and clocks of nodes that differ."""

ExposedUsers = Callable[[Mapping[str, int]], Mapping[str, set[str]]]
"""Whom each message (id -> queued_at in ms) reached, by the database; it blocks."""

Traces = Mapping[str, Mapping[str, str]]
"""Message -> user -> where it is for that user."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the database keeps, to be held against the records in Redis."""

    counted: Callable[[int], Mapping[str, int]]
    """Exposures of each message that was published since then (ms); it blocks."""
    record_s: int
    """How long every message is on record, whatever its ttl."""
    now_ms: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Exposures in the database of messages that have no record in Redis, though they should."""

    exposures: int = 0
    messages: int = 0
    ids: Sequence[str] = ()
    """Some of these messages."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What became of one message: users, each counted once."""

    message_id: str
    queued_at: int
    accepted: int
    exposed: int = 0
    waiting: int = 0
    expired: int = 0
    evicted: int = 0
    recalled: int = 0
    parked: int = 0
    erased: int = 0
    difference: int = 0
    """Users of whom nothing is known, 0 if all is well; below 0: more have it than were named."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was found."""

    balances: Sequence[Balance]
    """By the time of the publish."""
    unfinished: Sequence[str]
    """Messages whose publish was not completed: nobody was told 202, and nothing was promised."""
    full: Sequence[str]
    """Users of whom more have gone than are noted, a reason for differences; none if nothing differs."""
    unknown: Unknown = Unknown()

    @property
    def differing(self) -> list[Balance]:
        """Those that do not add up."""
        return [one for one in self.balances if one.difference]

    @property
    def adds_up(self) -> bool:
        """Nothing differs, and Redis knows every message that was exposed."""
        return not self.differing and not self.unknown.messages

    @property
    def totals(self) -> dict[str, int]:
        """The sums over all messages, by the names of `Balance`."""
        names = [name for name in Balance.__slots__ if name not in {"message_id", "queued_at"}]
        return {name: sum(getattr(one, name) for one in self.balances) for name in names}

    def as_json(self, *, everything: bool) -> dict[str, object]:
        """With all messages, or those only that differ."""
        rows = self.balances if everything else self.differing
        return {
            "messages": len(self.balances),
            "totals": self.totals,
            "differing": len(self.differing),
            "unfinished": list(self.unfinished),
            "full": len(self.full),
            "full_users": list(self.full[:SHOWN]),
            "unknown": asdict(self.unknown),
            "balances": [asdict(one) for one in rows],
        }


class Reconciler:
    """Compares. It reads every inbox and every record, and keeps in memory what waits or has gone."""

    def __init__(self, whereabouts: Whereabouts, exposed: ExposedUsers, kept: Kept | None = None) -> None:
        """Without `kept` it is not asked whether Redis knows what was exposed."""
        self._whereabouts = whereabouts
        self._exposed = exposed
        self._kept = kept
        self._full: list[str] = []

    async def period(self, since_ms: int, wait_s: float) -> Reconciled:
        """Messages to users that were published at `since_ms` or later, as far as they are on record.

        Waits up to `wait_s` for what differs. Raises `StoreError`, `DatabaseError` or `ConfigError`.
        """
        records: dict[str, MessageRecord] = {}
        async for page in self._whereabouts.messages():
            records |= {one.message_id: one for one in page if (one.queued_at or 0) >= since_ms}
        unknown = await self._unknown(since_ms, records)
        return replace(await self._reconcile(records.values(), wait_s), unknown=unknown)

    async def message(self, message_id: str, wait_s: float) -> Reconciled:
        """One message; nothing at all if it was not to users."""
        return await self._reconcile([await self._whereabouts.message(message_id)], wait_s)

    async def _reconcile(self, records: Iterable[MessageRecord], wait_s: float) -> Reconciled:
        give_up = time.monotonic() + wait_s
        to_users = [one for one in records if one.kind == "users"]
        due = [one for one in to_users if one.accepted_at is not None]
        begun = [one.message_id for one in to_users if one.accepted_at is None]
        balances: dict[str, Balance] = {}
        pause = FIRST_PAUSE_S
        while due:
            balances |= {one.message_id: one for one in await self._look(due)}
            differing = [one.message_id for one in due if balances[one.message_id].difference]
            left = give_up - time.monotonic()
            if not differing or left <= 0:
                break
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, MOST_PAUSE_S)
            # Meanwhile one may have been recalled, or a user erased.
            due = await self._records(differing)
        unfinished = [one.message_id for one in await self._records(begun) if one.accepted_at is None]
        ordered = sorted(balances.values(), key=lambda one: (one.queued_at, one.message_id))
        differ = any(one.difference for one in ordered)
        return Reconciled(ordered, unfinished, sorted(self._full) if differ else [])

    async def _unknown(self, since_ms: int, known: Collection[str]) -> Unknown:
        """The database is read first here: a record is made before its message can be exposed."""
        kept = self._kept
        if kept is None:
            return Unknown()
        oldest = kept.now_ms() - kept.record_s * 1000 + MARGIN_MS
        counts = await asyncio.to_thread(kept.counted, max(since_ms, oldest))
        unknown: list[str] = []
        asked = sorted(counts.keys() - set(known))
        for start in range(0, len(asked), MESSAGES_AT_ONCE):
            records = await self._records(asked[start : start + MESSAGES_AT_ONCE])
            unknown += [one.message_id for one in records if not one.is_known]
        return Unknown(sum(counts[one] for one in unknown), len(unknown), unknown[:SHOWN])

    async def _records(self, message_ids: Iterable[str]) -> list[MessageRecord]:
        return await asyncio.gather(*map(self._whereabouts.message, message_ids))

    async def _look(self, records: Sequence[MessageRecord]) -> list[Balance]:
        traces = await self._traces({one.message_id: one for one in records})
        found: list[Balance] = []
        for part in _parts(records):
            asked = {one.message_id: one.queued_at or 0 for one in part}
            exposed = await asyncio.to_thread(self._exposed, asked)
            found += [_balance(one, exposed[one.message_id], traces[one.message_id]) for one in part]
        return found

    async def _traces(self, records: Mapping[str, MessageRecord]) -> defaultdict[str, dict[str, str]]:
        self._full = []
        traces: defaultdict[str, dict[str, str]] = defaultdict(dict)
        async for page in self._whereabouts.users():
            for user, known in page:
                if known.is_full:
                    self._full.append(user)
                for message_id in known.of.keys() & records.keys():
                    state = records[message_id].state_of(known.of[message_id])
                    if state is not None:
                        traces[message_id][user] = state
        return traces


def _parts(records: Sequence[MessageRecord]) -> Iterator[Sequence[MessageRecord]]:
    start = users = 0
    for end, one in enumerate(records):
        if end > start and (end - start == MESSAGES_AT_ONCE or users + one.users > USERS_AT_ONCE):
            yield records[start:end]
            start, users = end, 0
        users += one.users
    yield records[start:]


def _balance(record: MessageRecord, exposed: set[str], traces: Mapping[str, str]) -> Balance:
    counts = Counter(state for user, state in traces.items() if user not in exposed)
    rest = record.users - len(exposed) - counts.total()
    # Who was erased has no name any more; one who was exposed before counts there.
    erased = min(record.erased, max(0, rest))
    return Balance(
        message_id=record.message_id,
        queued_at=record.queued_at or 0,
        accepted=record.users,
        exposed=len(exposed),
        **counts,
        erased=erased,
        difference=rest - erased,
    )
