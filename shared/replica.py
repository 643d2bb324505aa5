"""Replica: a compacted topic as a dictionary in this process.

What it promises:

* **Whole or nothing.** It is ready once everything up to the last stable offsets seen at its start
  has been applied; positions beyond transaction markers, aborted records and offsets that
  compaction removed count as applied. It never serves a half-loaded table: whenever it has to begin
  anew (the topic was recreated or cut off below its position, no fetch is answered any more), the
  old table stays until the new one is complete, and ages honestly meanwhile.
* **Never backwards.** Values carry a `version`; one lower than the held is dropped, also when the
  topic was recreated with older content. A tombstone removes the value but not the memory of its
  version: of the last `FLOORS_MAX` removed keys, a value not higher than the removed one is dropped
  too, so that a late repeat resurrects nothing. To bring a key back, its owner raises the version.
* **An unreadable record is never silent.** It is counted, logged once with its position, and
  skipped. What happens to the held value is the reader's choice: `keep` where an old value does no
  harm (a budget), `withhold` where the record may have been a revocation: the value is hidden,
  and `is_withheld` says so, until a readable record with a higher version arrives.
* **It knows its freshness.** Per partition, the time of the latest fetch whose end offset has since
  been applied; the replica's is the oldest of them. A fetch counts from when it was *asked*, since
  its answer may lie unread in a socket while the process stands still; and on the monotonic clock,
  so that steps of the wall clock change nothing. On an idle topic it is below about half a second.

Where it ends: a reader sees what is committed (`read_committed`), so a transaction left open hides
what follows it in that partition; and callers decide what to do with a replica that is not fresh.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, ItemsView, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.clock import Clock
from shared.errors import InvalidError, LostOwnershipError, SetupError, UnavailableError
from shared.faultpoint import point
from shared.kafka import (
    Consumer,
    Record,
    TopicPartition,
    open_consumer,
    partitions_of,
    topic_ids,
    translated,
)
from shared.topics import Topic

log = logging.getLogger(__name__)

TURN_MS: Final = 50
"""How long one turn waits for records: bounds how late a fetch without records is noticed."""
TURN_RECORDS_MAX: Final = 5_000
"""Records applied before other tasks of the process run again (about 15 ms)."""
PARTITION_BYTES_MAX: Final = 4 * 1024 * 1024
QUIET_TURNS_MAX: Final = 300
"""With no fetch answered for so many turns (15 s), the consumer is given up and another made.

Turns rather than seconds, since a process that stood still must first read what has arrived.
"""
IDENTITY_SECONDS: Final = 5.0
"""How often it is asked whether the topic is still the same, and not one of the same name."""
IDENTITY_WAIT_SECONDS: Final = 1.0
RETRY_SECONDS_MAX: Final = 2.0
FLOORS_MAX: Final = 100_000
"""How many removed keys' versions are remembered, the latest ones."""
REPORTED_MAX: Final = 1_000
"""Positions of unreadable records that are logged; beyond that they are only counted."""


class Versioned(Protocol):
    """A value that grows a version with every change."""

    @property
    def version(self) -> int:
        """The version; higher is newer."""
        ...


T = TypeVar("T", bound=Versioned)

OnChange = Callable[[str, T | None, T | None], None]
"""Told of each change: key, value before, value now; None where there is none. Must not wait."""

Unreadable = Literal["keep", "withhold"]


@dataclass(slots=True)
class Counts:
    """What became of the records read since the process began."""

    applied: int = 0
    stale: int = 0
    unreadable: int = 0
    loads: int = 0


@dataclass(frozen=True, slots=True)
class Schema(Generic[T]):
    """How a record becomes a value.

    Attributes:
        event: the type of the values.
        key_of: the record key that a value must stand under; None does not check.
    """

    event: type[T]
    key_of: Callable[[T], str] | None = None
    _decoder: "msgspec.json.Decoder[T]" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the decoder once."""
        object.__setattr__(self, "_decoder", msgspec.json.Decoder(self.event))

    def read(self, key: str, value: bytes) -> T:
        """The value of a record.

        Raises:
            InvalidError: it does not follow the schema, or stands under another's key.
        """
        try:
            decoded = self._decoder.decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidError(f"{self.event.__name__}: {error}") from error
        if self.key_of is not None and self.key_of(decoded) != key:
            raise InvalidError(f"{self.event.__name__}: stands under the key {key!r} of another")
        return decoded


class Table(Generic[T]):
    """The values, and the rule by which a record changes them. Pure.

    Args:
        before: what the table that this one will replace holds: a lower version in the topic does
            not undercut it, a tombstone or no record at all removes it.
    """

    def __init__(self, before: Mapping[str, T] | None = None) -> None:
        self.values: dict[str, T] = {}
        self.withheld: dict[str, int] = {}
        self._before: Mapping[str, T] = {} if before is None else before
        self._floors: dict[str, int] = {}

    def put(self, key: str, value: T) -> bool:
        """Hold `value`, unless a newer one is held or was removed; whether it is held now."""
        held = self.values.get(key)
        if held is None:
            if value.version <= self._floor(key):
                return False
            held = self._before.get(key)
        self._floors.pop(key, None)
        self.withheld.pop(key, None)
        is_stale = held is not None and value.version < held.version
        self.values[key] = held if held is not None and is_stale else value
        return not is_stale

    def settle(self) -> None:
        """Let go of the table before: this one is complete."""
        self._before = {}

    def remove(self, key: str) -> None:
        """Forget the value of `key`, but not its version."""
        floor = self._version(key)
        self.values.pop(key, None)
        self.withheld.pop(key, None)
        self._remember(key, floor)

    def withhold(self, key: str) -> None:
        """Hide the value of `key` until one with a higher version is put."""
        self.withheld[key] = self._version(key)
        self.values.pop(key, None)

    def _version(self, key: str) -> int:
        held = self.values.get(key)
        return self._floor(key) if held is None else held.version

    def _floor(self, key: str) -> int:
        return max(self._floors.get(key, 0), self.withheld.get(key, 0))

    def _remember(self, key: str, floor: int) -> None:
        if not floor:
            return
        self._floors.pop(key, None)
        self._floors[key] = floor
        if len(self._floors) > FLOORS_MAX:
            del self._floors[next(iter(self._floors))]


@dataclass(slots=True)
class _Partition:
    """How far one partition has been applied, and as of when. Times are monotonic seconds."""

    position: int
    end_at_start: int
    fresh_at: float
    asked_at: float
    seen_at: float
    stamp: int | None = None


class Progress:
    """When the start is done, and how fresh the table is. Pure.

    A partition has one fetch under way at a time, asked after the answer to the one before. Nobody
    tells when that was; but an answer that a turn finds new came after the turn began. So the turn
    in which the previous answer was found bounds from below when the present one was asked.
    """

    def __init__(self, starts: Mapping[int, int], ends: Mapping[int, int], asked_at: float) -> None:
        self._partitions = {
            number: _Partition(start, ends[number], asked_at, asked_at, asked_at)
            for number, start in starts.items()
        }
        self.fresh_at = asked_at
        self.quiet_turns = 0

    @property
    def is_loaded(self) -> bool:
        """Whether the end offsets seen at the start have been applied."""
        return all(item.position >= item.end_at_start for item in self._partitions.values())

    def observe(
        self, number: int, *, position: int, stable_end: int, stamp: int, turn_began: float
    ) -> None:
        """Take note of a partition after its records of a turn were applied.

        Args:
            number: the partition.
            position: the next offset to be read; everything before is applied.
            stable_end: the last stable offset that the latest fetch reported.
            stamp: what identifies the latest fetch: a new one has another stamp.
            turn_began: when the turn began.
        """
        item = self._partitions[number]
        item.position = position
        if stamp != item.stamp:
            item.stamp = stamp
            item.asked_at, item.seen_at = item.seen_at, turn_began
            self.quiet_turns = 0
        if position >= stable_end:
            item.fresh_at = item.asked_at

    def end_turn(self) -> None:
        """Settle the freshness of the whole after all partitions were observed."""
        self.quiet_turns += 1
        self.fresh_at = min(item.fresh_at for item in self._partitions.values())


class Replica(Generic[T]):
    """A compacted topic as a dictionary: `get`, `items`, `len`, as fresh as `freshness_seconds`.

    Give `run` to `Lifecycle.run_task` and `missing` to `Lifecycle.ready_when`.

    Args:
        bootstrap: Kafka's `host:port`.
        topic: which topic; its record keys are text.
        event: the type of its values.
        clock: the time.
        client_id: as Kafka logs it.
        key_of: the key a value must stand under; a record where it does not is unreadable.
        unreadable: what an unreadable record does to the held value (see the module).
        on_change: told of each change once it is visible; `subscribe` adds more.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: Topic,
        event: type[T],
        *,
        clock: Clock,
        client_id: str,
        key_of: Callable[[T], str] | None = None,
        unreadable: Unreadable = "keep",
        on_change: OnChange[T] | None = None,
    ) -> None:
        self.topic = topic
        self.counts = Counts()
        self._bootstrap = bootstrap
        self._schema = Schema(event, key_of)
        self._clock = clock
        self._client_id = client_id
        self._unreadable = unreadable
        self._subscribers: list[OnChange[T]] = [] if on_change is None else [on_change]
        self._table: Table[T] = Table()
        self._progress: Progress | None = None
        self._reported: set[tuple[int, int]] = set()
        self._identity: bytes | None = None
        self._identity_due = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether the table has been complete once; from then on `freshness_seconds` matters."""
        return self._progress is not None

    def missing(self) -> str | None:
        """What keeps it from being ready, for `Lifecycle.ready_when`."""
        return None if self.is_ready else f"{self.topic.name} is still being read"

    def get(self, key: str) -> T | None:
        """The value of `key`; None if there is none, or it is withheld."""
        return self._table.values.get(key)

    def is_withheld(self, key: str) -> bool:
        """Whether the last record of `key` could not be read, so that nothing is known of it."""
        return key in self._table.withheld

    def items(self) -> ItemsView[str, T]:
        """All keys and values, a view: do not wait while iterating over it."""
        return self._table.values.items()

    def __len__(self) -> int:
        return len(self._table.values)

    def freshness_seconds(self) -> float:
        """The table shows the topic as it was at most this long ago; infinite until ready."""
        if self._progress is None:
            return float("inf")
        return self._clock.monotonic() - self._progress.fresh_at

    def subscribe(self, callback: OnChange[T]) -> None:
        """Call `callback` for every change from now on."""
        self._subscribers.append(callback)

    async def run(self) -> None:
        """Follow the topic for ever; Kafka's absence is waited out.

        Raises:
            SetupError: the topic does not exist when it is first read.
        """
        failures = 0
        while True:
            loads = self.counts.loads
            try:
                async with self._consumer() as consumer:
                    await self._follow(consumer)
            except (UnavailableError, LostOwnershipError) as error:
                self._report_interruption(error)
            except SetupError as error:
                if not self.is_ready:
                    raise
                self._report_interruption(error)
            failures = 0 if self.counts.loads > loads else failures + 1
            await self._clock.sleep(_backoff_seconds(failures))

    def _consumer(self) -> AbstractAsyncContextManager[Consumer]:
        return open_consumer(
            self._bootstrap,
            client_id=self._client_id,
            offset_reset="none",
            partition_max_bytes=PARTITION_BYTES_MAX,
        )

    def _report_interruption(self, error: Exception) -> None:
        fields = {"topic": self.topic.name, "reason": str(error), "entries": len(self)}
        log.warning("replica interrupted, reading anew", extra=fields)

    async def _follow(self, consumer: Consumer) -> None:
        """Load a table of its own, swap it in when complete, and keep it current."""
        partitions = await partitions_of(consumer, [self.topic.name])
        progress = await self._begin(consumer, partitions)
        table = Table(before=self._table.values)
        while not progress.is_loaded:
            await self._prove_same_topic(consumer)
            await self._turn(consumer, partitions, progress, partial(self._load, table))
            point("replica.loading")
        self._swap(table, progress)
        point("replica.loaded")
        while True:
            await self._prove_same_topic(consumer)
            await self._turn(consumer, partitions, progress, self._apply_live)

    async def _prove_same_topic(self, consumer: Consumer) -> None:
        """Find out that the topic was recreated, also if it has since grown beyond our position.

        Raises:
            UnavailableError: it is another topic now; read it from its start.
        """
        now = self._clock.monotonic()
        if now < self._identity_due:
            return
        self._identity_due = now + IDENTITY_SECONDS
        found = self._identity
        with contextlib.suppress(UnavailableError, TimeoutError):  # no answer is no other topic
            async with asyncio.timeout(IDENTITY_WAIT_SECONDS):
                found = await self._topic_id(consumer)
        if found != self._identity:
            raise UnavailableError("the topic was deleted or recreated")

    async def _topic_id(self, consumer: Consumer) -> bytes | None:
        return (await topic_ids(consumer, [self.topic.name])).get(self.topic.name)

    async def _begin(self, consumer: Consumer, partitions: Collection[TopicPartition]) -> Progress:
        asked_at = self._clock.monotonic()
        self._identity = await self._topic_id(consumer)
        with translated(f"reading the offsets of {self.topic.name}"):
            ends = await consumer.end_offsets(partitions)
            starts = await consumer.beginning_offsets(partitions)
            consumer.assign(list(partitions))
            for partition, start in starts.items():
                consumer.seek(partition, start)
        return Progress(
            {item.partition: start for item, start in starts.items()},
            {item.partition: end for item, end in ends.items()},
            asked_at,
        )

    async def _turn(
        self,
        consumer: Consumer,
        partitions: Iterable[TopicPartition],
        progress: Progress,
        apply: Callable[[Record[bytes, bytes]], None],
    ) -> None:
        """Apply what has arrived, and note how far and how fresh that is.

        Nothing waits between `getmany` and the last `observe`, since a fetch answered in between
        would be taken for applied.
        """
        if progress.quiet_turns > QUIET_TURNS_MAX:
            raise UnavailableError(f"no fetch was answered for {QUIET_TURNS_MAX} turns")
        began = self._clock.monotonic()
        with translated(f"reading {self.topic.name}"):
            batches = await consumer.getmany(timeout_ms=TURN_MS, max_records=TURN_RECORDS_MAX)
        for records in batches.values():
            for record in records:
                apply(record)
        for item in partitions:
            stamp = consumer.last_poll_timestamp(item)
            stable_end = consumer.last_stable_offset(item)
            if stamp is not None and stable_end is not None:
                progress.observe(
                    item.partition,
                    position=await consumer.position(item),  # set by `seek`: does not wait
                    stable_end=stable_end,
                    stamp=stamp,
                    turn_began=began,
                )
        progress.end_turn()
        await self._clock.sleep(0)

    def _load(self, table: Table[T], record: Record[bytes, bytes]) -> None:
        self._apply(table, record)

    def _apply_live(self, record: Record[bytes, bytes]) -> None:
        key = _text(record.key)
        old = None if key is None else self.get(key)
        self._apply(self._table, record)
        if key is not None:
            self._tell(key, old, self.get(key))

    def _apply(self, table: Table[T], record: Record[bytes, bytes]) -> None:
        key = _text(record.key)
        if key is None:
            self._refuse(record, "the key is not text")
        elif record.value is None:
            table.remove(key)
            self.counts.applied += 1
        else:
            self._put(table, key, record, record.value)

    def _put(self, table: Table[T], key: str, record: Record[bytes, bytes], content: bytes) -> None:
        try:
            value = self._schema.read(key, content)
        except InvalidError as error:
            self._refuse(record, error.message)
            if self._unreadable == "withhold":
                table.withhold(key)
            return
        if table.put(key, value):
            self.counts.applied += 1
        else:
            self.counts.stale += 1

    def _refuse(self, record: Record[bytes, bytes], reason: str) -> None:
        self.counts.unreadable += 1
        position = (record.partition, record.offset)
        if position in self._reported or len(self._reported) >= REPORTED_MAX:
            return
        self._reported.add(position)
        fields = {
            "topic": self.topic.name,
            "partition": record.partition,
            "offset": record.offset,
            "reason": reason,
            "held_value": self._unreadable,
        }
        log.error("unreadable record in a replicated topic", extra=fields)

    def _swap(self, table: Table[T], progress: Progress) -> None:
        """Make a complete table the visible one, and tell what differs from the one before."""
        table.settle()
        before, self._table, self._progress = self._table, table, progress
        self.counts.loads += 1
        fields = {"topic": self.topic.name, "entries": len(table.values)}
        log.info("replica loaded", extra=fields)
        for key in before.values.keys() - table.values.keys():
            self._tell(key, before.values[key], None)
        for key, value in table.values.items():
            self._tell(key, before.values.get(key), value)

    def _tell(self, key: str, old: T | None, new: T | None) -> None:
        if old == new:
            return
        for subscriber in self._subscribers:
            subscriber(key, old, new)


class ReplicaCollector(Collector):
    """The replicas of a process as Prometheus metrics, labelled by topic."""

    def __init__(self, replicas: Iterable[Replica[Any]]) -> None:
        self._replicas = tuple(replicas)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Entries, freshness, and what became of the records read."""
        entries = GaugeMetricFamily(
            "replica_entries", "How many keys does the table hold?", labels=["topic"]
        )
        freshness = GaugeMetricFamily(
            "replica_freshness_seconds", "How long ago was the topic as shown?", labels=["topic"]
        )
        records = CounterMetricFamily(
            "replica_records", "What became of the records read?", labels=["topic", "outcome"]
        )
        loads = CounterMetricFamily(
            "replica_loads", "How often was the table read from its start?", labels=["topic"]
        )
        for replica in self._replicas:
            name = replica.topic.name
            entries.add_metric([name], len(replica))
            freshness.add_metric([name], replica.freshness_seconds())
            loads.add_metric([name], replica.counts.loads)
            for outcome in ("applied", "stale", "unreadable"):
                records.add_metric([name, outcome], getattr(replica.counts, outcome))
        yield from (entries, freshness, records, loads)


def _text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def _backoff_seconds(failures: int) -> float:
    """Doubling from 0.1 s, with jitter, so that processes do not come back in step."""
    longest = min(RETRY_SECONDS_MAX, 0.1 * 2.0 ** min(failures, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
