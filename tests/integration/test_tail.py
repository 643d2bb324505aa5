"""Protects the tail on a real Kafka: replay to live, lag, aborts, retention, recreated topics."""

import asyncio
import contextlib
import gc
import time
from contextlib import AsyncExitStack

import pytest
from aiokafka.admin.records_to_delete import RecordsToDelete

from shared.clock import SystemClock
from shared.errors import InvalidError, UnavailableError
from shared.kafka import Consumer, TopicPartition, open_admin, open_consumer, topic_ids
from shared.tail import (
    EARLIEST,
    LATEST,
    Cursor,
    Limits,
    PositionGoneError,
    Since,
    Tail,
)
from tests import tracking
from tests.tail_parts import (
    PARTITIONS,
    TYPES,
    Reading,
    create,
    open_ledger,
    recreate,
    running_tail,
    tracked_topics,
)
from tests.waiting import until

SMALL = Limits(ring_bytes_max=40_000, catch_up_readers_max=2, topic_check_seconds=0.2)


@pytest.fixture
async def table(kafka_bootstrap):
    found = tracked_topics()
    await create(kafka_bootstrap, found)
    return found


async def test_replay_goes_over_to_live_without_gap_or_repeat_under_load(
    kafka_bootstrap, table, unique
):
    """Readers that begin in the past while records and aborted ones pour in get each one once."""

    async def write(ledger) -> None:
        for turn in range(60):
            async with asyncio.timeout(60):
                await ledger.producer.begin_transaction()
                is_aborted = turn % 5 == 4
                for partner in (1, 2, 3):
                    for name in TYPES:
                        await ledger.send(partner, name, 20, aborted=is_aborted)
                if is_aborted:
                    await ledger.producer.abort_transaction()
                else:
                    await ledger.producer.commit_transaction()
            if turn == 20:
                past.set()

    past = asyncio.Event()
    total = 48 * 20 * len(TYPES)
    async with (
        running_tail(kafka_bootstrap, table, SMALL) as tail,
        open_ledger(kafka_bootstrap, table, unique("ledger")) as ledger,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(write(ledger))
        await past.wait()
        readings = [Reading(await tail.open(1, partner, None, EARLIEST)) for partner in (1, 2)]
        for reading in readings:
            group.create_task(reading.read_until(total))
        await until(lambda: all(reading.total >= total for reading in readings))
        for reading, partner in zip(readings, (1, 2), strict=True):
            assert reading.was_behind
            await reading.read()
            assert reading.numbers == ledger.of(partner)
        assert tail.catch_up_readers == 0
        for reading in readings:
            await reading.reader.aclose()


async def test_a_slow_reader_falls_behind_and_comes_back(kafka_bootstrap, table):
    """A reader that did not read for long loses nothing and costs no memory meanwhile."""
    async with (
        running_tail(kafka_bootstrap, table, SMALL) as tail,
        open_ledger(kafka_bootstrap, table) as ledger,
    ):
        reading = Reading(await tail.open(1, 1, None, LATEST))
        for _ in range(3):
            for name in TYPES:
                await ledger.send(1, name, 200)
            await until(lambda: reading.reader.is_behind)
            assert tail.ring_bytes <= len(TYPES) * PARTITIONS * SMALL.ring_bytes_max
            await reading.read_until(len(ledger.numbers[1, "clicks"]) * 2)
            await reading.read()
            assert not reading.reader.is_behind
        assert reading.numbers == ledger.of(1)
        assert tail.catch_up_readers == 0
        await reading.reader.aclose()


async def test_live_readers_share_one_set_of_fetches(kafka_bootstrap, table):
    """Thirty live readers cost Kafka what one does."""

    def consumers() -> int:
        return sum(isinstance(item, Consumer) for item in gc.get_objects())

    async with (
        running_tail(kafka_bootstrap, table) as tail,
        open_ledger(kafka_bootstrap, table) as ledger,
        AsyncExitStack() as stack,
    ):
        gc.collect()
        before = consumers()
        readings = []
        for number in range(30):
            reader = await tail.open(1, number % 3 + 1, None, LATEST)
            stack.push_async_callback(reader.aclose)
            readings.append(Reading(reader))
        for partner in (1, 2, 3):
            await ledger.send(partner, "clicks", 50)
        for number, reading in enumerate(readings):
            await reading.read_until(50)
            assert reading.numbers == ledger.of(number % 3 + 1)
        assert consumers() == before
        assert (tail.readers, tail.catch_up_readers) == (30, 0)
    assert tail.readers == 0


async def test_readers_that_are_behind_are_few(kafka_bootstrap, table):
    """Beyond the limit a reader is refused, until one has caught up; live ones are never."""
    async with (
        running_tail(kafka_bootstrap, table, SMALL) as tail,
        open_ledger(kafka_bootstrap, table) as ledger,
    ):
        for partner in (1, 2, 3):
            await ledger.send(partner, "clicks", 100)
        await until(lambda: tail.ring_bytes > 0)
        behind = [await tail.open(1, partner, ["clicks"], EARLIEST) for partner in (1, 2)]
        with pytest.raises(UnavailableError) as refused:
            await tail.open(1, 3, ["clicks"], EARLIEST)
        assert refused.value.retry_after_seconds > 0
        live = await tail.open(1, 3, ["clicks"], LATEST)
        first = Reading(behind[0])
        await first.read_until(100)
        await first.read()
        third = await tail.open(1, 3, ["clicks"], EARLIEST)
        for reader in (*behind, live, third):
            await reader.aclose()
        assert tail.catch_up_readers == 0


async def test_any_process_goes_on_at_any_cursor(kafka_bootstrap, table):
    """Two processes are two tails: a record's cursor leads to the record right after it."""
    async with (
        running_tail(kafka_bootstrap, table) as first,
        open_ledger(kafka_bootstrap, table) as ledger,
    ):
        reader = await first.open(1, 1, None, LATEST)
        for _ in range(10):
            for name in TYPES:
                await ledger.send(1, name, 5)
        records = []
        async with asyncio.timeout(60):
            while len(records) < 100:
                records += (await reader.read()).records
        await reader.aclose()
        async with running_tail(kafka_bootstrap, table) as second:
            for index in range(0, 100, 9):
                resumed = await second.open(1, 1, None, Cursor.decode(records[index].cursor))
                reading = Reading(resumed)
                await reading.read_until(99 - index)
                await reading.read(wait_seconds=0)
                await resumed.aclose()
                rest = records[index + 1 :]
                assert reading.numbers == {
                    name: [tracking.number_of(item.value) for item in rest if item.type == name]
                    for name in TYPES
                }


async def test_since_begins_at_the_time_the_log_took_it(kafka_bootstrap, table):
    """`since` is the log's time, so it means the same for every partner and replica."""
    async with (
        running_tail(kafka_bootstrap, table) as tail,
        open_ledger(kafka_bootstrap, table) as ledger,
    ):
        await ledger.send(1, "clicks", 10)
        await asyncio.sleep(0.05)  # lets the broker's clock move on, which has milliseconds
        moment = time.time()
        await ledger.send(1, "clicks", 10)
        reading = Reading(await tail.open(1, 1, ["clicks"], Since(moment)))
        await reading.read_until(10)
        await reading.read(wait_seconds=0)
        assert reading.numbers["clicks"] == ledger.numbers[1, "clicks"][10:]
        await reading.reader.aclose()
        later = await tail.open(1, 1, ["clicks"], Since(time.time() + 3600))
        assert (await later.read(wait_seconds=0.1)).records == []
        await later.aclose()


async def test_cursors_of_others_are_refused(kafka_bootstrap, table):
    """A cursor is good for its partner and its types; the message says which it is not."""
    async with running_tail(kafka_bootstrap, table) as tail:
        reader = await tail.open(1, 1, None, LATEST)
        cursor = Cursor.decode(reader.cursor)
        await reader.aclose()
        with pytest.raises(InvalidError, match="another partner"):
            await tail.open(1, 2, None, cursor)
        with pytest.raises(InvalidError, match="conversions"):
            await tail.open(1, 1, ["clicks"], cursor)
        with pytest.raises(InvalidError, match="postbacks"):
            await tail.open(1, 1, ["postbacks"], LATEST)
        again = await tail.open(1, 1, None, cursor)
        await again.aclose()


async def _cut(bootstrap: str, partitions: list[TopicPartition], before: int) -> None:
    """What retention does, at once."""
    async with open_admin(bootstrap) as admin:
        await admin.delete_records(dict.fromkeys(partitions, RecordsToDelete(before)))


async def test_a_place_that_retention_took_is_named_with_the_oldest(kafka_bootstrap):
    """The answer is never a silent gap: it says that there is one, and where reading can go on."""
    table = tracked_topics("clicks")
    await create(kafka_bootstrap, table)
    partitions = [TopicPartition(table["clicks"].name, number) for number in range(PARTITIONS)]
    async with running_tail(kafka_bootstrap, table) as tail:
        reader = await tail.open(1, 1, None, LATEST)
        first = Cursor.decode(reader.cursor)
        await reader.aclose()
    async with open_ledger(kafka_bootstrap, table) as ledger:
        await ledger.send(1, "clicks", 100)
        async with running_tail(kafka_bootstrap, table, SMALL) as tail:
            behind = await tail.open(1, 1, None, first)
            mine = [item for item in partitions if tail._rings[item].end == 100]
            await _cut(kafka_bootstrap, mine, 40)
            with pytest.raises(PositionGoneError) as opened:
                await tail.open(1, 1, None, first)
            with pytest.raises(PositionGoneError) as read:
                await behind.read()
            await behind.aclose()
            assert read.value.oldest == opened.value.oldest
            reading = Reading(await tail.open(1, 1, None, Cursor.decode(read.value.oldest)))
            await reading.read_until(60)
            assert reading.numbers["clicks"] == ledger.numbers[1, "clicks"][40:]
            await reading.reader.aclose()


async def _read_on(reading: Reading) -> None:
    """Read until an error that is not passing."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(UnavailableError):
                await reading.read()


@pytest.mark.logs_errors
async def test_a_recreated_topic_is_another_topic(kafka_bootstrap, table):
    """Offsets of the old one mean nothing in the new: readers and cursors are told, by name."""
    async with (
        running_tail(kafka_bootstrap, table, SMALL) as tail,
        open_ledger(kafka_bootstrap, table) as ledger,
    ):
        await ledger.send(1, "clicks", 20)
        await ledger.send(1, "conversions", 20)
        reading = Reading(await tail.open(1, 1, None, EARLIEST))
        await reading.read_until(40)
        old = Cursor.decode(reading.cursor)
        await recreate(kafka_bootstrap, table, "clicks")
        with pytest.raises(PositionGoneError) as gone:
            await _read_on(reading)
        await reading.reader.aclose()
        await until(lambda: tail.is_ready)
        with pytest.raises(PositionGoneError) as opened:
            await tail.open(1, 1, None, old)
        assert opened.value.oldest == gone.value.oldest
    async with (
        running_tail(kafka_bootstrap, table, SMALL) as tail,
        open_ledger(kafka_bootstrap, table) as ledger,
    ):
        await ledger.send(1, "clicks", 5)
        await ledger.send(1, "conversions", 5)
        reading = Reading(await tail.open(1, 1, None, Cursor.decode(opened.value.oldest)))
        await reading.read_until(10)
        assert reading.numbers == ledger.of(1)  # conversions went on where they stood
        await reading.reader.aclose()


async def test_topic_ids_name_an_incarnation(kafka_bootstrap, table):
    """The same topic keeps its id; recreated under the same name it has another."""
    name = table["clicks"].name
    async with open_consumer(kafka_bootstrap, client_id="ids") as consumer:
        first = await topic_ids(consumer, [name, "absent"])
        assert first.keys() == {name}
        assert len(first[name]) == 16
        assert await topic_ids(consumer, [name]) == first
        await recreate(kafka_bootstrap, table, "clicks")
        again = await topic_ids(consumer, [name])
        assert again[name] != first[name]


@pytest.mark.logs_errors
async def test_live_readers_outlast_a_restart_of_kafka(kafka_broker):
    """Kafka gone is quiet for readers, not an end; back again, they go on where they were."""
    table = tracked_topics()
    await create(kafka_broker.bootstrap, table)
    async with running_tail(kafka_broker.bootstrap, table) as tail:
        reading = Reading(await tail.open(1, 1, None, LATEST))
        async with open_ledger(kafka_broker.bootstrap, table) as ledger:
            await ledger.send(1, "clicks", 10)
        await reading.read_until(10)
        await kafka_broker.stop()
        await reading.read()
        await kafka_broker.start()
        async with open_ledger(kafka_broker.bootstrap, table) as more:
            more._next = 10
            await more.send(1, "clicks", 10)
        await reading.read_until(20, seconds=120)
        assert reading.numbers["clicks"] == ledger.numbers[1, "clicks"] + more.numbers[1, "clicks"]
        await reading.reader.aclose()


async def test_a_tail_opens_nothing_before_it_is_ready(kafka_bootstrap, table):
    """A process that does not know the ends of the log yet says so."""
    tail = Tail(kafka_bootstrap, table, clock=SystemClock())
    assert tail.missing() is not None
    with pytest.raises(UnavailableError):
        await tail.open(1, 1, None, LATEST)
