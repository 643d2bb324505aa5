"""How fast a replica of keys loads, beside the client's bare reading of the same topic."""

import asyncio
import time
from dataclasses import replace

from shared import events, topics
from shared.clock import SystemClock
from shared.events import KeyState
from shared.kafka import open_consumer, open_producer, partitions_of
from shared.partner_key import generate
from shared.replica import Replica
from shared.topics import KEYS_STATE, Topic
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured

NAMES = ("replica.load_records_per_second",)
KEYS = 100_000
ROUNDS = 5


async def run(context: Context) -> list[Figure]:
    """Fill a topic with key states, then read it in turns: as a replica, and just read."""
    topic = replace(KEYS_STATE, name=context.unique("keys"))
    await topics.apply(context.kafka_bootstrap, table=[topic])
    await _fill(context.kafka_bootstrap, topic)
    replicas, bare = [], []
    for _ in range(ROUNDS):
        replicas.append(KEYS / await _load(context.kafka_bootstrap, topic))
        bare.append(KEYS / await _read(context.kafka_bootstrap, topic))
    return [measured(NAMES[0], "records/s", replicas, bare)]


async def _fill(bootstrap: str, topic: Topic) -> None:
    async with open_producer(bootstrap, client_id="bench", linger_ms=20) as producer:
        for number in range(KEYS):
            state = KeyState(
                key_id=f"key-{number:08d}",
                version=number % 5 + 1,
                digest=generate().digest,
                network_id=number % 7 + 1,
                network_affiliate_id=number + 1,
                integration="warehouse",
                allowlist=("203.0.113.7", "198.51.100.0/24"),
            )
            await producer.send(topic.name, events.encode(state), key=state.key_id.encode())
        await producer.flush()


async def _load(bootstrap: str, topic: Topic) -> float:
    """Seconds from making a replica to its being ready, connections included."""
    replica = Replica(bootstrap, topic, KeyState, clock=SystemClock(), client_id="bench")
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(replica.run())
        while not replica.is_ready:
            await asyncio.sleep(0.001)
        seconds = time.perf_counter() - began
        task.cancel()
    if len(replica) != KEYS:
        raise RuntimeError(f"the replica holds {len(replica)} of {KEYS}")
    return seconds


async def _read(bootstrap: str, topic: Topic) -> float:
    began = time.perf_counter()
    found = 0
    async with open_consumer(bootstrap, client_id="bench") as consumer:
        partitions = await partitions_of(consumer, [topic.name])
        consumer.assign(partitions)
        while found < KEYS:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += len(records)
        return time.perf_counter() - began
