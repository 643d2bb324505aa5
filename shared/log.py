"""The log as a tail sees it: the questions it asks, and one reader's fetches of the past."""

from collections.abc import Iterable, Mapping, Sequence

from shared.cursor import TOPIC_ID_BYTES
from shared.errors import GoneError
from shared.kafka import (
    Consumer,
    OffsetOutOfRangeError,
    TopicPartition,
    partitions_of,
    topic_ids,
    translated,
)
from shared.reader import Fetched


class Log:
    """What a tail asks of Kafka beside fetching; on a connection that no waiting fetch blocks."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def ids(self, topics: Iterable[str]) -> dict[str, bytes]:
        """The id of each topic, cut to what cursors keep; absent ones are left out."""
        found = await topic_ids(self._consumer, topics)
        return {name: topic_id[:TOPIC_ID_BYTES] for name, topic_id in found.items()}

    async def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of the topics.

        Raises:
            SetupError: a topic does not exist.
        """
        return await partitions_of(self._consumer, topics)

    async def beginnings(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The oldest offset each partition holds."""
        with translated("reading the oldest offsets"):
            return await self._consumer.beginning_offsets(partitions)  # type: ignore[no-any-return]

    async def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset behind the last committed record of each partition."""
        with translated("reading the last offsets"):
            return await self._consumer.end_offsets(partitions)  # type: ignore[no-any-return]

    async def at(
        self, partitions: Sequence[TopicPartition], seconds: float
    ) -> dict[TopicPartition, int]:
        """The first offset taken at `seconds` (UTC) or later; the end where there is none."""
        ends = await self.ends(partitions)
        wanted = {partition: max(0, int(seconds * 1000)) for partition in partitions}
        with translated("reading offsets by time"):
            found = await self._consumer.offsets_for_times(wanted)
        return {
            partition: ends[partition] if item is None else item.offset
            for partition, item in found.items()
        }


class OwnFetches:
    """The fetches of one reader that is behind, by a consumer of its own."""

    def __init__(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._consumer = consumer
        self._next: dict[TopicPartition, int] = {}
        self._idle = set(partitions)
        consumer.assign(list(partitions))
        for partition in partitions:  # before its first fetch: a place, and nothing to do
            consumer.seek(partition, 0)
            consumer.pause(partition)

    async def fetch(
        self, wanted: Mapping[TopicPartition, int], *, records_max: int, wait_seconds: float
    ) -> dict[TopicPartition, Fetched]:
        """See `CatchUp`: nothing waits between `getmany` and the end, so a cancelled one is whole.

        Raises:
            GoneError: the log does not hold one of the offsets any more.
            UnavailableError: Kafka does not answer.
        """
        self._aim(wanted)
        with translated("reading the past"):
            try:
                batches = await self._consumer.getmany(
                    *wanted, timeout_ms=int(wait_seconds * 1000), max_records=records_max
                )
            except OffsetOutOfRangeError as error:
                raise GoneError(f"the log does not hold {error} any more") from error
            for partition in wanted:
                self._next[partition] = await self._consumer.position(partition)
        return {
            partition: Fetched(batches.get(partition, ()), self._next[partition])
            for partition in wanted
        }

    def _aim(self, wanted: Mapping[TopicPartition, int]) -> None:
        """Fetch what is wanted from where it is wanted, and nothing else."""
        for partition in self._next.keys() - wanted.keys() - self._idle:
            self._consumer.pause(partition)
            self._idle.add(partition)
        for partition, offset in wanted.items():
            if self._next.get(partition) != offset:
                self._consumer.seek(partition, offset)
                self._next[partition] = offset
            if partition in self._idle:
                self._consumer.resume(partition)
                self._idle.discard(partition)
