"""Handlers without a process, for histories: a store cut off at will, a relay on call, doors."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared import events, topics
from shared.access import AccessTable
from shared.clock import ManualClock
from shared.events import KeyState, NetworkState, PartnerAccess, partner_key
from shared.partner_key import PresentedKey
from shared.postgres import Pool
from shared.replica import Schema, Table


class Cut(BaseException):
    """The process is gone, as by a power cut: nothing of ours handles it."""


@dataclass
class Plan:
    """When the process goes: at this statement of a transaction, at its commit, or after it."""

    statement: int | None = None
    at_commit: bool = False
    at_answer: bool = False

    def pass_statement(self) -> None:
        """Go, if this is the statement."""
        if self.statement is not None:
            self.statement -= 1
            if self.statement < 0:
                raise Cut


_STATEMENTS = ("execute", "executemany", "fetch", "fetchrow", "fetchval")


class BrittleConnection:
    """A connection whose process goes at the statement that the plan names, or at the commit."""

    def __init__(self, connection: Any, plan: Plan) -> None:
        self._connection = connection
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        if name in _STATEMENTS:
            self._plan.pass_statement()
        return getattr(self._connection, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._connection.transaction():
            yield
            if self._plan.at_commit:
                raise Cut


class BrittlePool:
    """A pool of such connections, for the stores of every area; `plan` is that of the next call."""

    def __init__(self, pool: Pool) -> None:
        self.plan = Plan()
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        if name in _STATEMENTS:
            self.plan.pass_statement()
        return getattr(self._pool, name)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[BrittleConnection]:
        async with self._pool.acquire() as connection:
            yield BrittleConnection(connection, self.plan)


@dataclass(frozen=True)
class Published:
    """A record of the log: topic, key and value; None is a tombstone."""

    topic: str
    key: str
    value: bytes | None


class View:
    """One topic as a door holds it: the rule is the replica's own."""

    def __init__(self, topic: topics.Topic, event: type[Any], key_of: Any) -> None:
        self.topic = topic
        self.is_ready = True
        self._schema = Schema(event, key_of)
        self._table: Table[Any] = Table()
        self._callbacks: list[Any] = []

    def get(self, key: str) -> Any:
        return self._table.values.get(key)

    def is_withheld(self, key: str) -> bool:
        return key in self._table.withheld

    def items(self) -> Any:
        return self._table.values.items()

    def freshness_seconds(self) -> float:
        return 0.0

    def subscribe(self, callback: Any) -> None:
        self._callbacks.append(callback)

    def apply(self, record: Published) -> None:
        """Take in a record, as `Replica` does."""
        old = self.get(record.key)
        if record.value is None:
            self._table.remove(record.key)
        else:
            self._table.put(record.key, self._schema.read(record.key, record.value))
        for callback in self._callbacks:
            callback(record.key, old, self.get(record.key))


class Door:
    """A gateway's decision over what it has read so far."""

    def __init__(self) -> None:
        keys = View(topics.KEYS_STATE, KeyState, lambda state: state.key_id)
        access = View(topics.PARTNERS_ACCESS, PartnerAccess, _name_of)
        networks = View(topics.NETWORKS_STATE, NetworkState, lambda state: str(state.network_id))
        self.views = {view.topic.name: view for view in (keys, access, networks)}
        self.table = AccessTable(keys=keys, partners=access, networks=networks, stale_seconds=30.0)

    def read(self, records: Sequence[Published]) -> None:
        """Take in `records`; those of topics that no door reads are left out."""
        for record in records:
            if record.topic in self.views:
                self.views[record.topic].apply(record)

    def refusal(self, secret: str, address: str, now: float) -> str | None:
        """Why nobody comes in with `secret`; None if one does."""
        found = self.table.decide(
            PresentedKey(secret), realm="affiliate", client_ip=address, now=now
        )
        return found.refusal.reason if found.refusal else None


def _name_of(access: PartnerAccess) -> str:
    return partner_key(access.network_id, access.network_affiliate_id)


def compacted(log: Sequence[Published]) -> list[Published]:
    """What is left of `log` once every record that a later one replaces is gone."""
    last = {(record.topic, record.key): place for place, record in enumerate(log)}
    return [log[place] for place in sorted(last.values())]


@dataclass
class Relay:
    """Publishes the outbox when it is asked to; stands for `shared.outbox.Relay` and for Kafka.

    A relay that dies between Kafka's commit and its own mark publishes the same rows again, in the
    same order and before anything newer.
    """

    pool: Pool
    plan: Plan = field(default_factory=Plan)
    is_kafka_away: bool = False
    log: list[Published] = field(default_factory=list)
    doors: list[Door] = field(default_factory=list)
    told_id: int = 0

    async def wait_published(self, ids: Sequence[int], timeout_seconds: float) -> bool:
        """Whether Kafka has these rows; it has, unless it is away."""
        if self.plan.at_answer:
            raise Cut
        await self.publish()
        rows = await self.pool.fetch(
            "SELECT FROM outbox WHERE id = ANY($1) AND published_at IS NULL", list(ids)
        )
        return not rows

    async def publish(self, *, marks: bool = True) -> None:
        """Publish what is not marked as published, unless Kafka is away."""
        if self.is_kafka_away:
            return
        rows = await self.pool.fetch(
            "SELECT id, topic, key, value FROM outbox WHERE published_at IS NULL ORDER BY id"
        )
        records = [Published(row["topic"], row["key"], row["value"]) for row in rows]
        self.log += records
        for door in self.doors:
            door.read(records)
        self.told_id = max([self.told_id, *(row["id"] for row in rows)])
        if marks and rows:
            ids = [row["id"] for row in rows]
            await self.pool.execute(
                "UPDATE outbox SET published_at = clock_timestamp() WHERE id = ANY($1)", ids
            )


_KINDS = {events.type_name(kind): kind for kind in topics.KEYS_EVENTS.schemas}


def event_of(row: Any) -> events.Event:
    """The event of `keys.events.v1` in an outbox row, checked as every reader checks it."""
    name = dict(msgspec.json.decode(row["headers"]))["ce_type"]
    decoded: events.Event = events.decode(_KINDS[name], row["value"])
    return decoded


async def emptied(pool: Pool) -> None:
    """Leave no row in any table but those that a migration filled."""
    kept = ("schema_migrations", "outbox_lease", "master_key_check", "key_holders")
    names = await pool.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        " AND tablename <> ALL($1) ORDER BY tablename = 'keys'",  # others refer to it
        list(kept),
    )
    await pool.execute(";".join(f'DELETE FROM "{row["tablename"]}"' for row in names))


class StandingClock(ManualClock):
    """A clock that only the test moves: who sleeps on it lets others run."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
