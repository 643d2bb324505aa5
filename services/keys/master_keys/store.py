"""The SQL of master keys: which one new data keys are under, who holds which, and rewrapping.

Locks are taken in this order: `key_holders`, `master_key_check`, one row of `data_keys`. Announcing
writes to `key_holders`, which `hold_still` forbids to others until its commit: so a rotation sees
every process that announced before it, and every later one sees what the rotation committed.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from services.keys.vault import DataKey
from shared import events, outbox, topics
from shared.errors import SetupError, UnavailableError
from shared.events import SecretsRewrapped
from shared.postgres import Connection, Pool, connect, translated

SOURCE: Final = "portico/keys"
HOLDER_SECONDS_MAX: Final = 10.0
"""A process that has not announced itself for so long does not run any more."""

_ANNOUNCE: Final = """
INSERT INTO key_holders VALUES ($1, $2, clock_timestamp())
ON CONFLICT (holder) DO UPDATE SET fingerprints = excluded.fingerprints, seen_at = excluded.seen_at
"""
_FORGET: Final = "DELETE FROM key_holders WHERE seen_at < clock_timestamp() - interval '1 hour'"
_LEAVE: Final = "DELETE FROM key_holders WHERE holder = $1"
_HOLD_STILL: Final = "LOCK TABLE key_holders IN SHARE MODE"
_LACKING: Final = """
SELECT holder, fingerprints, extract(epoch FROM clock_timestamp() - seen_at)::float8 AS age
FROM key_holders
WHERE seen_at > clock_timestamp() - $2 * interval '1 second' AND NOT $1 = ANY(fingerprints)
ORDER BY holder"""

_HOLDERS: Final = """
SELECT holder, fingerprints, extract(epoch FROM clock_timestamp() - seen_at)::float8 AS age
FROM key_holders WHERE seen_at > clock_timestamp() - $1 * interval '1 second' ORDER BY holder"""

_MAKE_CHECK: Final = """
INSERT INTO master_key_check (sealed, fingerprint) VALUES ($1, $2) ON CONFLICT DO NOTHING"""
_CHECK: Final = "SELECT sealed, fingerprint FROM master_key_check"
_NAME_CHECK: Final = "UPDATE master_key_check SET fingerprint = $1"
_NAME_DATA_KEYS: Final = "UPDATE data_keys SET master_key = $1 WHERE master_key = ''"
_USES: Final = """
SELECT master_key, count(*) AS networks FROM data_keys WHERE master_key <> '' GROUP BY master_key
UNION ALL
SELECT fingerprint, 0 FROM master_key_check WHERE fingerprint <> ''"""

_ALONE: Final = """
SELECT pg_try_advisory_lock(hashtext(current_schema()), hashtext('rewrap'))"""
_NOT_ALONE: Final = """
SELECT pg_advisory_unlock(hashtext(current_schema()), hashtext('rewrap'))"""
_SWITCH: Final = """
UPDATE master_key_check SET fingerprint = $1, sealed = $2 WHERE fingerprint <> $1"""
_OTHERS: Final = """
SELECT network_id FROM data_keys WHERE master_key <> $1 AND network_id > $2
ORDER BY network_id LIMIT $3"""
_COUNT: Final = "SELECT count(*) FROM data_keys"
_LOCK_DATA_KEY: Final = """
SELECT wrapped, master_key FROM data_keys WHERE network_id = $1 FOR UPDATE"""
_REWRAP: Final = """
UPDATE data_keys SET wrapped = $2, master_key = $3 WHERE network_id = $1 AND wrapped = $4"""
_PAGE: Final = """
SELECT network_id, wrapped, master_key FROM data_keys WHERE network_id > $1
ORDER BY network_id LIMIT $2"""


@dataclass(frozen=True, slots=True)
class Holder:
    """A running process.

    Attributes:
        name: host and process id stand in it.
        fingerprints: of the master keys it holds.
        age_seconds: since it last said so.
    """

    name: str
    fingerprints: tuple[str, ...]
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Check:
    """What proves the master key under which new data keys are wrapped."""

    sealed: bytes
    fingerprint: str


async def require_tables(url: str, schema: str) -> None:
    """Let pass a schema that a key service of this release has started on; makes none.

    Raises:
        SetupError: there is none, or Postgres refuses the connection.
    """
    try:
        connection = await connect(url, schema=schema, application="portico-rewrap")
    except (OSError, UnavailableError, asyncpg.PostgresError, ValueError) as error:
        raise SetupError(f"DATABASE_URL: Postgres does not answer ({error}).") from error
    try:
        is_there = await connection.fetchval("SELECT to_regclass($1)", f"{schema}.key_holders")
    finally:
        await connection.close()
    if is_there is None:
        raise SetupError(
            f"The schema {schema!r} holds no key service of this release: start it there first, "
            "or name another schema (KEYS_DB_SCHEMA)."
        )


class MasterKeysStore:
    """What is read, and where transactions begin."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self, doing: str) -> AsyncIterator["MasterKeysUnit"]:
        """A transaction that commits when the block ends, and rolls back if it raises."""
        with translated(doing):
            async with self._pool.acquire() as connection, connection.transaction():
                yield MasterKeysUnit(connection)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Whether no other rotation runs, in which case none does until the block ends.

        The lock lives with a connection, so that a killed rotation leaves none behind.
        """
        async with self._pool.acquire() as connection:
            with translated("making sure that only one rotation runs"):
                is_alone = bool(await connection.fetchval(_ALONE))
            try:
                yield is_alone
            finally:
                if is_alone:
                    with translated("letting the next rotation run"):
                        await connection.execute(_NOT_ALONE)

    async def uses(self) -> dict[str, int]:
        """The master keys that the database needs, and how many data keys are under each."""
        with translated("reading which master keys are needed"):
            return _sum(await self._pool.fetch(_USES))

    async def lacking(self, fingerprint: str) -> list[Holder]:
        """The running processes that do not hold the master key."""
        with translated("reading who lacks a master key"):
            rows = await self._pool.fetch(_LACKING, fingerprint, HOLDER_SECONDS_MAX)
        return [_holder(row) for row in rows]

    async def holders(self) -> list[Holder]:
        """The running processes."""
        with translated("reading who holds which master key"):
            return [_holder(row) for row in await self._pool.fetch(_HOLDERS, HOLDER_SECONDS_MAX)]

    async def leave(self, holder: str) -> None:
        """Forget a process that ends."""
        with translated("leaving the holders of master keys"):
            await self._pool.execute(_LEAVE, holder)

    async def others(self, fingerprint: str, behind: int, limit: int) -> list[int]:
        """Up to `limit` networks behind a network, whose data key is under another master key."""
        with translated("reading what is to be rewrapped"):
            rows = await self._pool.fetch(_OTHERS, fingerprint, behind, limit)
        return [row["network_id"] for row in rows]

    async def check(self) -> Check | None:
        """What proves the master key under which new data keys are; None in a new database."""
        with translated("reading the check of the master key"):
            row = await self._pool.fetchrow(_CHECK)
        return Check(row["sealed"], row["fingerprint"]) if row else None

    async def count(self) -> int:
        """How many data keys there are."""
        with translated("counting data keys"):
            return int(await self._pool.fetchval(_COUNT))

    async def page(self, behind: int, limit: int) -> list[tuple[int, DataKey]]:
        """Up to `limit` networks behind a network, each with its data key."""
        with translated("reading data keys"):
            rows = await self._pool.fetch(_PAGE, behind, limit)
        return [(row["network_id"], DataKey(row["wrapped"], row["master_key"])) for row in rows]


class MasterKeysUnit:
    """One transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def announce(self, holder: str, fingerprints: Sequence[str]) -> None:
        """Say that a process holds these master keys; waits for a rotation's step to end."""
        await self._connection.execute(_ANNOUNCE, holder, list(fingerprints))
        await self._connection.execute(_FORGET)

    async def uses(self) -> dict[str, int]:
        """As of `MasterKeysStore`."""
        return _sum(await self._connection.fetch(_USES))

    async def check(self) -> Check | None:
        """What proves the master key; None in a new database."""
        row = await self._connection.fetchrow(_CHECK)
        return Check(row["sealed"], row["fingerprint"]) if row else None

    async def make_check(self, check: Check) -> None:
        """Keep `check` unless another process was faster."""
        await self._connection.execute(_MAKE_CHECK, check.sealed, check.fingerprint)

    async def name_all(self, fingerprint: str) -> None:
        """Note the master key of what an earlier release made, which knew but one."""
        await self._connection.execute(_NAME_CHECK, fingerprint)
        await self._connection.execute(_NAME_DATA_KEYS, fingerprint)

    async def hold_still(self) -> None:
        """Keep every process from announcing itself until this transaction ends."""
        await self._connection.execute(_HOLD_STILL)

    async def lacking(self, fingerprint: str) -> list[Holder]:
        """As of `MasterKeysStore`."""
        rows = await self._connection.fetch(_LACKING, fingerprint, HOLDER_SECONDS_MAX)
        return [_holder(row) for row in rows]

    async def switch(self, check: Check) -> bool:
        """Have new data keys wrapped under another master key; False if they are already.

        Waits for every transaction that makes a data key under the one before.
        """
        done = await self._connection.execute(_SWITCH, check.fingerprint, check.sealed)
        return done == "UPDATE 1"

    async def data_key(self, network_id: int) -> DataKey | None:
        """The data key of a network, locked."""
        row = await self._connection.fetchrow(_LOCK_DATA_KEY, network_id)
        return DataKey(row["wrapped"], row["master_key"]) if row else None

    async def rewrap(self, network_id: int, before: DataKey, after: DataKey) -> bool:
        """Replace the data key `before` by `after`; False if it is another by now."""
        done = await self._connection.execute(
            _REWRAP, network_id, after.wrapped, after.master_key, before.wrapped
        )
        return done == "UPDATE 1"

    async def append(self, event: SecretsRewrapped) -> None:
        """Have `event` published once this unit has committed."""
        key = events.partner_key(event.network_id, event.network_affiliate_id)
        record = outbox.record_of(
            topics.KEYS_EVENTS, key, event, source=SOURCE, occurred_at=event.occurred_at
        )
        await outbox.append(self._connection, [record])


def _holder(row: asyncpg.Record) -> Holder:
    return Holder(row["holder"], tuple(row["fingerprints"]), row["age"])


def _sum(rows: Sequence[asyncpg.Record]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        name = str(row["master_key"])
        found[name] = found.get(name, 0) + row["networks"]
    return found
