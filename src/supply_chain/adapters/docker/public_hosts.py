"""Check of the hosts that a build may connect to: all their addresses have to be public."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from supply_chain.errors import DockerfileRefused, FetchFailed

Resolve = Callable[[str, int], Sequence[str]]
"""`(host, port)` → its addresses as text; raises `OSError` if there are none."""


def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host from the system's resolver.

    The resolver accepts every notation of an address that a client would accept.
    """
    return list(dict.fromkeys(str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def public_addresses(host: str, port: int, resolve: Resolve = resolve) -> tuple[str, ...]:
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
            raise DockerfileRefused(
                f"The Dockerfile needs the host {host}, which is {address}: no address of the public Internet.\n"
                "Builds fetch nothing from loopback, link-local and private networks. An operator can map such an "
                "image in the profile (`bases`); files belong into the source."
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
    return all(each.is_global and not each.is_multicast for each in _carried(parsed))


def _carried(address: IPv4Address | IPv6Address) -> Sequence[IPv4Address | IPv6Address]:
    """Return the address and the IPv4 addresses in it: mapped, 6to4, Teredo, or NAT64's well-known prefix."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    inside = [address.sixtofour, *(address.teredo or ())]
    if address.packed[:12] in (bytes.fromhex("0064ff9b") + bytes(8), bytes(12)):
        inside.append(IPv4Address(address.packed[12:]))
    return [address, *(each for each in inside if each)]
