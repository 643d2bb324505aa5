"""The addresses a key may be used from: one way to write each, a word on what is wrong. Pure.

An entry is an IPv4 or IPv6 address or a network in CIDR form. An IPv4 address wrapped in IPv6 means
the IPv4 address, as the doors see it.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final

from shared.errors import InvalidError

ENTRIES_MAX: Final = 50
SHOWN_LENGTH_MAX: Final = 60
"""How much of a wrong entry its message repeats."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def canonical(entries: Sequence[str]) -> tuple[str, ...]:
    """`entries` in their shortest form, in their order, each once; empty means any address.

    Raises:
        InvalidError: more than `ENTRIES_MAX`, or an entry that is none; the message names it.
    """
    if len(entries) > ENTRIES_MAX:
        raise InvalidError(f"allowlist: {len(entries)} entries; a key may have {ENTRIES_MAX}.")
    return tuple(dict.fromkeys(_canonical(entry.strip()) for entry in entries))


def _canonical(entry: str) -> str:
    network = _unwrapped(_parsed(entry))
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return str(network)


def _parsed(entry: str) -> Network:
    shown = entry if len(entry) <= SHOWN_LENGTH_MAX else entry[:SHOWN_LENGTH_MAX] + "…"
    try:
        network = ipaddress.ip_network(entry, strict=False)
        first = ipaddress.ip_address(entry.partition("/")[0])
    except ValueError as error:
        raise InvalidError(
            f"allowlist: {shown!r} is no address and no network; "
            "write 192.0.2.7, 192.0.2.0/24, 2001:db8::7 or 2001:db8::/32."
        ) from error
    if "%" in entry:
        raise InvalidError(f"allowlist: {shown!r} names an interface; leave out what follows '%'.")
    if first != network.network_address:
        raise InvalidError(
            f"allowlist: {shown!r} is an address within {network}; "
            f"write {network} for the network, or {first} for the address alone."
        )
    return network


def _unwrapped(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        address = network.network_address.ipv4_mapped
        if address is not None:
            return ipaddress.ip_network((int(address), network.prefixlen - 96))
    return network
