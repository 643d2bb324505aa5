"""What counts as a use of a key, how uses add up, and what is worth a warning. Pure.

`sightings` reads a door's event; `folded` adds sightings to what is known. The order in which they
come changes nothing: the last use is the greatest, a day's uses are a sum, and a sighting of an
earlier day than the last one does not count into it. So however the log is cut into batches, the
outcome is the same.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Literal, assert_never

from shared.events import AccessSummary, SessionClosed, SessionOpened

MINUTE_SECONDS: Final = 60
DAY_SECONDS: Final = 86_400
SOURCES_MAX: Final = 100
"""Source networks kept of a key: those used last."""
SOURCES_KEEP_DAYS: Final = 90
"""How long a source network is remembered after its last use."""
MANY_NETWORKS: Final = 10
"""More source networks than these within a day are worth a warning."""
UNUSED_SECONDS: Final = 90 * DAY_SECONDS
EXPIRING_SECONDS: Final = 14 * DAY_SECONDS
STREAM: Final = "GET /v1/firehose/stream"
"""The endpoint of every stream."""
IPV4_PREFIX: Final = 24
IPV6_PREFIX: Final = 48
NO_NETWORK: Final = "unknown"
"""The source of an address that is none."""

DoorEvent = AccessSummary | SessionOpened | SessionClosed
KeyWarning = Literal["unused_90_days", "many_networks", "expiring_soon", "predecessor_in_use"]


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """A moment at which a key was used; the greater one is the later.

    Attributes:
        at: seconds, UTC; 0 for never.
        ip: the client's address.
        endpoint: method and route template.
    """

    at: float = 0.0
    ip: str = ""
    endpoint: str = ""

    @property
    def minute(self) -> float:
        """Its moment to the minute, as people are told."""
        return self.at // MINUTE_SECONDS * MINUTE_SECONDS


@dataclass(frozen=True, slots=True, order=True)
class Refused:
    """A moment at which a key was presented and refused, in vain.

    Attributes:
        at: seconds, UTC; 0 for never.
        ip: the client's address.
        reason: the door's word for it: `revoked`, `allowlist`, `rate`, ...
    """

    at: float = 0.0
    ip: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A network that a key was used from.

    Attributes:
        network: IPv4 by /24, IPv6 by /48.
        last: the last use from there.
        count_on_day: uses on the UTC day of the last.
    """

    network: str
    last: Use
    count_on_day: int

    def count_today(self, now: float) -> int:
        """Uses on the UTC day of `now`."""
        return self.count_on_day if day_of(self.last.at) == day_of(now) else 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What is known of one key.

    Attributes:
        last: the last use.
        count_on_day: uses on the UTC day of the last.
        refused: the last refusal.
        many_networks_at: the last use of the source that is `MANY_NETWORKS` + 1st by recency, so
            that there were more than `MANY_NETWORKS` since any moment before it; 0 for none.
        sources: the networks used last, by name.
    """

    last: Use = Use()
    count_on_day: int = 0
    refused: Refused = Refused()
    many_networks_at: float = 0.0
    sources: Mapping[str, Source] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A key at a door, as one member of one event tells.

    Attributes:
        key_id: the key.
        network_id: whose it is, as the door says.
        at: seconds, UTC.
        ip: the client's address.
        endpoint: method and route template.
        count: how often.
        refusal: why it was not let in; empty if it was.
    """

    key_id: str
    network_id: int
    at: float
    ip: str
    endpoint: str
    count: int
    refusal: str = ""


def sightings(event: DoorEvent) -> Iterator[Sighting]:
    """The keys that `event` tells of.

    A stream is one use, when it opens; its end is a moment at which it was still used, and no
    further use.
    """
    match event:
        case AccessSummary():
            for count in event.counts:
                if count.key_id:
                    yield Sighting(
                        key_id=count.key_id,
                        network_id=event.network_id,
                        at=float(event.second),
                        ip=count.client_ip,
                        endpoint=f"{count.method} {count.endpoint}",
                        count=count.count,
                        refusal=count.refusal,
                    )
        case SessionOpened() | SessionClosed():
            yield Sighting(
                key_id=event.key_id,
                network_id=event.network_id,
                at=event.occurred_at,
                ip=event.client_ip,
                endpoint=STREAM,
                count=1 if isinstance(event, SessionOpened) else 0,
            )
        case _:
            assert_never(event)


def moment_of(event: DoorEvent) -> float:
    """When it was what `event` tells of; seconds, UTC."""
    return float(event.second) if isinstance(event, AccessSummary) else event.occurred_at


def folded(usage: Usage, seen: Iterable[Sighting], now: float) -> Usage:
    """`usage` and what was `seen` of the same key until `now`.

    A door whose clock is ahead would make a key used in the future, and every real use too old to
    show; what lies after `now` counts as of now.
    """
    last, count, refused = usage.last, usage.count_on_day, usage.refused
    sources = dict(usage.sources)
    for one in seen:
        at = min(one.at, now)
        if one.refusal:
            refused = max(refused, Refused(at, one.ip, one.refusal))
            continue
        use = Use(at, one.ip, one.endpoint)
        count = _sum_on_day(last.at, count, at, one.count)
        last = max(last, use)
        _note_source(sources, use, one.count)
    kept = _kept(sources, last.at)
    return Usage(last, count, refused, _many_networks_at(kept), kept)


def _note_source(sources: dict[str, Source], use: Use, count: int) -> None:
    name = source_of(use.ip)
    known = sources.get(name)
    if known is None:
        sources[name] = Source(name, use, count)
    else:
        total = _sum_on_day(known.last.at, known.count_on_day, use.at, count)
        sources[name] = replace(known, last=max(known.last, use), count_on_day=total)


def _sum_on_day(last_at: float, count: int, at: float, more: int) -> int:
    """Uses on the later day of the two."""
    if day_of(at) > day_of(last_at):
        return more
    return count + more if day_of(at) == day_of(last_at) else count


def _kept(sources: Mapping[str, Source], last_at: float) -> dict[str, Source]:
    """Those used last, and none from before the last use by more than their time."""
    since = oldest_day(last_at)
    found = [source for source in sources.values() if day_of(source.last.at) >= since]
    found.sort(key=_latest_first, reverse=True)
    return {source.network: source for source in found[:SOURCES_MAX]}


def _latest_first(source: Source) -> tuple[Use, str]:
    return source.last, source.network


def _many_networks_at(sources: Mapping[str, Source]) -> float:
    moments = sorted((source.last.at for source in sources.values()), reverse=True)
    return moments[MANY_NETWORKS] if len(moments) > MANY_NETWORKS else 0.0


def day_of(at: float) -> int:
    """The UTC day of a moment, in days since 1970."""
    return int(at // DAY_SECONDS)


def oldest_day(now: float) -> int:
    """The first day whose sources are still remembered at `now`."""
    return day_of(now) - SOURCES_KEEP_DAYS


@lru_cache(maxsize=65_536)
def source_of(ip: str) -> str:
    """The network that stands for an address: what one office or machine usually keeps to."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return NO_NETWORK
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((int(address), IPV6_PREFIX), strict=False))
        address = address.ipv4_mapped
    return str(ipaddress.IPv4Network((int(address), IPV4_PREFIX), strict=False))


# --- warnings -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Watched:
    """What decides about the warnings of one key.

    Attributes:
        is_active: whether it works at this moment: not ended, and its time has begun.
        works_since: when it began to work: the later of its creation and its `not_before`.
        expires_at: when it ends; None for never.
        is_superseded: whether it has a successor.
        last_used_at: its last use; 0 for never.
        many_networks_at: as in `Usage`.
        predecessor_used_at: the last use of the key that it replaces while that one still works;
            None if there is none.
    """

    is_active: bool
    works_since: float
    expires_at: float | None = None
    is_superseded: bool = False
    last_used_at: float = 0.0
    many_networks_at: float = 0.0
    predecessor_used_at: float | None = None


def warnings(key: Watched, now: float) -> tuple[KeyWarning, ...]:
    """What staff should look at; nothing of a key that does not work.

    * `unused_90_days`: it has worked for 90 days, and for 90 days nobody used it.
    * `many_networks`: within a day it was used from more than `MANY_NETWORKS` source networks.
    * `expiring_soon`: it ends within 14 days, and no successor is there.
    * `predecessor_in_use`: a rotation is running, and the old key was used within a day. Both keys
      show it, since on either row the question is whether the partner has changed over.
    """
    if not key.is_active:
        return ()
    replaced_at = key.last_used_at if key.is_superseded else key.predecessor_used_at
    found: dict[KeyWarning, bool] = {
        "unused_90_days": max(key.works_since, key.last_used_at) <= now - UNUSED_SECONDS,
        "many_networks": key.many_networks_at > now - DAY_SECONDS,
        "expiring_soon": not key.is_superseded
        and key.expires_at is not None
        and key.expires_at <= now + EXPIRING_SECONDS,
        "predecessor_in_use": replaced_at is not None and replaced_at > now - DAY_SECONDS,
    }
    return tuple(warning for warning, holds in found.items() if holds)
