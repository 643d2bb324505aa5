"""How many may be connected at once, altogether and from one address. Pure.

Each address may hold a part of all connections only, so that one client cannot keep the others out.
Our own proxies are exempt: behind one of them stand many. Whoever is turned away is told so and
lingers for a moment; of those too there may be some only, the others are cut off without a word, so
that turning away cannot fill the process either.

An IPv6 caller is known by the /64, since who has one address of it mostly has all.
"""

import ipaddress
from collections import Counter
from functools import lru_cache
from typing import Final, Literal

from shared.access import Network, parse_address

TURNED_AWAY_MAX: Final = 128
"""Connections at once that are told why they may not stay."""
_PREFIX_BITS: Final = 64

Entry = Literal["in", "crowded", "too many", "cut off"]
"""Let in; no room for anybody; none for this address; no room even to be told."""


class Crowd:
    """Counts connections.

    Args:
        connections_max: of all clients.
        per_address_max: of one address.
        trusted: our own proxies.

    Attributes:
        cut_off: connections that were not even told why, since the process began.
    """

    def __init__(
        self, connections_max: int, per_address_max: int, trusted: tuple[Network, ...] = ()
    ) -> None:
        self._connections_max = connections_max
        self._per_address_max = per_address_max
        self._trusted = trusted
        self._by_origin: Counter[str] = Counter()
        self._let_in = 0
        self._turned_away = 0
        self.cut_off = 0

    def enter(self, address: str) -> Entry:
        """What becomes of a connection from `address`; `leave` follows unless it is cut off."""
        origin = _origin(address, self._trusted)
        is_too_many = bool(origin) and self._by_origin[origin] >= self._per_address_max
        if not is_too_many and self._let_in < self._connections_max:
            self._let_in += 1
            self._by_origin[origin] += 1
            return "in"
        if self._turned_away >= TURNED_AWAY_MAX:
            self.cut_off += 1
            return "cut off"
        self._turned_away += 1
        return "too many" if is_too_many else "crowded"

    def leave(self, address: str, entry: Entry) -> None:
        """A connection that `enter` answered with `entry` is gone."""
        if entry == "in":
            origin = _origin(address, self._trusted)
            self._let_in -= 1
            self._by_origin[origin] -= 1
            if not self._by_origin[origin]:
                del self._by_origin[origin]
        elif entry != "cut off":
            self._turned_away -= 1

    def __len__(self) -> int:
        return self._let_in + self._turned_away

    @property
    def origins(self) -> int:
        """From how many addresses clients are connected; our own proxies count as one."""
        return len(self._by_origin)


@lru_cache(maxsize=4096)
def _origin(address: str, trusted: tuple[Network, ...]) -> str:
    """Whom an address stands for; empty for our own proxies, and for sockets of the machine."""
    found = parse_address(address)
    if found is None or any(found in network for network in trusted):
        return ""
    if found.version == 4:  # noqa: PLR2004 - of IP
        return str(found)
    return str(ipaddress.IPv6Network((found, _PREFIX_BITS), strict=False))
