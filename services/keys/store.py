"""All SQL of the key service: keys, data keys, partners, what the doors know, and the outbox.

`Store` reads. Whatever changes goes through a `Unit`, which is one transaction: it locks what it
reads, and appends the events of the change last, so that state and events commit together or not
at all (step 4). Every statement about one network names it.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from itertools import groupby
from typing import Any, Final, TypeVar, cast

import asyncpg
import msgspec

from services.keys.access.domain import Access
from services.keys.domain import Key
from services.keys.eligibility import Partner
from services.keys.idempotency import KEEP_SECONDS, Answered, Once
from services.keys.mending import Owned, state_of
from services.keys.vault import DataKey
from shared import events, outbox, topics
from shared.errors import NotFoundError
from shared.events import Budget, Event, KeyState, NetworkState, PartnerAccess, PartnerProfile
from shared.faultpoint import point
from shared.postgres import Connection, Pool, translated
from shared.topics import Topic

SOURCE: Final = "portico/keys"
PAGE_ROWS: Final = 2_000
"""States compared at a time by the reconciliation."""

O = TypeVar("O", bound=Owned)  # noqa: E741 - a type variable

KEY_COLUMNS: Final = """key_id, network_id, network_affiliate_id, integration, digest, masked,
    sealed, allowlist, expires_at, created_at, created_by, status, version, ended_at, not_before,
    created_by_name, predecessor_key_id, successor_key_id, rotated_at"""
_KEY_FIELDS: Final = tuple(name.strip() for name in KEY_COLUMNS.split(","))
_ACCESS_COLUMNS: Final = (
    "network_id, network_affiliate_id, version, firehose_enabled, held_by_staff, held_by_status"
)
_BUDGET_COLUMNS: Final = (
    "network_id, version, affiliate_rate, affiliate_burst, granular_per_hour, shadow"
)

# A key is only ever found through its network.
_LOCK_KEY: Final = f"""
SELECT {KEY_COLUMNS} FROM keys WHERE network_id = $1 AND key_id = $2 FOR UPDATE"""  # noqa: S608
# Nothing is inserted where the integration has an active key, also one of a concurrent transaction;
# one that was rotated does not count.
_INSERT_KEY: Final = f"""
INSERT INTO keys ({KEY_COLUMNS})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
ON CONFLICT (network_id, network_affiliate_id, lower(integration))
    WHERE status = 'active' AND successor_key_id IS NULL
DO NOTHING RETURNING key_id"""  # noqa: S608
_UPDATE_KEY: Final = """
UPDATE keys SET status = $2, allowlist = $3, version = $4, ended_at = $5, expires_at = $6,
    successor_key_id = $7, rotated_at = $8
WHERE key_id = $1"""
_LAPSED: Final = f"""
SELECT {KEY_COLUMNS} FROM keys
WHERE status = 'active' AND expires_at <= $1
ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED"""  # noqa: S608
_LAPSED_NAMESAKE: Final = f"""
SELECT {KEY_COLUMNS} FROM keys
WHERE network_id = $1 AND network_affiliate_id = $2 AND lower(integration) = lower($3)
  AND status = 'active' AND successor_key_id IS NULL AND expires_at <= $4
FOR UPDATE"""  # noqa: S608

# Whether a partner has another key for an integration that works or will, rotated or not.
_ACTIVE_NAMESAKE: Final = """
SELECT EXISTS (
    SELECT FROM keys
    WHERE network_id = $1 AND network_affiliate_id = $2 AND lower(integration) = lower($3)
      AND status = 'active' AND (expires_at IS NULL OR expires_at > $4) AND key_id <> $5)"""

# Takes an Idempotency-Key, new or older than $6. Another transaction that has taken it is waited
# for; where that commits, no row is returned, and the answer is found.
_CLAIM: Final = """
INSERT INTO idempotent_answers AS kept
    (network_id, subject, idempotency_key, request_digest, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (network_id, subject, idempotency_key) DO UPDATE
SET request_digest = excluded.request_digest, created_at = excluded.created_at,
    key_id = '', status = 0, answer = '{}'
WHERE kept.created_at <= $6
RETURNING created_at"""
_ANSWERED: Final = """
SELECT request_digest, key_id, status, answer FROM idempotent_answers
WHERE network_id = $1 AND subject = $2 AND idempotency_key = $3"""
_KEEP_ANSWER: Final = """
UPDATE idempotent_answers SET key_id = $4, status = $5, answer = $6
WHERE network_id = $1 AND subject = $2 AND idempotency_key = $3"""
_FORGET_ANSWERS: Final = """
DELETE FROM idempotent_answers WHERE (network_id, subject, idempotency_key) IN (
    SELECT network_id, subject, idempotency_key FROM idempotent_answers
    WHERE created_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING 1"""

_MAKE_DATA_KEY: Final = """
INSERT INTO data_keys (network_id, wrapped, master_key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_DATA_KEY: Final = "SELECT wrapped, master_key FROM data_keys WHERE network_id = $1"
# A rotation of the master key waits for whoever makes a data key under the one before.
_MASTER_KEY: Final = "SELECT fingerprint FROM master_key_check FOR SHARE"

_PARTNER: Final = """
SELECT network_id, network_affiliate_id, name, in_onboarding, has_technical_capacity,
    has_fraud_flag, has_quality_flag, account_status
FROM partners WHERE network_id = $1 AND network_affiliate_id = $2 AND NOT is_removed"""
# An older or equal version changes nothing; a newer one also brings a removed partner back.
_UPSERT_PARTNERS: Final = """
INSERT INTO partners AS known
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[],
    $6::boolean[], $7::boolean[], $8::boolean[], $9::boolean[]) ORDER BY 1, 2
ON CONFLICT (network_id, network_affiliate_id) DO UPDATE
SET version = excluded.version, name = excluded.name, account_status = excluded.account_status,
    in_onboarding = excluded.in_onboarding,
    has_technical_capacity = excluded.has_technical_capacity,
    has_fraud_flag = excluded.has_fraud_flag, has_quality_flag = excluded.has_quality_flag,
    is_removed = false
WHERE excluded.version > known.version"""
_REMOVE_PARTNERS: Final = """
UPDATE partners SET is_removed = true
FROM unnest($1::bigint[], $2::bigint[]) AS gone (network_id, network_affiliate_id)
WHERE partners.network_id = gone.network_id
  AND partners.network_affiliate_id = gone.network_affiliate_id"""
# Which of these partners are held or not against what their account's status says.
_MISJUDGED: Final = """
SELECT p.network_id, p.network_affiliate_id, p.account_status, p.is_removed
FROM partners p
JOIN unnest($1::bigint[], $2::bigint[]) AS asked (network_id, network_affiliate_id)
    USING (network_id, network_affiliate_id)
LEFT JOIN partner_access a USING (network_id, network_affiliate_id)
WHERE coalesce(a.held_by_status, false) <> (p.is_removed OR p.account_status = ANY($3::text[]))
ORDER BY 1, 2"""

_MAKE_ACCESS: Final = """
INSERT INTO partner_access (network_id, network_affiliate_id) VALUES ($1, $2)
ON CONFLICT DO NOTHING"""
_LOCK_ACCESS: Final = f"""
SELECT {_ACCESS_COLUMNS} FROM partner_access
WHERE network_id = $1 AND network_affiliate_id = $2 FOR UPDATE"""  # noqa: S608
_UPDATE_ACCESS: Final = """
UPDATE partner_access
SET version = $3, firehose_enabled = $4, held_by_staff = $5, held_by_status = $6
WHERE network_id = $1 AND network_affiliate_id = $2"""
_MAKE_BUDGETS: Final = "INSERT INTO network_budgets (network_id) VALUES ($1) ON CONFLICT DO NOTHING"
_BUDGETS: Final = f"SELECT {_BUDGET_COLUMNS} FROM network_budgets WHERE network_id = $1"  # noqa: S608
_LOCK_BUDGETS: Final = f"{_BUDGETS} FOR UPDATE"
_UPDATE_BUDGETS: Final = """
UPDATE network_budgets SET version = $2, affiliate_rate = $3, affiliate_burst = $4,
    granular_per_hour = $5, shadow = $6
WHERE network_id = $1"""

_PENDING: Final = "SELECT id FROM outbox WHERE topic = $1 AND key = $2 AND published_at IS NULL"

# One page of what the doors must know, by record key; a state with a row that waits in the outbox
# is not settled. Nothing has been published of a version 0.
_IS_SETTLED: Final = """NOT EXISTS (
    SELECT FROM outbox WHERE topic = $3 AND key = name AND published_at IS NULL
) AS is_settled"""
_KEY_STATES: Final = f"""
SELECT {KEY_COLUMNS}, name, {_IS_SETTLED}
FROM (SELECT *, key_id AS name FROM keys) AS named
WHERE name > $1 ORDER BY name LIMIT $2"""  # noqa: S608
_ACCESS_STATES: Final = f"""
SELECT {_ACCESS_COLUMNS}, name, {_IS_SETTLED}
FROM (SELECT *, network_id || ':' || network_affiliate_id AS name FROM partner_access) AS named
WHERE name > $1 AND version > 0 ORDER BY name LIMIT $2"""  # noqa: S608
_BUDGET_STATES: Final = f"""
SELECT {_BUDGET_COLUMNS}, name, {_IS_SETTLED}
FROM (SELECT *, network_id::text AS name FROM network_budgets) AS named
WHERE name > $1 AND version > 0 ORDER BY name LIMIT $2"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Expected:
    """What the doors must know under one record key.

    Attributes:
        name: the record key.
        owned: our thing.
        is_settled: whether nothing of it waits in the outbox.
    """

    name: str
    owned: Owned
    is_settled: bool


@dataclass(frozen=True, slots=True)
class Removed:
    """The network's platform names this partner no more."""

    network_id: int
    network_affiliate_id: int


PartnerChange = PartnerProfile | Removed


class Store:
    """What the service reads, and where its transactions begin."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self, doing: str) -> AsyncIterator["Unit"]:
        """A transaction that commits when the block ends, and rolls back if it raises."""
        with translated(doing):
            async with self._pool.acquire() as connection, connection.transaction():
                yield Unit(connection)

    async def partner(self, network_id: int, network_affiliate_id: int) -> Partner:
        """A partner of the network.

        Raises:
            NotFoundError: the network has no such partner, as far as the log has told.
        """
        with translated("reading a partner"):
            return await _partner(self._pool, network_id, network_affiliate_id)

    async def budgets(self, network_id: int) -> NetworkState:
        """The budgets of a network; version 0 and the defaults if none were set."""
        with translated("reading budgets"):
            row = await self._pool.fetchrow(_BUDGETS, network_id)
        return _budgets(row) if row else NetworkState(network_id=network_id, version=0)

    async def forget_answers(self, before: float, limit: int) -> int:
        """Delete up to `limit` answers kept `before` a moment; how many those were."""
        with translated("forgetting answers"):
            return len(await self._pool.fetch(_FORGET_ANSWERS, before, limit))

    async def expected(self, topic: Topic, behind: str) -> list[Expected]:
        """Up to `PAGE_ROWS` things whose states are the records of `topic`, by record key.

        Args:
            topic: one that this service owns and the doors read.
            behind: the record key that the page follows; empty for the first.
        """
        statement, owned_of = _STATES[topic.name]
        with translated(f"reading the states of {topic.name}"):
            rows = await self._pool.fetch(statement, behind, PAGE_ROWS, topic.name)
        return [Expected(row["name"], owned_of(row), row["is_settled"]) for row in rows]


class Unit:
    """One transaction. What it returns stays as it is until the end; `append` comes last."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        """For the statements of an area's own store."""

    async def key(self, network_id: int, key_id: str) -> Key:
        """A key of the network, locked.

        Raises:
            NotFoundError: the network has no such key.
        """
        row = await self.connection.fetchrow(_LOCK_KEY, network_id, key_id)
        if row is None:
            raise NotFoundError
        point("keys.locked")
        return key_of_row(row)

    async def insert(self, key: Key) -> bool:
        """Add a key; False if its integration has an active one."""
        found = await self.connection.fetchval(_INSERT_KEY, *_key_values(key))
        point("keys.inserted")
        return found is not None

    async def partner(self, network_id: int, network_affiliate_id: int) -> Partner:
        """A partner of the network.

        Raises:
            NotFoundError: the network has no such partner, as far as the log has told.
        """
        return await _partner(self.connection, network_id, network_affiliate_id)

    async def lapsed(self, now: float, limit: int) -> list[Key]:
        """Up to `limit` active keys of any network whose time has ended, locked."""
        return [key_of_row(row) for row in await self.connection.fetch(_LAPSED, now, limit)]

    async def lapsed_namesake(self, key: Key) -> Key | None:
        """The key of the same integration that was active until it lapsed, locked."""
        row = await self.connection.fetchrow(
            _LAPSED_NAMESAKE,
            key.network_id,
            key.network_affiliate_id,
            key.integration,
            key.created_at,
        )
        return key_of_row(row) if row else None

    async def active_namesake(self, key: Key) -> bool:
        """Whether another key of the same integration works or will, also beside its successor."""
        return bool(
            await self.connection.fetchval(
                _ACTIVE_NAMESAKE,
                key.network_id,
                key.network_affiliate_id,
                key.integration,
                key.created_at,
                key.key_id,
            )
        )

    async def claim(self, once: Once, at: float) -> Answered | None:
        """Take an Idempotency-Key for this unit, or find what was answered under it before."""
        name = (once.network_id, once.subject, once.key)
        values = (once.request_digest, at, at - KEEP_SECONDS)
        if await self.connection.fetchval(_CLAIM, *name, *values) is not None:
            return None
        row = dict(_present(await self.connection.fetchrow(_ANSWERED, *name)))
        return Answered(**row | {"answer": msgspec.json.decode(row["answer"])})

    async def keep_answer(
        self, once: Once, key_id: str, status: int, answer: dict[str, Any]
    ) -> None:
        """Keep what is answered under an Idempotency-Key that this unit has taken."""
        text = msgspec.json.encode(answer).decode()
        name = (once.network_id, once.subject, once.key)
        await self.connection.execute(_KEEP_ANSWER, *name, key_id, status, text)

    async def data_key(self, network_id: int) -> DataKey | None:
        """The network's data key; None if it has none yet."""
        row = await self.connection.fetchrow(_DATA_KEY, network_id)
        return DataKey(row["wrapped"], row["master_key"]) if row else None

    async def master_key(self) -> str:
        """The fingerprint of the master key that new data keys are wrapped under, kept so."""
        return str(await self.connection.fetchval(_MASTER_KEY))

    async def keep_data_key(self, network_id: int, made: DataKey) -> DataKey:
        """Keep `made` unless another transaction was faster; the one that is kept."""
        await self.connection.execute(_MAKE_DATA_KEY, network_id, made.wrapped, made.master_key)
        row = _present(await self.connection.fetchrow(_DATA_KEY, network_id))
        return DataKey(row["wrapped"], row["master_key"])

    async def access(self, network_id: int, network_affiliate_id: int) -> Access:
        """What a partner may do, locked; version 0 if nothing was ever said."""
        await self.connection.execute(_MAKE_ACCESS, network_id, network_affiliate_id)
        row = await self.connection.fetchrow(_LOCK_ACCESS, network_id, network_affiliate_id)
        point("keys.locked")
        return _access(_present(row))

    async def budgets(self, network_id: int) -> NetworkState:
        """The budgets of a network, locked; version 0 and the defaults if none were set."""
        await self.connection.execute(_MAKE_BUDGETS, network_id)
        row = await self.connection.fetchrow(_LOCK_BUDGETS, network_id)
        return _budgets(_present(row))

    async def note_partners(self, found: Sequence[PartnerChange]) -> None:
        """Take in what the log says of partners, in its order, each version once."""
        for is_removal, run in groupby(found, key=lambda one: isinstance(one, Removed)):
            if is_removal:
                await self.connection.execute(_REMOVE_PARTNERS, *_names(list(run)))
            else:
                await self._upsert_partners([one for one in run if isinstance(one, PartnerProfile)])

    async def _upsert_partners(self, profiles: Sequence[PartnerProfile]) -> None:
        newest: dict[tuple[int, int], PartnerProfile] = {}
        for profile in sorted(profiles, key=lambda one: one.version):
            newest[profile.network_id, profile.network_affiliate_id] = profile
        columns = zip(*(_profile_values(profile) for profile in newest.values()), strict=True)
        await self.connection.execute(_UPSERT_PARTNERS, *map(list, columns))

    async def misjudged(
        self, found: Sequence[PartnerChange], suspending: frozenset[str]
    ) -> list[tuple[Access, str]]:
        """Of these partners, whose hold by account status is not what that status asks for.

        Returns:
            The access of each, locked, and its status: `removed` or as the platform says.
        """
        rows = await self.connection.fetch(_MISJUDGED, *_names(found), sorted(suspending))
        return [
            (
                await self.access(row["network_id"], row["network_affiliate_id"]),
                "removed" if row["is_removed"] else row["account_status"],
            )
            for row in rows
        ]

    async def again(self, owned: O) -> O:
        """`owned` as it is now, locked."""
        found: Owned
        match owned:
            case Key():
                found = await self.key(owned.network_id, owned.key_id)
            case Access():
                found = await self.access(owned.network_id, owned.network_affiliate_id)
            case NetworkState():
                found = await self.budgets(owned.network_id)
        return cast("O", found)

    async def save(self, owned: Owned) -> None:
        """Keep a changed thing, which this unit has locked."""
        match owned:
            case Key():
                await self.connection.execute(_UPDATE_KEY, *_changing_values(owned))
            case Access():
                await self.connection.execute(_UPDATE_ACCESS, *astuple(owned))
            case NetworkState():
                await self.connection.execute(_UPDATE_BUDGETS, *_budget_values(owned))
        point("keys.saved")

    async def pending(self, owned: Owned) -> list[int]:
        """The outbox rows of its state that Kafka has not confirmed yet."""
        topic, key = _place(state_of(owned))
        return [row["id"] for row in await self.connection.fetch(_PENDING, topic.name, key)]

    async def append(self, told: Sequence[Event], at: float) -> list[int]:
        """Have `told` published once this unit has committed; the ids of the outbox rows."""
        records = []
        for event in told:
            topic, key = _place(event)
            records.append(outbox.record_of(topic, key, event, source=SOURCE, occurred_at=at))
        return await outbox.append(self.connection, records)

    async def append_tombstone(self, key: Key, at: float) -> list[int]:
        """Have the state of `key` removed from the doors' topic; the ids of the outbox rows."""
        attributes = events.headers(KeyState, source=SOURCE, occurred_at=at)
        record = outbox.OutboxRecord(topics.KEYS_STATE.name, key.key_id, None, attributes)
        return await outbox.append(self.connection, [record])


async def _partner(asked: Pool | Connection, network_id: int, partner_id: int) -> Partner:
    row = await asked.fetchrow(_PARTNER, network_id, partner_id)
    if row is None:
        raise NotFoundError
    return Partner(**row)


def _place(event: Event) -> tuple[Topic, str]:
    """Topic and record key of an event."""
    match event:
        case KeyState():
            return topics.KEYS_STATE, event.key_id
        case PartnerAccess():
            key = events.partner_key(event.network_id, event.network_affiliate_id)
            return topics.PARTNERS_ACCESS, key
        case NetworkState():
            return topics.NETWORKS_STATE, str(event.network_id)
        case _:
            told: Any = event
            key = events.partner_key(told.network_id, told.network_affiliate_id)
            return topics.KEYS_EVENTS, key


def key_of_row(row: asyncpg.Record) -> Key:
    """A key from a row with `KEY_COLUMNS`."""
    values = {name: row[name] for name in _KEY_FIELDS}
    return Key(**values | {"allowlist": tuple(row["allowlist"])})


def _changing_values(key: Key) -> tuple[Any, ...]:
    """In the order of `_UPDATE_KEY`."""
    return (
        key.key_id,
        key.status,
        key.allowlist,
        key.version,
        key.ended_at,
        key.expires_at,
        key.successor_key_id,
        key.rotated_at,
    )


def _key_values(key: Key) -> tuple[Any, ...]:
    """In the order of `KEY_COLUMNS`."""
    return tuple(getattr(key, name) for name in _KEY_FIELDS)


def _access(row: asyncpg.Record) -> Access:
    return Access(
        network_id=row["network_id"],
        network_affiliate_id=row["network_affiliate_id"],
        version=row["version"],
        firehose_enabled=row["firehose_enabled"],
        held_by_staff=row["held_by_staff"],
        held_by_status=row["held_by_status"],
    )


def _budgets(row: asyncpg.Record) -> NetworkState:
    return NetworkState(
        network_id=row["network_id"],
        version=row["version"],
        affiliate=Budget(rate=row["affiliate_rate"], burst=row["affiliate_burst"]),
        granular_per_hour=row["granular_per_hour"],
        shadow=row["shadow"],
    )


def _budget_values(state: NetworkState) -> tuple[Any, ...]:
    """In the order of `_BUDGET_COLUMNS`."""
    budget = state.affiliate
    spending = (budget.rate, budget.burst, state.granular_per_hour, state.shadow)
    return (state.network_id, state.version, *spending)


def _profile_values(profile: PartnerProfile) -> tuple[Any, ...]:
    return (
        profile.network_id,
        profile.network_affiliate_id,
        profile.version,
        profile.name,
        profile.account_status,
        profile.in_onboarding,
        profile.has_technical_capacity,
        profile.has_fraud_flag,
        profile.has_quality_flag,
    )


def _names(found: Sequence[PartnerChange]) -> tuple[list[int], list[int]]:
    """Networks and partners, each pair once."""
    pairs = sorted({(one.network_id, one.network_affiliate_id) for one in found})
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _present(row: asyncpg.Record | None) -> asyncpg.Record:
    """A row that this transaction has made sure of."""
    if row is None:
        raise RuntimeError("a row that was just made is not there")
    return row


_STATES: Final[dict[str, tuple[str, Callable[[asyncpg.Record], Owned]]]] = {
    topics.KEYS_STATE.name: (_KEY_STATES, key_of_row),
    topics.PARTNERS_ACCESS.name: (_ACCESS_STATES, _access),
    topics.NETWORKS_STATE.name: (_BUDGET_STATES, _budgets),
}
