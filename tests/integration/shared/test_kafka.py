"""Watches the facts of the Kafka client that the four patterns rely on."""

import asyncio
import contextlib
import gc
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from shared.errors import FencedError, UnavailableError
from shared.kafka import (
    NewTopic,
    TopicPartition,
    droppable,
    open_admin,
    open_consumer,
    open_producer,
    translated,
)


@pytest.fixture
async def partition(kafka_bootstrap, unique) -> TopicPartition:
    name = unique("facts")
    async with open_admin(kafka_bootstrap) as admin:
        await admin.create_topics([NewTopic(name, 1, 1)])
    return TopicPartition(name, 0)


async def _read(consumer, wanted: int) -> list[bytes]:
    values: list[bytes] = []
    async with asyncio.timeout(30):
        while len(values) < wanted:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                values += [record.value for record in records]
    return values


async def _continue(producer, topic: str) -> None:
    with translated("committing"):
        late = await producer.send(topic, b"late")
        await asyncio.wait([late])
        late.result()
        await producer.commit_transaction()


@pytest.mark.logs_errors
async def test_a_successor_with_the_same_transactional_id_fences_the_old_one(
    kafka_bootstrap, partition
):
    """The outbox stands on this: what a stopped publisher still had in flight never arrives."""
    topic = partition.topic
    async with open_producer(kafka_bootstrap, client_id="a", transactional_id=topic) as old:
        await old.begin_transaction()
        in_flight = await old.send(topic, b"old")
        async with open_producer(kafka_bootstrap, client_id="b", transactional_id=topic) as new:
            async with new.transaction():
                await new.send_and_wait(topic, b"new")
            with pytest.raises(FencedError):
                await _continue(old, topic)
        await asyncio.wait([in_flight])
        in_flight.exception()
    async with open_consumer(kafka_bootstrap, client_id="c") as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        assert await _read(consumer, 1) == [b"new"]


async def test_what_is_given_up_at_the_stop_is_not_reported_as_forgotten(
    kafka_bootstrap, partition, monkeypatch
):
    """Nobody waits for the confirmation: its sender was cancelled before the producer."""
    monkeypatch.setattr("shared.kafka.PRODUCER_STOP_SECONDS", 0.1)
    async with open_producer(kafka_bootstrap, client_id="a", linger_ms=60_000) as producer:
        sent = droppable(await producer.send(partition.topic, b"never sent"))
    assert "given up" in repr(sent)
    del sent, producer
    gc.collect()


async def test_the_position_passes_transaction_markers_to_the_end(kafka_bootstrap, partition):
    """A replica is ready at the end offset, which lies behind markers nobody reads."""
    async with open_producer(
        kafka_bootstrap, client_id="a", transactional_id=partition.topic
    ) as producer:
        async with producer.transaction():
            await producer.send_and_wait(partition.topic, b"1")
        await producer.begin_transaction()
        await producer.send_and_wait(partition.topic, b"aborted")
        await producer.abort_transaction()
    async with open_consumer(kafka_bootstrap, client_id="c") as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes] = []
        async with asyncio.timeout(30):
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    values += [record.value for record in records]
        assert values == [b"1"]


async def test_getmany_moves_the_position_and_seek_brings_it_back(kafka_bootstrap, partition):
    """To retry, a projection seeks to the first unfinished offset."""
    async with open_producer(kafka_bootstrap, client_id="a") as producer:
        for value in (b"1", b"2", b"3"):
            await producer.send_and_wait(partition.topic, value)
    async with open_consumer(kafka_bootstrap, client_id="c") as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        assert await _read(consumer, 3) == [b"1", b"2", b"3"]
        consumer.seek(partition, 1)
        assert await _read(consumer, 2) == [b"2", b"3"]


async def test_a_cancelled_getmany_loses_nothing(kafka_bootstrap, partition):
    """A loop may stop waiting at any moment."""
    async with open_consumer(kafka_bootstrap, client_id="c") as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        values: list[bytes] = []
        async with open_producer(kafka_bootstrap, client_id="a") as producer:
            for number in range(20):
                await producer.send_and_wait(partition.topic, b"%d" % number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.001):
                        for records in (await consumer.getmany(timeout_ms=1000)).values():
                            values += [record.value for record in records]
        values += await _read(consumer, 20 - len(values))
        assert values == [b"%d" % number for number in range(20)]


async def test_polls_of_an_idle_partition_still_tell_the_time(kafka_bootstrap, partition):
    """A replica's freshness moves on although nothing is written."""
    async with open_consumer(kafka_bootstrap, client_id="c") as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        seen: set[int] = set()
        async with asyncio.timeout(30):
            while len(seen) < 3:
                await consumer.getmany(timeout_ms=50)
                if (stamp := consumer.last_poll_timestamp(partition)) is not None:
                    seen.add(stamp)
        assert consumer.highwater(partition) == 0


OPENED: dict[str, Callable[[str], AbstractAsyncContextManager[object]]] = {
    "admin": open_admin,
    "consumer": lambda bootstrap: open_consumer(bootstrap, client_id="c"),
    "member": lambda bootstrap: open_consumer(bootstrap, client_id="c", group="g"),
    "producer": lambda bootstrap: open_producer(bootstrap, client_id="p"),
    "transactions": lambda bootstrap: open_producer(
        bootstrap, client_id="p", transactional_id="unfinished"
    ),
}


@pytest.mark.parametrize("opened", OPENED)
async def test_a_start_that_is_cancelled_leaves_no_connection(kafka_bootstrap, opened, monkeypatch):
    """Cancelled while any of its first requests is under way; `no_tasks_left` sees one that stays."""
    asked = 0
    cancelled_at = 1

    async def start() -> None:
        async with OPENED[opened](kafka_bootstrap):
            pass

    send = AIOKafkaConnection.send

    def counting(connection, *args, **kwargs):
        nonlocal asked
        asked += 1
        if asked == cancelled_at:
            starting.cancel()
        return send(connection, *args, **kwargs)

    monkeypatch.setattr(AIOKafkaConnection, "send", counting)
    while asked >= cancelled_at - 1:
        asked = 0
        starting = asyncio.create_task(start())
        await asyncio.wait([starting])
        cancelled_at += 1
    assert cancelled_at > 3


async def test_a_broker_that_has_just_started_is_waited_for(kafka_bootstrap, monkeypatch):
    """Its first answers name no broker, itself included."""
    send = AIOKafkaConnection.send
    without = 0

    async def naming_nobody(connection, request):
        nonlocal without
        response = await send(connection, request)
        if isinstance(request, MetadataRequest) and without < 3:
            without += 1
            response.brokers = []
        return response

    monkeypatch.setattr(AIOKafkaConnection, "send", lambda *args, **_: naming_nobody(*args))
    async with open_admin(kafka_bootstrap) as admin:
        assert await admin.describe_topics(["none"])
    assert without == 3


@pytest.mark.logs_errors
async def test_a_kafka_that_does_not_answer_may_recover(unused_tcp_port):
    """A connection failure is retried by its class, not by its text."""
    with pytest.raises(UnavailableError, match=str(unused_tcp_port)):
        async with open_admin(f"127.0.0.1:{unused_tcp_port}"):
            pass
