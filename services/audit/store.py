"""All SQL of the audit service: the trail, its heads, and the anomalies.

`append` runs inside the projection's transaction; everything else reads. A head row's lock is held
until commit, so a reader that sees sequence n has been able to see every entry before it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from services.audit import chain, domain
from shared.errors import UnavailableError
from shared.events import AnomalyOpened
from shared.faultpoint import point
from shared.http import json_bytes
from shared.postgres import Connection, Pool, translated

VERIFY_ROWS: Final = 2_000
"""Entries read at a time by verification: about a megabyte."""

# Makes the head rows that a batch needs, and locks them in one order, so that two batches of the
# same networks wait for each other instead of deadlocking.
_MAKE_HEADS: Final = """
INSERT INTO heads (network_id, sequence, hash)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[]) ORDER BY 1
ON CONFLICT DO NOTHING
"""
_LOCK_HEADS: Final = """
SELECT network_id, sequence, hash FROM heads
WHERE network_id = ANY($1::bigint[]) ORDER BY network_id FOR UPDATE
"""
# Read after the lock: what it does not find, no other batch can be adding.
_KNOWN: Final = """
SELECT event_id FROM entries WHERE network_id = $1 AND event_id = ANY($2::text[])
"""
_INSERT: Final = "INSERT INTO entries (content, hash) SELECT * FROM unnest($1::text[], $2::text[])"
_MOVE_HEAD: Final = "UPDATE heads SET sequence = $2, hash = $3 WHERE network_id = $1"
# Delivered when the transaction commits, and not at all if it rolls back.
_NOTIFY: Final = "SELECT pg_notify($1, $2)"

_HEADS: Final = "SELECT network_id, sequence, hash FROM heads ORDER BY network_id"
_HEAD: Final = "SELECT sequence, hash FROM heads WHERE network_id = $1"
_NETWORKS: Final = "SELECT DISTINCT network_id FROM entries"

# In stored order from a sequence on; also the rows a tamperer gave odd sequences.
_CHAIN: Final = """
SELECT content, hash FROM entries WHERE network_id = $1 AND sequence > $2 ORDER BY sequence
"""

# Newest first, before a sequence. Every filter may be null.
_SEARCH: Final = """
SELECT content, hash FROM entries
WHERE network_id = $1
  AND ($2::bigint IS NULL OR sequence < $2)
  AND ($3::text IS NULL OR kind = $3)
  AND ($4::bigint IS NULL OR network_affiliate_id = $4)
  AND ($5::text IS NULL OR key_id = $5)
  AND ($6::double precision IS NULL OR occurred_at >= $6)
  AND ($7::double precision IS NULL OR occurred_at < $7)
ORDER BY sequence DESC LIMIT $8
"""
_AFTER: Final = """
SELECT sequence, content, hash FROM entries
WHERE network_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3
"""

# One row an incident, whichever of its two events comes first, however often they come.
_OPENED: Final = """
INSERT INTO anomalies AS known
    (anomaly_id, network_id, network_affiliate_id, rule, window_start, opened_at, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (anomaly_id) DO UPDATE SET opened_at = coalesce(known.opened_at, excluded.opened_at)
"""
_CLOSED: Final = """
INSERT INTO anomalies AS known
    (anomaly_id, network_id, network_affiliate_id, rule, window_start, closed_at, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (anomaly_id) DO UPDATE
SET closed_at = coalesce(known.closed_at, excluded.closed_at), detail = excluded.detail
"""
_ANOMALIES: Final = """
SELECT anomaly_id, network_affiliate_id, rule, window_start, opened_at, closed_at, detail
FROM anomalies
WHERE network_id = $1
  AND ($2::bigint IS NULL OR network_affiliate_id = $2)
  AND (NOT $3::boolean OR closed_at IS NULL)
  AND ($4::bigint IS NULL OR (window_start, anomaly_id) < ($4, $5::text))
ORDER BY window_start DESC, anomaly_id DESC LIMIT $6
"""

# One signer among all processes: the lock lives and dies with the session that holds it.
_TRY_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || $1, 0))"
_SIGNER: Final = ".checkpoints"


@dataclass(frozen=True, slots=True)
class Search:
    """Which entries are wanted; None where it does not matter.

    Attributes:
        before: only entries with a lower sequence.
        kind: as `domain.Draft.kind`.
        network_affiliate_id: of this partner.
        key_id: of this key.
        since: occurred at or after, seconds UTC.
        until: occurred before, seconds UTC.
    """

    before: int | None = None
    kind: str | None = None
    network_affiliate_id: int | None = None
    key_id: str | None = None
    since: float | None = None
    until: float | None = None


def channel(schema: str) -> str:
    """The NOTIFY channel on which a schema tells of new entries; the payload is the network."""
    return f"{schema}_entries"


async def append(connection: Connection, drafts: Sequence[domain.Draft], *, notify: str) -> int:
    """Add to the trail what it does not have yet, in the order given; part of a transaction.

    Args:
        connection: inside the transaction that also moves the projection's offset.
        drafts: what happened, of any networks.
        notify: the channel that tells of new entries.

    Returns:
        How many entries were added.

    Raises:
        UnavailableError: a head does not fit its trail; nothing may be appended until it does.
    """
    by_network: dict[int, list[domain.Draft]] = {}
    for draft in drafts:
        by_network.setdefault(draft.network_id, []).append(draft)
    added = 0
    for network_id, head in (await _locked_heads(connection, sorted(by_network))).items():
        point("audit.heads_locked")
        added += await _extend(connection, network_id, head, by_network[network_id], notify)
    point("audit.appended")
    return added


async def _locked_heads(
    connection: Connection, networks: Sequence[int]
) -> Mapping[int, chain.Head]:
    starts = [chain.genesis(network_id) for network_id in networks]
    await connection.execute(
        _MAKE_HEADS, networks, [head.sequence for head in starts], [head.hash for head in starts]
    )
    rows = await connection.fetch(_LOCK_HEADS, networks)
    return {row["network_id"]: chain.Head(row["sequence"], row["hash"]) for row in rows}


async def _extend(
    connection: Connection,
    network_id: int,
    head: chain.Head,
    drafts: Sequence[domain.Draft],
    notify: str,
) -> int:
    rows = await connection.fetch(_KNOWN, network_id, [draft.event_id for draft in drafts])
    fresh = domain.unique_drafts(drafts, frozenset(row["event_id"] for row in rows))
    if not fresh:
        return 0
    entries, head = chain.extend(head, network_id, (draft.fields() for draft in fresh))
    try:
        await connection.execute(
            _INSERT, [entry.content for entry in entries], [entry.hash for entry in entries]
        )
    except asyncpg.UniqueViolationError as error:
        raise UnavailableError(
            f"network {network_id}: its head is not the end of its trail; the database was changed "
            "by hand. Run `portico audit verify` and restore what it names."
        ) from error
    await connection.execute(_MOVE_HEAD, network_id, head.sequence, head.hash)
    await connection.execute(_NOTIFY, notify, str(network_id))
    return len(entries)


async def note_anomaly(connection: Connection, anomaly: domain.Anomaly) -> None:
    """Note that an incident began or ended; a repeat changes nothing."""
    sql = _OPENED if isinstance(anomaly, AnomalyOpened) else _CLOSED
    await connection.execute(
        sql,
        anomaly.anomaly_id,
        anomaly.network_id,
        anomaly.network_affiliate_id,
        anomaly.rule,
        anomaly.window_start,
        anomaly.occurred_at,
        json_bytes(anomaly.detail).decode(),
    )


class Store:
    """What the service reads; each call is one consistent look."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def search(self, network_id: int, search: Search, limit: int) -> list[chain.StoredEntry]:
        """Up to `limit` entries of one network, newest first."""
        with translated("searching the trail"):
            rows = await self._pool.fetch(
                _SEARCH,
                network_id,
                search.before,
                search.kind,
                search.network_affiliate_id,
                search.key_id,
                search.since,
                search.until,
                limit,
            )
        return [chain.StoredEntry(row["content"], row["hash"]) for row in rows]

    async def after(
        self, network_id: int, sequence: int, limit: int
    ) -> list[tuple[int, chain.StoredEntry]]:
        """Up to `limit` entries that follow `sequence`, oldest first, each with its sequence."""
        with translated("reading new entries"):
            rows = await self._pool.fetch(_AFTER, network_id, sequence, limit)
        return [(row["sequence"], chain.StoredEntry(row["content"], row["hash"])) for row in rows]

    async def head(self, network_id: int) -> chain.Head:
        """The end of a network's chain; its genesis when it has no entries."""
        with translated("reading a head"):
            row = await self._pool.fetchrow(_HEAD, network_id)
        return chain.Head(row["sequence"], row["hash"]) if row else chain.genesis(network_id)

    async def anomalies(
        self,
        network_id: int,
        *,
        network_affiliate_id: int | None,
        is_open: bool,
        before: tuple[int, str] | None,
        limit: int,
    ) -> list[Mapping[str, Any]]:
        """Up to `limit` incidents of one network, newest window first."""
        window_start, identifier = before or (None, None)
        with translated("reading anomalies"):
            rows = await self._pool.fetch(
                _ANOMALIES,
                network_id,
                network_affiliate_id,
                is_open,
                window_start,
                identifier,
                limit,
            )
        return [dict(row) for row in rows]

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator["Snapshot"]:
        """The trail as it is at one moment, for verification."""
        with translated("reading the trail"):
            async with self._pool.acquire() as connection, Snapshot.of(connection) as snapshot:
                yield snapshot


class Snapshot:
    """The trail at one moment, whatever is appended meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def of(cls, connection: Connection) -> AsyncIterator["Snapshot"]:
        """A snapshot on `connection`, for as long as the block runs."""
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield cls(connection)

    async def heads(self) -> dict[int, chain.Head]:
        """The noted end of every network's chain."""
        rows = await self._connection.fetch(_HEADS)
        return {row["network_id"]: chain.Head(row["sequence"], row["hash"]) for row in rows}

    async def networks(self) -> set[int]:
        """The networks that have entries."""
        return {row["network_id"] for row in await self._connection.fetch(_NETWORKS)}

    async def walk(
        self, network_id: int, after: int = -(2**63)
    ) -> AsyncIterator[list[chain.StoredEntry]]:
        """The entries of a network behind sequence `after` in stored order, batch by batch."""
        cursor = await self._connection.cursor(_CHAIN, network_id, after)
        while rows := await cursor.fetch(VERIFY_ROWS):
            yield [chain.StoredEntry(row["content"], row["hash"]) for row in rows]


async def is_signer(connection: asyncpg.Connection) -> bool:
    """Take the place of the one signer, if it is free; it is kept until `connection` closes."""
    with translated("taking the signer's place"):
        return bool(await connection.fetchval(_TRY_LOCK, _SIGNER))
