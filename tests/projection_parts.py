"""A projection made of test parts: its topics, its stores and the recount that judges it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.protocol.group import LeaveGroupRequest
from prometheus_client import CollectorRegistry

from shared import events
from shared.kafka import (
    KafkaError,
    Record,
    TopicPartition,
    open_admin,
    open_consumer,
    open_producer,
    partitions_of,
)
from shared.postgres import Connection, Pool
from shared.projection import (
    OFFSETS_DDL,
    Item,
    Limits,
    PostgresSink,
    Projection,
    ProjectionMetrics,
    Sink,
)
from shared.topics import Topic, apply, dead_letter_topic
from tests.tracking import click, key, number_of
from tests.waiting import DEADLINE_SECONDS

PARTNERS = range(1, 9)
QUICK = Limits(
    records_max=50,
    age_seconds_max=0.05,
    retry_seconds_max=20.0,
    lag_seconds=0.2,
    stall_seconds_max=30,
)

EFFECTS_DDL = "CREATE TABLE effects (topic text, number bigint, position bigint)"


def tracked_topic(name: str, partitions: int = 4) -> Topic:
    """A tracking topic of the test's own."""
    return Topic(
        name=name,
        key="network:partner",
        owner="test",
        schemas=(events.Click,),
        partitions=partitions,
        retention_ms=86_400_000,
        log_append_time=True,
        dead_letters=True,
    )


async def create(bootstrap: str, *topics: Topic) -> None:
    """Create `topics` with their dead letters."""
    letters = [
        Topic(name=dead_letter_topic(topic.name), key=topic.key, owner="test", partitions=1)
        for topic in topics
        if topic.dead_letters
    ]
    await apply(bootstrap, table=[*topics, *letters])
    await settled(bootstrap, *topics, *letters)


async def settled(bootstrap: str, *topics: Topic) -> None:
    """Wait until the broker serves new topics and groups, which aiokafka would log as errors."""
    names = [each.name for each in topics]
    async with open_consumer(bootstrap, client_id="settled") as consumer:
        await _until_served(lambda: partitions_of(consumer, names), consumer.end_offsets)
    async with open_admin(bootstrap) as admin:
        await _until_served(lambda: admin.find_coordinator("warm-up"))


async def _until_served(*steps: Callable[..., Awaitable[Any]]) -> None:
    """Take `steps`, each with what the one before came to, until the broker serves them all."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                found: tuple[Any, ...] = ()
                for step in steps:
                    found = (await step(*found),)
            except KafkaError:
                await asyncio.sleep(0.05)
            else:
                return


async def send_clicks(bootstrap: str, topic: str, numbers: Iterable[int]) -> None:
    """Append clicks of several partners, one a number."""
    async with open_producer(bootstrap, client_id="test", linger_ms=5) as producer:
        waiting = [
            await producer.send(
                topic, value=click(1, partner_of(number), number), key=key(1, partner_of(number))
            )
            for number in numbers
        ]
        for future in waiting:
            await future


def partner_of(number: int) -> int:
    """The partner whose click `number` is."""
    return PARTNERS[number % len(PARTNERS)]


async def read_all(bootstrap: str, topic: str) -> list[Record[bytes, bytes]]:
    """Every record of `topic` as it is now."""
    async with open_consumer(bootstrap, client_id="recount") as consumer:
        partitions = await partitions_of(consumer, [topic])
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        records: list[Record[bytes, bytes]] = []
        while [p for p in partitions if await consumer.position(p) < ends[p]]:
            for found in (await consumer.getmany(timeout_ms=100)).values():
                records.extend(found)
        return records


def check(record: Record[bytes, bytes]) -> events.Click:
    """The click in a record."""
    return events.check_tracked(events.Click, record.key, record.value)


async def prepare(pool: Pool) -> None:
    """The tables of a test projection."""
    await pool.execute(OFFSETS_DDL)
    await pool.execute(EFFECTS_DDL)


async def note_effects(connection: Connection, items: Sequence[Item[events.Click]]) -> None:
    """An effect that shows each time it happens: nothing makes it unique but the projection."""
    await connection.executemany(
        "INSERT INTO effects VALUES ($1, $2, $3)",
        [
            (item.record.topic, int(item.event.transaction_id, 16), item.record.offset)
            for item in items
        ],
    )


def postgres_sink(pool: Pool, name: str = "test") -> PostgresSink[events.Click]:
    """Effects go to table `effects`."""
    return PostgresSink(pool, name, note_effects)


def projection(
    bootstrap: str,
    group: str,
    topics: Sequence[Topic],
    sink: Sink[events.Click],
    limits: Limits = QUICK,
    registry: CollectorRegistry | None = None,
) -> Projection[events.Click]:
    """A projection of clicks."""
    return Projection(
        bootstrap,
        group=group,
        topics=topics,
        check=check,
        sink=sink,
        metrics=ProjectionMetrics(registry or CollectorRegistry(), "test"),
        limits=limits,
    )


@asynccontextmanager
async def running(*projections: Projection[events.Click]) -> AsyncIterator[None]:
    """Run `projections` until the block ends, then drain them."""
    tasks = [asyncio.ensure_future(each.run()) for each in projections]
    try:
        yield
        for each in projections:
            await each.drain()
        for task in tasks:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def effects(pool: Pool) -> Counter[int]:
    """How often each click took effect."""
    rows = await pool.fetch("SELECT number, count(*) AS times FROM effects GROUP BY number")
    return Counter({row["number"]: row["times"] for row in rows})


async def applied(pool: Pool) -> int:
    """How many effects there are."""
    return int(await pool.fetchval("SELECT count(*) FROM effects"))


def once(records: Iterable[Record[bytes, bytes]]) -> Counter[int]:
    """What the effects must be: each record of the log once."""
    return Counter(number_of(record.value) for record in records)


def at(topic: str, partition: int) -> TopicPartition:
    """A partition by its name and number."""
    return TopicPartition(topic, partition)


async def bury(bootstrap: str, group: str) -> None:
    """Take the members of `group`, which are dead, out of it, before Kafka notices by itself."""
    async with open_admin(bootstrap) as admin:
        coordinator = await admin.find_coordinator(group)
        (described,) = await admin.describe_consumer_groups([group], coordinator)
        for member in described.groups[0][5]:
            await admin._send_request(LeaveGroupRequest(group, member[0]), coordinator)
