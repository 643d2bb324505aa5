"""What the tests of last use share: doors' events, their records, and a recount in plain Python."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from services.keys.usage.domain import DoorEvent, Refused, Sighting, Source, Usage, Use
from services.keys.usage.projection import check_door_event
from shared import events, topics
from shared.batches import Item
from shared.events import AccessCount, AccessSummary, SessionClosed, SessionOpened
from shared.kafka import Record, TopicPartition

DAY = 86_400
NOON = 1_767_225_600 + DAY // 2  # of the first of January 2026
NETWORK = 201
PARTNER = 7
ENDPOINT = "GET /v1/affiliates/alloffers"
PARTITION = TopicPartition(topics.GATEWAY_ACCESS.name, 0)


def counted(key_id: str, ip: str = "192.0.2.1", count: int = 1, **more: Any) -> AccessCount:
    """One member of a summary: uses, or refusals if `more` names why."""
    method, endpoint = ENDPOINT.split()
    return AccessCount(
        **(
            {
                "key_id": key_id,
                "masked": "aff_…abcd",
                "method": method,
                "endpoint": endpoint,
                "status": 401 if more.get("refusal") else 200,
                "client_ip": ip,
                "count": count,
            }
            | more
        )
    )


def summary(
    *counts: AccessCount, second: int = NOON, network_id: int = NETWORK, partner: int = PARTNER
) -> AccessSummary:
    """What a gateway saw of one partner in one second."""
    return AccessSummary(
        gateway="gateway-1",
        second=second,
        network_id=network_id,
        network_affiliate_id=partner,
        counts=counts,
    )


def opened(key_id: str, at: float, **more: Any) -> SessionOpened:
    """A partner opened a stream."""
    return SessionOpened(**_session(key_id, at, more), types=("clicks",), start="latest")


def closed(key_id: str, at: float, **more: Any) -> SessionClosed:
    """A stream ended."""
    return SessionClosed(
        **_session(key_id, at, more), reason="client_gone", events=3, bytes=300, cursor="c"
    )


def _session(key_id: str, at: float, more: dict[str, Any]) -> dict[str, Any]:
    return {
        "session_id": "s",
        "network_id": NETWORK,
        "network_affiliate_id": PARTNER,
        "key_id": key_id,
        "masked": "aff_…abcd",
        "client_ip": "192.0.2.1",
        "occurred_at": at,
    } | more


def record(event: DoorEvent, offset: int = 0, **more: Any) -> Record[bytes, bytes]:
    """`event` as its door publishes it; `more` replaces parts of the record."""
    is_summary = isinstance(event, AccessSummary)
    topic = topics.GATEWAY_ACCESS if is_summary else topics.FIREHOSE_SESSIONS
    value = more.pop("value", events.encode(event))
    key = events.partner_key(event.network_id, event.network_affiliate_id)
    parts: dict[str, Any] = {
        "topic": topic.name,
        "key": key.encode(),
        "headers": tuple(headers(event)),
    } | more
    return Record(
        parts["topic"], 0, offset, 0, 0, parts["key"], value, None, 0, len(value), parts["headers"]
    )


def headers(event: DoorEvent, event_id: str | None = None) -> list[tuple[str, bytes]]:
    """The CloudEvents headers of `event`, by a name of its own if none is given."""
    return events.headers(
        event,
        source="portico/gateway",
        occurred_at=0.0,
        event_id=event_id or uuid.uuid4().hex,
    )


def item(event: DoorEvent, offset: int = 0, **more: Any) -> Item[DoorEvent]:
    """`event` as the projection hands it on."""
    found = record(event, offset, **more)
    return Item(check_door_event(found), found)


# --- the recount ----------------------------------------------------------------------------------


def recount(seen: Iterable[Sighting], now: float) -> Usage:
    """What must be known of a key after `seen`, in any order: plain maxima and sums."""
    seen = list(seen)
    uses = [(_use(one, now), one.count) for one in seen if not one.refusal]
    refused = [Refused(min(one.at, now), one.ip, one.refusal) for one in seen if one.refusal]
    if not uses:
        return Usage(refused=max(refused, default=Refused()))
    last = max(use for use, _ in uses)
    groups: dict[str, list[tuple[Use, int]]] = defaultdict(list)
    for use, count in uses:
        groups[_network(use.ip)].append((use, count))
    sources = [
        Source(name, max(u for u, _ in found), _on_day(found)) for name, found in groups.items()
    ]
    recent = [one for one in sources if one.last.at // DAY >= last.at // DAY - 90]
    recent.sort(key=lambda one: (one.last, one.network), reverse=True)
    kept = recent[:100]
    return Usage(
        last=last,
        count_on_day=_on_day(uses),
        refused=max(refused, default=Refused()),
        many_networks_at=kept[10].last.at if len(kept) > 10 else 0.0,
        sources={one.network: one for one in kept},
    )


def _use(one: Sighting, now: float) -> Use:
    return Use(min(one.at, now), one.ip, one.endpoint)


def _on_day(uses: Sequence[tuple[Use, int]]) -> int:
    """Uses on the day of the last."""
    day = max(use.at for use, _ in uses) // DAY
    return sum(count for use, count in uses if use.at // DAY == day)


def _network(ip: str) -> str:
    """The /24 of a dotted address."""
    return ip.rpartition(".")[0] + ".0/24"
