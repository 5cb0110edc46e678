"""Network addresses: whose a request is behind proxies, and what limits count as one place."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Network = IPv4Network | IPv6Network

UNKNOWN: Final = "unknown"

_SITE_BITS: Final = 64
"""One subscriber has a whole such IPv6 network (RFC 6177), and may take another address in it for
every request."""


def client_address(peer: str, forwarded: str, proxies: Collection[Network]) -> str:
    """The address of the client, as far as the listed proxies can be trusted.

    Each proxy appends whom it speaks for to ``forwarded``, the X-Forwarded-For header: from the
    right, the first that is no trusted proxy is the client. Whoever stands there by no address is
    `UNKNOWN`, however they call themselves: limits count them as one.
    """
    address = peer
    hops = forwarded.split(",") if forwarded else []
    while hops and is_among(address, proxies):
        hop = _parsed(_without_port(hops.pop().strip()))
        address = UNKNOWN if hop is None else str(hop)
    return address


def place_of(address: str) -> str:
    """What limits count an address as: itself, or in IPv6 the network that one subscriber has."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed), _SITE_BITS), strict=False))
    return address if parsed is None else str(parsed)


def is_loopback(address: str) -> bool:
    """Whether this is this machine; what is no address is not."""
    parsed = _parsed(address)
    return parsed is not None and parsed.is_loopback


def is_among(address: str, networks: Collection[Network]) -> bool:
    """Whether the address lies in one of the networks."""
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)


def _without_port(hop: str) -> str:
    """Some proxies say where the client's connection comes from to the port."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    address, _, port = hop.partition(":")
    return address if port.isdecimal() and "." in address else hop


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """The address; one of IPv4 that is written as IPv6 is itself (RFC 4291 section 2.5.5.2)."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
