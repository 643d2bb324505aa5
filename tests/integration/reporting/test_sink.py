"""Protects the way of facts into ClickHouse: replayed after a power cut, and one bad row alone."""

import asyncio
import time
from collections.abc import Callable

from services.reporting.facts import tables
from shared.clickhouse import ClickHouse
from shared.kafka import open_admin
from shared.projection import ClickHouseSink, Projection
from shared.sinks import spliced
from tests import projection_parts as parts
from tests.reporting_parts import NOW, click
from tests.tracking import number_of

Unique = Callable[[str], str]
DAY = 86_400


async def count_of(clickhouse: ClickHouse) -> int:
    [(count,)] = await clickhouse.query("SELECT count() FROM clicks FINAL")
    return int(count)


async def until_stored(clickhouse: ClickHouse, wanted: int) -> None:
    deadline = time.monotonic() + 60
    while (found := await count_of(clickhouse)) < wanted:
        assert time.monotonic() < deadline, f"{found} of {wanted} stored"
        await asyncio.sleep(0.05)


async def committed(bootstrap: str, group: str) -> dict[int, int]:
    async with open_admin(bootstrap) as admin:
        found = await admin.list_consumer_group_offsets(group)
    return {tp.partition: entry.offset for tp, entry in found.items()}


async def test_what_a_power_cut_took_is_replayed(
    kafka_bootstrap: str, facts: ClickHouse, unique: Unique
) -> None:
    """Offsets were committed, the disk had not kept the rows; and offsets never move back."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(200))
    sent_by = time.time()
    group = unique("group")

    def projection() -> Projection[parts.events.Click]:
        sink = ClickHouseSink(facts, {topic.name: tables.CLICKS})
        return parts.projection(kafka_bootstrap, group, [topic], sink)

    async with parts.running(projection()):
        await until_stored(facts, 200)
    before = await committed(kafka_bootstrap, group)
    assert sum(before.values()) == 200
    await facts.command("TRUNCATE TABLE clicks")
    replaying = projection()
    async with parts.running(replaying):
        is_whole = False
        while not is_whole:
            through = replaying.through_all()
            is_whole = await count_of(facts) == 200
            assert is_whole or through <= sent_by, "ahead of what is stored"
        assert await committed(kafka_bootstrap, group) == before
    assert await committed(kafka_bootstrap, group) == before


async def test_facts_of_any_number_of_months_come_in_together(facts: ClickHouse) -> None:
    """Each month is a part of its own; a store that refused some would stop the log for ever."""
    await facts.command("ALTER TABLE clicks MODIFY TTL date + toIntervalDay(20000)")
    months = (click(i, unix_timestamp=int(NOW) - i * 31 * DAY) for i in range(150))
    await facts.insert(
        "clicks", b"\n".join(spliced(each.value, 0, each.offset, 0) for each in months)
    )
    assert await count_of(facts) == 150


async def test_a_row_that_the_store_refuses_is_put_aside_alone(
    kafka_bootstrap: str, facts: ClickHouse, unique: Unique
) -> None:
    """Batches of other partitions in the same insert, and its own batch, are stored."""
    await facts.command(
        "ALTER TABLE clicks ADD CONSTRAINT fine"
        f" CHECK transaction_id NOT IN ('{33:032x}', '{34:032x}')"
    )
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(100))
    sink = ClickHouseSink(facts, {topic.name: tables.CLICKS})
    async with parts.running(parts.projection(kafka_bootstrap, unique("group"), [topic], sink)):
        await until_stored(facts, 98)
    letters = await parts.read_all(kafka_bootstrap, f"{topic.name}.dead")
    assert sorted(number_of(letter.value) for letter in letters) == [33, 34]
    assert await count_of(facts) == 98


class _Stalling(ClickHouseSink[parts.events.Click]):
    """A sink in which one partition stands still until it is let go."""

    def __init__(self, clickhouse: ClickHouse, topic: str, stalled: int) -> None:
        super().__init__(clickhouse, {topic: tables.CLICKS})
        self.stalled = stalled
        self.go_on = asyncio.Event()

    async def write(self, partition, items, next_offset) -> None:
        if partition.partition == self.stalled:
            await self.go_on.wait()
        await super().write(partition, items, next_offset)


async def test_a_stalled_partition_holds_back_its_freshness_alone(
    kafka_bootstrap: str, facts: ClickHouse, unique: Unique
) -> None:
    """Its answers are never said to be newer than its first fact that is not stored."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(80))
    records = await parts.read_all(kafka_bootstrap, topic.name)
    stalled = records[0].partition
    waiting = [record for record in records if record.partition == stalled]
    others = {record.partition for record in records} - {stalled}
    sink = _Stalling(facts, topic.name, stalled)
    projection = parts.projection(kafka_bootstrap, unique("group"), [topic], sink)
    async with parts.running(projection):
        await until_stored(facts, len(records) - len(waiting))
        sent = time.time()
        deadline = time.monotonic() + 60
        while min(projection.through(topic.name, each) for each in others) < sent:
            assert projection.through(topic.name, stalled) < waiting[0].timestamp / 1000
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert projection.through(topic.name, stalled) < waiting[0].timestamp / 1000
        assert projection.through_all() < waiting[0].timestamp / 1000
        sink.go_on.set()
        while projection.through(topic.name, stalled) < sent:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert await count_of(facts) == len(records)
