"""The Kafka and Postgres that every other test relies on."""

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic


async def test_a_record_sent_to_kafka_is_read_back(kafka_bootstrap, unique):
    """The session's Kafka keeps records."""
    topic = unique("records")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    await admin.close()

    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
        await producer.send_and_wait(topic, b"a record")
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        record = await consumer.getone()

    assert record.value == b"a record"


async def test_a_schema_of_the_tests_own_takes_rows(database_url, schema):
    """The session's Postgres keeps rows, in a schema that no other test sees."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (a int)")
    await connection.execute(f"INSERT INTO {schema}.t VALUES (7)")

    value = await connection.fetchval(f"SELECT a FROM {schema}.t")

    await connection.close()
    assert value == 7


def test_names_are_unique(unique):
    """Two tests that use the same word get different topics."""
    assert unique("topic") != unique("topic")
