"""Tail: from a place in the log to its live end, for many readers, in bounded memory.

What it promises, per reader and type of record:

* **No gap, no repeat, no reorder.** A reader is given every committed record of its partner from
  its place on, once, in the order of the log; across the change from replay to live, across falling
  behind and coming back, and across processes, since every record's cursor goes on right behind it.
* **Shared work.** All live readers of a process share one consumer and one ring per partition. Only
  a reader that is behind its ring fetches for itself, from its partner's partitions alone, and at
  most `catch_up_readers_max` do so at once. Opening one more raises `UnavailableError`; one that
  falls behind while reading waits its turn first.
* **Bounded memory.** The rings, and per reader one batch; while behind also one fetch of each of
  its partitions. A reader that does not read costs nothing more, however long.
* **Only its own, and only what is valid.** Records are chosen by the key `network:partner` of the
  log and checked against their schema before they are given out, once per process for live ones; a
  record that fails is left out and counted (the projection of the same topic dead-letters it).
* **Honest ends.** A cursor of another partner, of other types, or damaged is an `InvalidError`. A
  place that retention or a recreated topic has taken is a `PositionGoneError`, which carries the
  cursor of the oldest place that can be served.

Where it ends: what is not committed is not seen, so a transaction left open holds back what follows
it. That a topic was recreated under a reader's feet is noticed within `topic_check_seconds`; until
then a new topic that is already as long as the old one could be read as if it were the old.
"""

import logging
import random
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, assert_never

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.clock import Clock
from shared.cursor import Cursor, CursorStamp, Place, tag_of
from shared.errors import InvalidError, LostOwnershipError, SetupError, UnavailableError
from shared.events import check_tracked, partner_key
from shared.kafka import (
    Consumer,
    OffsetOutOfRangeError,
    TopicPartition,
    open_consumer,
    partition_for,
    translated,
)
from shared.log import Log, OwnFetches
from shared.reader import (
    Batch,
    CatchUp,
    Check,
    Limits,
    PositionGoneError,
    Reader,
    Slots,
    TailRecord,
    Track,
)
from shared.ring import Ring
from shared.topics import Topic

__all__ = [
    "EARLIEST",
    "LATEST",
    "Batch",
    "Cursor",
    "Earliest",
    "Latest",
    "Limits",
    "PositionGoneError",
    "Reader",
    "Since",
    "Start",
    "Tail",
    "TailCollector",
    "TailRecord",
]

log = logging.getLogger(__name__)

TURN_MS: Final = 200
TURN_RECORDS_MAX: Final = 2_000
"""Records put into rings before other tasks of the process run again (about 8 ms)."""
SHARED_FETCH_BYTES_MAX: Final = 8 * 1024 * 1024
SHARED_PARTITION_BYTES_MAX: Final = 512 * 1024
CATCH_UP_PARTITION_BYTES_MAX: Final = 1024 * 1024
STALL_SECONDS: Final = 15.0
"""With no fetch answered for so long, the shared consumer is given up and another one made."""
RETRY_SECONDS_MAX: Final = 2.0
AHEAD_SECONDS_MAX: Final = 2.0
"""How long a cursor may lie beyond the end this process sees before it counts as gone: replicas see
the end move at slightly different times."""
SKIP_REPORT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Since:
    """From the first record that the log took at this time, seconds UTC, or later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Earliest:
    """From the oldest record there is."""


@dataclass(frozen=True, slots=True)
class Latest:
    """From now on."""


EARLIEST: Final = Earliest()
LATEST: Final = Latest()

_CHECK_TRACKED: Final[Check] = check_tracked  # type: ignore[assignment]
"""The tracking topics' schemas are tracking events, which mypy cannot see in the table."""

Start = Cursor | Since | Earliest | Latest


@dataclass(frozen=True, slots=True)
class _Known:
    """The topics as they were last seen: ids and partition counts by topic name."""

    ids: Mapping[str, bytes]
    counts: Mapping[str, int]


class Tail:
    """Opens readers on topics keyed `network:partner`, and feeds those that are live.

    Give `run` to `Lifecycle.run_task` and `missing` to `Lifecycle.ready_when`.

    Args:
        bootstrap: Kafka's `host:port`.
        topics: by the names of their types, as cursors and records carry them; one schema each.
        clock: the time.
        client_id: as Kafka logs it.
        limits: sizes and times.
        check: proves a record before it is given out; by default as a tracking event.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Mapping[str, Topic],
        *,
        clock: Clock,
        client_id: str = "tail",
        limits: Limits | None = None,
        check: Check | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = dict(topics)
        self._clock = clock
        self._client_id = client_id
        self._limits = limits or Limits()
        self._check = check or _CHECK_TRACKED
        self._tags = {tag_of(name): name for name in topics}
        if len(self._tags) != len(self._topics):
            raise SetupError("Two types of a tail have names with the same tag: rename one.")
        self._rings: dict[TopicPartition, Ring] = {}
        self._known: _Known | None = None
        self._log: Log | None = None
        self._slots = Slots(self._limits.catch_up_readers_max)
        self._readers: set[Reader] = set()
        self._skip_reported_at = -SKIP_REPORT_SECONDS
        self.skipped_count = dict.fromkeys(topics, 0)

    # --- what it tells ----------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether readers can be opened."""
        return self._log is not None

    def missing(self) -> str | None:
        """What keeps it from being ready, for `Lifecycle.ready_when`."""
        return None if self.is_ready else "the ends of the topics are not known yet"

    @property
    def readers(self) -> int:
        """How many readers are open."""
        return len(self._readers)

    @property
    def catch_up_readers(self) -> int:
        """How many of them fetch for themselves; all others share the fetches of one consumer."""
        return self._slots.taken

    @property
    def lag_max(self) -> int:
        """The greatest lag of an open reader, in offsets."""
        return max((reader.lag for reader in self._readers), default=0)

    @property
    def ring_bytes(self) -> int:
        """How much the rings hold."""
        return sum(ring.bytes for ring in self._rings.values())

    # --- opening ----------------------------------------------------------------------------------

    async def open(
        self,
        network_id: int,
        network_affiliate_id: int,
        types: Iterable[str] | None,
        start: Start,
    ) -> Reader:
        """A reader of a partner's records, to be closed by its `aclose`.

        Args:
            network_id: the partner's network.
            network_affiliate_id: the partner.
            types: which of the tail's types; None means those of the cursor, or all.
            start: where to begin.

        Raises:
            InvalidError: an unknown type; a cursor of another partner or of other types.
            PositionGoneError: the cursor's place cannot be served any more.
            UnavailableError: not ready, Kafka does not answer, or too many are catching up.
        """
        kafka, known = self._ready()
        names = self._names(types, start)
        partner = (network_id, network_affiliate_id)
        places = {name: self._partition(known, name, partner) for name in names}
        if isinstance(start, Cursor):
            offsets = await self._resumed(kafka, known, partner, places, start)
        else:
            offsets = await self._started(kafka, places, start)
        if self._known is not known:
            raise UnavailableError("the topics have just changed")
        reader = self._reader(known, partner, places, offsets)
        if not reader.reserve():
            await reader.aclose()
            raise UnavailableError("too many readers are catching up", retry_after_seconds=5)
        return reader

    def _ready(self) -> tuple[Log, _Known]:
        if self._log is None or self._known is None:
            raise UnavailableError("the tail is not ready")
        return self._log, self._known

    def _names(self, types: Iterable[str] | None, start: Start) -> tuple[str, ...]:
        """The types to read, in the order of the tail."""
        of_cursor: set[str] | None = None
        if isinstance(start, Cursor):
            of_cursor = {self._tags.get(tag, "?") for tag in start.places}
        wanted = of_cursor or set(self._topics) if types is None else set(types)
        if unknown := wanted - self._topics.keys():
            raise InvalidError(
                f"types: {sorted(unknown)} unknown; there are {sorted(self._topics)}"
            )
        if not wanted or (of_cursor is not None and of_cursor != wanted):
            raise InvalidError(
                f"types: the cursor is of {sorted(of_cursor or ())}; ask for these, or start anew"
            )
        return tuple(name for name in self._topics if name in wanted)

    def _partition(self, known: _Known, name: str, partner: tuple[int, int]) -> TopicPartition:
        topic = self._topics[name].name
        number = partition_for(partner_key(*partner).encode(), known.counts[topic])
        return TopicPartition(topic, number)

    def _reader(
        self,
        known: _Known,
        partner: tuple[int, int],
        places: Mapping[str, TopicPartition],
        offsets: Mapping[str, int],
    ) -> Reader:
        ids = {tag_of(name): known.ids[place.topic] for name, place in places.items()}
        reader = Reader(
            *partner,
            [
                Track(name, self._topics[name].schemas[0], place, self._rings[place])
                for name, place in places.items()
            ],
            [offsets[name] for name in places],
            stamp=CursorStamp(*partner, ids),
            source=self,
            slots=self._slots,
            check=self._check,
            clock=self._clock,
            limits=self._limits,
        )
        self._readers.add(reader)
        return reader

    async def _started(
        self, kafka: Log, places: Mapping[str, TopicPartition], start: Since | Earliest | Latest
    ) -> dict[str, int]:
        partitions = list(places.values())
        match start:
            case Latest():
                found = {partition: self._rings[partition].end for partition in partitions}
            case Earliest():
                found = await kafka.beginnings(partitions)
            case Since(seconds):
                found = await kafka.at(partitions, seconds)
            case _:
                assert_never(start)
        return {name: found[partition] for name, partition in places.items()}

    async def _resumed(
        self,
        kafka: Log,
        known: _Known,
        partner: tuple[int, int],
        places: Mapping[str, TopicPartition],
        cursor: Cursor,
    ) -> dict[str, int]:
        """The offsets of a cursor, once it is sure that they can be served."""
        if (cursor.network_id, cursor.network_affiliate_id) != partner:
            raise InvalidError("cursor: belongs to another partner")
        wanted = {self._tags[tag]: place for tag, place in cursor.places.items()}
        offsets: dict[str, int | None] = {
            name: wanted[name].offset
            if wanted[name].topic_id == known.ids[partition.topic]
            else None
            for name, partition in places.items()
        }
        outside = [
            partition
            for name, partition in places.items()
            if (offset := offsets[name]) is None
            or not self._rings[partition].covers(offset)
            or offset > self._rings[partition].end
        ]
        if outside:
            await self._refuse_change(kafka, known, outside)
        if None in offsets.values() or not await self._holds(kafka, places, offsets, outside):
            raise await self.gone(*partner, offsets)
        return {name: offset for name, offset in offsets.items() if offset is not None}

    async def _refuse_change(
        self, kafka: Log, known: _Known, partitions: Sequence[TopicPartition]
    ) -> None:
        """Make sure that the topics are still those that are known here."""
        topics = {partition.topic for partition in partitions}
        found = await kafka.ids(topics)
        if any(found.get(topic) != known.ids[topic] for topic in topics):
            raise UnavailableError("a topic was recreated and is being read anew")

    async def _holds(
        self,
        kafka: Log,
        places: Mapping[str, TopicPartition],
        offsets: Mapping[str, int | None],
        outside: Sequence[TopicPartition],
    ) -> bool:
        """Whether the log still holds the offsets of the partitions `outside` the rings."""
        if not outside:
            return True
        wanted = {
            partition: offset
            for name, partition in places.items()
            if partition in outside and (offset := offsets[name]) is not None
        }
        oldest = await kafka.beginnings(outside)
        if any(offset < oldest[partition] for partition, offset in wanted.items()):
            return False
        deadline = self._clock.monotonic() + AHEAD_SECONDS_MAX
        while True:
            ends = await kafka.ends(outside)
            if all(offset <= ends[partition] for partition, offset in wanted.items()):
                return True
            if self._clock.monotonic() >= deadline:
                return False
            await self._clock.sleep(0.1)

    # --- what its readers need --------------------------------------------------------------------

    @asynccontextmanager
    async def catch_up(self, partitions: Sequence[TopicPartition]) -> AsyncIterator[CatchUp]:
        """Fetches of its own for a reader that is behind."""
        async with open_consumer(
            self._bootstrap,
            client_id=f"{self._client_id}-catch-up",
            offset_reset="none",
            partition_max_bytes=CATCH_UP_PARTITION_BYTES_MAX,
        ) as consumer:
            yield OwnFetches(consumer, partitions)

    async def gone(
        self, network_id: int, network_affiliate_id: int, offsets: Mapping[str, int | None]
    ) -> PositionGoneError:
        """The error that names the oldest place that can be served, for these types."""
        kafka, known = self._ready()
        partner = (network_id, network_affiliate_id)
        places = {name: self._partition(known, name, partner) for name in offsets}
        oldest = await kafka.beginnings(list(places.values()))
        ends = await kafka.ends(list(places.values()))
        found: dict[int, Place] = {}
        for name, partition in places.items():
            offset = offsets[name]
            is_there = offset is not None and oldest[partition] <= offset <= ends[partition]
            served = offset if is_there and offset is not None else oldest[partition]
            found[tag_of(name)] = Place(known.ids[partition.topic], served)
        return PositionGoneError(
            "cursor: the log does not hold its place any more; `oldest` is where it can go on",
            Cursor(*partner, found).encode(),
        )

    def skipped(self, type_name: str, partition: TopicPartition, offset: int, reason: str) -> None:
        """Count a record that does not follow its schema; log one a minute."""
        self.skipped_count[type_name] += 1
        now = self._clock.monotonic()
        if now - self._skip_reported_at < SKIP_REPORT_SECONDS:
            return
        self._skip_reported_at = now
        fields = {
            "topic": partition.topic,
            "partition": partition.partition,
            "offset": offset,
            "reason": reason,
        }
        log.warning("invalid record left out of streams", extra=fields)

    def left(self, reader: Reader) -> None:
        """Take note that a reader closed."""
        self._readers.discard(reader)

    # --- the shared fetches -----------------------------------------------------------------------

    async def run(self) -> None:
        """Feed the rings for ever; Kafka's absence is waited out, and live readers with it.

        Raises:
            SetupError: a topic does not exist when it is first read.
        """
        while True:
            try:
                async with AsyncExitStack() as stack:
                    await self._follow(stack)
            except (UnavailableError, LostOwnershipError) as error:
                log.warning("tail interrupted", extra={"reason": str(error)})
            except SetupError as error:
                if self._known is None:
                    raise
                log.warning("tail interrupted", extra={"reason": str(error)})
            finally:
                self._log = None
            await self._clock.sleep(random.uniform(0.05, RETRY_SECONDS_MAX / 4))  # noqa: S311

    async def _follow(self, stack: AsyncExitStack) -> None:
        """Feed the rings until the topics have changed or Kafka fails."""
        asking = open_consumer(self._bootstrap, client_id=f"{self._client_id}-offsets")
        kafka = Log(await stack.enter_async_context(asking))
        fetching = open_consumer(
            self._bootstrap,
            client_id=f"{self._client_id}-live",
            offset_reset="none",
            fetch_max_bytes=SHARED_FETCH_BYTES_MAX,
            partition_max_bytes=SHARED_PARTITION_BYTES_MAX,
        )
        shared = await stack.enter_async_context(fetching)
        known = await self._begin(kafka, shared)
        self._known, self._log = known, kafka
        check_at = self._clock.monotonic() + self._limits.topic_check_seconds
        while await self._turn(shared):
            now = self._clock.monotonic()
            if now >= check_at:
                if await kafka.ids(known.ids) != known.ids:
                    log.warning("a topic was recreated: its readers must begin anew")
                    return
                check_at = now + self._limits.topic_check_seconds

    async def _begin(self, kafka: Log, shared: Consumer) -> _Known:
        """Go on where the rings end; where there is none, or its topic is a new one, at the end."""
        names = [topic.name for topic in self._topics.values()]
        partitions = await kafka.partitions(names)
        ids = await kafka.ids(names)
        ends = await kafka.ends(partitions)
        counts = {name: sum(item.topic == name for item in partitions) for name in names}
        if ids.keys() != set(names):
            raise UnavailableError("a topic is being recreated")
        for name in names:
            if self._known is not None and self._known.ids[name] != ids[name]:
                self._close_rings(name)
        shared.assign(partitions)
        for partition in partitions:
            if partition not in self._rings:
                self._rings[partition] = Ring(
                    ends[partition], bytes_max=self._limits.ring_bytes_max
                )
            shared.seek(partition, self._rings[partition].end)
        return _Known(ids, counts)

    async def _turn(self, shared: Consumer) -> bool:
        """Put what has come into the rings; False if the log does not hold their end any more."""
        with translated("reading the live end"):
            try:
                batches = await shared.getmany(timeout_ms=TURN_MS, max_records=TURN_RECORDS_MAX)
            except OffsetOutOfRangeError as error:
                log.warning("the log was cut off below its end", extra={"reason": str(error)})
                for partition in error.args[0]:
                    self._close_rings(partition.topic)
                return False
            for partition, records in batches.items():
                self._rings[partition].append(records, records[-1].offset + 1)
            if not batches:
                await self._pass_markers(shared)
        await self._clock.sleep(0)
        return True

    async def _pass_markers(self, shared: Consumer) -> None:
        """Move the rings' ends behind what is no record; notice if nothing is answered any more."""
        answered_at = 0
        for partition, ring in self._rings.items():
            ring.append((), await shared.position(partition))
            answered_at = max(answered_at, shared.last_poll_timestamp(partition) or 0)
        if answered_at and self._clock.time() - answered_at / 1000 > STALL_SECONDS:
            raise UnavailableError(f"no fetch was answered for {STALL_SECONDS:.0f} s")

    def _close_rings(self, topic: str) -> None:
        for partition in [item for item in self._rings if item.topic == topic]:
            self._rings.pop(partition).close()


class TailCollector(Collector):
    """A tail as Prometheus metrics."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Readers, lag, memory, and records left out."""
        tail = self._tail
        yield GaugeMetricFamily("tail_readers", "How many readers are open?", tail.readers)
        yield GaugeMetricFamily(
            "tail_catch_up_readers", "How many fetch for themselves?", tail.catch_up_readers
        )
        yield GaugeMetricFamily(
            "tail_lag_records", "How far is the slowest reader behind?", tail.lag_max
        )
        yield GaugeMetricFamily("tail_ring_bytes", "How much do the rings hold?", tail.ring_bytes)
        skipped = CounterMetricFamily(
            "tail_records_skipped", "How many records failed their check?", labels=["type"]
        )
        for name, count in tail.skipped_count.items():
            skipped.add_metric([name], count)
        yield skipped
