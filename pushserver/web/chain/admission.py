"""Admission: how many may come, before anybody is verified."""

from __future__ import annotations

import time
from collections import Counter
from ipaddress import AddressValueError, IPv6Address, IPv6Network

from pushserver.core.context import Context
from pushserver.web.chain import CLIENT_IP
from pushserver.web.chain.refuse import refuse

__all__ = ["Admission", "address_key"]

_DRAINING = (503, "draining", "the pod is leaving")
_BUSY = (503, "busy", "too many handshakes at this moment")

ADDRESS_SHARE = 0.5
"""Of the handshakes of a second, so many are for one address; with `per_ip` only."""
RETURN_SHARE = 0.7
"""Of the handshakes of a second, so many are told to come in it."""
MAX_RETURN_S = 30
"""The latest that anybody is told to come again."""


def address_key(client_ip: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 an IPv6 host has to itself."""
    if ":" not in client_ip:
        return client_ip
    try:
        address = IPv6Address(client_ip)
    except AddressValueError:
        return client_ip
    if address.ipv4_mapped is not None:
        # As a proxy on a dual-stack socket writes it; their /64 would be all of IPv4.
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), 64), strict=False).network_address)


class Admission:
    """Counts sockets from the handshake on, verified or not, and refuses beyond the limits."""

    def __init__(
        self,
        *,
        max_connections: int,
        per_ip: int,
        handshakes_per_s: int,
        retry_after_s: int,
    ) -> None:
        self._max_connections = max_connections
        self.per_ip = per_ip
        """Sockets of one address at most; 0 where addresses do not count."""
        self._handshakes_per_s = handshakes_per_s
        self._retry_after_s = retry_after_s
        self._by_address: Counter[str] = Counter()
        self._room = float(handshakes_per_s)
        """Handshakes that may come at this moment, at most as many as in a second; refilled by and by."""
        self._room_at = 0.0
        self._second = 0
        self._in_second_by_address: Counter[str] = Counter()
        self._return_at = 0
        self._returning = 0
        """How many were told to come in the second `_return_at`: the latest that anybody was told."""
        self.inside = 0
        """Sockets in the chain, and those that were let in and have not left."""
        self.draining = False
        """The pod is leaving: nobody is let in."""

    async def handle(self, ctx: Context) -> None:
        """The link of the chain: let in or refuse; let out again whom a later link refuses."""
        address = address_key(ctx.must_get(CLIENT_IP))
        refusal = self._refusal(address)
        if refusal is not None:
            self._refuse(ctx, refusal)
            return
        self._enter(address)
        let_in = False
        try:
            await ctx.next()
            if self.draining and ctx.refusal_status is None:
                # The leaving began meanwhile; those to whom it says goodbye are counted already.
                self._refuse(ctx, _DRAINING)
            let_in = ctx.refusal_status is None
        finally:
            if not let_in:
                self._leave(address)

    def stays(self, client_ip: str) -> None:
        """A socket that was refused stays for a while all the same; `left` follows."""
        self._enter(address_key(client_ip))

    def left(self, client_ip: str) -> None:
        """A socket that was let in, or stayed, is gone."""
        self._leave(address_key(client_ip))

    def _enter(self, address: str) -> None:
        self.inside += 1
        self._by_address[address] += 1

    def _leave(self, address: str) -> None:
        self.inside -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _refuse(self, ctx: Context, refusal: tuple[int, str, str]) -> None:
        after_s = self._return_after() if refusal is _BUSY else self._retry_after_s
        refuse(ctx, *refusal, retry_after_s=after_s)

    def _return_after(self) -> int:
        """Seconds until one to which not too many were sent already, so that a crowd is not refused twice."""
        first = self._second + 1
        if self._return_at < first:
            self._return_at, self._returning = first, 0
        elif (
            self._returning >= RETURN_SHARE * self._handshakes_per_s
            and self._return_at < first + MAX_RETURN_S
        ):
            self._return_at, self._returning = self._return_at + 1, 0
        self._returning += 1
        return min(self._return_at - self._second, MAX_RETURN_S)

    def _refusal(self, address: str) -> tuple[int, str, str] | None:
        if self.draining:
            return _DRAINING
        if self.inside >= self._max_connections:
            return 503, "full", "the pod is full"
        if self.per_ip and self._by_address[address] >= self.per_ip:
            return 429, "too_many_connections", "too many connections from this address"
        if not self._handshakes_per_s:
            return None
        now = time.monotonic()
        self._begin_second(int(now))
        if self.per_ip and self._too_many_of(address):
            # Before it counts: one address must not use up what is everybody's.
            return 429, "too_many_handshakes", "too many handshakes from this address at this moment"
        return None if self._has_room(now) else _BUSY

    def _has_room(self, now: float) -> bool:
        """A token bucket. Were it filled once a second, the rest of a crowd would take it all at once from
        those who were told to come in that second.
        """
        limit = self._handshakes_per_s
        self._room = min(limit, self._room + (now - self._room_at) * limit)
        self._room_at = now
        if self._room < 1:
            return False
        self._room -= 1
        return True

    def _begin_second(self, second: int) -> None:
        if second != self._second:
            self._second = second
            self._in_second_by_address.clear()

    def _too_many_of(self, address: str) -> bool:
        self._in_second_by_address[address] += 1
        return self._in_second_by_address[address] > max(1, int(ADDRESS_SHARE * self._handshakes_per_s))
