"""Protects: one process signs, in time, and only what continues from the last signed checkpoint."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.audit import chain, checkpoints, domain
from services.audit.metrics import AuditMetrics
from services.audit.notary import Due, Notary
from services.audit.store import append
from shared.clock import SystemClock
from shared.errors import UnavailableError
from shared.events import Checkpoint
from shared.postgres import Pool, connect, migrate, open_pool

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
DEADLINE_SECONDS = 60


class Bench:
    """A trail and whoever signs it."""

    def __init__(self, url: str, schema: str, pool: Pool, folder: Path) -> None:
        self.url, self.schema, self.pool = url, schema, pool
        self.journal = checkpoints.Journal(folder)
        self.published: list[Checkpoint] = []
        self.kafka_is_up = True
        self._appended = 0

    async def append(self, network_id: int, number: int) -> None:
        """`number` more entries of a network."""
        drafts = []
        for _ in range(number):
            self._appended += 1
            drafts.append(
                domain.Draft(network_id, f"event-{self._appended}", "K", 0.0, "a", 2, "", {})
            )
        async with self.pool.acquire() as connection, connection.transaction():
            await append(connection, drafts, notify="unheard")

    def notary(self, metrics: AuditMetrics, due: Due) -> Notary:
        return Notary(
            self._connect,
            self._publish,
            self.journal,
            KEY,
            due=due,
            clock=SystemClock(),
            metrics=metrics,
            round_seconds=0.05,
        )

    async def _connect(self) -> asyncpg.Connection:
        return await connect(self.url, schema=self.schema, application="test")

    async def _publish(self, checkpoint: Checkpoint) -> None:
        if not self.kafka_is_up:
            raise UnavailableError("Kafka is down")
        self.published.append(checkpoint)


@pytest.fixture
async def bench(database_url: str, schema: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """An empty trail."""
    async with open_pool(database_url, schema=schema, application="test") as pool:
        await migrate(pool, "services.audit.migrations")
        yield Bench(database_url, schema, pool, tmp_path)


@asynccontextmanager
async def signing(bench: Bench, due: Due) -> AsyncIterator[AuditMetrics]:
    """A signing process, for as long as the block runs."""
    metrics = AuditMetrics()
    task = asyncio.ensure_future(bench.notary(metrics, due).run())
    try:
        yield metrics
    finally:
        task.cancel()
        await asyncio.wait([task])


def _is_signer(metrics: AuditMetrics) -> bool:
    return metrics.registry.get_sample_value("audit_signer") == 1.0


async def _until(condition) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


def _signed(bench: Bench, network_id: int) -> list[int]:
    return [item.sequence for item in bench.journal.read(network_id)]


async def test_an_entry_waits_for_time_or_number_whichever_comes_first(bench: Bench):
    """Network 1 has few entries and is due by time; network 2 has many and is due at once."""
    async with signing(bench, Due(seconds=3_600, entries=50)):
        await bench.append(2, 60)
        await bench.append(1, 3)
        await _until(lambda: _signed(bench, 2) == [60])
        assert _signed(bench, 1) == []
    async with signing(bench, Due(seconds=0.1, entries=50)):
        await _until(lambda: _signed(bench, 1) == [3])


async def test_one_process_signs_and_another_takes_over_when_it_ends(bench: Bench):
    """And publishes the last checkpoint again, which its predecessor may not have."""
    due = Due(seconds=0.05, entries=10)
    await bench.append(1, 5)
    async with signing(bench, due) as first:
        await _until(lambda: _signed(bench, 1) == [5])
        async with signing(bench, due) as second:
            await bench.append(1, 5)
            await _until(lambda: _signed(bench, 1) == [5, 10])
            assert (_is_signer(first), _is_signer(second)) == (True, False)
    bench.published.clear()
    async with signing(bench, due) as third:
        await _until(lambda: _is_signer(third))
        await _until(lambda: [item.sequence for item in bench.published] == [10])
    assert _signed(bench, 1) == [5, 10]


async def test_a_checkpoint_that_kafka_did_not_take_is_published_later(bench: Bench):
    """The file has it first; Kafka catches up."""
    bench.kafka_is_up = False
    await bench.append(1, 5)
    async with signing(bench, Due(seconds=0.05, entries=10)):
        await _until(lambda: _signed(bench, 1) == [5])
        assert bench.published == []
        bench.kafka_is_up = True
        await _until(lambda: [item.sequence for item in bench.published] == [5])


@pytest.mark.logs_errors
@pytest.mark.parametrize(
    "tampering",
    [
        'UPDATE entries SET content = replace(content, \'"kind":"K"\', \'"kind":"X"\')',
        "DELETE FROM entries WHERE sequence = 4",
        "DELETE FROM entries WHERE sequence = 5",
        "UPDATE heads SET hash = md5(hash)",
    ],
)
async def test_what_does_not_continue_the_last_checkpoint_is_not_signed(
    bench: Bench, tampering: str
):
    """Another network's chain is still signed, and this one again once it is restored."""
    due = Due(seconds=0.05, entries=10_000)
    async with signing(bench, due) as metrics:
        await bench.append(1, 3)
        await _until(lambda: _signed(bench, 1) == [3])
    async with bench.pool.acquire() as connection:
        await bench.append(1, 2)
        saved = await connection.fetch("SELECT content, hash FROM entries ORDER BY sequence")
        head = await connection.fetchval("SELECT hash FROM heads")
        await connection.execute(tampering)
        async with signing(bench, due) as metrics:
            await bench.append(2, 1)
            await _until(lambda: _signed(bench, 2) == [1])
            await _until(lambda: metrics.registry.get_sample_value("audit_broken_trails") == 1.0)
            assert _signed(bench, 1) == [3]
            async with connection.transaction():
                await connection.execute("DELETE FROM entries WHERE network_id = 1")
                await connection.executemany(
                    "INSERT INTO entries (content, hash) VALUES ($1, $2)", saved
                )
                await connection.execute("UPDATE heads SET hash = $1 WHERE network_id = 1", head)
            await _until(lambda: _signed(bench, 1) == [3, 5])


@pytest.mark.logs_errors
async def test_nothing_is_signed_behind_a_forged_line(bench: Bench):
    """A file with a line of another key is no place to go on from."""
    await bench.append(1, 3)
    other = checkpoints.Signer(Ed25519PrivateKey.generate())
    bench.journal.append(other.sign(1, chain.Head(2, "00"), now=1.0))
    async with signing(bench, Due(seconds=0.05, entries=10)) as metrics:
        await _until(lambda: metrics.registry.get_sample_value("audit_broken_trails") == 1.0)
    assert _signed(bench, 1) == [2]
