"""What the audit service does: take events into the trail, note anomalies, answer for one network.

A caller sees the network of their token and no other; staff of the whole platform (network 0) see
the chain of callers whose network is unknown.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.audit import chain, checkpoints, domain
from services.audit.feed import Feed, Page, follow
from services.audit.metrics import AuditMetrics
from services.audit.store import Search, Store, append, note_anomaly
from services.audit.verify import Evidence, NetworkReport, verify_network
from shared import events, topics
from shared.batches import Item
from shared.clock import Clock
from shared.errors import ForbiddenError, InvalidError, TooManyError
from shared.kafka import Record
from shared.postgres import Connection
from shared.tokens import (
    ACCOUNTS_HISTORY_FULL,
    ACCOUNTS_HISTORY_READ,
    AUDIT_READ,
    SECURITY_FULL,
    SECURITY_READ,
    Caller,
)

READ_PERMISSIONS: Final = (
    AUDIT_READ,
    SECURITY_FULL,
    SECURITY_READ,
    ACCOUNTS_HISTORY_FULL,
    ACCOUNTS_HISTORY_READ,
)

TRAIL_TOPICS: Final = (topics.KEYS_EVENTS, topics.GATEWAY_ACCESS, topics.FIREHOSE_SESSIONS)
UNKNOWN_KEY: Final = b"-:-"
"""The record key of what concerns no known partner."""


def check_audited(record: Record[bytes, bytes]) -> domain.AuditedEvent:
    """The event in a record of the trail's topics, proved to belong to the record's key.

    Raises:
        InvalidError: not one of the topic's types, not of its schema, or of another partner.
    """
    event: domain.AuditedEvent = _decoded(record, TRAIL_TOPICS)
    expected = b"%d:%d" % (event.network_id, event.network_affiliate_id)
    is_unknown = not event.network_id and record.key == UNKNOWN_KEY
    if record.key != expected and not is_unknown:
        raise InvalidError(f"key {record.key!r} is not of {expected.decode()}, as the body says")
    return event


def check_anomaly(record: Record[bytes, bytes]) -> domain.Anomaly:
    """The event in a record of `audit.anomalies.v1`.

    Raises:
        InvalidError: not one of its types, or not of its schema.
    """
    anomaly: domain.Anomaly = _decoded(record, (topics.AUDIT_ANOMALIES,))
    return anomaly


def _decoded(record: Record[bytes, bytes], allowed: Sequence[topics.Topic]) -> Any:
    kind = events.envelope(record.headers).type
    for topic in allowed:
        for event in topic.schemas if topic.name == record.topic else ():
            if events.type_name(event) == kind:
                return events.decode(event, record.value)
    raise InvalidError(f"ce_type {kind!r} has no place in topic {record.topic}")


def trail_writer(
    notify: str, metrics: AuditMetrics
) -> Callable[[Connection, Sequence[Item[domain.AuditedEvent]]], Awaitable[None]]:
    """The effect of a batch on the trail: each event that is new becomes its entries.

    Args:
        notify: the channel that tells of new entries.
        metrics: counts them.
    """

    async def write(connection: Connection, items: Sequence[Item[domain.AuditedEvent]]) -> None:
        drafts = [draft for item in items for draft in domain.drafts(item.envelope.id, item.event)]
        metrics.entries.inc(await append(connection, drafts, notify=notify))

    return write


async def note_anomalies(connection: Connection, items: Sequence[Item[domain.Anomaly]]) -> None:
    """The effect of a batch of anomalies."""
    for item in items:
        await note_anomaly(connection, item.event)


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the API calls; every call is about the network of `caller`.

    Raises, all of them:
        ForbiddenError: the caller is a partner's user, or may not read the audit trail.
    """

    store: Store
    feed: Feed
    journal: checkpoints.Journal
    public_key: Ed25519PublicKey
    clock: Clock
    metrics: AuditMetrics
    heartbeat_seconds: float
    stream_seconds_max: float
    verifying: asyncio.Lock
    """Held while a verification runs: it reads the whole trail, so one at a time."""

    async def search(self, caller: Caller, search: Search, limit: int) -> list[chain.StoredEntry]:
        """Up to `limit` entries, newest first."""
        _require_reader(caller)
        return await self.store.search(caller.network_id, search, limit)

    async def anomalies(
        self,
        caller: Caller,
        *,
        network_affiliate_id: int | None,
        is_open: bool,
        before: tuple[int, str] | None,
        limit: int,
    ) -> list[Mapping[str, Any]]:
        """Up to `limit` incidents, newest window first."""
        _require_reader(caller)
        return await self.store.anomalies(
            caller.network_id,
            network_affiliate_id=network_affiliate_id,
            is_open=is_open,
            before=before,
            limit=limit,
        )

    async def verify(self, caller: Caller) -> NetworkReport:
        """The verification of the caller's chain against its checkpoints.

        Raises:
            TooManyError: another verification is running.
        """
        _require_reader(caller)
        if self.verifying.locked():
            raise TooManyError("A verification is running.", retry_after_seconds=5)
        async with self.verifying:
            with self.metrics.verify_seconds.time():
                return await self._verify(caller.network_id)

    async def _verify(self, network_id: int) -> NetworkReport:
        evidence = await Evidence.of(self.journal, network_id, self.public_key)
        async with self.store.snapshot() as snapshot:
            heads = await snapshot.heads()
            return await verify_network(snapshot, network_id, evidence, heads.get(network_id))

    async def stream(
        self, caller: Caller, after: int | None
    ) -> tuple[int, AsyncGenerator[Page, None]]:
        """Where the feed begins, and what follows it, page by page; an empty page is a heartbeat.

        Args:
            caller: whose network is followed.
            after: the last sequence the reader has; None to begin with what is added from now on.

        Raises:
            TooManyError: this process has as many readers as it may have.
        """
        _require_reader(caller)
        self.feed.require_room()
        if after is None:
            after = (await self.store.head(caller.network_id)).sequence
        return after, self._pages(caller.network_id, after)

    async def _pages(self, network_id: int, after: int) -> AsyncGenerator[Page, None]:
        ends_at = self.clock.monotonic() + self.stream_seconds_max
        self.metrics.streams.inc()
        try:
            async for page in follow(
                self.store,
                self.feed,
                network_id,
                after,
                heartbeat_seconds=self.heartbeat_seconds,
            ):
                yield page
                if self.clock.monotonic() >= ends_at:
                    return
        finally:
            self.metrics.streams.dec()


def _require_reader(caller: Caller) -> None:
    if caller.network_affiliate_id:
        raise ForbiddenError
    caller.require_any(READ_PERMISSIONS)
