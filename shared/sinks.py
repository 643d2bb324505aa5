"""Where a projection's effects go, each in the way that makes them happen exactly once.

Postgres: effects and offset in one transaction, the offset by compare-and-set. ClickHouse: inserts
that are idempotent by id and version, the group's offset committed after them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import asyncpg

from shared.batches import Item, Start
from shared.errors import (
    InvalidError,
    LostOwnershipError,
    PorticoError,
    RejectedError,
    UnavailableError,
)
from shared.faultpoint import point
from shared.kafka import TopicPartition
from shared.postgres import Connection, Pool, translated

if TYPE_CHECKING:  # its driver is a tenth of a process' start, and most write to Postgres alone
    from shared.clickhouse import ClickHouse

E = TypeVar("E")

OFFSETS_DDL: Final = """
CREATE TABLE projection_offsets (
    projection  text     NOT NULL,
    topic       text     NOT NULL,
    partition   integer  NOT NULL,
    next_offset bigint   NOT NULL,
    attempts    smallint NOT NULL DEFAULT 0,
    attempt_end bigint   NOT NULL DEFAULT 0,
    PRIMARY KEY (projection, topic, partition)
);
"""
"""For the first migration of every service that has a `PostgresSink`."""

REWIND_SECONDS: Final = 600.0
"""ClickHouse answers an insert before the disk has it: what a power cut may take is replayed."""
INSERTS_AT_ONCE: Final = 2
"""Inserts into one table at a time: one alone leaves a core idle while it is written."""
INSERT_BYTES_MAX: Final = 32 * 1024 * 1024
"""What one insert gathers from waiting batches; the first is taken whatever its size."""


class Sink(Protocol[E]):
    """What a projection needs of a store."""

    async def starts(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Start]:
        """Where each of `partitions` begins, now that this process owns them.

        Raises:
            UnavailableError: the store does not answer.
        """
        ...

    async def write(
        self, partition: TopicPartition, items: Sequence[Item[E]], next_offset: int
    ) -> None:
        """Make one partition's batch take effect once, and go on at `next_offset`.

        Raises:
            LostOwnershipError: another member wrote meanwhile; nothing took effect.
            UnavailableError: nothing took effect, or it cannot be known: call again.
            RejectedError: the batch holds an item that can never be stored; nothing took effect.
        """
        ...

    async def positions(self) -> Mapping[TopicPartition, int] | None:
        """Stored offsets of all partitions; None if the group's committed offsets are them."""
        ...


_START: Final = """
INSERT INTO projection_offsets (projection, topic, partition, next_offset)
SELECT $1, t, p, 0 FROM unnest($2::text[], $3::int[]) AS a(t, p)
ON CONFLICT DO NOTHING
"""
_READ: Final = """
SELECT topic, partition, next_offset, attempts, attempt_end
FROM projection_offsets WHERE projection = $1
"""
_ADVANCE: Final = """
UPDATE projection_offsets SET next_offset = $5, attempts = 0, attempt_end = 0
WHERE projection = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
"""
_MARK: Final = """
UPDATE projection_offsets SET attempts = attempts + 1, attempt_end = $5
WHERE projection = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
"""
_ONE_ROW: Final = "UPDATE 1"


@dataclass(slots=True)
class _Owned:
    """What the sink knows of a partition it may write."""

    expected: int
    suspect_until: int
    is_fresh: bool = True


@dataclass(slots=True)
class PostgresSink(Generic[E]):
    """Effects and offset in one transaction (table `projection_offsets`, see `OFFSETS_DDL`).

    The offset moves by compare-and-set from what this process stored last: a member that lost the
    partition without knowing it rolls back. The first batch after an assignment is announced before
    it is tried, so that a record that kills the process is found (`Start.attempts`); announced
    batches are tried one at a time, so that none is blamed for the death that another brought.

    Attributes:
        pool: connections of the service's schema.
        projection: names the offsets; another name begins anew.
        apply: makes the batch's effects inside the given transaction. Effects must also be unique
            by event id or guarded by version, since a producer may send an event twice.
    """

    pool: Pool
    projection: str
    apply: Callable[[Connection, Sequence[Item[E]]], Awaitable[None]]
    _owned: dict[TopicPartition, _Owned] = field(default_factory=dict)
    _announced: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an announced batch is tried."""

    async def starts(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Start]:
        """The stored offset of each partition, 0 at first: the stored offset alone decides."""
        wanted = list(partitions)
        with translated("reading a projection's offsets"):
            async with self.pool.acquire() as connection:
                await connection.execute(
                    _START,
                    self.projection,
                    [partition.topic for partition in wanted],
                    [partition.partition for partition in wanted],
                )
                rows = await connection.fetch(_READ, self.projection)
        found: dict[TopicPartition, Start] = {}
        for row in rows:
            partition = TopicPartition(row["topic"], row["partition"])
            if partition in wanted:
                found[partition] = Start(row["next_offset"], row["attempts"], row["attempt_end"])
                self._owned[partition] = _Owned(row["next_offset"], row["attempt_end"])
        return found

    async def write(
        self, partition: TopicPartition, items: Sequence[Item[E]], next_offset: int
    ) -> None:
        """Apply `items` and advance the offset, both or neither."""
        owned = self._owned[partition]
        is_announced = items and (owned.is_fresh or owned.expected < owned.suspect_until)
        with translated(f"projecting {partition.topic}"), _data_refused():
            async with (
                self._announced if is_announced else nullcontext(),
                self.pool.acquire() as connection,
            ):
                if is_announced:
                    await self._move(connection, _MARK, partition, owned.expected, next_offset)
                async with connection.transaction():
                    await self._move(connection, _ADVANCE, partition, owned.expected, next_offset)
                    point("projection.mid_write")
                    if items:
                        await self.apply(connection, items)
        owned.expected = next_offset
        owned.is_fresh = False

    async def _move(
        self,
        connection: Connection,
        statement: str,
        partition: TopicPartition,
        expected: int,
        next_offset: int,
    ) -> None:
        done = await connection.execute(
            statement, self.projection, partition.topic, partition.partition, expected, next_offset
        )
        if done != _ONE_ROW:
            raise LostOwnershipError(f"{partition}: the stored offset is not {expected} any more")

    async def positions(self) -> Mapping[TopicPartition, int]:
        """The stored offsets of all partitions, whoever owns them."""
        with translated("reading a projection's offsets"):
            rows = await self.pool.fetch(_READ, self.projection)
        return {TopicPartition(row["topic"], row["partition"]): row["next_offset"] for row in rows}


@contextmanager
def _data_refused() -> Iterator[None]:
    """Raise what the server says about the data itself as a rejection of the batch."""
    try:
        yield
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        raise InvalidError(f"Postgres refuses the data: {error}") from error


@dataclass(slots=True, eq=False)
class _Waiting:
    """A batch that waits for its insert; the outcome is None or why it failed."""

    rows: bytes
    outcome: asyncio.Future[PorticoError | None]

    def settle(self, outcome: PorticoError | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class ClickHouseSink(Generic[E]):
    """Inserts the original bytes, with their place in the log spliced in, as JSONEachRow.

    The place is `_partition`, `_offset` and `_appended`, the append time in milliseconds; a table
    takes those for which it has a column.

    The tables must make a repeated row harmless (ReplacingMergeTree by id and version). Batches of
    several partitions that wait at the same time become one insert; if that is refused, each is
    tried alone. A table takes `INSERTS_AT_ONCE` inserts at a time.

    Args:
        clickhouse: the database that holds the tables.
        tables: table name by topic name.
        rewind_seconds: how far before its committed offset a partition begins.
    """

    def __init__(
        self,
        clickhouse: "ClickHouse",
        tables: Mapping[str, str],
        rewind_seconds: float = REWIND_SECONDS,
    ) -> None:
        self._clickhouse = clickhouse
        self._tables = tables
        self._rewind_seconds = rewind_seconds
        self._waiting: dict[str, list[_Waiting]] = {table: [] for table in tables.values()}
        self._turns = {table: asyncio.Semaphore(INSERTS_AT_ONCE) for table in tables.values()}

    async def starts(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Start]:
        """The group's committed offsets, rewound."""
        return {partition: Start(rewind_seconds=self._rewind_seconds) for partition in partitions}

    async def write(
        self, partition: TopicPartition, items: Sequence[Item[E]], next_offset: int
    ) -> None:
        """Insert `items`; the projection commits the offset afterwards."""
        if not items:
            return
        table = self._tables[partition.topic]
        mine = _Waiting(
            b"\n".join(
                [
                    spliced(record.value, record.partition, record.offset, record.timestamp)
                    for _, record in items
                ]
            ),
            asyncio.get_running_loop().create_future(),
        )
        self._waiting[table].append(mine)
        async with self._turns[table]:
            while mine in self._waiting[table]:
                await self._insert_waiting(table)
        if (failure := await mine.outcome) is not None:
            raise failure

    async def _insert_waiting(self, table: str) -> None:
        """Insert for those who waited longest."""
        group = self._next_group(table)
        outcome: PorticoError | None = UnavailableError("the task that inserted was cancelled")
        try:
            outcome = await self._outcome(table, b"\n".join([each.rows for each in group]))
            if isinstance(outcome, RejectedError) and len(group) > 1:
                for waiting in group:
                    waiting.settle(await self._outcome(table, waiting.rows))
        finally:
            for waiting in group:
                waiting.settle(outcome)

    def _next_group(self, table: str) -> list[_Waiting]:
        queue = self._waiting[table]
        group = [queue.pop(0)]
        held = len(group[0].rows)
        while queue and (held := held + len(queue[0].rows)) <= INSERT_BYTES_MAX:
            group.append(queue.pop(0))
        return group

    async def _outcome(self, table: str, rows: bytes) -> PorticoError | None:
        point("projection.mid_write")
        try:
            await self._clickhouse.insert(table, rows)
        except (RejectedError, UnavailableError) as error:
            return error
        return None

    async def positions(self) -> None:
        """The group's committed offsets are the positions."""
        return


def spliced(value: bytes | None, partition: int, offset: int, appended_ms: int) -> bytes:
    """A checked JSON object with its place in the log as first members."""
    if value is None:
        raise InvalidError("a tombstone where a fact is needed")
    members = value[1:] if value.startswith(b"{") else value.lstrip()[1:]
    return b'{"_partition":%d,"_offset":%d,"_appended":%d,%b' % (
        partition,
        offset,
        appended_ms,
        members,
    )
