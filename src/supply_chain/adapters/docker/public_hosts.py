"""Check of the hosts that a build may connect to: all their addresses have to be public."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from supply_chain.errors import DockerfileRefused, FetchFailed

Resolve = Callable[[str, int], Sequence[str]]
"""`(host, port)` → its addresses as text; raises `OSError` if there are none."""

SPECIAL = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments, with the address of the network's own port mapper
    IPv4Network("192.88.99.0/24"),  # relays of 6to4 (RFC 7526)
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)
"""Networks of IANA's special-purpose registries that the standard library of Python 3.11 takes for global."""
UNICAST = IPv6Network("2000::/3")
"""All addresses of IPv6 that IANA gives to networks; outside are site-local, local-use NAT64 and SRv6, for example."""
NAT64 = IPv6Network("64:ff9b::/96")
"""The well-known prefix (RFC 6052): the address of an IPv4 host in a network that has only IPv6."""


def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host from the system's resolver.

    The resolver accepts every notation of an address that a client would accept.
    """
    return list(dict.fromkeys(str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def resolve_public_addresses(host: str, port: int, resolve: Resolve = resolve) -> tuple[str, ...]:
    """Return the addresses of a host, all of them public.

    Raises `DockerfileRefused` if an address is loopback, link-local, private or otherwise not public, and `FetchFailed`
    if the host has no address.
    """
    try:
        addresses = tuple(resolve(host, port))
    except (OSError, UnicodeError) as error:
        raise FetchFailed(
            f"The host {host} has no address: {error}\nCheck its name, and this machine's DNS."
        ) from error
    for address in addresses:
        if not is_public(address):
            named = host if host == address else f"{host}, which is {address}"
            raise DockerfileRefused(
                f"The Dockerfile needs the host {named}: no address of the public Internet.\n"
                "Builds fetch nothing from loopback, link-local and private networks. An operator can map an image "
                "from there in the profile (`bases`); files belong into the source."
            )
    if not addresses:
        raise FetchFailed(f"The host {host} has no address.\nCheck its name, and this machine's DNS.")
    return addresses


def is_public(address: str) -> bool:
    """Return whether an address, and any IPv4 address embedded in an IPv6 address, is public."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(map(_is_global, _carried(parsed)))


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    """Return whether IANA's registries list an address as one of the public Internet."""
    if isinstance(address, IPv6Address) and not (address in UNICAST or address in NAT64):
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in SPECIAL)


def _carried(address: IPv4Address | IPv6Address) -> Sequence[IPv4Address | IPv6Address]:
    """Return the address and the IPv4 addresses in it: mapped, 6to4, Teredo, or NAT64's well-known prefix."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    inside = [address.sixtofour, *(address.teredo or ())]
    if address in NAT64:
        inside.append(IPv4Address(address.packed[12:]))
    return [address, *(each for each in inside if each)]
