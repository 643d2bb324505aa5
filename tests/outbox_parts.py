"""What the outbox's tests share: a table, a topic, a reader that trusts nothing, a relay process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from prometheus_client import CollectorRegistry

from shared.clock import SystemClock
from shared.kafka import NewTopic, open_admin, open_consumer, partitions_of
from shared.outbox import (
    SCHEMA_SQL,
    OutboxRecord,
    Relay,
    RelayMetrics,
    RelaySettings,
    append,
    open_relay,
)
from shared.postgres import Pool, open_pool

DEADLINE_SECONDS = 60


@dataclass(frozen=True)
class Outbox:
    """One outbox of a test: its own schema and topic."""

    bootstrap: str
    database_url: str
    schema: str
    topic: str
    pool: Pool

    def settings(self, holder: str = "test", keep_seconds: float = 86_400) -> RelaySettings:
        return RelaySettings(
            self.bootstrap, self.database_url, self.schema, holder, keep_seconds=keep_seconds
        )

    async def change(self, key: str, *values: bytes | None) -> list[int]:
        """One transaction that appends `values` for `key`."""
        async with self.pool.acquire() as connection, connection.transaction():
            return await self.append_within(connection, key, *values)

    async def change_many(self, pairs: list[tuple[str, bytes]]) -> list[int]:
        """One transaction that appends a value for each of many keys."""
        async with self.pool.acquire() as connection, connection.transaction():
            return await append(connection, [self.record(key, value) for key, value in pairs])

    async def append_within(self, connection, key: str, *values: bytes | None) -> list[int]:
        """Append `values` for `key` in the caller's transaction."""
        return await append(connection, [self.record(key, value) for value in values])

    def record(self, key: str, value: bytes | None) -> OutboxRecord:
        return OutboxRecord(self.topic, key, value, [("ce_id", os.urandom(8).hex().encode())])

    async def ids_appended(self) -> dict[str, list[str]]:
        """The `ce_id`s of every committed row by key, in order of ids: the truth to compare to."""
        rows = await self.pool.fetch(
            "SELECT key, headers->0->>1 AS ce_id FROM outbox WHERE topic = $1 ORDER BY id",
            self.topic,
        )
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["key"], []).append(row["ce_id"])
        return found

    async def unpublished(self) -> int:
        return await self.pool.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")

    async def wait_all_published(self) -> None:
        await until(self._nothing_unpublished)

    async def _nothing_unpublished(self) -> bool:
        return await self.unpublished() == 0


@asynccontextmanager
async def open_outbox(
    bootstrap: str, database_url: str, schema: str, topic: str, partitions: int = 3
) -> AsyncIterator[Outbox]:
    """A fresh outbox and its topic."""
    async with open_admin(bootstrap) as admin:
        await admin.create_topics([NewTopic(topic, partitions, 1)])
    async with open_pool(database_url, schema=schema, application="test") as pool:
        await pool.execute(SCHEMA_SQL)
        yield Outbox(bootstrap, database_url, schema, topic, pool)


@asynccontextmanager
async def running_relay(
    outbox: Outbox, holder: str = "test", *, ends_itself: bool = False, **settings: float
) -> AsyncIterator[Relay]:
    """A relay at work in this process; what ended it before its time is raised.

    It is stopped at the end of the block; one that `ends_itself` gets the time to do so first.
    """
    metrics = RelayMetrics(CollectorRegistry(), "test")
    async with open_relay(outbox.settings(holder, **settings), metrics, SystemClock()) as relay:
        running = asyncio.create_task(relay.run())
        try:
            yield relay
        finally:
            if ends_itself:
                await asyncio.wait([running], timeout=DEADLINE_SECONDS)
            running.cancel()
            await asyncio.wait([running])
        if not running.cancelled():
            running.result()


async def until(condition, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until the coroutine function `condition` answers true."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Read:
    """One record as an independent reader found it."""

    key: str
    value: bytes | None
    ce_id: str


async def read_topic(bootstrap: str, topic: str) -> list[Read]:
    """All committed records, partition by partition, in order of offsets."""
    found: list[Read] = []
    async with open_consumer(bootstrap, client_id="recount") as consumer:
        partitions = await partitions_of(consumer, [topic])
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        async with asyncio.timeout(DEADLINE_SECONDS):
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    batch = await consumer.getmany(partition, timeout_ms=200)
                    found += [_read(record) for record in batch.get(partition, [])]
    return found


def _read(record) -> Read:
    return Read(record.key.decode(), record.value, dict(record.headers)["ce_id"].decode())


def first_seen(records: list[Read]) -> dict[str, list[str]]:
    """`ce_id`s by key in the order of their first appearance: what a reader that drops repeats has."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        found.setdefault(record.key, {})[record.ce_id] = None
    return {key: list(ids) for key, ids in found.items()}


class RelayProcess:
    """A relay in a process of its own, which a test may stop, continue and kill."""

    def __init__(self, outbox: Outbox, log: Path, **variables: str) -> None:
        self._log = log
        environment = {
            "PATH": os.environ["PATH"],
            "KAFKA_BOOTSTRAP": outbox.bootstrap,
            "DATABASE_URL": outbox.database_url,
            "OUTBOX_SCHEMA": outbox.schema,
        }
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.outbox_process"],
                cwd=Path(__file__).parent.parent,
                env=environment | variables,
                stdout=out,
                stderr=out,
            )

    async def wait_exit(self) -> int:
        """Its exit status; negative: the signal that ended it."""
        try:
            await until(self._has_exited)
        except TimeoutError:
            raise AssertionError(f"still running; its log:\n{self._log.read_text()}") from None
        return self._child.returncode

    async def _has_exited(self) -> bool:
        return self._child.poll() is not None

    async def wait_stopped(self) -> None:
        """Wait until it has been stopped by SIGSTOP."""
        await until(self._is_stopped)

    async def _is_stopped(self) -> bool:
        if self._child.poll() is not None:
            raise AssertionError(f"exited; its log:\n{self._log.read_text()}")
        stat = Path(f"/proc/{self._child.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def close(self) -> None:
        """Kill it if it still runs."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.send_signal(signal.SIGCONT)
            self._child.wait()


@contextmanager
def relay_process(outbox: Outbox, log: Path, **variables: str) -> Iterator[RelayProcess]:
    """A relay process; killed at the end if it still runs."""
    process = RelayProcess(outbox, log, **variables)
    try:
        yield process
    finally:
        process.close()


async def expire_lease(pool: asyncpg.Pool) -> None:
    """Let the lease be as old as if its holder had died a while ago."""
    await pool.execute("UPDATE outbox_lease SET renewed_at = renewed_at - interval '1 minute'")
