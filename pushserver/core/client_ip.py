"""Whose address a request comes from, by the rule of gin's `Context.ClientIP` (v1.12).

gin trusts everybody unless told otherwise; here nobody is trusted unless told. Who ports gin's default
writes the proxies `0.0.0.0/0` and `::/0`, and lets any client choose its address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from pushserver.core.cached import cached
from pushserver.core.request import HttpRequest

__all__ = ["DEFAULT_HEADERS", "ClientIPRule"]

DEFAULT_HEADERS = ("X-Forwarded-For", "X-Real-IP")
"""The headers that a trusted proxy is believed in, in the order they are asked."""

_PREFIX_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")


class ClientIPRule:
    """Finds the client's address behind proxies. Built once from settings, shared by all requests.

    `trusted_proxies` are addresses and CIDRs (host bits allowed; IPv4-mapped ones count as IPv4); None
    and empty trust nobody. `headers` are asked in their order. `platform_header` names a header that
    is believed as it stands, whoever sends it. Raises `ValueError` naming the entry for a proxy that is
    a name, empty, or has a zone, a port, brackets, spaces, leading zeros, a sign or a dotted mask.
    """

    __slots__ = ("_headers", "_ipv4_proxies", "_ipv6_proxies", "_platform_header")

    def __init__(
        self,
        trusted_proxies: Iterable[str] | None = (),
        headers: Iterable[str] | None = DEFAULT_HEADERS,
        platform_header: str = "",
        *,
        forwarded_by_client_ip: bool = True,
    ) -> None:
        proxies = [_parse_proxy(entry) for entry in trusted_proxies or ()]
        self._ipv4_proxies = [proxy for proxy in proxies if isinstance(proxy, IPv4Network)]
        self._ipv6_proxies = [proxy for proxy in proxies if isinstance(proxy, IPv6Network)]
        self._headers = tuple(headers or ()) if forwarded_by_client_ip else ()
        self._platform_header = platform_header

    def client_ip(self, request: HttpRequest) -> str:
        """The client's address, "" if there is none (a peer that is no address, a bare unix socket).

        An answer from a header comes back as it was written, the peer's own in normal form. An answer
        from the platform header may be any text: quote it in logs, parse it before use as an address.
        """
        if self._platform_header and (platform := request.header(self._platform_header)):
            return platform
        if request.unix_socket:
            return self._forwarded_address(request)
        peer, text = _parse_peer(request.peer)
        if peer is None:
            return ""
        return (self._forwarded_address(request) if self._trusts(peer) else "") or text

    def remote_ip(self, request: HttpRequest) -> str:
        """The peer's address as the socket tells it, unchecked; "" on a unix socket."""
        return "" if request.unix_socket else request.peer

    def trusts(self, peer: str) -> bool:
        """Whether this address, as a socket tells it, is a trusted proxy's."""
        address, _ = _parse_peer(peer)
        return address is not None and self._trusts(address)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        if isinstance(address, IPv4Address):
            return any(address in proxy for proxy in self._ipv4_proxies)
        return any(address in proxy for proxy in self._ipv6_proxies)

    def _forwarded_address(self, request: HttpRequest) -> str:
        answers = (self._walk(",".join(request.header_lines(name))) for name in self._headers)
        return next(filter(None, answers), "")

    def _walk(self, value: str) -> str:
        """Go through one header from the right, past trusted proxies; "" if it gives no answer.

        Each proxy appends who spoke to it, so what stands left of an untrusted address or of something
        that is no address was written by somebody nobody vouches for.
        """
        item = ""
        for item in map(_trimmed, reversed(value.split(","))):
            address = _parse_address(item)
            if address is None:
                return ""
            if not self._trusts(address):
                break
        return item


def _trimmed(item: str) -> str:
    # A bare strip() would also take \x85, \xa0 and \x1c to \x1f.
    return item.strip(" \t")


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address, an IPv4-mapped one as IPv4; None for any other text and for addresses with a zone."""
    if "%" in text:
        return None
    try:
        if ":" not in text:
            return IPv4Address(text)
        address = IPv6Address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address


@cached("peers", 1024)
def _parse_peer(text: str) -> tuple[IPv4Address | IPv6Address | None, str]:
    """As `_parse_address`, with the address's text in normal form. Peers are few where proxies connect."""
    address = _parse_address(text)
    return address, str(address)


def _parse_proxy(entry: str) -> IPv4Network | IPv6Network:
    _, slash, prefix_length = entry.partition("/")
    # ipaddress would also take zones and dotted masks.
    well_formed = "%" not in entry and (not slash or _PREFIX_LENGTH.fullmatch(prefix_length))
    try:
        network = ip_network(entry, strict=False) if well_formed else None
    except ValueError:
        network = None
    if network is None:
        raise ValueError(f"trusted proxy {entry!r} is neither an IP address nor a CIDR")
    return _as_ipv4(network) if isinstance(network, IPv6Network) else network


def _as_ipv4(network: IPv6Network) -> IPv4Network | IPv6Network:
    """A network of IPv4-mapped addresses as the IPv4 network it stands for; any other as it is."""
    mapped = network.network_address.ipv4_mapped
    if mapped is None:
        return network
    # The prefix is 96 at least: a shorter one would have cut into the mark of a mapped address.
    return IPv4Network((int(mapped), network.prefixlen - 96))
