"""Protects the topic table: a cluster matches it, and no key ever moves to another partition."""

from dataclasses import replace

import pytest

from shared import topics
from shared.errors import SetupError
from shared.kafka import open_admin, open_consumer, open_producer, partition_for, partitions_of


def _table(unique) -> tuple[topics.Topic, ...]:
    return (
        replace(topics.CLICKS, name=unique("clicks"), partitions=None),
        replace(topics.KEYS_STATE, name=unique("state"), partitions=2),
    )


async def test_apply_creates_then_leaves_alone_then_corrects(kafka_bootstrap, unique):
    """Applying is idempotent, and a setting changed by hand is set back."""
    table = _table(unique)
    names = tuple(topic.name for topic in table)
    first = await topics.apply(kafka_bootstrap, partner_partitions=3, table=table)
    assert first == topics.ApplyReport(created=names, changed=(), unchanged=())
    second = await topics.apply(kafka_bootstrap, partner_partitions=3, table=table)
    assert second == topics.ApplyReport(created=(), changed=(), unchanged=names)
    shorter = (replace(table[0], retention_ms=1_000_000), table[1])
    third = await topics.apply(kafka_bootstrap, partner_partitions=3, table=shorter)
    assert third.changed == (names[0],)
    async with open_admin(kafka_bootstrap) as admin:
        described = {item["topic"]: item for item in await admin.describe_topics(list(names))}
    assert [len(described[name]["partitions"]) for name in names] == [3, 2]


async def test_apply_refuses_another_partition_count(kafka_bootstrap, unique):
    """Keys would move, and with them the order of a partner's events."""
    table = _table(unique)
    await topics.apply(kafka_bootstrap, partner_partitions=3, table=table)
    with pytest.raises(SetupError, match=r"has 3 partitions.*\.v2"):
        await topics.apply(kafka_bootstrap, partner_partitions=4, table=table)


async def test_our_partition_of_a_key_is_where_the_producer_puts_it(kafka_bootstrap, unique):
    """A tail reads only the partition that `partition_for` names."""
    table = _table(unique)[:1]
    await topics.apply(kafka_bootstrap, partner_partitions=7, table=table)
    keys = [f"{network}:{partner}".encode() for network in range(1, 4) for partner in range(50)]
    async with open_producer(kafka_bootstrap, client_id="t") as producer:
        for key in keys:
            sent = await producer.send_and_wait(table[0].name, b"{}", key=key)
            assert sent.partition == partition_for(key, 7)


async def test_a_missing_topic_is_named_with_what_to_do(kafka_bootstrap, unique):
    """Nothing is created on its own."""
    name = unique("absent")
    async with open_consumer(kafka_bootstrap, client_id="t") as consumer:
        with pytest.raises(SetupError, match=f"no topic {name}.*portico topics apply"):
            await partitions_of(consumer, [name])


def test_every_topic_has_one_owner_and_a_schema():
    """The table is the contract; a row without a schema would be an agreement by rumour."""
    names = [topic.name for topic in topics.TOPICS]
    assert len(set(names)) == len(names)
    for topic in topics.SOURCES:
        assert topic.schemas or topic.owner == "audit", topic.name
        assert topic.compacted == (topic.retention_ms is None), topic.name
    assert all(topic.log_append_time for topic in topics.TRACKING.values())
