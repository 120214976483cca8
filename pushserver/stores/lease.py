"""Leases: a pod's right to be believed alive, and taking it from the dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pushserver.stores.commands import Commands
from pushserver.stores.keys import Keys, pod_name
from pushserver.stores.stream import position_of

__all__ = ["LeaseAnswer", "LeaseStore"]


@dataclass(frozen=True, slots=True)
class LeaseAnswer:
    """What Redis said of the lease, with its time."""

    held: bool
    now_ms: int
    newer_boot: int = 0
    """Above 0 when a process with a larger boot holds the name."""
    newer_host: str = ""
    newer_is_dead: bool = False
    """The lease of that larger boot has run out: the counter of boots was lost or went back."""
    feed_first: int | None = None
    """Of a renewal: position of the first entry in this pod's feed; None if there is no feed."""


class LeaseStore:
    """The lease of one pod name, and the claims on others'."""

    def __init__(self, commands: Commands, keys: Keys, pod: str, lease_ms: int) -> None:
        self._commands = commands
        self._keys = keys
        self._pod = pod
        self._lease_ms = lease_ms

    async def new_boot(self, last: int) -> int:
        """A boot larger than `last` and than any given out. A repeat only skips numbers."""
        boot: int = await self._commands.script("boot_take", [self._keys.boots], [last])
        return boot

    async def take(self, boot: int, about: Mapping[str, str]) -> LeaseAnswer:
        """Register under `boot`, taking over from any smaller one.

        `about` holds host, address, started and version.
        """
        flat = [item for pair in about.items() for item in pair]
        keys = [self._keys.pod(self._pod)]
        answer = await self._commands.script("lease_take", keys, [boot, self._lease_ms, *flat])
        if answer[0] == 0:
            host = answer[3].decode("utf-8", "replace")
            return LeaseAnswer(False, answer[1], answer[2], host, newer_is_dead=answer[4] == 1)
        await self._index(answer[2])
        return LeaseAnswer(True, answer[1])

    async def renew(self, boot: int) -> LeaseAnswer:
        """Renew. Not held and no newer boot: it lapsed, and only a new boot helps."""
        keys = [self._keys.pod(self._pod), self._keys.feed(self._pod)]
        answer = await self._commands.script("lease_renew", keys, [boot, self._lease_ms])
        if answer[0] == 1:
            await self._index(answer[2])
            first = None if answer[3] is None else position_of(answer[3])
            return LeaseAnswer(True, answer[1], feed_first=first)
        if answer[0] == 0:
            return LeaseAnswer(False, answer[1])
        return LeaseAnswer(False, answer[1], answer[2], answer[3].decode("utf-8", "replace"))

    async def _index(self, expires_ms: int) -> None:
        # In another slot, so not atomic with the lease; the lease counts, this only says where to look.
        await self._commands.script("pods_index", [self._keys.pods], [self._pod, expires_ms])

    async def release(self, boot: int) -> bool:
        """Give the lease up, with the index of users and the feed. False if a newer boot holds the name."""
        if await self._commands.script("lease_release", self._of(self._pod), [boot]) != 1:
            return False
        await self._commands.call("ZREM", self._keys.pods, self._pod)
        return True

    async def expired(self, now_ms: int) -> list[str]:
        """Names of pods whose lease seems to have run out, at most 100, this one left out.

        Entries that are no pod name are removed: they would stand before the pods for ever.
        """
        entries = await self._commands.call("ZRANGEBYSCORE", self._keys.pods, "-inf", now_ms, "LIMIT", 0, 100)
        names = [pod_name(entry) for entry in entries]
        foreign = [entry for entry, name in zip(entries, names, strict=True) if name is None]
        if foreign:
            await self._commands.call("ZREM", self._keys.pods, *foreign)
        return [name for name in names if name is not None and name != self._pod]

    async def pods(self) -> list[str]:
        """Names of all pods there are; the leases of some may have run out."""
        entries = await self._commands.call("ZRANGE", self._keys.pods, 0, -1)
        return [name for entry in entries if (name := pod_name(entry)) is not None]

    async def now_ms(self) -> int:
        """Redis' time in milliseconds since 1970."""
        seconds, micros = await self._commands.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def describe(self, pod: str) -> dict[str, str]:
        """What a pod's lease says: boot, expires, claimed, host, address, started, version."""
        flat = await self._commands.call("HGETALL", self._keys.pod(pod))
        texts = [item.decode("utf-8", "replace") for item in flat]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    async def claim(self, pod: str) -> int:
        """Take an expired lease away; the dead boot, 0 if it is alive, -1 if there is no such lease."""
        boot: int = await self._commands.script("lease_claim", [self._keys.pod(pod)], [self._pod])
        return boot

    async def forget(self, pod: str, boot: int) -> None:
        """Delete a dead pod's keys if it is still `boot`, then its place in the index of pods.

        A pod that came back meanwhile keeps both.
        """
        if boot > 0:
            await self._commands.script("lease_reaped", self._of(pod), [boot])
        await self._commands.script("pods_forget", [self._keys.pods], [pod])

    def _of(self, pod: str) -> list[str]:
        return [self._keys.pod(pod), self._keys.pod_users(pod), self._keys.feed(pod)]
