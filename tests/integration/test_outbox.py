"""Protects the outbox against real Kafka and Postgres: nothing lost, nothing early, in order, once."""

import asyncio
import random

import pytest
from prometheus_client import CollectorRegistry

from shared import events, topics
from shared.errors import FencedError, InvalidError
from shared.outbox import RECORD_BYTES_MAX, RelayMetrics, append, open_relay, record_of
from tests.outbox_parts import (
    expire_lease,
    first_seen,
    open_outbox,
    read_topic,
    running_relay,
    until,
)


@pytest.fixture
async def outbox(kafka_bootstrap, database_url, schema, unique):
    async with open_outbox(kafka_bootstrap, database_url, schema, unique("outbox")) as opened:
        yield opened


async def test_what_was_committed_is_published_and_what_was_rolled_back_is_not(outbox):
    """A record exists for readers exactly if the change it tells of happened."""
    async with running_relay(outbox) as relay:
        ids = await outbox.change("a", b"1", b"2", None)
        async with outbox.pool.acquire() as connection:
            failed = connection.transaction()
            await failed.start()
            await append(connection, [outbox.record("a", b"never")])
            await failed.rollback()
        later = await outbox.change("a", b"3")
        assert await relay.wait_published(ids + later, 30)
    records = await read_topic(outbox.bootstrap, outbox.topic)
    assert [record.value for record in records] == [b"1", b"2", None, b"3"]
    assert first_seen(records) == await outbox.ids_appended()


async def test_rows_written_before_any_relay_ran_are_published(outbox):
    """A service may commit while nobody relays; nothing is forgotten."""
    await outbox.change("a", *(b"%d" % number for number in range(1_200)))
    async with running_relay(outbox):
        await outbox.wait_all_published()
    records = await read_topic(outbox.bootstrap, outbox.topic)
    assert [record.value for record in records] == [b"%d" % number for number in range(1_200)]


async def test_many_writers_keep_each_key_in_commit_order(outbox):
    """Ids of one key are drawn in commit order, so that the last record tells the last state."""
    await outbox.pool.execute("CREATE TABLE state (key text PRIMARY KEY, version int NOT NULL)")
    await outbox.pool.execute("INSERT INTO state SELECT 'k' || n, 0 FROM generate_series(0, 4) n")

    async def writer(seed: int) -> None:
        chosen = random.Random(seed)
        for _ in range(20):
            keys = chosen.sample(range(5), 2)
            async with outbox.pool.acquire() as connection, connection.transaction():
                records = []
                for key in sorted(keys):
                    version = await connection.fetchval(
                        "UPDATE state SET version = version + 1 WHERE key = $1 RETURNING version",
                        f"k{key}",
                    )
                    records.append(outbox.record(f"k{key}", b"%d" % version))
                chosen.shuffle(records)
                await append(connection, records)

    async with running_relay(outbox):
        async with asyncio.TaskGroup() as group:
            for seed in range(6):
                group.create_task(writer(seed))
        await outbox.wait_all_published()
    seen: dict[str, list[int]] = {}
    for record in await read_topic(outbox.bootstrap, outbox.topic):
        seen.setdefault(record.key, []).append(int(record.value))
    assert sum(map(len, seen.values())) == 240
    assert all(versions == list(range(1, len(versions) + 1)) for versions in seen.values())


async def test_a_writer_that_commits_later_does_not_hide_behind_a_higher_id(outbox):
    """A row whose id was passed by another key's is still published when its commit comes."""
    async with running_relay(outbox) as relay:
        async with outbox.pool.acquire() as connection:
            slow = connection.transaction()
            await slow.start()
            early = await append(connection, [outbox.record("slow", b"s")])
            late = await outbox.change("fast", b"f")
            assert early < late
            assert await relay.wait_published(late, 30)
            await slow.commit()
        assert await relay.wait_published(early, 30)
    assert {record.value for record in await read_topic(outbox.bootstrap, outbox.topic)} == {
        b"s",
        b"f",
    }


async def test_appending_needs_the_transaction_of_the_change(outbox):
    """Otherwise the record could stand without the change."""
    async with outbox.pool.acquire() as connection:
        with pytest.raises(RuntimeError, match="transaction"):
            await append(connection, [outbox.record("a", b"1")])
    assert await outbox.unpublished() == 0


async def test_a_record_that_kafka_would_refuse_is_refused_when_appended(outbox):
    """It would hold up everything behind it for ever."""
    with pytest.raises(InvalidError, match="bytes"):
        await outbox.change("a", b"x" * (RECORD_BYTES_MAX + 1))
    async with running_relay(outbox) as relay:
        assert await relay.wait_published(await outbox.change("a", b"x" * RECORD_BYTES_MAX), 30)


async def test_a_standby_takes_over_at_once_from_one_that_stopped_in_order(outbox):
    """A planned stop gives the lease back."""
    async with running_relay(outbox, "first") as first:
        assert await first.wait_published(await outbox.change("a", b"1"), 30)
        async with running_relay(outbox, "second") as second:
            assert (first.is_holder, second.is_holder) == (True, False)
            assert await second.wait_published(await outbox.change("a", b"2"), 30)
    async with running_relay(outbox, "third") as third:
        assert await third.wait_published(await outbox.change("a", b"3"), 30)
    records = await read_topic(outbox.bootstrap, outbox.topic)
    assert [record.value for record in records] == [b"1", b"2", b"3"]


async def test_a_relay_that_lost_its_lease_ends_as_fenced(outbox):
    """A process that was passed over must not go on as if nothing had happened."""

    async def is_passed_over() -> bool:
        return not relay.is_holder

    with pytest.raises(ExceptionGroup) as failure:  # noqa: PT012 - it ends the relay
        async with running_relay(outbox, ends_itself=True) as relay:
            assert await relay.wait_published(await outbox.change("a", b"1"), 30)
            await outbox.pool.execute(
                "UPDATE outbox_lease SET holder = 'second', epoch = epoch + 1,"
                " renewed_at = clock_timestamp()"
            )
            await until(is_passed_over)
            await outbox.change("a", b"2")
    assert failure.value.subgroup(FencedError) is not None
    assert await outbox.unpublished() == 1
    assert await outbox.pool.fetchval("SELECT holder FROM outbox_lease") == "second"


async def test_a_lost_connection_to_postgres_is_survived(outbox):
    """Every session of the relay is ended by the server; it goes on and loses nothing."""
    async with running_relay(outbox) as relay:
        assert await relay.wait_published(await outbox.change("a", b"1"), 30)
        await outbox.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name IN ($1, $2)",
            f"{outbox.schema} outbox",
            f"{outbox.schema} bell",
        )
        ids = await outbox.change("a", b"2")
        await until(lambda: relay.wait_published(ids, 30))
    records = await read_topic(outbox.bootstrap, outbox.topic)
    assert list(dict.fromkeys(record.value for record in records)) == [b"1", b"2"]


@pytest.mark.logs_errors
async def test_rows_wait_in_order_while_kafka_is_away(kafka_broker, database_url, schema, unique):
    """An outage of Kafka delays; the change stands, and the caller is told that it is not out yet."""
    async with open_outbox(
        kafka_broker.bootstrap, database_url, schema, unique("outbox"), partitions=1
    ) as outbox:
        async with running_relay(outbox) as relay:
            assert await relay.wait_published(await outbox.change("a", b"0"), 30)
            await kafka_broker.stop()
            for number in range(1, 6):
                waiting = await outbox.change("a", b"%d" % number)
            assert not await relay.wait_published(waiting, 1)
            await kafka_broker.start()
            await until(lambda: relay.wait_published(waiting, 5))
        records = await read_topic(outbox.bootstrap, outbox.topic)
        assert first_seen(records) == await outbox.ids_appended()
        assert await outbox.unpublished() == 0


@pytest.mark.logs_errors
async def test_a_relay_stops_in_time_while_kafka_is_away(
    kafka_broker, database_url, schema, unique
):
    """A platform that is stopped must end even though Kafka went first."""
    async with open_outbox(
        kafka_broker.bootstrap, database_url, schema, unique("outbox")
    ) as outbox:
        async with running_relay(outbox) as relay:
            assert await relay.wait_published(await outbox.change("a", b"0"), 30)
            await kafka_broker.stop()
            await outbox.change("a", b"1")
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 20


async def test_old_rows_are_purged_and_unpublished_ones_never(outbox):
    """The table stays small without losing a row."""
    await outbox.change("a", *(b"%d" % number for number in range(2_500)))
    await outbox.pool.execute(
        "UPDATE outbox SET published_at = clock_timestamp() - interval '1 hour' WHERE id <= 2200"
    )
    async with running_relay(outbox, keep_seconds=1_800):

        async def is_purged() -> bool:
            return await outbox.pool.fetchval("SELECT count(*) FROM outbox") == 300

        await until(is_purged)
        await outbox.wait_all_published()
    assert len(await read_topic(outbox.bootstrap, outbox.topic)) == 300


async def test_a_dead_relays_lease_runs_out(outbox):
    """Nobody has to clear anything by hand."""
    await outbox.pool.execute(
        "UPDATE outbox_lease SET holder = 'dead', epoch = 7, renewed_at = clock_timestamp()"
    )
    async with running_relay(outbox) as relay:
        ids = await outbox.change("a", b"1")
        assert not await relay.wait_published(ids, 1)
        await expire_lease(outbox.pool)
        assert await relay.wait_published(ids, 30)
    assert await outbox.pool.fetchval("SELECT epoch FROM outbox_lease") == 8


async def test_the_metrics_tell_what_waits_and_who_publishes(outbox):
    """An operator sees a backlog from any process, also from one that does not publish."""
    await outbox.pool.execute(
        "UPDATE outbox_lease SET holder = 'another', epoch = 7,"
        " renewed_at = clock_timestamp() + interval '1 minute'"
    )
    await outbox.change("a", b"1", b"2")
    await outbox.pool.execute("UPDATE outbox SET created_at = created_at - interval '1 hour'")
    registry = CollectorRegistry()
    settings, metrics = outbox.settings(), RelayMetrics(registry, "test")

    def value(name: str) -> float:
        return registry.get_sample_value(f"test_outbox_{name}")

    async def is_backlog_seen() -> bool:
        return value("unpublished_rows") == 2 and value("oldest_unpublished_seconds") >= 3_600

    async def is_published() -> bool:
        return value("published_total") == 2

    async with open_relay(settings, metrics) as relay:
        running = asyncio.create_task(relay.run())
        await until(is_backlog_seen)
        assert value("takeovers_total") == 0
        await expire_lease(outbox.pool)
        await expire_lease(outbox.pool)
        await until(is_published)
        assert value("takeovers_total") == 1
        assert value("publish_seconds_sum") >= 3_600
        running.cancel()
        await asyncio.wait([running])


def test_an_event_goes_only_to_a_topic_that_is_for_it():
    """The table of topics is the contract; a slip of the pen must not reach readers."""
    state = events.NetworkState(network_id=1, version=1)
    record = record_of(topics.NETWORKS_STATE, "1", state, source="portico/keys", occurred_at=0)
    assert events.decode(events.NetworkState, record.value) == state
    assert events.envelope(record.headers).type == "portico.NetworkState"
    with pytest.raises(ValueError, match="NetworkState"):
        record_of(topics.KEYS_STATE, "1", state, source="portico/keys", occurred_at=0)
