"""Protects the replica from its own death: whenever it is killed, the next one has everything."""

import asyncio
import json
import os
import random
import signal
import sys
from dataclasses import replace

from shared import events, topics
from shared.events import PartnerAccess
from shared.kafka import open_consumer, open_producer, partitions_of
from tests.backends import ROOT
from tests.soak import count

PARTNERS = 2_000


async def _child(bootstrap: str, topic: str, crash_at: str = "") -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.replica_process",
        bootstrap,
        topic,
        cwd=ROOT,
        env=os.environ | {"PORTICO_CRASH_AT": crash_at},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode or 0, output


async def _recount(bootstrap: str, topic: str) -> dict[str, int]:
    """The last committed version of each key, read without the replica."""
    held: dict[str, int] = {}
    async with open_consumer(bootstrap, client_id="recount") as consumer:
        partitions = await partitions_of(consumer, [topic])
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        while any([await consumer.position(item) < end for item, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    held.pop(record.key.decode(), None)
                    if record.value is not None:
                        held[record.key.decode()] = json.loads(record.value)["version"]
    return held


async def _write(producer, topic: str, chance: random.Random, version: int) -> None:
    """A transaction that changes and removes partners; every third is aborted."""
    await producer.begin_transaction()
    for partner in chance.sample(range(1, PARTNERS + 1), 150):
        state = PartnerAccess(network_id=1, network_affiliate_id=partner, version=version)
        value = None if chance.random() < 0.2 else events.encode(state)
        await producer.send(topic, value, key=b"1:%d" % partner)
    if version % 3 == 0:
        await producer.flush()
        await producer.abort_transaction()
    else:
        await producer.commit_transaction()


async def test_a_replica_killed_while_loading_loses_nothing_to_the_next(kafka_bootstrap, unique):
    """It keeps nothing outside the process: killed at any point, its successor equals the topic."""
    topic = replace(topics.PARTNERS_ACCESS, name=unique("access"), partitions=4)
    await topics.apply(kafka_bootstrap, table=[topic])
    chance = random.Random(7)
    client = {"client_id": "p", "transactional_id": topic.name}
    async with open_producer(kafka_bootstrap, **client) as producer:
        for round_number in range(1, count(5, 50) + 1):
            for version in range(round_number * 10, round_number * 10 + 10):
                await _write(producer, topic.name, chance, version)
            crash_at = chance.choice(["replica.loading", "replica.loaded"])
            status, output = await _child(kafka_bootstrap, topic.name, crash_at)
            assert (status, output) == (-signal.SIGKILL, b""), "the crash point was not passed"
            status, output = await _child(kafka_bootstrap, topic.name)
            assert status == 0
            assert json.loads(output) == await _recount(kafka_bootstrap, topic.name)
