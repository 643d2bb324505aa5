"""How fast one reader of the tail catches up, beside the client's bare reading of its partition."""

import asyncio
import gc
import time

from shared.clock import SystemClock
from shared.kafka import TopicPartition, open_consumer, open_producer
from shared.tail import EARLIEST, LATEST, Limits, Tail
from tests import tracking
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured
from tests.tail_parts import create, tracked_topics
from tests.waiting import until

NAMES = ("tail.records_per_second",)
RECORDS = 150_000
ROUNDS = 5


async def run(context: Context) -> list[Figure]:
    """Fill one partner's partition with clicks of 800 bytes, then read it in turns."""
    table = tracked_topics("clicks")
    topic = table["clicks"].name
    await create(context.kafka_bootstrap, table)
    await _fill(context.kafka_bootstrap, topic)
    tails, bare = [], []
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)  # as in every process of the platform
    tail = Tail(
        context.kafka_bootstrap, table, clock=SystemClock(), limits=Limits(ring_bytes_max=1_000)
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(tail.run())
        await until(lambda: tail.is_ready)
        partition = await _partition(tail)
        for _ in range(ROUNDS):
            tails.append(RECORDS / await _read_by_tail(tail))
            bare.append(RECORDS / await _read_bare(context.kafka_bootstrap, partition))
        task.cancel()
    return [measured(NAMES[0], "records/s", tails, bare)]


async def _partition(tail: Tail) -> TopicPartition:
    reader = await tail.open(1, 1, None, LATEST)
    await reader.aclose()
    return reader._tracks[0].partition


async def _fill(bootstrap: str, topic: str) -> None:
    async with open_producer(bootstrap, client_id="bench", linger_ms=20) as producer:
        for number in range(RECORDS):
            value = tracking.click(1, 1, number + 1)
            await producer.send(topic, value, key=tracking.key(1, 1))
        await producer.flush()


async def _read_by_tail(tail: Tail) -> float:
    """Seconds from asking for a reader to having its last record, each with its cursor."""
    began = time.perf_counter()
    reader = await tail.open(1, 1, None, EARLIEST)
    found = 0
    while found < RECORDS:
        found += len((await reader.read(records_max=2_000)).records)
    seconds = time.perf_counter() - began
    await reader.aclose()
    return seconds


async def _read_bare(bootstrap: str, partition: TopicPartition) -> float:
    began = time.perf_counter()
    found = 0
    async with open_consumer(bootstrap, client_id="bench") as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        while found < RECORDS:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += len(records)
        return time.perf_counter() - began
