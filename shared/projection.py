"""Projection, the pattern from log to database: each event takes effect exactly once.

It holds through crashes, rebalances, redelivery and republication. A consumer group shares the
partitions; each partition is one `Lane` task, whose batches go to a `Sink` that makes effects and
offset one thing. The stored offset decides where a partition begins; what Kafka knows of it is a
hint (Postgres) or follows the insert (ClickHouse).

* A store that is away is retried in place with the partition paused, then the process ends.
* A record that can never be applied goes to the dead letters before the partition goes on.
* A full lane pauses its partition; the others go on.
* A rebalance finishes the batches in hand within one deadline and drops the rest.

Where it stops holding: effects outside the sink's transaction; a sink whose rows are not idempotent
by id and version (ClickHouse); clocks of broker and service that differ (`through` only).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from shared.batches import Item, Limits, Start
from shared.clock import Clock, SystemClock
from shared.errors import LostOwnershipError, PorticoError, SetupError, UnavailableError
from shared.faultpoint import point
from shared.kafka import (
    Consumer,
    ConsumerRebalanceListener,
    OffsetAndMetadata,
    Record,
    TopicPartition,
    open_admin,
    open_consumer,
    open_producer,
    partition_for,
    partitions_of,
    topic_ids,
    translated,
)
from shared.lag import Lag, LagMonitor, ProjectionMetrics, Stored
from shared.lane import DeadLetters, Lane, TooManyRefusedError, Work, retried
from shared.sinks import OFFSETS_DDL, ClickHouseSink, PostgresSink, Sink
from shared.topics import Topic

log = logging.getLogger(__name__)

E = TypeVar("E")

__all__ = [
    "OFFSETS_DDL",
    "ClickHouseSink",
    "Item",
    "Limits",
    "PostgresSink",
    "Projection",
    "ProjectionMetrics",
    "Sink",
    "StalledError",
    "Start",
    "Stored",
    "TooManyRefusedError",
]

POLL_SECONDS: Final = 0.1
COMMIT_SECONDS: Final = 1.0
"""Pause between two commits to Kafka."""
COMMIT_SECONDS_MAX: Final = 5.0
"""How long one commit may take; it is repeated a pause later."""
WATCH_SECONDS: Final = 1.0
PARTITION_FETCH_BYTES: Final = 2 * 1024 * 1024
SESSION_TIMEOUT_MS: Final = 6_000
"""How soon a dead member's partitions are given away. Joining waits for it, so it stays under the
request time-out of 10 s."""
MAX_POLL_INTERVAL_MS: Final = 60_000
"""How long the other members wait for this one when the group rebalances."""


class StalledError(PorticoError):
    """A task of the projection made no progress for too long; its stack is in the log."""


class Projection(Generic[E]):
    """Applies `topics` to `sink` for as long as `run` runs.

    Args:
        bootstrap: Kafka's `host:port`.
        group: consumer group, `<service>.<projection>`; also the label of the metrics.
        topics: what to read, rows of `shared.topics`.
        check: the event in a record; raises InvalidError for one that is none.
        sink: where effects go.
        metrics: of the service.
        limits: every bound.
        clock: the time.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        group: str,
        topics: Sequence[Topic],
        check: Callable[[Record[bytes, bytes]], E],
        sink: Sink[E],
        metrics: ProjectionMetrics,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._work = Work(
            group=group,
            topics={topic.name: topic for topic in topics},
            check=check,
            sink=sink,
            metrics=metrics,
            limits=limits or Limits(),
            clock=clock or SystemClock(),
        )
        self._counts: dict[str, int] = {}
        self._ids: dict[str, bytes] = {}
        self._member: _Member[E] | None = None
        self._own_through_ms: dict[TopicPartition, int] = {}
        """What own lanes have told: what is stored stays so, whoever has the partition next."""
        self._is_running = False
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._monitor = LagMonitor(
            bootstrap,
            projection=group,
            topics=list(self._work.topics),
            positions=self._positions,
            metrics=metrics,
            clock=self._work.clock,
            seconds=self._work.limits.lag_seconds,
        )

    async def run(self) -> None:
        """Apply until `drain`; a failure ends everything and is raised in a group.

        Raises:
            SetupError: a topic does not exist, or was created anew under a stored offset.
            TooManyRefusedError: the limits of dead letters are passed.
            UnavailableError: a dependency was away for longer than the retry budget.
            StalledError: a task made no progress.
        """
        self._is_running = True
        group = self._work.group
        try:
            async with (
                open_producer(self._bootstrap, client_id=f"{group}-letters") as producer,
                open_consumer(
                    self._bootstrap,
                    client_id=group,
                    group=group,
                    partition_max_bytes=PARTITION_FETCH_BYTES,
                    session_timeout_ms=SESSION_TIMEOUT_MS,
                    max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
                ) as consumer,
                asyncio.TaskGroup() as tasks,
            ):
                for partition in await partitions_of(consumer, self._work.topics):
                    self._counts[partition.topic] = partition.partition + 1
                self._ids.update(await topic_ids(consumer, self._work.topics))
                letters = DeadLetters(producer, self._work)
                self._member = _Member(
                    self._work,
                    consumer,
                    letters,
                    tasks,
                    counts=self._counts,
                    committed=self._committed,
                )
                await self._take_part(self._member, tasks)
        finally:
            self._member = None
            self._stopped.set()

    async def _take_part(self, member: "_Member[E]", tasks: asyncio.TaskGroup) -> None:
        """Poll until told to stop, then finish the batches in hand."""
        group = self._work.group
        running = [
            tasks.create_task(member.poll(), name=f"{group} poll"),
            tasks.create_task(member.watch(), name=f"{group} watchdog"),
            tasks.create_task(self._monitor.run(), name=f"{group} lag"),
        ]
        await self._stopping.wait()
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        await member.leave()

    async def drain(self) -> None:
        """Finish the batches in hand, commit, leave the group; returns once that is done."""
        self._stopping.set()
        if self._is_running:
            await self._stopped.wait()

    @property
    def is_ready(self) -> bool:
        """Whether the group has given this process its partitions and their starts are known."""
        return self._member is not None and self._member.is_assigned

    def missing(self) -> str | None:
        """For `Lifecycle.ready_when`: what is missing, or None."""
        return None if self.is_ready else f"{self._work.group} has no partitions assigned"

    def through(self, topic: str, partition: int) -> float:
        """Log time (seconds, UTC) up to which everything is stored; 0 while it is not known.

        Never ahead of the truth as long as the clocks of broker and service agree. For a partition
        of another member it is as old as the last reading of the lag, which knows nothing of what
        that one replays.
        """
        where = TopicPartition(topic, partition)
        member = self._member
        lane = member.lanes.get(where) if member is not None else None
        seen = self._monitor.latest.get(where)
        if lane is None and member is not None and member.is_assigned:
            return seen.through_ms / 1000 if seen is not None else 0
        own = self._own_through_ms.get(where, 0)
        if lane is not None:
            own = self._own_through_ms[where] = max(own, _through_ms(lane, seen))
        return own / 1000

    def stored(self, topic: str, partition: int) -> Stored:
        """How far a partition is in the store, for queries to find.

        After an assignment it may stand before where it stood, and rises again while a rewind is
        replayed. For a partition of another member it is what that one has committed, as last read.

        Raises:
            UnavailableError: it is not known now, as between two assignments.
        """
        where = TopicPartition(topic, partition)
        found = Stored(0, 0)
        member = self._member
        if member is not None and member.is_assigned:
            lane = member.lanes.get(where)
            found = (
                Stored(lane.next_offset, _through_ms(lane, self._monitor.latest.get(where)))
                if lane is not None
                else self._monitor.stored(where)
            )
        if not found.through_ms:
            raise UnavailableError(f"{self._work.group} does not know yet how far {where} is")
        return found

    def lags(self) -> Mapping[TopicPartition, Lag]:
        """How far each partition is behind, whoever has it, as last read."""
        return self._monitor.latest

    def topic_id(self, topic: str) -> bytes:
        """The 16 bytes that name `topic` for as long as it exists; a recreated one has others.

        Raises:
            UnavailableError: the projection has not started yet.
        """
        found = self._ids.get(topic)
        if found is None:
            raise UnavailableError(f"{self._work.group} has not started yet")
        return found

    def through_all(self) -> float:
        """As `through`, of all partitions of all topics."""
        return min(
            (
                self.through(topic, partition)
                for topic, count in self._counts.items()
                for partition in range(count)
            ),
            default=0.0,
        )

    def partition_of(self, topic: str, key: str) -> int:
        """The partition of `topic` that holds the records of `key`.

        Raises:
            UnavailableError: the projection has not started yet.
        """
        count = self._counts.get(topic)
        if count is None:
            raise UnavailableError(f"{self._work.group} has not started yet")
        return partition_for(key.encode(), count)

    async def _positions(self) -> Mapping[TopicPartition, int]:
        stored = await self._work.sink.positions()
        if stored is not None:
            return stored
        committed = await self._committed()
        return {partition: entry.offset for partition, entry in committed.items()}

    async def _committed(self) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """What the group has committed, of all its partitions."""
        async with open_admin(self._bootstrap) as admin:
            with translated(f"reading the offsets of group {self._work.group}"):
                found = await admin.list_consumer_group_offsets(self._work.group)
        return {
            partition: entry
            for partition, entry in found.items()
            if entry.offset >= 0 and partition.topic in self._work.topics
        }


def _through_ms(lane: Lane[Any], seen: Lag | None) -> int:
    """Log time up to which a lane has stored everything.

    The last reading of the lag knows of offsets without a record, as transactions leave them. What
    it reckons as stored is what the group has committed, which a lane may have to replay first.
    """
    through_ms = lane.freshness.through_ms
    if seen is not None and lane.next_offset >= seen.stored:
        return max(through_ms, seen.through_ms)
    return through_ms


class _Member(ConsumerRebalanceListener, Generic[E]):
    """This process as a member of the group: polling, assignments, commits, the watchdog.

    The poll loop and the rebalance hooks run in different tasks. Both change `lanes` only between
    awaits; aiokafka lets no fetch through while the hooks run.
    """

    def __init__(
        self,
        work: Work[E],
        consumer: Consumer,
        letters: DeadLetters,
        tasks: asyncio.TaskGroup,
        *,
        counts: Mapping[str, int],
        committed: Callable[[], Awaitable[Mapping[TopicPartition, OffsetAndMetadata]]],
    ) -> None:
        self.lanes: dict[TopicPartition, Lane[E]] = {}
        self.is_assigned = False
        self._work = work
        self._consumer = consumer
        self._letters = letters
        self._tasks = tasks
        self._counts = counts
        self._read_committed = committed
        self._lane_tasks: dict[Lane[E], asyncio.Task[None]] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._commit_at = 0.0
        self._failure: Exception | None = None
        self._is_leaving = False
        self._turns = 0

    # --- polling ----------------------------------------------------------------------------------

    async def poll(self) -> None:
        """Feed the lanes until cancelled."""
        self._consumer.subscribe(list(self._work.topics), listener=self)
        while True:
            self._turns += 1
            with translated("fetching"):
                polled = await self._consumer.getmany(timeout_ms=self._poll_ms())
            if self._failure is not None:
                raise self._failure
            for partition, records in polled.items():
                if partition in self.lanes:  # else: fetched before its hook has sought
                    self.lanes[partition].offer(records)
            self._tend_lanes()
            if self._work.clock.monotonic() >= self._commit_at:
                await self._commit()

    def _poll_ms(self) -> int:
        """Until the next batch comes of age, at most a turn."""
        now = self._work.clock.monotonic()
        due = [
            lane.batcher.due_at
            for lane in self.lanes.values()
            if lane.batcher.due_at is not None and not lane.is_busy
        ]
        wait = min(due, default=now + POLL_SECONDS) - now
        return max(1, int(1000 * min(wait, POLL_SECONDS)))

    def _tend_lanes(self) -> None:
        """Start closed batches, pause the full, resume the drained, note how fresh each is."""
        now = self._work.clock.monotonic()
        for partition, lane in self.lanes.items():
            lane.wake_if_ready(now)
            if lane.batcher.is_full or lane.is_retrying:
                self._consumer.pause(partition)
            elif lane.batcher.is_low:
                self._consumer.resume(partition)
            lane.freshness.polled(
                self._consumer.last_poll_timestamp(partition),
                self._consumer.last_stable_offset(partition),
            )

    async def _commit(self) -> None:
        """Tell Kafka what is stored; offsets never move back, also while a rewind is replayed."""
        self._commit_at = self._work.clock.monotonic() + COMMIT_SECONDS
        moved = {
            partition: OffsetAndMetadata(lane.next_offset, str(lane.appended_ms))
            for partition, lane in self.lanes.items()
            if lane.next_offset > self._committed.get(partition, 0)
        }
        if not moved:
            return
        try:
            async with asyncio.timeout(COMMIT_SECONDS_MAX):
                with translated(f"committing offsets of group {self._work.group}"):
                    await self._consumer.commit(moved)
        except (LostOwnershipError, UnavailableError, TimeoutError) as error:
            log.warning("commit_failed", extra={"reason": str(error), "group": self._work.group})
            return
        self._committed |= {partition: entry.offset for partition, entry in moved.items()}

    # --- rebalances -------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Finish what is in hand and forget every lane: this protocol revokes all partitions."""
        self.is_assigned = False
        try:
            await self._close_lanes()
        except Exception as error:  # noqa: BLE001 - aiokafka would swallow it; the loop raises it
            self._failure = error

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Open a lane for each partition where its sink says."""
        try:
            await self._open_lanes(list(assigned))
        except Exception as error:  # noqa: BLE001 - aiokafka would swallow it; the loop raises it
            self._failure = error

    async def leave(self) -> None:
        """Finish what is in hand and open nothing any more."""
        self._is_leaving = True
        self.is_assigned = False
        await self._close_lanes()

    async def _close_lanes(self) -> None:
        """Let batches in hand finish within one deadline, drop the rest, commit what is whole."""
        point("projection.mid_rebalance")
        for lane in self.lanes.values():
            lane.close()
        try:
            async with asyncio.timeout(self._work.limits.revoke_seconds_max):
                for lane in self.lanes.values():
                    await lane.quiet()
        except TimeoutError:
            log.warning("batches_dropped", extra={"group": self._work.group})
        for task in self._lane_tasks.values():
            task.cancel()
        await self._commit()
        self.lanes.clear()
        self._lane_tasks.clear()

    async def _open_lanes(self, assigned: Sequence[TopicPartition]) -> None:
        self._committed.clear()
        starts = await self._starts(assigned)
        if self._is_leaving:
            return
        for partition, (start, offset) in starts.items():
            self._open_lane(partition, start, offset)
        self._work.metrics.rebalances.labels(self._work.group).inc()
        self.is_assigned = True

    def _open_lane(self, partition: TopicPartition, start: Start, offset: int) -> None:
        lane = Lane(
            self._work,
            partition,
            partition_count=self._counts[partition.topic],
            letters=self._letters,
            start=start,
            offset=offset,
            restart=self._restart,
        )
        self._consumer.seek(partition, offset)
        running = lane.run()
        try:
            task = self._tasks.create_task(running, name=f"{self._work.group} {partition}")
        except RuntimeError:  # the projection is ending, for a reason that its group tells
            running.close()
            return
        self.lanes[partition] = lane
        self._lane_tasks[lane] = task

    async def _restart(self, lane: Lane[E]) -> None:
        """Begin a lane again at the stored offset, which somebody else has moved."""
        start, offset = (await self._starts([lane.partition]))[lane.partition]
        if self.lanes.get(lane.partition) is lane and lane.is_open:
            self._consumer.seek(lane.partition, offset)
            lane.begin_at(start, offset)

    # --- where to begin ---------------------------------------------------------------------------

    async def _starts(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, tuple[Start, int]]:
        """What the sink says of each partition, and the offset that follows from it."""
        if not partitions:
            return {}
        starts = await retried(lambda: self._work.sink.starts(partitions), self._work)
        return await retried(lambda: self._resolved(starts), self._work)

    async def _resolved(
        self, starts: Mapping[TopicPartition, Start]
    ) -> dict[TopicPartition, tuple[Start, int]]:
        with translated("reading the bounds of topics"):
            begins = await self._consumer.beginning_offsets(list(starts))
            ends = await self._consumer.end_offsets(list(starts))
        rewound = await self._rewound(
            {partition: start for partition, start in starts.items() if start.offset is None}
        )
        found: dict[TopicPartition, tuple[Start, int]] = {}
        for partition, start in starts.items():
            offset = rewound.get(partition, 0) if start.offset is None else start.offset
            self._refuse_new_topic(partition, offset, ends[partition])
            if 0 < offset < begins[partition]:
                self._work.metrics.gaps.labels(self._work.group, partition.topic).inc()
                log.error(
                    "retention_gap",
                    extra={"partition": str(partition), "lost": begins[partition] - offset},
                )
            found[partition] = (start, max(offset, begins[partition]))
        return found

    async def _rewound(self, starts: Mapping[TopicPartition, Start]) -> dict[TopicPartition, int]:
        """The committed offset of each partition that has one, moved back by its rewind."""
        if not starts:
            return {}
        committed = await self._read_committed()
        known = {partition: committed[partition] for partition in starts if partition in committed}
        self._committed |= {partition: entry.offset for partition, entry in known.items()}
        since = {
            partition: max(0, int(entry.metadata) - int(1000 * starts[partition].rewind_seconds))
            for partition, entry in known.items()
            if entry.metadata.isdecimal() and int(entry.metadata)  # 0: not known
        }
        with translated("looking for offsets by time"):
            earlier = await self._consumer.offsets_for_times(since) if since else {}
        return {
            partition: min(entry.offset, earlier[partition].offset)
            if earlier.get(partition) is not None
            else entry.offset
            for partition, entry in known.items()
        }

    def _refuse_new_topic(self, partition: TopicPartition, offset: int, end: int) -> None:
        if offset > end:
            raise SetupError(
                f"{self._work.group} is stored up to offset {offset} of {partition.topic}, "
                f"partition {partition.partition}, which ends at {end}: the topic was created "
                "anew. Forget the projection's data and its stored offsets together."
            )

    # --- the watchdog -----------------------------------------------------------------------------

    async def watch(self) -> None:
        """End the process when a busy task stands still.

        Turns of this loop are counted, not time: a process that was stopped and continued has done
        nothing wrong.
        """
        patience = max(1, int(self._work.limits.stall_seconds_max / WATCH_SECONDS))
        seen: dict[str, int] = {}
        still: dict[str, int] = {}
        while True:
            await self._work.clock.sleep(WATCH_SECONDS)
            beats = {"poll": self._turns} | {
                str(partition): lane.beats for partition, lane in self.lanes.items() if lane.is_busy
            }
            still = {
                name: still.get(name, 0) + 1 if seen.get(name) == beat else 0
                for name, beat in beats.items()
            }
            seen = beats
            stalled = [name for name, turns in still.items() if turns >= patience]
            if stalled:
                log.critical("stalled", extra={"tasks": stalled, "stacks": _stacks()})
                raise StalledError(f"{self._work.group}: no progress in {', '.join(stalled)}")


def _stacks() -> str:
    """Where each task waits, from its outermost coroutine inwards."""
    return "\n".join(
        f"{task.get_name()}: {' > '.join(_places(task.get_coro()))}" for task in asyncio.all_tasks()
    )


def _places(awaited: Any) -> Iterator[str]:
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            code = frame.f_code
            yield f"{code.co_name} ({code.co_filename}:{frame.f_lineno})"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
