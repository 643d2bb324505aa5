"""What tests of the tail and the firehose share: topics, a running tail, a ledger, a reader's log."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from shared import topics
from shared.clock import SystemClock
from shared.kafka import Producer, open_admin, open_consumer, open_producer, topic_ids
from shared.tail import Limits, Reader, Tail
from shared.topics import Topic
from tests import tracking
from tests.waiting import until

PARTITIONS = 3
TYPES = ("clicks", "conversions")


def tracked_topics(*names: str) -> dict[str, Topic]:
    """Tracking topics of the test's own, by type."""
    mark = uuid.uuid4().hex[:12]
    return {
        name: replace(
            topics.TRACKING[name], name=f"{name}-{mark}", partitions=PARTITIONS, dead_letters=False
        )
        for name in names or TYPES
    }


async def create(bootstrap: str, table: Mapping[str, Topic]) -> None:
    """Create them."""
    await topics.apply(bootstrap, table=list(table.values()))


async def recreate(bootstrap: str, table: Mapping[str, Topic], name: str) -> None:
    """Delete the topic of type `name` and create it anew, once the cluster knows it is gone."""
    topic = table[name].name
    async with open_admin(bootstrap) as admin, open_consumer(bootstrap, client_id="ids") as asking:
        await admin.delete_topics([topic])
        async with asyncio.timeout(60):
            while await topic_ids(asking, [topic]):
                await asyncio.sleep(0.01)
    await create(bootstrap, table)


@asynccontextmanager
async def running_tail(
    bootstrap: str, table: Mapping[str, Topic], limits: Limits | None = None
) -> AsyncIterator[Tail]:
    """A tail that is ready."""
    tail = Tail(bootstrap, table, clock=SystemClock(), limits=limits)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(tail.run())
        await until(lambda: tail.is_ready)
        yield tail
        task.cancel()


@dataclass
class Ledger:
    """What was committed, by partner and type, in order; written without the tail's help."""

    producer: Producer
    table: Mapping[str, Topic]
    numbers: dict[tuple[int, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    _next: int = 0

    async def send(self, partner: int, name: str, count: int = 1, *, aborted: bool = False) -> None:
        """Send `count` records; those of an aborted transaction are not in the ledger."""
        make = {"clicks": tracking.click, "conversions": tracking.conversion}[name]
        sent = []
        for _ in range(count):
            self._next += 1
            value = make(1, partner, self._next)
            key = tracking.key(1, partner)
            sent.append(await self.producer.send(self.table[name].name, value, key=key))
            if not aborted:
                self.numbers[partner, name].append(self._next)
        await asyncio.wait(sent)
        if not aborted:
            for future in sent:
                future.result()

    def of(self, partner: int) -> dict[str, list[int]]:
        """All of a partner's records by type."""
        return {name: self.numbers[partner, name] for name in self.table}


@asynccontextmanager
async def open_ledger(
    bootstrap: str, table: Mapping[str, Topic], transactional_id: str | None = None
) -> AsyncIterator[Ledger]:
    """A ledger with a producer of its own."""
    async with open_producer(
        bootstrap, client_id="ledger", transactional_id=transactional_id, linger_ms=2
    ) as producer:
        yield Ledger(producer, table)


class Reading:
    """What a reader gave out, by type."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.numbers: dict[str, list[int]] = {name: [] for name in reader.types}
        self.cursor = reader.cursor
        self.was_behind = False
        self.batch_max = 0

    @property
    def total(self) -> int:
        """How many records it gave out."""
        return sum(map(len, self.numbers.values()))

    async def read(self, wait_seconds: float = 0.2, records_max: int = 1_000) -> None:
        """One batch."""
        self.was_behind |= self.reader.is_behind
        batch = await self.reader.read(records_max=records_max, wait_seconds=wait_seconds)
        self.batch_max = max(self.batch_max, len(batch.records))
        self.cursor = batch.cursor
        for record in batch.records:
            self.numbers[record.type].append(tracking.number_of(record.value))

    async def read_until(self, total: int, seconds: float = 60.0) -> None:
        """Batches until so many records have come."""
        async with asyncio.timeout(seconds):
            while self.total < total:
                await self.read()
