"""How far a projection is behind: in records and in seconds, for every partition of its group.

The monitor compares what is stored with the end of the log, whoever owns the partition and whether
or not anybody does; so a stopped consumer shows a growing lag, and an idle topic shows none.
Seconds are the age of the first record not applied.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.clock import Clock
from shared.errors import UnavailableError
from shared.kafka import (
    Consumer,
    Record,
    TopicPartition,
    open_consumer,
    partitions_of,
    translated,
)

log = logging.getLogger(__name__)

PROBE_SECONDS_MAX: Final = 5.0
"""How long one reading may look for the first records not applied."""
PROBE_BYTES_MAX: Final = 64 * 1024
"""What one reading fetches of a partition; a larger record is still fetched whole."""

Positions = Callable[[], Awaitable[Mapping[TopicPartition, int]]]
"""Reads the stored offset of every partition that has one."""


class ProjectionMetrics:
    """The metrics of a service's projections; labels name projection, topic and partition."""

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        def name(text: str) -> str:
            return f"{service}_projection_{text}"

        by_partition = ("projection", "topic", "partition")
        by_topic = ("projection", "topic")
        self.lag_records = Gauge(
            name("lag_records"), "Records not applied yet.", by_partition, registry=registry
        )
        self.lag_seconds = Gauge(
            name("lag_seconds"),
            "Age of the first record not applied; 0 when there is none.",
            by_partition,
            registry=registry,
        )
        self.lag_read_at = Gauge(
            name("lag_read_timestamp_seconds"),
            "When the lag was last read: is it true now?",
            ("projection",),
            registry=registry,
        )
        self.records = Counter(
            name("records_total"), "Records applied.", by_topic, registry=registry
        )
        self.letters = Counter(
            name("dead_letters_total"), "Records refused.", by_topic, registry=registry
        )
        self.retries = Counter(
            name("retries_total"), "Writes that found the store away.", by_topic, registry=registry
        )
        self.lost = Counter(
            name("lost_ownership_total"),
            "Batches dropped since another member owned the partition.",
            by_topic,
            registry=registry,
        )
        self.gaps = Counter(
            name("retention_gaps_total"),
            "Partitions whose retention removed records before they were applied.",
            by_topic,
            registry=registry,
        )
        self.rebalances = Counter(
            name("rebalances_total"), "Assignments received.", ("projection",), registry=registry
        )
        self.write_seconds = Histogram(
            name("write_seconds"), "How long one batch took.", by_topic, registry=registry
        )


class Stored(NamedTuple):
    """How far one partition is stored.

    Attributes:
        offset: every record before it is.
        through_ms: log time up to which every record is; 0 if it is not known.
    """

    offset: int
    through_ms: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one partition is behind at one moment.

    Attributes:
        stored: the first offset not applied.
        records: offsets between the stored one and the end, 0 if no record is among them.
        seconds: age of the first record not applied.
        through_ms: log time up to which everything is stored; 0 if it is not known.
    """

    stored: int
    records: int
    seconds: float
    through_ms: int


def lag_of(*, stored: int, end: int, asked_ms: int, first_ms: int | None) -> Lag:
    """The lag of a partition stored up to `stored`, whose end was `end` after `asked_ms`.

    Args:
        stored: the first offset not applied.
        end: the offset behind the last record.
        asked_ms: a moment before the end was asked for.
        first_ms: append time of the first record not applied; None if there is no record between
            `stored` and `end` (transactions leave offsets without one).
    """
    if stored >= end or first_ms is None:
        return Lag(stored, 0, 0.0, asked_ms)
    seconds = max(0.0, (asked_ms - first_ms) / 1000)
    return Lag(stored, end - stored, seconds, min(asked_ms, first_ms - 1))


class LagMonitor:
    """Reads the lag of all partitions of a group again and again.

    Args:
        bootstrap: Kafka's `host:port`.
        projection: label of the metrics, and part of the client id.
        topics: what the group reads.
        positions: reads the stored offsets.
        metrics: where the readings go.
        clock: the time.
        seconds: pause between two readings.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        projection: str,
        topics: Sequence[str],
        positions: Positions,
        metrics: ProjectionMetrics,
        clock: Clock,
        seconds: float,
    ) -> None:
        self._bootstrap = bootstrap
        self._projection = projection
        self._topics = topics
        self._positions = positions
        self._metrics = metrics
        self._clock = clock
        self._seconds = seconds
        self.latest: dict[TopicPartition, Lag] = {}

    async def run(self) -> None:
        """Read until cancelled; a store or a Kafka that is away costs readings, not the process."""
        while True:
            try:
                async with open_consumer(
                    self._bootstrap,
                    client_id=f"{self._projection}-lag",
                    partition_max_bytes=PROBE_BYTES_MAX,
                ) as consumer:
                    while True:
                        self.show(await self.read(consumer))
                        await self._clock.sleep(self._seconds)
            except UnavailableError as error:
                log.warning("lag_unknown", extra={"reason": error.message})
                await self._clock.sleep(self._seconds)

    async def read(self, consumer: Consumer) -> dict[TopicPartition, Lag]:
        """The lag of every partition now."""
        partitions = await partitions_of(consumer, self._topics)
        asked_ms = int(self._clock.time() * 1000)
        with translated("reading the ends of topics"):
            ends = await consumer.end_offsets(partitions)
            begins = await consumer.beginning_offsets(partitions)
        positions = await self._positions()
        stored = {
            partition: max(positions.get(partition, 0), begins[partition])
            for partition in partitions
        }
        behind = {
            partition: offset for partition, offset in stored.items() if offset < ends[partition]
        }
        firsts = await self._first_records(consumer, behind, ends)
        return {
            partition: lag_of(
                stored=stored[partition],
                end=ends[partition],
                asked_ms=asked_ms,
                first_ms=firsts.get(partition),
            )
            for partition in partitions
            if partition not in behind or partition in firsts
        }

    async def _first_records(
        self,
        consumer: Consumer,
        behind: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int | None]:
        """Append time of the first record at or after each offset, None if the end comes first."""
        found: dict[TopicPartition, int | None] = {}
        if not behind:
            return found
        consumer.assign(list(behind))
        for partition, offset in behind.items():
            consumer.seek(partition, offset)
        deadline = self._clock.monotonic() + PROBE_SECONDS_MAX
        while len(found) < len(behind) and self._clock.monotonic() < deadline:
            with translated("reading the first records not applied"):
                polled = await consumer.getmany(timeout_ms=100)
            for partition, records in polled.items():
                self._note(consumer, found, partition, records)
            for partition in behind.keys() - found.keys():
                if await consumer.position(partition) >= ends[partition]:
                    self._note(consumer, found, partition, ())
        return found

    @staticmethod
    def _note(
        consumer: Consumer,
        found: dict[TopicPartition, int | None],
        partition: TopicPartition,
        records: Sequence[Record[bytes, bytes]],
    ) -> None:
        found[partition] = records[0].timestamp if records else None
        consumer.pause(partition)

    def stored(self, partition: TopicPartition) -> Stored:
        """How far `partition` was stored at the last reading; nothing if there was none."""
        seen = self.latest.get(partition)
        return Stored(0, 0) if seen is None else Stored(seen.stored, seen.through_ms)

    def show(self, lags: Mapping[TopicPartition, Lag]) -> None:
        """Publish a reading."""
        self.latest.update(lags)
        for partition, lag in lags.items():
            labels = (self._projection, partition.topic, str(partition.partition))
            self._metrics.lag_records.labels(*labels).set(lag.records)
            self._metrics.lag_seconds.labels(*labels).set(lag.seconds)
        self._metrics.lag_read_at.labels(self._projection).set(self._clock.time())
