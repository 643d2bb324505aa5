"""What becomes an entry of the trail, and when calls become an anomaly. Pure.

`drafts` turns an event into what the trail says about it. `RateLimitRule` folds the counts of
refused calls into incidents: one opens once, and closes once.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec

from shared.events import (
    AccessSummary,
    AnomalyClosed,
    AnomalyOpened,
    KeysEvent,
    SessionClosed,
    SessionOpened,
)

AuditedEvent = KeysEvent | AccessSummary | SessionOpened | SessionClosed

REFUSED: Final = "AccessRefused"
"""The kind of an entry that tells a second's refusals by the gateway."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What one entry will say, before it has a place in the chain.

    Attributes:
        event_id: unique within the network: an event that arrives again is recognised by it.
        kind: the event's name, or `AccessRefused`.
        occurred_at: seconds, UTC.
        actor: who did it: a member of staff, a masked key, or an address.
        network_affiliate_id: the partner concerned, 0 for none.
        key_id: the key concerned, empty for none.
        body: the event as JSON values.
    """

    network_id: int
    event_id: str
    kind: str
    occurred_at: float
    actor: str
    network_affiliate_id: int
    key_id: str
    body: Mapping[str, Any]

    def fields(self) -> dict[str, Any]:
        """The members of the entry's content that the chain does not add itself."""
        return {
            "event_id": self.event_id,
            "kind": self.kind,
            "occurred_at": self.occurred_at,
            "actor": self.actor,
            "network_affiliate_id": self.network_affiliate_id,
            "key_id": self.key_id,
            "body": self.body,
        }


def drafts(event_id: str, event: AuditedEvent) -> list[Draft]:
    """The entries that one event makes: one, or for a summary one for each key refused in it.

    Args:
        event_id: the event's `ce_id`.
        event: the event.
    """
    match event:
        case AccessSummary():
            return _refusals(event_id, event)
        case SessionOpened() | SessionClosed():
            actor = event.masked
        case _:
            actor = event.actor.subject
    draft = Draft(
        network_id=event.network_id,
        event_id=event_id,
        kind=type(event).__name__,
        occurred_at=event.occurred_at,
        actor=_storable(actor),
        network_affiliate_id=event.network_affiliate_id,
        key_id=_storable(getattr(event, "key_id", "")),
        body=_body(event),
    )
    return [draft]


def _refusals(event_id: str, summary: AccessSummary) -> list[Draft]:
    by_key: dict[tuple[str, str], list[Any]] = {}
    for count in summary.counts:
        if count.refusal:
            by_key.setdefault((count.key_id, count.masked), []).append(_body(count))
    return [
        Draft(
            network_id=summary.network_id,
            event_id=f"{event_id}/{index}",
            kind=REFUSED,
            occurred_at=float(summary.second),
            actor=_storable(masked or "unknown key"),
            network_affiliate_id=summary.network_affiliate_id,
            key_id=_storable(key_id),
            body={"gateway": summary.gateway, "second": summary.second, "refused": refused},
        )
        for index, ((key_id, masked), refused) in enumerate(sorted(by_key.items()))
    ]


def _body(event: msgspec.Struct) -> dict[str, Any]:
    body: dict[str, Any] = _storable(msgspec.to_builtins(event))
    return body


def _storable(value: Any) -> Any:
    """`value` with U+FFFD for the character NUL, which no Postgres text can hold."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_storable(name): _storable(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(member) for member in value]
    return value


# --- anomalies ------------------------------------------------------------------------------------

RATE_LIMIT: Final = "rate_limit_hits"


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A running incident: the window that opened it, and how often the limit was met since."""

    anomaly_id: str
    window_start: int
    hits: int


class Hits(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one partner's refused calls.

    Attributes:
        offset: the last record that was counted; an earlier one arriving again is left out.
        window_start: start of the window counted now, seconds, UTC.
        count: refused calls in that window.
        last_second: when the latest one was.
        incident: the running incident, or None.
        closed_window: the window of the last incident that ended; it opens no second one.
    """

    offset: int = -1
    window_start: int = 0
    count: int = 0
    last_second: int = 0
    incident: Incident | None = None
    closed_window: int = -1


Anomaly = AnomalyOpened | AnomalyClosed


def anomaly_id(network_id: int, network_affiliate_id: int, rule: str, window_start: int) -> str:
    """The same for the same incident, however often it is found: 32 hexadecimal digits."""
    text = f"{network_id}:{network_affiliate_id}:{rule}:{window_start}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def rate_limit_hits(summary: AccessSummary) -> int:
    """How many calls of a summary were refused for their rate; none where no partner is known."""
    if not summary.network_affiliate_id:
        return 0
    return sum(
        count.count for count in summary.counts if count.status == HTTPStatus.TOO_MANY_REQUESTS
    )


@dataclass(frozen=True, slots=True)
class RateLimitRule:
    """A partner meets its rate limit again and again.

    Windows lie end to end on the wall clock (tumbling); a hit that arrives late counts in the
    window counted now. An incident opens in the window that sees
    `hits_min` refused calls, and lasts until there was none for `window_seconds`.

    Attributes:
        hits_min: refused calls within a window that open an incident.
        window_seconds: length of a window, and of the quiet that ends an incident.
        grace_seconds: how long a summary may take to arrive before quiet is believed.
    """

    hits_min: int
    window_seconds: int
    grace_seconds: float

    def count(
        self, partner: tuple[int, int], state: Hits, *, offset: int, second: int, hits: int
    ) -> tuple[Hits, list[Anomaly]]:
        """`state` after `hits` refused calls at `second`, and what that opens or closes.

        A record whose offset was counted before changes nothing.
        """
        if offset <= state.offset or not hits:
            return state, []
        events: list[Anomaly] = []
        if state.incident and second - state.last_second > self.window_seconds:
            state, events = self._close(partner, state)
        window_start = max(second - second % self.window_seconds, state.window_start)
        before = state.count if window_start == state.window_start else 0
        state = msgspec.structs.replace(
            state,
            offset=offset,
            window_start=window_start,
            count=before + hits,
            last_second=max(second, state.last_second),
            incident=_grown(state.incident, hits),
        )
        if state.incident or state.count < self.hits_min or window_start <= state.closed_window:
            return state, events
        state, opened = self._open(partner, state)
        return state, [*events, *opened]

    def settle(
        self, partner: tuple[int, int], state: Hits, *, now: float
    ) -> tuple[Hits, list[Anomaly]]:
        """`state` at `now` without further calls: an incident that has been quiet closes."""
        if state.incident is None or not self.is_quiet(state, now=now):
            return state, []
        return self._close(partner, state)

    def is_quiet(self, state: Hits, *, now: float) -> bool:
        """Whether a whole window, and the grace for late summaries, passed without a hit."""
        return now - state.last_second > self.window_seconds + self.grace_seconds

    def _open(self, partner: tuple[int, int], state: Hits) -> tuple[Hits, list[Anomaly]]:
        identifier = anomaly_id(*partner, RATE_LIMIT, state.window_start)
        incident = Incident(
            anomaly_id=identifier, window_start=state.window_start, hits=state.count
        )
        opened = AnomalyOpened(
            anomaly_id=identifier,
            network_id=partner[0],
            network_affiliate_id=partner[1],
            rule=RATE_LIMIT,
            window_start=state.window_start,
            occurred_at=float(state.last_second),
            detail={"hits": state.count, "window_seconds": self.window_seconds},
        )
        return msgspec.structs.replace(state, incident=incident), [opened]

    def _close(self, partner: tuple[int, int], state: Hits) -> tuple[Hits, list[Anomaly]]:
        incident = state.incident
        if incident is None:
            return state, []
        closed = AnomalyClosed(
            anomaly_id=incident.anomaly_id,
            network_id=partner[0],
            network_affiliate_id=partner[1],
            rule=RATE_LIMIT,
            window_start=incident.window_start,
            occurred_at=float(state.last_second),
            detail={"hits": incident.hits},
        )
        state = msgspec.structs.replace(
            state, incident=None, closed_window=max(state.window_start, incident.window_start)
        )
        return state, [closed]


def _grown(incident: Incident | None, hits: int) -> Incident | None:
    if incident is None:
        return None
    return msgspec.structs.replace(incident, hits=incident.hits + hits)


def unique_drafts(found: Iterable[Draft], known: frozenset[str]) -> list[Draft]:
    """`found` in order without ids that are in `known` or came earlier."""
    seen = set(known)
    result: list[Draft] = []
    for draft in found:
        if draft.event_id not in seen:
            seen.add(draft.event_id)
            result.append(draft)
    return result
