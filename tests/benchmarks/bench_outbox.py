"""The outbox: how many events a second one relay publishes, and how soon a commit is readable."""

import asyncio
import statistics
import time

from shared.kafka import NewTopic, TopicPartition, open_admin, open_consumer, open_producer
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured
from tests.outbox_parts import Outbox, open_outbox, running_relay

NAMES = ("outbox.events_per_second", "outbox.commit_to_broker_p99_ms")
ROUNDS = 3
EVENTS = 20_000
VALUE = b"x" * 320
"""As long as a key's state record."""
KEYS = 500
PARTITIONS = 12
COMMITS = 300
PAUSE_SECONDS = 0.02


async def run(context: Context) -> list[Figure]:
    """Both figures, against a plain idempotent producer of the same records in the same run."""
    relayed, plain, latencies = [], [], []
    for _ in range(ROUNDS):
        plain.append(await _plain_events_per_second(context))
        relayed.append(await _relayed_events_per_second(context))
        latencies.append(await _commit_to_broker_p99_ms(context))
    return [
        measured(NAMES[0], "events/s", relayed, plain),
        measured(NAMES[1], "ms", latencies),
    ]


def _outbox(context: Context, partitions: int = PARTITIONS):
    schema = context.unique("bench").replace("-", "_")
    topic = context.unique("bench-outbox")
    return open_outbox(context.kafka_bootstrap, context.database_url, schema, topic, partitions)


async def _relayed_events_per_second(context: Context) -> float:
    """Rows that wait in the table, from the start of a relay that holds the lease."""
    async with _outbox(context) as outbox:
        async with running_relay(outbox) as relay:
            assert await relay.wait_published(await outbox.change("warm", VALUE), 30)
        for first in range(0, EVENTS, KEYS):
            await _append(outbox, range(first, first + KEYS))
        async with running_relay(outbox) as relay:
            while not relay.is_holder:
                await asyncio.sleep(0.001)
            began = time.perf_counter()
            last = await outbox.pool.fetchval("SELECT max(id) FROM outbox")
            assert await relay.wait_published([last], 120)
            seconds = time.perf_counter() - began
        assert await outbox.unpublished() == 0
    return EVENTS / seconds


async def _append(outbox: Outbox, numbers: range) -> None:
    await outbox.change_many([(f"k{number % KEYS}", VALUE) for number in numbers])


async def _plain_events_per_second(context: Context) -> float:
    """The same records from memory, without a table, transactions or marks."""
    topic = context.unique("bench-plain")
    async with open_admin(context.kafka_bootstrap) as admin:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    async with open_producer(context.kafka_bootstrap, client_id="plain") as producer:
        await producer.send_and_wait(topic, VALUE, b"warm")
        headers = [("ce_id", b"0" * 16)]
        began = time.perf_counter()
        for number in range(EVENTS):
            sent = await producer.send(topic, VALUE, b"k%d" % (number % KEYS), headers=headers)
        await producer.flush()
        seconds = time.perf_counter() - began
        sent.result()
    return EVENTS / seconds


async def _commit_to_broker_p99_ms(context: Context) -> float:
    """One transaction at a time: from Postgres's commit to a `read_committed` reader's receipt."""
    async with _outbox(context, partitions=1) as outbox, running_relay(outbox) as relay:
        assert await relay.wait_published(await outbox.change("warm", b"-1"), 30)
        partition = TopicPartition(outbox.topic, 0)
        async with open_consumer(context.kafka_bootstrap, client_id="reader") as consumer:
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            await consumer.getone()
            samples = [await _one_commit(outbox, consumer, number) for number in range(COMMITS)]
    return statistics.quantiles(samples, n=100)[98]


async def _one_commit(outbox: Outbox, consumer, number: int) -> float:
    """Counts from before the commit is sent, so that the figure is not flattered."""
    await asyncio.sleep(PAUSE_SECONDS)
    async with outbox.pool.acquire() as connection:
        change = connection.transaction()
        await change.start()
        await outbox.append_within(connection, "key", b"%d" % number)
        began = time.perf_counter()
        await change.commit()
        record = await consumer.getone()
        seconds = time.perf_counter() - began
    assert record.value == b"%d" % number
    return seconds * 1_000
