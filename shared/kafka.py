"""The edge to Kafka, and the only file that imports aiokafka: our settings, our errors.

Facts of aiokafka 0.14 that the callers rely on (each watched by a test in `tests/integration`):

* Rebalancing runs in a background task, so a commit can fail in the middle of a batch: commit
  explicit offsets of partitions still held; `CommitFailedError` and `IllegalStateError` mean
  "lost the partition" and become `LostOwnershipError`.
* `getmany` moves the position whether or not anything is committed: to retry, `seek` back.
* `stop()` would commit with auto-commit on: it is off in every consumer made here. While Kafka is
  away it raises the cancellation of its own waiting fetch: `open_consumer` does not let that out.
* An exception in a rebalance hook is logged and swallowed: a hook records its failure and the loop
  raises it.
* One undrained partition holds back fetches from its broker for all partitions of that consumer.
* `last_poll_timestamp` is on the wall clock and moves with every fetch answer, also an empty one.
* A `start` that is cancelled forgets the connection it had open: let it finish, and stop it then.
* A broker that has just started or was fenced answers that there are no brokers; so do its clients.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from typing import Any, ClassVar, Final

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
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)
from aiokafka.structs import OffsetAndMetadata

from shared.clock import SystemClock
from shared.errors import FencedError, LostOwnershipError, SetupError, UnavailableError

Consumer = AIOKafkaConsumer
Producer = AIOKafkaProducer
Record = ConsumerRecord
Admin = AIOKafkaAdminClient

__all__ = [
    "Admin",
    "BatchBuilder",
    "ConfigResource",
    "ConfigResourceType",
    "Consumer",
    "ConsumerRebalanceListener",
    "KafkaError",
    "NewTopic",
    "OffsetAndMetadata",
    "OffsetOutOfRangeError",
    "Producer",
    "Record",
    "TopicPartition",
    "droppable",
    "open_admin",
    "open_consumer",
    "open_producer",
    "partition_for",
    "partitions_of",
    "topic_ids",
    "translated",
]

FETCH_WAIT_MS: Final = 200
"""How long the broker holds an empty fetch: bounds how old a replica's freshness can look."""
REQUEST_TIMEOUT_MS: Final = 10_000
PRODUCER_START_SECONDS: Final = 15.0
PRODUCER_STOP_SECONDS: Final = 4.0
CANCELLED_START_SECONDS: Final = 2.0
BROKER_KNOWN_SECONDS: Final = 15.0

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
    except (KafkaError, kafka_errors.IllegalOperation) as error:
        raise UnavailableError(f"{doing}: {error!r}", retry_after_seconds=1) from error


def droppable(confirmation: asyncio.Future[Any]) -> asyncio.Future[Any]:
    """A confirmation that nobody has to wait for: its failure is not reported as forgotten.

    For callers that send many records and then wait: one that is cancelled, or whose first record
    fails, never looks at the other confirmations.
    """
    confirmation.add_done_callback(_seen)
    return confirmation


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


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

    Starting a transactional one fences its predecessor of the same id. At the end it flushes; what
    Kafka has not taken within `PRODUCER_STOP_SECONDS` is given up.

    Raises:
        UnavailableError: Kafka does not answer.
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
    try:
        with translated(f"connecting producer {client_id} to {bootstrap}"):
            await _started(producer)
        yield producer
    finally:
        await _stopped(producer)


async def _started(producer: Producer) -> None:
    """Start within a time: aiokafka itself would look for its coordinator for ever."""
    try:
        async with asyncio.timeout(PRODUCER_START_SECONDS):
            await _whole(producer.start())
    except TimeoutError as error:
        raise UnavailableError("Kafka does not give the producer its id.") from error


async def _whole(start: Awaitable[None]) -> None:
    """Let `start` come to its end although this is cancelled, if that does not take too long."""
    starting = asyncio.ensure_future(start)
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting], timeout=CANCELLED_START_SECONDS)
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled():
            starting.exception()
        raise


async def _stopped(producer: Producer) -> None:
    """Stop within a time: aiokafka itself would retry an idempotent producer's sends for ever."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait([stopping], timeout=PRODUCER_STOP_SECONDS)
    if stopping.done():
        await stopping
        return
    _give_up(producer)
    sender = producer._sender.sender_task  # noqa: SLF001 - there is no public way to end it
    while not stopping.done():
        sender.cancel()
        await asyncio.wait([stopping], timeout=0.1)
    if stopping.cancelled():
        await producer.client.close()


def _give_up(producer: Producer) -> None:
    """Fail what Kafka has not taken, for which `stop` would wait; there is no public way."""
    accumulator = producer._message_accumulator  # noqa: SLF001
    unsent = [batch for batches in accumulator._batches.values() for batch in batches]  # noqa: SLF001
    accumulator.fail_all(KafkaError("given up at stop"))
    for batch in unsent:
        _seen(batch._drain_waiter)  # noqa: SLF001 - aiokafka fails it though few wait for it


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
    try:
        with translated(f"connecting consumer {client_id} to {bootstrap}"):
            await _whole(consumer.start())
        yield consumer
    finally:
        await _stop(consumer)


async def _stop(consumer: Consumer) -> None:
    """Stop `consumer`, also while Kafka is away.

    Then aiokafka lets the cancellation of its own waiting fetch through, and whoever stops the
    consumer would end silently, as if cancelled itself.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        fetcher = consumer._fetcher  # noqa: SLF001 - here and below: what `stop` left undone
        for fetch in () if fetcher is None else fetcher._pending_tasks:  # noqa: SLF001
            fetch.cancel()
        await consumer._client.close()  # noqa: SLF001
        stopping = asyncio.current_task()
        if stopping is None or stopping.cancelling():
            raise


@asynccontextmanager
async def open_admin(bootstrap: str) -> AsyncIterator[Admin]:
    """A started admin client that knows a broker.

    Raises:
        UnavailableError: Kafka does not answer, or no broker of it serves.
    """
    admin = Admin(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        with translated(f"connecting to Kafka at {bootstrap}"):
            await _whole(admin.start())
            await _broker_known(admin, bootstrap)
        yield admin
    finally:
        await admin._client.close()  # noqa: SLF001 - `close` does nothing after half a start


async def _broker_known(admin: Admin, bootstrap: str) -> None:
    client = admin._client  # noqa: SLF001 - the admin client has no way to wait for it
    try:
        async with asyncio.timeout(BROKER_KNOWN_SECONDS):
            while not client.cluster.brokers():
                await SystemClock().sleep(0.05)
                await client.force_metadata_update()
    except TimeoutError as error:
        raise UnavailableError(f"Kafka at {bootstrap} answers that no broker serves.") from error


async def partitions_of(consumer: Consumer, topics: Iterable[str]) -> list[TopicPartition]:
    """All partitions of `topics`, sorted.

    Raises:
        SetupError: a topic does not exist; nothing is created on its own.
    """
    client = consumer._client  # noqa: SLF001 - `topics` throws away what it read of partitions
    with translated("reading the topics of the cluster"):
        cluster = await client.fetch_all_metadata()
    found: list[TopicPartition] = []
    for topic in topics:
        partitions = cluster.partitions_for_topic(topic)
        if not partitions:
            raise SetupError(f"Kafka has no topic {topic}: run `portico topics apply`.")
        found.extend(TopicPartition(topic, partition) for partition in sorted(partitions))
    return found


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key: murmur2 as in Java's default partitioner and aiokafka's."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


async def topic_ids(consumer: Consumer, topics: Iterable[str]) -> dict[str, bytes]:
    """The 16 bytes that name each topic for as long as it exists; a recreated one has others.

    A topic that does not exist is left out.

    Raises:
        UnavailableError: no broker answers.
    """
    client = consumer._client  # noqa: SLF001 - aiokafka 0.14 speaks no version that tells ids
    with translated("reading the ids of topics"):
        node = client.get_random_node()
        if node is None:
            raise UnavailableError("reading the ids of topics: no broker is known")
        response: Any = await client.send(node, _TopicIdsRequest(topics))
    return {name: topic_id for error, name, topic_id, *_ in response.topics if error == 0}


class _Uuid(AbstractType[bytes]):
    """16 bytes as they are."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _MetadataResponse(Response):
    """Metadata version 12, the first in which topics are asked for by name and told with id."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE: ClassVar[type[Response]] = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", _Uuid),
                ("name", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIdsRequest(Request[_MetadataRequest]):
    """Asks for topics by name."""

    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics: list[tuple[bytes, str, dict[int, bytes]]] = [
            (bytes(16), topic, {}) for topic in topics
        ]

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        return request_struct_class(self._topics, False, False, {})  # noqa: FBT003 - wire order
