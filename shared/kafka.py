"""The edge to Kafka, and the only file that imports aiokafka: our settings, our errors.

Facts of aiokafka 0.14 that the callers rely on (each watched by a test in `tests/integration`):

* Rebalancing runs in a background task, so a commit can fail in the middle of a batch: commit
  explicit offsets of partitions still held; `CommitFailedError` and `IllegalStateError` mean
  "lost the partition" and become `LostOwnershipError`.
* `getmany` moves the position whether or not anything is committed: to retry, `seek` back.
* `stop()` would commit with auto-commit on: it is off in every consumer made here.
* An exception in a rebalance hook is logged and swallowed: a hook records its failure and the loop
  raises it.
* One undrained partition holds back fetches from its broker for all partitions of that consumer.
* `last_poll_timestamp` is on the wall clock and moves with every fetch answer, also an empty one.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.structs import OffsetAndMetadata

from shared.errors import FencedError, LostOwnershipError, SetupError, UnavailableError

Consumer = AIOKafkaConsumer
Producer = AIOKafkaProducer
Record = ConsumerRecord
Admin = AIOKafkaAdminClient

__all__ = [
    "Admin",
    "ConfigResource",
    "ConfigResourceType",
    "Consumer",
    "ConsumerRebalanceListener",
    "KafkaError",
    "NewTopic",
    "OffsetAndMetadata",
    "Producer",
    "Record",
    "TopicPartition",
    "open_admin",
    "open_consumer",
    "open_producer",
    "partition_for",
    "partitions_of",
    "translated",
]

FETCH_WAIT_MS: Final = 200
"""How long the broker holds an empty fetch: bounds how old a replica's freshness can look."""
REQUEST_TIMEOUT_MS: Final = 10_000

_FENCED: Final = (
    kafka_errors.ProducerFenced,
    kafka_errors.InvalidProducerEpoch,
)
_LOST: Final = (
    kafka_errors.CommitFailedError,
    kafka_errors.IllegalStateError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise aiokafka's errors as ours, naming what was being done.

    Raises:
        FencedError: a successor with the same transactional id publishes now.
        LostOwnershipError: the group gave the partition to another member.
        UnavailableError: anything else Kafka says: it may recover.
    """
    try:
        yield
    except _FENCED as error:
        raise FencedError(f"{doing}: a successor has fenced this producer") from error
    except _LOST as error:
        raise LostOwnershipError(f"{doing}: the partition has another owner") from error
    except KafkaError as error:
        raise UnavailableError(f"{doing}: {error!r}", retry_after_seconds=1) from error


@asynccontextmanager
async def open_producer(
    bootstrap: str,
    *,
    client_id: str,
    transactional_id: str | None = None,
    linger_ms: int = 0,
    compression: str | None = None,
    transaction_timeout_ms: int = 10_000,
) -> AsyncIterator[Producer]:
    """A started idempotent producer (`acks=all`); transactional when given an id.

    Starting a transactional one fences its predecessor of the same id.
    """
    producer = Producer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        transactional_id=transactional_id,
        transaction_timeout_ms=transaction_timeout_ms,
        linger_ms=linger_ms,
        compression_type=compression,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        metadata_max_age_ms=60_000,
    )
    with translated(f"connecting producer {client_id} to {bootstrap}"):
        await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def open_consumer(
    bootstrap: str,
    *,
    client_id: str,
    group: str | None = None,
    offset_reset: str = "earliest",
    fetch_max_bytes: int = 50 * 1024 * 1024,
    partition_max_bytes: int = 1024 * 1024,
    fetch_wait_ms: int = FETCH_WAIT_MS,
    session_timeout_ms: int = 10_000,
    **more: Any,
) -> AsyncIterator[Consumer]:
    """A started `read_committed` consumer, auto-commit off; the caller assigns or subscribes."""
    consumer = Consumer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        group_id=group,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset=offset_reset,
        fetch_max_wait_ms=fetch_wait_ms,
        fetch_max_bytes=fetch_max_bytes,
        max_partition_fetch_bytes=partition_max_bytes,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        session_timeout_ms=session_timeout_ms,
        heartbeat_interval_ms=min(3_000, session_timeout_ms // 3),
        metadata_max_age_ms=60_000,
        **more,
    )
    with translated(f"connecting consumer {client_id} to {bootstrap}"):
        await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def open_admin(bootstrap: str) -> AsyncIterator[Admin]:
    """A started admin client."""
    admin = Admin(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    with translated(f"connecting to Kafka at {bootstrap}"):
        await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def partitions_of(consumer: Consumer, topics: Iterable[str]) -> list[TopicPartition]:
    """All partitions of `topics`, sorted.

    Raises:
        SetupError: a topic does not exist; nothing is created on its own.
    """
    with translated("reading the topics of the cluster"):
        await consumer.topics()
    found: list[TopicPartition] = []
    for topic in topics:
        partitions = consumer.partitions_for_topic(topic)
        if not partitions:
            raise SetupError(f"Kafka has no topic {topic}: run `portico topics apply`.")
        found.extend(TopicPartition(topic, partition) for partition in sorted(partitions))
    return found


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key: murmur2 as in Java's default partitioner and aiokafka's."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
