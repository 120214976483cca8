"""Admission: how many may come, before anybody is verified."""

from __future__ import annotations

import time
from collections import Counter
from ipaddress import AddressValueError, IPv6Address, IPv6Network

from pushserver.core.context import Context
from pushserver.web.chain import CLIENT_IP
from pushserver.web.chain.refuse import refuse

__all__ = ["Admission", "address_key"]


def address_key(client_ip: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 an IPv6 host has to itself."""
    if ":" not in client_ip:
        return client_ip
    try:
        return str(IPv6Network((int(IPv6Address(client_ip)), 64), strict=False).network_address)
    except (AddressValueError, ValueError):
        return client_ip


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
        self._per_ip = per_ip
        self._handshakes_per_s = handshakes_per_s
        self._retry_after_s = retry_after_s
        self._by_address: Counter[str] = Counter()
        self._second = 0
        self._in_second = 0
        self.inside = 0
        """Sockets that were let in and have not left."""
        self.draining = False
        """The pod is leaving: nobody is let in."""

    async def handle(self, ctx: Context) -> None:
        """The link of the chain: let in or refuse; let out again whom a later link refuses."""
        address = address_key(ctx.must_get(CLIENT_IP))
        refusal = self._refusal(address)
        if refusal is not None:
            status, code, message = refusal
            refuse(ctx, status, code, message, retry_after_s=self._retry_after_s)
            return
        self.inside += 1
        self._by_address[address] += 1
        let_in = False
        try:
            await ctx.next()
            let_in = ctx.refusal_status is None
        finally:
            if not let_in:
                self._leave(address)

    def left(self, client_ip: str) -> None:
        """A socket that was let in is gone."""
        self._leave(address_key(client_ip))

    def _leave(self, address: str) -> None:
        self.inside -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _refusal(self, address: str) -> tuple[int, str, str] | None:
        if self.draining:
            return 503, "draining", "the pod is leaving"
        if self.inside >= self._max_connections:
            return 503, "full", "the pod is full"
        if self._per_ip and self._by_address[address] >= self._per_ip:
            return 429, "too_many_connections", "too many connections from this address"
        if self._too_many_now():
            return 503, "busy", "too many handshakes at this moment"
        return None

    def _too_many_now(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        return bool(self._handshakes_per_s) and self._in_second > self._handshakes_per_s
