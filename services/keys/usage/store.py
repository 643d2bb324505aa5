"""All SQL of last use: what batches write under a lock of its own, and what the table reads.

Lock order: rows of `key_usage` by key, then what belongs to them. Nothing here touches `keys`.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from services.keys.usage.domain import KeyWarning, Refused, Source, Usage, Use
from shared.postgres import Connection, Pool, translated

Name = tuple[str, int]
"""A key id and its network, as a door tells them."""

FORGOTTEN_MAX: Final = 1_000
"""Rows removed by one statement of forgetting."""

_REPEATED: Final = """
SELECT DISTINCT record FROM usage_batches, unnest(records) AS record
JOIN unnest($5::uuid[]) AS asked (record) USING (record)
WHERE topic = $1 AND partition = $2 AND last_moment >= $3 AND first_moment <= $4"""
_NOTE_BATCH: Final = """
INSERT INTO usage_batches (topic, partition, written_at, first_moment, last_moment, records)
VALUES ($1, $2, $3, $4, $5, $6)"""
_FORGET_BATCHES: Final = "DELETE FROM usage_batches WHERE written_at < $1"

_SOURCE_COLUMNS: Final = "source, used_at, last_ip, last_endpoint, count_on_day"
_USAGE_COLUMNS: Final = """key_id, network_id, used_at, last_ip, last_endpoint, count_on_day,
    many_networks_at, refused_at, refused_ip, refused_reason"""
# A key that the service does not know, or of another network, has no row and gets none.
_LOCK: Final = f"""
SELECT {_USAGE_COLUMNS} FROM key_usage
JOIN unnest($1::text[], $2::bigint[]) AS asked (key_id, network_id) USING (key_id, network_id)
ORDER BY key_id FOR NO KEY UPDATE OF key_usage"""  # noqa: S608
_SOURCES_OF: Final = f"SELECT key_id, {_SOURCE_COLUMNS} FROM key_sources WHERE key_id = ANY($1)"  # noqa: S608
_SAVE: Final = """
UPDATE key_usage AS known
SET used_at = now.used_at, last_ip = now.last_ip, last_endpoint = now.last_endpoint,
    count_on_day = now.count_on_day, many_networks_at = now.many_networks_at,
    refused_at = now.refused_at, refused_ip = now.refused_ip, refused_reason = now.refused_reason
FROM unnest($1::text[], $2::float8[], $3::text[], $4::text[], $5::bigint[], $6::float8[],
    $7::float8[], $8::text[], $9::text[]) AS now (key_id, used_at, last_ip, last_endpoint,
    count_on_day, many_networks_at, refused_at, refused_ip, refused_reason)
WHERE known.key_id = now.key_id"""
_SAVE_SOURCES: Final = f"""
INSERT INTO key_sources (key_id, {_SOURCE_COLUMNS})
SELECT * FROM unnest($1::text[], $2::text[], $3::float8[], $4::text[], $5::text[], $6::bigint[])
ON CONFLICT (key_id, source) DO UPDATE
SET used_at = excluded.used_at, last_ip = excluded.last_ip,
    last_endpoint = excluded.last_endpoint, count_on_day = excluded.count_on_day"""  # noqa: S608
_DROP_SOURCES: Final = """
DELETE FROM key_sources
WHERE (key_id, source) IN (SELECT * FROM unnest($1::text[], $2::text[]))"""
# What a batch holds is in use again: it is left alone, and nothing is waited for.
_FORGET_SOURCES: Final = """
DELETE FROM key_sources WHERE (key_id, source) IN (
    SELECT key_id, source FROM key_sources WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)"""

_USAGE: Final = f"""
SELECT {_USAGE_COLUMNS} FROM key_usage WHERE network_id = $1 AND key_id = $2"""  # noqa: S608

_WORKS: Final = """k.status = 'active' AND k.not_before <= {now}
    AND (k.expires_at IS NULL OR k.expires_at > {now}) AND """
_OLD_KEY_USED_AT: Final = """(
    SELECT old_use.last_used_at FROM keys old JOIN key_usage old_use USING (key_id)
    WHERE old.key_id = k.predecessor_key_id AND old.status = 'active'
      AND (old.expires_at IS NULL OR old.expires_at > {now}))"""
_CONDITIONS: Final[Mapping[KeyWarning, str]] = {
    "unused_90_days": "greatest(k.created_at, k.not_before, u.last_used_at) <= {now} - 90 * 86400",
    "many_networks": "u.many_networks_at > {now} - 86400",
    "expiring_soon": "k.successor_key_id IS NULL AND k.expires_at <= {now} + 14 * 86400",
    "predecessor_in_use": "CASE WHEN k.successor_key_id IS NULL THEN "
    f"{_OLD_KEY_USED_AT} ELSE u.last_used_at END > {{now}} - 86400",
}


def condition(warning: KeyWarning, now: str) -> str:
    """A warning as a condition on `keys k` joined with its `key_usage u`, for searches.

    It says of a row what `domain.warnings` says; a test compares the two.

    Args:
        warning: which one.
        now: the parameter with the moment, seconds UTC: `$4`.
    """
    return f"({_WORKS}{_CONDITIONS[warning]})".replace("{now}", f"{now}::float8")


class Usages:
    """What is known of keys, for reading."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def usage(self, network_id: int, key_id: str) -> Usage:
        """How a key of the network was used; an empty one if there is no such key.

        Raises:
            UnavailableError: Postgres does not answer.
        """
        with translated("reading the use of a key"):
            async with self._pool.acquire() as connection:
                row = await connection.fetchrow(_USAGE, network_id, key_id)
                if row is None:
                    return Usage()
                return (await _with_sources(connection, [row]))[key_id]

    async def forget_batches(self, before: float) -> None:
        """Remove what was remembered of batches written before a moment (seconds, UTC).

        Raises:
            UnavailableError: Postgres does not answer.
        """
        with translated("forgetting batches"):
            await self._pool.execute(_FORGET_BATCHES, before)

    async def forget_sources(self, oldest_day: int) -> int:
        """Remove up to `FORGOTTEN_MAX` sources last used before `oldest_day`; how many.

        Args:
            oldest_day: the first that is still remembered, in days since 1970.

        Raises:
            UnavailableError: Postgres does not answer.
        """
        with translated("forgetting sources"):
            done = await self._pool.execute(_FORGET_SOURCES, oldest_day, FORGOTTEN_MAX)
        return int(done.split()[-1])


@dataclass(frozen=True, slots=True)
class Batch:
    """What is remembered of a batch, to recognise what is sent again.

    Attributes:
        topic: where it was read,
        partition: in which partition.
        written_at: seconds, UTC.
        first_moment: the earliest moment that its records tell of,
        last_moment: and the latest.
        records: the digests of their names.
    """

    topic: str
    partition: int
    written_at: float
    first_moment: float
    last_moment: float
    records: Sequence[uuid.UUID]


@dataclass(frozen=True, slots=True)
class Book:
    """The part of one batch's transaction that is about the use of keys."""

    connection: Connection

    async def note_records(self, batch: Batch) -> set[uuid.UUID]:
        """Remember the records of a batch; those that an earlier one already held."""
        place = (batch.topic, batch.partition)
        span = (batch.first_moment, batch.last_moment)
        rows = await self.connection.fetch(_REPEATED, *place, *span, batch.records)
        await self.connection.execute(_NOTE_BATCH, *place, batch.written_at, *span, batch.records)
        return {row["record"] for row in rows}

    async def usages(self, keys: Iterable[Name]) -> dict[Name, Usage]:
        """What is known of `keys`; locked until the transaction ends."""
        asked = list(keys)
        rows = await self.connection.fetch(
            _LOCK, [key_id for key_id, _ in asked], [network_id for _, network_id in asked]
        )
        found = await _with_sources(self.connection, rows)
        return {(row["key_id"], row["network_id"]): found[row["key_id"]] for row in rows}

    async def save(self, before: Mapping[Name, Usage], after: Mapping[Name, Usage]) -> None:
        """Write what differs: each key's row at most once, and its sources that changed."""
        changed = {name: now for name, now in after.items() if _row(now) != _row(before[name])}
        if changed:
            rows = [(name[0], *_row(now)) for name, now in sorted(changed.items())]
            await self.connection.execute(_SAVE, *map(list, zip(*rows, strict=True)))
        sources = [
            (name[0], *_source_row(source))
            for name, now in sorted(after.items())
            for source in now.sources.values()
            if source != before[name].sources.get(source.network)
        ]
        if sources:
            await self.connection.execute(_SAVE_SOURCES, *map(list, zip(*sources, strict=True)))
        dropped = [
            (name[0], network)
            for name, now in sorted(after.items())
            for network in before[name].sources.keys() - now.sources.keys()
        ]
        if dropped:
            await self.connection.execute(_DROP_SOURCES, *map(list, zip(*dropped, strict=True)))


async def _with_sources(connection: Connection, rows: Sequence[asyncpg.Record]) -> dict[str, Usage]:
    sources: dict[str, dict[str, Source]] = {row["key_id"]: {} for row in rows}
    for row in await connection.fetch(_SOURCES_OF, list(sources)):
        sources[row["key_id"]][row["source"]] = Source(
            row["source"], _use(row), row["count_on_day"]
        )
    return {row["key_id"]: _usage(row, sources[row["key_id"]]) for row in rows}


def _use(row: asyncpg.Record) -> Use:
    return Use(row["used_at"], row["last_ip"], row["last_endpoint"])


def _usage(row: asyncpg.Record, sources: Mapping[str, Source]) -> Usage:
    return Usage(
        last=_use(row),
        count_on_day=row["count_on_day"],
        refused=Refused(row["refused_at"], row["refused_ip"], row["refused_reason"]),
        many_networks_at=row["many_networks_at"],
        sources=sources,
    )


def _row(usage: Usage) -> tuple[Any, ...]:
    last, refused = usage.last, usage.refused
    return (
        last.at,
        last.ip,
        last.endpoint,
        usage.count_on_day,
        usage.many_networks_at,
        refused.at,
        refused.ip,
        refused.reason,
    )


def _source_row(source: Source) -> tuple[Any, ...]:
    last = source.last
    return source.network, last.at, last.ip, last.endpoint, source.count_on_day
