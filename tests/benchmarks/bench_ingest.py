"""How fast facts come in: the reporting service as one process, from Kafka into its embedded store.

Clicks of 800 bytes wait in Kafka, half of them one partner's; the service checks each against its
schema and stores it. Once it has nothing else to do, once while two partners ask for reports of what
comes in all the time. Then freshness: clicks of one partner among 2,000 a second, each timed from
its sending to the first report that counts it.
"""

import asyncio
import json
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from shared import topics
from shared.kafka import TopicPartition, open_producer
from tests.benchmarks.clicks import click
from tests.benchmarks.context import Context
from tests.benchmarks.facts_data import BIG, NETWORK, OTHERS
from tests.benchmarks.figures import Figure, measured
from tests.benchmarks.reporting_service import (
    TABLE,
    Asking,
    at_the_end,
    live_clicks,
    open_service,
    report_body,
)

ALONE, BUSY = "ingest.events_per_second", "ingest.events_per_second_with_queries"
FRESH = "freshness.p99_seconds"
NAMES = (ALONE, BUSY, FRESH)
CLICKS = min(600_000, int(os.environ.get("PORTICO_BENCH_ROWS", "600000")))
ROUNDS = 5
LOOK_SECONDS = 0.25
"""Between two looks at the metrics, which cost the service some milliseconds each."""
PER_SECOND = 2_000
PROBES, PROBES_PER_SECOND = 600, 20
PROBE = 900
"""The partner whose clicks are timed."""


async def run(context: Context) -> list[Figure]:
    """The three figures."""
    await topics.apply(context.kafka_bootstrap)
    before = await at_the_end(context)
    sent = await _fill(context)
    alone = [await _per_second(context, before, sent, askers=0) for _ in range(ROUNDS)]
    busy = [await _per_second(context, before, sent, askers=2) for _ in range(ROUNDS)]
    return [
        measured(ALONE, "events/s", alone, 50_000),
        measured(BUSY, "events/s", busy, 25_000),
        await _freshness(context),
    ]


async def _fill(context: Context) -> Counter[int]:
    """Send the clicks; how many each partner has."""
    chance = random.Random(1)
    sent: Counter[int] = Counter()
    async with open_producer(context.kafka_bootstrap, client_id="bench", linger_ms=20) as producer:
        for number in range(CLICKS):
            partner = BIG if chance.random() < 0.5 else chance.randrange(2, 2 + OTHERS)
            sent[partner] += 1
            value = click(chance, number, partner) | {"network_id": NETWORK}
            await producer.send(
                topics.CLICKS.name, msgspec.json.encode(value), key=b"1:%d" % partner
            )
        await producer.flush()
    return sent


async def _per_second(
    context: Context, before: dict[TopicPartition, int], sent: Counter[int], *, askers: int
) -> float:
    """Clicks a second, from the assignment until all are stored."""
    folder = context.folder / context.unique("ingest")
    async with (
        open_service(context, folder, starts=before) as asking,
        _askers(asking, askers),
    ):
        began = time.perf_counter()
        while await asking.metric("reporting_projection_records_total") < CLICKS:
            await asyncio.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - began
        for partner in (BIG, *range(2, 7)):
            assert await _total(asking, partner) == sent[partner], f"partner {partner}"
    return CLICKS / seconds


async def _total(asking: Asking, partner: int) -> int:
    body = report_body(("date",), since=1_774_000_000, until=int(time.time()))
    _, raw = await asking.answered("POST", TABLE, body, partner=partner)
    rows = json.loads(raw)["table"]
    return sum(row["reporting"]["total_click"] for row in rows)


@asynccontextmanager
async def _askers(asking: Asking, count: int) -> AsyncIterator[None]:
    """Partners who ask for reports all the time, until the block ends."""
    body = report_body(("offer", "sub1"), since=1_774_000_000, until=int(time.time()))

    async def asks(partner: int) -> None:
        while True:
            await asking.timed("POST", TABLE, body, partner=partner)

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(asks(partner)) for partner in range(BIG, BIG + count)]
        yield
        for task in asked:
            task.cancel()


async def _freshness(context: Context) -> Figure:
    """Seconds from the sending of a click to the first report that counts it."""
    folder = context.folder / context.unique("fresh")
    starts = await at_the_end(context)
    sent: list[float] = []
    seen: list[float] = []
    async with (
        open_service(context, folder, starts=starts) as asking,
        live_clicks(context, PER_SECOND),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(_probe(context, sent))
        while len(seen) < PROBES:
            count = await _total(asking, PROBE)
            seen += [time.monotonic()] * (count - len(seen))
    late = [there - gone for gone, there in zip(sent, seen, strict=True)]
    p99 = statistics.quantiles(late, n=100)[98]
    return Figure(
        FRESH, p99, "s", baseline=2.0, ratio=p99 / 2, rounds=len(late), spread=max(late) / p99
    )


async def _probe(context: Context, sent: list[float]) -> None:
    chance = random.Random(time.time_ns())
    async with open_producer(context.kafka_bootstrap, client_id="probe") as producer:
        for _ in range(PROBES):
            value = click(chance, chance.getrandbits(32), PROBE)
            value |= {"network_id": NETWORK, "unix_timestamp": int(time.time())}
            sent.append(time.monotonic())
            await producer.send_and_wait(
                topics.CLICKS.name, msgspec.json.encode(value), key=b"1:%d" % PROBE
            )
            await asyncio.sleep(1 / PROBES_PER_SECOND)
