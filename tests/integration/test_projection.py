"""Protects the projection pattern against a real Kafka and Postgres: each record, exactly once."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import CollectorRegistry

from deploy.local.kafka import Kafka
from shared.errors import InvalidError, SetupError, UnavailableError
from shared.kafka import open_producer
from shared.postgres import Connection, Pool, open_pool
from shared.projection import Limits, PostgresSink, StalledError, TooManyRefusedError
from tests import projection_parts as parts
from tests.tracking import click, key
from tests.waiting import until

Unique = Callable[[str], str]


@pytest.fixture
async def pool(database_url: str, schema: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, schema=schema, application="test") as pool:
        await parts.prepare(pool)
        yield pool


async def until_applied(pool: Pool, count: int) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    while (found := await parts.applied(pool)) < count:
        assert asyncio.get_running_loop().time() < deadline, f"{found} of {count} applied"
        await asyncio.sleep(0.02)


async def test_each_record_takes_effect_once(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """Nothing lost, nothing twice, also over a clean stop and start."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(500))
    group = unique("group")
    async with parts.running(
        parts.projection(kafka_bootstrap, group, [topic], parts.postgres_sink(pool))
    ):
        await until_applied(pool, 500)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(500, 700))
    async with parts.running(
        parts.projection(kafka_bootstrap, group, [topic], parts.postgres_sink(pool))
    ):
        await until_applied(pool, 700)
    assert await parts.effects(pool) == parts.once(
        await parts.read_all(kafka_bootstrap, topic.name)
    )


async def test_rebalances_under_load_lose_and_repeat_nothing(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """Members come and go while records arrive; each record still takes effect once."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    group = unique("group")

    def member() -> parts.Projection[parts.events.Click]:
        return parts.projection(kafka_bootstrap, group, [topic], parts.postgres_sink(pool))

    async with parts.running(first := member()):
        await until(lambda: first.is_ready)
        sending = asyncio.ensure_future(
            parts.send_clicks(kafka_bootstrap, topic.name, range(3_000))
        )
        async with parts.running(second := member()):
            await until(lambda: second.is_ready)
            await until_applied(pool, 500)
        async with parts.running(third := member()):
            await until(lambda: third.is_ready)
            await sending
            await until_applied(pool, 3_000)
    assert await parts.effects(pool) == parts.once(
        await parts.read_all(kafka_bootstrap, topic.name)
    )


async def test_a_member_that_lost_its_partitions_unknowingly_changes_nothing(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """Two groups stand for a member and its zombie: both own everything, one effect each."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(1_000))
    registry = CollectorRegistry()
    one, other = (
        parts.projection(
            kafka_bootstrap, unique("group"), [topic], parts.postgres_sink(pool), registry=each
        )
        for each in (registry, CollectorRegistry())
    )
    async with parts.running(one, other):
        await until_applied(pool, 1_000)
        await parts.send_clicks(kafka_bootstrap, topic.name, range(1_000, 1_500))
        await until_applied(pool, 1_500)
    assert set((await parts.effects(pool)).values()) == {1}


async def test_a_record_that_fails_the_check_is_a_dead_letter_and_the_others_go_on(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """The letter has the original bytes and headers, the position and the reason."""
    topic = parts.tracked_topic(unique("clicks"), partitions=1)
    await parts.create(kafka_bootstrap, topic)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(10))
    async with open_producer(kafka_bootstrap, client_id="test") as producer:
        await producer.send_and_wait(
            topic.name, key=b"1:2", value=b'{"half"', headers=[("ce_id", b"broken")]
        )
        await producer.send_and_wait(topic.name, key=b"1:9", value=click(1, 2, 11))
        await producer.send_and_wait(topic.name, value=click(1, 2, 12))
    await parts.send_clicks(kafka_bootstrap, topic.name, range(20, 30))
    async with parts.running(
        parts.projection(kafka_bootstrap, unique("group"), [topic], parts.postgres_sink(pool))
    ):
        await until_applied(pool, 20)
    letters = await parts.read_all(kafka_bootstrap, f"{topic.name}.dead")
    found = [dict(letter.headers) for letter in letters]
    assert [letter.value for letter in letters] == [
        b'{"half"',
        click(1, 2, 11),
        click(1, 2, 12),
    ]
    assert [letter["dead_offset"] for letter in found] == [b"10", b"11", b"12"]
    assert found[0]["ce_id"] == b"broken"
    assert b"Click" in found[0]["dead_reason"]
    assert b"partner 2" in found[1]["dead_reason"]
    assert b"no key" in found[2]["dead_reason"]
    assert sorted(await parts.effects(pool)) == [*range(10), *range(20, 30)]


async def test_a_misplaced_record_is_a_dead_letter(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """A producer with another partitioner cannot break the order of a partner's events."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    async with open_producer(kafka_bootstrap, client_id="test") as producer:
        for partition in range(4):
            await producer.send_and_wait(
                topic.name, key=key(1, 1), value=click(1, 1, partition), partition=partition
            )
    async with parts.running(
        parts.projection(kafka_bootstrap, unique("group"), [topic], parts.postgres_sink(pool))
    ):
        await until_applied(pool, 1)
        deadline = asyncio.get_running_loop().time() + 60
        while len(letters := await parts.read_all(kafka_bootstrap, f"{topic.name}.dead")) < 3:
            assert asyncio.get_running_loop().time() < deadline
    assert all(b"misplaced" in dict(letter.headers)["dead_reason"] for letter in letters)
    assert await parts.applied(pool) == 1


async def test_what_the_store_refuses_is_found_by_halves(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """One record that can never be stored does not hold back the batch it came with."""
    topic = parts.tracked_topic(unique("clicks"), partitions=1)
    await parts.create(kafka_bootstrap, topic)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(200))

    async def refuse_two(connection: Connection, items: parts.Sequence[parts.Item]) -> None:
        await parts.note_effects(connection, items)
        if {77, 123} & {int(item.event.transaction_id, 16) for item in items}:
            raise InvalidError("this one never")

    sink = PostgresSink(pool, "test", refuse_two)
    async with parts.running(parts.projection(kafka_bootstrap, unique("group"), [topic], sink)):
        await until_applied(pool, 198)
    letters = await parts.read_all(kafka_bootstrap, f"{topic.name}.dead")
    assert [dict(letter.headers)["dead_offset"] for letter in letters] == [b"77", b"123"]
    assert await parts.effects(pool) == parts.Counter(set(range(200)) - {77, 123})


async def test_many_refusals_stop_the_projection_with_a_clear_message(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """When nearly everything is refused the fault is ours: the topic is not emptied aside."""
    topic = parts.tracked_topic(unique("clicks"), partitions=1)
    await parts.create(kafka_bootstrap, topic)
    async with open_producer(kafka_bootstrap, client_id="test", linger_ms=5) as producer:
        for _ in range(60):
            await producer.send(topic.name, key=b"1:1", value=b"{}")
    projection = parts.projection(
        kafka_bootstrap, unique("group"), [topic], parts.postgres_sink(pool)
    )
    with pytest.raises(ExceptionGroup) as caught:
        await projection.run()
    assert caught.group_contains(TooManyRefusedError, match="51 records in a row")
    assert len(await parts.read_all(kafka_bootstrap, f"{topic.name}.dead")) == 50


async def test_a_store_that_is_away_for_a_while_is_retried_in_place(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """Backends die in the middle of batches; order and effects are as if they had not."""
    topic = parts.tracked_topic(unique("clicks"), partitions=2)
    await parts.create(kafka_bootstrap, topic)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(1_000))
    failures = iter(range(6))

    async def dying(connection: Connection, items: parts.Sequence[parts.Item]) -> None:
        await parts.note_effects(connection, items)
        if next(failures, None) is not None:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    registry = CollectorRegistry()
    sink = PostgresSink(pool, "test", dying)
    async with parts.running(
        parts.projection(
            kafka_bootstrap, group := unique("group"), [topic], sink, registry=registry
        )
    ):
        await until_applied(pool, 1_000)
    assert set((await parts.effects(pool)).values()) == {1}
    retries = registry.get_sample_value(
        "test_projection_retries_total", {"projection": group, "topic": topic.name}
    )
    assert retries is not None
    assert retries >= 6


async def test_a_store_that_stays_away_ends_the_process(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """Past the retry budget the projection fails, and nothing was applied."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(10))

    async def away(_connection: Connection, _items: parts.Sequence[parts.Item]) -> None:
        raise UnavailableError("the store is away")

    projection = parts.projection(
        kafka_bootstrap,
        unique("group"),
        [topic],
        PostgresSink(pool, "test", away),
        Limits(age_seconds_max=0.01, retry_seconds_max=0.5),
    )
    with pytest.raises(ExceptionGroup) as caught:
        await projection.run()
    assert caught.group_contains(UnavailableError, match="the store is away")
    assert await parts.applied(pool) == 0
    assert not projection.is_ready


async def test_lag_is_right_for_running_stopped_and_idle(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """Records and seconds behind: growing while stopped, 0 when caught up or never written to."""
    busy = parts.tracked_topic(unique("clicks"), partitions=1)
    idle = parts.tracked_topic(unique("idle"), partitions=1)
    await parts.create(kafka_bootstrap, busy, idle)
    await parts.send_clicks(kafka_bootstrap, busy.name, range(40))
    held = asyncio.Event()

    async def hold(connection: Connection, items: parts.Sequence[parts.Item]) -> None:
        await parts.note_effects(connection, items)
        await held.wait()

    registry = CollectorRegistry()
    group = unique("group")

    def lag(name: str, topic: str) -> float | None:
        return registry.get_sample_value(
            f"test_projection_lag_{name}",
            {"projection": group, "topic": topic, "partition": "0"},
        )

    sink = PostgresSink(pool, "test", hold)
    async with parts.running(
        parts.projection(kafka_bootstrap, group, [busy, idle], sink, registry=registry)
    ):
        await until(lambda: lag("records", busy.name) == 40)
        await until(lambda: (lag("seconds", busy.name) or 0) > 1.0)
        assert (lag("records", idle.name), lag("seconds", idle.name)) == (0, 0)
        held.set()
        await until(lambda: lag("records", busy.name) == 0)
        assert lag("seconds", busy.name) == 0


async def test_transaction_markers_are_no_lag(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """A topic written in transactions ends with offsets that no record has."""
    topic = parts.tracked_topic(unique("clicks"), partitions=1)
    await parts.create(kafka_bootstrap, topic)
    async with (
        open_producer(
            kafka_bootstrap, client_id="test", transactional_id=unique("writer")
        ) as producer,
        producer.transaction(),
    ):
        await producer.send(topic.name, key=key(1, 1), value=click(1, 1, 1))
    group = unique("group")
    projection = parts.projection(kafka_bootstrap, group, [topic], parts.postgres_sink(pool))
    where = parts.at(topic.name, 0)
    async with parts.running(projection):
        await until_applied(pool, 1)
        await until(lambda: where in projection._monitor.latest)
        await until(lambda: projection._monitor.latest[where].records == 0)
        read_at = time.time()
        await until(lambda: projection.through(topic.name, 0) >= read_at)
    again = parts.projection(kafka_bootstrap, group, [topic], parts.postgres_sink(pool))
    async with parts.running(again):
        await until(lambda: again.through(topic.name, 0) >= read_at)
        assert again.stored(topic.name, 0).offset == 1


async def test_through_is_never_ahead_and_catches_up(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """While a record is not stored, `through` stays before its append time; then it moves on."""
    topic = parts.tracked_topic(unique("clicks"), partitions=1)
    await parts.create(kafka_bootstrap, topic)
    held = asyncio.Event()

    async def hold(connection: Connection, items: parts.Sequence[parts.Item]) -> None:
        await held.wait()
        await parts.note_effects(connection, items)

    projection = parts.projection(
        kafka_bootstrap, unique("group"), [topic], PostgresSink(pool, "test", hold)
    )
    async with parts.running(projection):
        await until(lambda: projection.through(topic.name, 0) > 0)
        await parts.send_clicks(kafka_bootstrap, topic.name, range(3))
        appended = min(r.timestamp for r in await parts.read_all(kafka_bootstrap, topic.name))
        for _ in range(20):
            assert projection.through(topic.name, 0) < appended / 1000
            await asyncio.sleep(0.05)
        held.set()
        await until(lambda: projection.through(topic.name, 0) > appended / 1000)
        assert await parts.applied(pool) == 3


@pytest.mark.logs_errors
async def test_a_batch_that_makes_no_progress_ends_the_process_with_its_stacks(
    kafka_bootstrap: str, pool: Pool, unique: Unique, caplog: pytest.LogCaptureFixture
) -> None:
    """A hung store is not waited for without end, and the log shows where it hung."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(4))

    async def hang(_connection: Connection, _items: parts.Sequence[parts.Item]) -> None:
        await asyncio.Event().wait()

    projection = parts.projection(
        kafka_bootstrap,
        unique("group"),
        [topic],
        PostgresSink(pool, "test", hang),
        Limits(age_seconds_max=0.01, stall_seconds_max=2),
    )
    with pytest.raises(ExceptionGroup) as caught:
        await projection.run()
    assert caught.group_contains(StalledError, match="no progress in")
    (stalled,) = [record for record in caplog.records if record.message == "stalled"]
    assert "> hang (" in stalled.stacks


@pytest.mark.logs_errors
async def test_a_broker_that_restarts_costs_no_record(
    kafka_broker: Kafka, pool: Pool, unique: Unique
) -> None:
    """The projection waits for its Kafka, and goes on where it was; the process lives."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_broker.bootstrap, topic)
    await parts.send_clicks(kafka_broker.bootstrap, topic.name, range(100))
    projection = parts.projection(
        kafka_broker.bootstrap, unique("group"), [topic], parts.postgres_sink(pool)
    )
    async with parts.running(projection):
        await until_applied(pool, 100)
        await kafka_broker.stop()
        await kafka_broker.start()
        await parts.send_clicks(kafka_broker.bootstrap, topic.name, range(100, 200))
        await until_applied(pool, 200)
    assert set((await parts.effects(pool)).values()) == {1}


@pytest.mark.logs_errors
async def test_a_topic_created_anew_is_refused_rather_than_guessed_at(
    kafka_bootstrap: str, pool: Pool, unique: Unique
) -> None:
    """A stored offset behind the end of the log means another log: a clear message, no effect."""
    topic = parts.tracked_topic(unique("clicks"), partitions=1)
    await parts.create(kafka_bootstrap, topic)
    await pool.execute("INSERT INTO projection_offsets VALUES ('test', $1, 0, 999)", topic.name)
    projection = parts.projection(
        kafka_bootstrap, unique("group"), [topic], parts.postgres_sink(pool)
    )
    with pytest.raises(ExceptionGroup) as caught:
        await projection.run()
    assert caught.group_contains(SetupError, match="created anew")
