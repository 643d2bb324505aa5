"""One partition's work in a projection: check, dead-letter, write, retry, go on.

A lane is one task for as long as its process owns the partition. What it has not written when the
partition goes is dropped: the next owner begins at the stored offset.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from shared.batches import Batcher, Freshness, Item, LetterBudget, Limits, Start, halves
from shared.clock import Clock, rfc3339
from shared.errors import (
    InvalidError,
    LostOwnershipError,
    PorticoError,
    RejectedError,
    UnavailableError,
)
from shared.faultpoint import point
from shared.kafka import Producer, Record, TopicPartition, partition_for, translated
from shared.lag import ProjectionMetrics
from shared.sinks import Sink
from shared.topics import Topic, dead_letter_topic

E = TypeVar("E")
T = TypeVar("T")

RETRY_SECONDS_FIRST: Final = 0.1
RETRY_SECONDS_MAX: Final = 5.0
REASON_CHARACTERS_MAX: Final = 1_000
CHECKED_AT_ONCE: Final = 500
"""Records checked before others get a turn: some 3 ms of a service that also answers requests."""


@dataclass(frozen=True, slots=True)
class Work(Generic[E]):
    """What all lanes of a projection share.

    Attributes:
        group: consumer group, and label of the metrics.
        topics: what is read, by name.
        check: the event in a record; raises InvalidError for one that is none.
        sink: where effects go.
        metrics: of the service.
        limits: every bound.
        clock: the time.
    """

    group: str
    topics: Mapping[str, Topic]
    check: Callable[[Record[bytes, bytes]], E]
    sink: Sink[E]
    metrics: ProjectionMetrics
    limits: Limits
    clock: Clock


class TooManyRefusedError(PorticoError):
    """A projection refused more records than its limits allow: the fault is likely ours.

    Compare the release of this service with the schemas its producers use; the dead-letter topic
    holds the reasons. Nothing beyond the named position was applied.
    """


class DeadLetters:
    """Writes refused records to `<topic>.dead`, confirmed, within the limits.

    A letter is the original key, value and headers, and beside them in headers the position, the
    append time, the reason, who refused it and how often it was tried. After a crash a letter may
    be written again with the same position.
    """

    def __init__(self, producer: Producer, work: Work[Any]) -> None:
        self._producer = producer
        self._work = work
        self._budget = LetterBudget(work.limits)

    def accepted(self, partition: TopicPartition, count: int) -> None:
        """`count` records passed the check."""
        self._budget.accepted(partition, count)

    def permit(self, record: Record[bytes, bytes], reason: str) -> None:
        """Count `record` as refused.

        Raises:
            TooManyRefusedError: a limit is passed, or the topic takes no letters.
        """
        limit = self._budget.refused((record.topic, record.partition))
        if not self._work.topics[record.topic].dead_letters:
            limit = "the topic has no dead letters"
        if limit is not None:
            where = f"{record.topic}, partition {record.partition}, offset {record.offset}"
            raise TooManyRefusedError(
                f"{self._work.group} stops at {where}: {limit}. Last: {reason}"
            )

    async def send(self, record: Record[bytes, bytes], reason: str, attempts: int = 1) -> None:
        """Put `record` aside; returns once Kafka has confirmed the letter.

        Raises:
            UnavailableError: Kafka does not confirm; call again.
        """
        target = dead_letter_topic(record.topic)
        letter = {
            "dead_topic": record.topic,
            "dead_partition": str(record.partition),
            "dead_offset": str(record.offset),
            "dead_appended_at": rfc3339(record.timestamp / 1000),
            "dead_reason": reason[:REASON_CHARACTERS_MAX],
            "dead_group": self._work.group,
            "dead_attempts": str(attempts),
            "dead_refused_at": rfc3339(self._work.clock.time()),
        }
        headers = [*record.headers, *((name, text.encode()) for name, text in letter.items())]
        with translated(f"writing a dead letter to {target}"):
            await self._producer.send_and_wait(
                target, value=record.value, key=record.key, headers=headers
            )
        self._work.metrics.letters.labels(self._work.group, record.topic).inc()


@lru_cache(maxsize=65_536)
def _home(key: bytes, partitions: int) -> int:
    return partition_for(key, partitions)


def require_home(record: Record[bytes, bytes], partitions: int) -> None:
    """Prove that a record is in the partition of its key, of so many.

    Raises:
        InvalidError: it is elsewhere, or has no key.
    """
    if record.key is None:
        raise InvalidError("no key: nothing says whose record it is")
    home = _home(record.key, partitions)
    if home != record.partition:
        raise InvalidError(
            f"misplaced: key {record.key!r} belongs in partition {home} of "
            f"{partitions}; the producer must use the murmur2 partitioner"
        )


class Lane(Generic[E]):
    """The partition's task.

    Attributes:
        partition: which one.
        next_offset: everything before it has taken effect, or is a dead letter.
        appended_ms: append time of the last record that did.
        is_open: whether it still takes batches.
        is_retrying: whether the store was away at the last try.
        beats: grows with every step, for the watchdog.
    """

    def __init__(
        self,
        work: Work[E],
        partition: TopicPartition,
        *,
        partition_count: int,
        letters: DeadLetters,
        start: Start,
        offset: int,
        restart: Callable[["Lane[E]"], Awaitable[None]],
    ) -> None:
        self.partition = partition
        self.batcher = Batcher(work.limits)
        self.freshness = Freshness(offset)
        self.next_offset = offset
        self.appended_ms = 0
        self.is_open = True
        self.is_retrying = False
        self.beats = 0
        self._work = work
        self._partition_count = partition_count
        self._letters = letters
        self._start = start
        self._position = offset
        self._restart = restart
        self._clock = work.clock
        self._labels = (work.group, partition.topic)
        self._woken = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()

    # --- what the poll loop does with it ----------------------------------------------------------

    def offer(self, records: Sequence[Record[bytes, bytes]]) -> None:
        """Take in what was fetched; what is held or applied already is dropped."""
        if records and records[0].offset < self._position:
            records = [record for record in records if record.offset >= self._position]
        if records and self.is_open:
            self._position = records[-1].offset + 1
            self.batcher.offer(records, self._clock.monotonic())

    def wake_if_ready(self, now: float) -> None:
        """Start a batch that has closed."""
        if self.is_open and self.batcher.is_ready(now):
            self._woken.set()

    def begin_at(self, start: Start, offset: int) -> None:
        """Forget what is held and go on at `offset`."""
        self.batcher.clear()
        self._start = start
        self.next_offset = self._position = offset

    def close(self) -> None:
        """Take no further batch; the one in hand may finish."""
        self.is_open = False
        self.batcher.clear()
        self._woken.set()

    async def quiet(self) -> None:
        """Wait until no batch is in hand."""
        await self._quiet.wait()

    @property
    def is_busy(self) -> bool:
        """Whether a batch is in hand."""
        return not self._quiet.is_set()

    @property
    def is_drained(self) -> bool:
        """Whether everything taken in has been applied."""
        return not self.is_busy and not len(self.batcher)

    # --- the task ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Apply batches as they close, until closed.

        Raises:
            TooManyRefusedError: the limits of dead letters are passed.
            UnavailableError: the store was away for longer than the retry budget.
        """
        while self.is_open:
            await self._woken.wait()
            self._woken.clear()
            self._quiet.clear()
            try:
                while self._has_batch():
                    await self._apply_next()
            except LostOwnershipError:
                self._work.metrics.lost.labels(*self._labels).inc()
                await self._retried(lambda: self._restart(self))
            finally:
                self._quiet.set()

    def _has_batch(self) -> bool:
        return self.is_open and self.batcher.is_ready(self._clock.monotonic())

    async def _apply_next(self) -> None:
        is_suspect = self.next_offset < self._start.suspect_until
        records = self.batcher.take(self._clock.monotonic(), 1 if is_suspect else None)
        if not records:
            return
        self.beats += 1
        next_offset = records[-1].offset + 1
        if is_suspect and self._killed_too_often(records[0]):
            await self._put_aside(
                records[0],
                "bug: the process died each time it applied this record",
                self._start.attempts,
            )
            self._start = Start(next_offset)
            await self._write([], next_offset)
        else:
            with self._work.metrics.write_seconds.labels(*self._labels).time():
                await self._write(await self._checked(records), next_offset)
        self.appended_ms = records[-1].timestamp
        self.freshness.stored(next_offset, records[-1].timestamp)
        point("projection.after_batch")

    def _killed_too_often(self, record: Record[bytes, bytes]) -> bool:
        """Whether the attempts counted were at `record` alone, and enough."""
        return (
            self._start.attempts >= self._work.limits.attempts_max
            and self._start.suspect_until == record.offset + 1
        )

    async def _checked(self, records: Sequence[Record[bytes, bytes]]) -> list[Item[E]]:
        """The good ones of `records`; the others are dead letters when this returns."""
        items: list[Item[E]] = []
        passed = 0
        for number, record in enumerate(records, start=1):
            if number % CHECKED_AT_ONCE == 0:
                await self._clock.sleep(0)
            try:
                require_home(record, self._partition_count)
                items.append(Item(self._work.check(record), record))
            except RejectedError as error:
                self._letters.accepted(self.partition, len(items) - passed)
                passed = len(items)
                await self._put_aside(record, error.message)
        self._letters.accepted(self.partition, len(items) - passed)
        return items

    async def _write(self, items: Sequence[Item[E]], next_offset: int) -> None:
        """Store `items` and the offset behind them; what can never be stored is put aside."""
        point("projection.before_write")
        try:
            await self._retried(lambda: self._work.sink.write(self.partition, items, next_offset))
        except RejectedError as error:
            if not items:
                raise
            if len(items) == 1:
                await self._put_aside(items[0].record, error.message)
                await self._write([], next_offset)
                return
            for half, end in halves(items, lambda item: item.record.offset, next_offset):
                await self._write(half, end)
            return
        point("projection.after_write")
        self.next_offset = next_offset
        if items:  # a commit between two halves of a batch goes by it
            self.appended_ms = items[-1].record.timestamp
        self.beats += 1
        self._work.metrics.records.labels(*self._labels).inc(len(items))

    async def _put_aside(
        self, record: Record[bytes, bytes], reason: str, attempts: int = 1
    ) -> None:
        self._letters.permit(record, reason)
        await self._retried(lambda: self._letters.send(record, reason, attempts))

    async def _retried(self, attempt: Callable[[], Awaitable[None]]) -> None:
        def away() -> None:
            self.is_retrying = True
            self.beats += 1
            self._work.metrics.retries.labels(*self._labels).inc()

        await retried(attempt, self._work, away)
        self.is_retrying = False


async def retried(
    attempt: Callable[[], Awaitable[T]], work: Work[Any], away: Callable[[], None] | None = None
) -> T:
    """The outcome of `attempt`, repeated in place with jitter while a dependency is away.

    Args:
        attempt: what to do.
        work: whose limits and clock hold.
        away: called before each wait.

    Raises:
        UnavailableError: the dependency was away for longer than the retry budget.
    """
    give_up_at = work.clock.monotonic() + work.limits.retry_seconds_max
    delay = RETRY_SECONDS_FIRST
    while True:
        try:
            return await attempt()
        except UnavailableError:
            if work.clock.monotonic() + delay > give_up_at:
                raise
        if away is not None:
            away()
        await work.clock.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        delay = min(2 * delay, RETRY_SECONDS_MAX)
