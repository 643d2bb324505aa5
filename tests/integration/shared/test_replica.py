"""Protects the replica against a real Kafka: transactions, restarts, recreated topics."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from shared import events, topics
from shared.clock import SystemClock
from shared.errors import SetupError
from shared.events import PartnerAccess
from shared.kafka import open_admin, open_producer
from shared.replica import Replica
from tests.waiting import until


def _topic(unique) -> topics.Topic:
    return replace(topics.PARTNERS_ACCESS, name=unique("access"), partitions=3)


def _access(partner: int, version: int) -> tuple[bytes, bytes]:
    value = PartnerAccess(network_id=1, network_affiliate_id=partner, version=version)
    return b"1:%d" % partner, events.encode(value)


async def _send(producer, topic: topics.Topic, partner: int, version: int) -> None:
    key, value = _access(partner, version)
    await producer.send_and_wait(topic.name, value, key=key)


def _versions(replica: Replica[PartnerAccess]) -> dict[str, int]:
    return {key: value.version for key, value in replica.items()}


def _replica(bootstrap: str, topic: topics.Topic) -> Replica[PartnerAccess]:
    return Replica(bootstrap, topic, PartnerAccess, clock=SystemClock(), client_id="test")


@asynccontextmanager
async def _running(replica: Replica[PartnerAccess]):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(replica.run())
        await until(lambda: replica.is_ready)
        yield replica
        task.cancel()


async def test_it_is_ready_with_what_was_committed_and_then_follows(kafka_bootstrap, unique):
    """Values, removals and committed transactions are there; what was aborted never is."""
    topic = _topic(unique)
    await topics.apply(kafka_bootstrap, table=[topic])
    client = {"client_id": "p", "transactional_id": topic.name}
    async with open_producer(kafka_bootstrap, **client) as producer:
        async with producer.transaction():
            for partner in range(1, 301):
                await _send(producer, topic, partner, 1)
            await producer.send_and_wait(topic.name, None, key=b"1:7")
        await producer.begin_transaction()
        for partner in range(1, 301):
            await _send(producer, topic, partner, 2)
        await producer.abort_transaction()
        wanted = {f"1:{partner}": 1 for partner in range(1, 301) if partner != 7}
        told: list[tuple[str, int | None]] = []
        replica = _replica(kafka_bootstrap, topic)
        replica.subscribe(lambda key, _, new: told.append((key, new and new.version)))
        async with _running(replica):
            assert _versions(replica) == wanted
            assert sorted(told) == sorted(wanted.items())
            async with producer.transaction():
                await _send(producer, topic, 3, 5)
            await until(lambda: _versions(replica)["1:3"] == 5)
            async with producer.transaction():
                await _send(producer, topic, 3, 4)
                await producer.send_and_wait(topic.name, None, key=b"1:4")
            await until(lambda: replica.get("1:4") is None)
            assert _versions(replica)["1:3"] == 5
            assert told[-2:] == [("1:3", 5), ("1:4", None)]


async def test_an_idle_topic_stays_fresh_and_an_empty_one_is_ready(kafka_bootstrap, unique):
    """Freshness tells of fetches, not of records."""
    topic = _topic(unique)
    await topics.apply(kafka_bootstrap, table=[topic])
    replica = _replica(kafka_bootstrap, topic)
    assert replica.freshness_seconds() == float("inf")
    async with _running(replica):
        assert len(replica) == 0
        clock = SystemClock()
        ready_at = clock.monotonic()
        await until(lambda: clock.monotonic() - replica.freshness_seconds() > ready_at + 1)


async def test_a_topic_that_does_not_exist_ends_the_start(kafka_bootstrap, unique):
    """The message says what to do."""
    with pytest.raises(SetupError, match="portico topics apply"):
        await _replica(kafka_bootstrap, _topic(unique)).run()


@pytest.mark.logs_errors
async def test_a_recreated_topic_is_read_anew_even_if_it_is_longer(kafka_bootstrap, unique):
    """Offsets alone would not tell: the new topic is already longer than the old one was."""
    topic = _topic(unique)
    await topics.apply(kafka_bootstrap, table=[topic])
    async with open_producer(kafka_bootstrap, client_id="p") as producer:
        await _send(producer, topic, 1, 1)
        await _send(producer, topic, 2, 9)
    replica = _replica(kafka_bootstrap, topic)
    seen: list[int] = []
    replica.subscribe(lambda *_: seen.append(len(replica)))
    async with _running(replica):
        assert _versions(replica) == {"1:1": 1, "1:2": 9}
        async with open_admin(kafka_bootstrap) as admin:
            await admin.delete_topics([topic.name])
        await _apply_again(kafka_bootstrap, topic)
        async with open_producer(kafka_bootstrap, client_id="p") as producer:
            for partner in range(2, 60):
                await _send(producer, topic, partner, 3)
        await until(lambda: replica.counts.loads == 2)
        wanted = {f"1:{partner}": 3 for partner in range(2, 60)} | {"1:2": 9}
        await until(lambda: _versions(replica) == wanted)
        assert 0 not in seen


async def _apply_again(bootstrap: str, topic: topics.Topic) -> None:
    """A deletion takes a moment, in which the name is still taken."""
    async with asyncio.timeout(30):
        while topic.name not in (await topics.apply(bootstrap, table=[topic])).created:
            await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.logs_errors
async def test_it_survives_a_broker_that_restarts(kafka_broker, unique):
    """While Kafka is away the table stays and says how old it is; afterwards it goes on."""
    topic = _topic(unique)
    await topics.apply(kafka_broker.bootstrap, table=[topic])
    async with open_producer(kafka_broker.bootstrap, client_id="p") as producer:
        await _send(producer, topic, 1, 1)
    async with _running(_replica(kafka_broker.bootstrap, topic)) as replica:
        await kafka_broker.stop()
        await until(lambda: replica.freshness_seconds() > 2)
        assert _versions(replica) == {"1:1": 1}
        await kafka_broker.start()
        async with open_producer(kafka_broker.bootstrap, client_id="p") as producer:
            await _send(producer, topic, 1, 2)
            await _send(producer, topic, 2, 1)
        await until(lambda: _versions(replica) == {"1:1": 2, "1:2": 1})
        await until(lambda: replica.freshness_seconds() < 1)
