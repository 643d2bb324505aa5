"""How fast projections are: clicks from Kafka into ClickHouse, offers from Kafka into Postgres.

Beside each, the same rows written the plain way by the same store, without Kafka and checks.
"""

import asyncio
import gc
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from services.reporting.catalog import handlers as catalog
from services.reporting.catalog import store as catalog_store
from services.reporting.facts import tables
from services.reporting.facts.intake import check_fact
from shared import events, topics
from shared.clickhouse import ClickHouse, open_clickhouse
from shared.kafka import open_producer
from shared.postgres import Pool, migrate, open_pool
from shared.projection import (
    ClickHouseSink,
    Limits,
    PostgresSink,
    Projection,
    ProjectionMetrics,
)
from shared.sinks import spliced
from shared.topics import Topic, dead_letter_topic
from tests.benchmarks.clicks import click
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured

NAMES = ("projection.clickhouse.events_per_second", "projection.postgres.upserts_per_second")
CLICKS = 300_000
OFFERS = 100_000
BLOCK = 10_000
ROUNDS = 3

Values = Sequence[tuple[bytes, bytes]]


async def run(context: Context) -> list[Figure]:
    """Both figures, with the collector set as `shared.runtime` sets it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    return [await _clickhouse(context), await _postgres(context)]


# --- clicks into ClickHouse -----------------------------------------------------------------------


async def _clickhouse(context: Context) -> Figure:
    values = _clicks()
    # check_fact goes by the real name, and the bench has its Kafka for itself
    topic = topics.CLICKS
    await _fill(context.kafka_bootstrap, topic, values)
    path = context.folder / "clickhouse"
    projected, plain = [], []
    async with open_clickhouse(path=path, database="bench") as clickhouse:
        for _ in range(ROUNDS):
            await _empty(clickhouse)
            projection = _facts(context, clickhouse, topic)
            projected.append(CLICKS / await _seconds(projection, CLICKS))
            [(found,)] = await clickhouse.query("SELECT count() FROM clicks FINAL")
            if found != CLICKS:
                raise RuntimeError(f"{found} clicks of {CLICKS} were stored")
            await _empty(clickhouse)
            plain.append(CLICKS / await _inserted(clickhouse, values))
    return measured(NAMES[0], "events/s", projected, plain)


def _clicks() -> Values:
    """Clicks of about 800 bytes with the variety of real ones."""
    chance = random.Random(1)
    return [_click(chance, number) for number in range(CLICKS)]


def _click(chance: random.Random, number: int) -> tuple[bytes, bytes]:
    partner = int(chance.paretovariate(1.2)) % 200 + 1
    return b"1:%d" % partner, msgspec.json.encode(click(chance, number, partner))


async def _empty(clickhouse: ClickHouse) -> None:
    await clickhouse.command("DROP TABLE IF EXISTS clicks SYNC")
    for statement in tables.statements():
        await clickhouse.command(statement)


def _facts(context: Context, clickhouse: ClickHouse, topic: Topic) -> Projection[None]:
    return Projection(
        context.kafka_bootstrap,
        group=context.unique("bench"),
        topics=[topic],
        check=check_fact,
        sink=ClickHouseSink(clickhouse, {topic.name: tables.CLICKS}),
        metrics=ProjectionMetrics(CollectorRegistry(), "bench"),
        limits=Limits(records_max=BLOCK, age_seconds_max=0.5),
    )


async def _inserted(clickhouse: ClickHouse, values: Values) -> float:
    rows = [spliced(value, 0, offset, 0) for offset, (_, value) in enumerate(values)]
    began = time.perf_counter()
    for first in range(0, len(rows), BLOCK):
        await clickhouse.insert(tables.CLICKS, b"\n".join(rows[first : first + BLOCK]))
    return time.perf_counter() - began


# --- offers into Postgres -------------------------------------------------------------------------


async def _postgres(context: Context) -> Figure:
    topic = topics.NETWORK_OFFERS
    offers = _offers()
    await _fill(context.kafka_bootstrap, topic, offers)
    projected, plain = [], []
    for _ in range(ROUNDS):
        schema = context.unique("bench").replace("-", "_")
        async with open_pool(context.database_url, schema=schema, application="bench") as pool:
            await migrate(pool, "services.reporting.migrations")
            projection: Projection[catalog.domain.Change] = Projection(
                context.kafka_bootstrap,
                group=context.unique("bench"),
                topics=[topic],
                check=catalog.Check([topic]),
                sink=PostgresSink(pool, "bench", catalog_store.apply),
                metrics=ProjectionMetrics(CollectorRegistry(), "bench"),
                limits=Limits(),
            )
            projected.append(OFFERS / await _seconds(projection, OFFERS))
            if (found := await pool.fetchval("SELECT count(*) FROM offers")) != OFFERS:
                raise RuntimeError(f"{found} offers of {OFFERS} were stored")
            await pool.execute("TRUNCATE offers")
            plain.append(OFFERS / await _upserted(pool, offers))
    return measured(NAMES[1], "upserts/s", projected, plain)


def _offers() -> Values:
    return [
        (
            b"1:%d" % number,
            events.encode(
                events.Offer(
                    network_id=1,
                    network_offer_id=number,
                    version=1,
                    name=f"Offer number {number}",
                    html_description="A fine offer for everybody. " * 10,
                    payouts=(events.OfferPayout(network_offer_payout_revenue_id=number),),
                )
            ),
        )
        for number in range(1, OFFERS + 1)
    ]


_UPSERT = """
INSERT INTO offers (network_id, network_offer_id, version, is_active, is_public, document)
SELECT 1, n, 1, true, true, d FROM unnest($1::bigint[], $2::json[]) AS a(n, d)
ON CONFLICT (network_id, network_offer_id) DO UPDATE
SET version = excluded.version, document = excluded.document
WHERE offers.version < excluded.version
"""


async def _upserted(pool: Pool, offers: Values) -> float:
    rows = [(int(key.partition(b":")[2]), value.decode()) for key, value in offers]
    began = time.perf_counter()
    for first in range(0, len(rows), 5_000):
        block = rows[first : first + 5_000]
        await pool.execute(_UPSERT, [n for n, _ in block], [document for _, document in block])
    return time.perf_counter() - began


# --- both -----------------------------------------------------------------------------------------


async def _fill(bootstrap: str, topic: Topic, values: Values) -> None:
    letters = replace(topic, name=dead_letter_topic(topic.name), partitions=1, dead_letters=False)
    await topics.apply(bootstrap, table=[topic, letters])
    async with open_producer(bootstrap, client_id="bench", linger_ms=20) as producer:
        for key, value in values:
            await producer.send(topic.name, value, key=key)
        await producer.flush()


async def _seconds(projection: Projection[Any], wanted: int) -> float:
    """Seconds from the assignment until `wanted` records have taken effect."""
    counted = projection._work.metrics.records

    def applied() -> float:
        (metric,) = counted.collect()
        return sum(each.value for each in metric.samples if each.name.endswith("_total"))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(projection.run())
        while not projection.is_ready:
            await asyncio.sleep(0.001)
        began = time.perf_counter()
        while applied() < wanted:
            await asyncio.sleep(0.005)
        seconds = time.perf_counter() - began
        await projection.drain()
    return seconds
