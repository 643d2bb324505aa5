"""The embedded Kafka keeps its data through stops and crashes, and says why it does not start."""

import socket

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local import jars
from shared.errors import SetupError

TOPIC = "kept"


async def _send(bootstrap: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(TOPIC, value)


async def _read(bootstrap: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(
        TOPIC, bootstrap_servers=bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def _create(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    await admin.close()


async def test_records_survive_a_stop_and_a_crash(kafka_broker):
    """What was acknowledged is there after SIGTERM, and after SIGKILL with its stale locks."""
    await _create(kafka_broker.bootstrap)
    await _send(kafka_broker.bootstrap, b"before the stop")

    await kafka_broker.stop()
    await kafka_broker.start()
    await _send(kafka_broker.bootstrap, b"before the crash")
    await kafka_broker.kill()
    await kafka_broker.start()

    found = await _read(kafka_broker.bootstrap, 2)
    assert found == [b"before the stop", b"before the crash"]


async def test_a_broker_that_cannot_start_says_why(kafka_broker):
    """The message holds the broker's last words and its log's place."""
    await kafka_broker.stop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", kafka_broker.port))
        taken.listen()

        with pytest.raises(SetupError) as caught:
            await kafka_broker.start()

    assert "Kafka did not start" in str(caught.value)
    assert str(kafka_broker.port) in str(caught.value)
    assert "Whole log: " in str(caught.value)
    assert not kafka_broker.child.running


def test_missing_maven_is_named(tmp_path, monkeypatch):
    """Without jars and without Maven, the one thing to install is said."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SetupError, match=r"Maven \(mvn\) is missing.*apt-get install maven"):
        jars.fetch(tmp_path / "libs")

    assert list(tmp_path.iterdir()) == []


def test_jars_that_are_there_are_not_fetched_again(tmp_path, monkeypatch):
    """A start needs neither Maven nor a network once the jars are there."""
    jars.fetch(tmp_path / "libs")
    monkeypatch.setenv("PATH", str(tmp_path))

    jars.fetch(tmp_path / "libs")

    assert jars.are_complete(tmp_path / "libs")
    assert list((tmp_path / "libs").glob("kafka_2.13-*.jar"))
