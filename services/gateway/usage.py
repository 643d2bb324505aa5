"""Running totals between gateways, by `gateway.usage.v1`: never on a request's way.

What it promises:

* **Told soon.** What is due (`ledger.py`) is handed to Kafka within a tick; all that is waiting
  goes at once, in order, each record with the moment at which it was true. While Kafka is away at
  most `WAITING_MAX` records wait: they are run together, since later totals contain earlier ones.
* **Whole before ready.** A gateway that starts says hello, and is ready once it has heard all up to
  that, from 61 minutes before: what the hourly counts need.
* **Nothing is heard twice.** After an interruption it reads on where it stood, or again from 61
  minutes before if that place is gone: totals heard again change nothing.

Where it ends: without Kafka it can neither tell nor hear, and each gateway keeps to its share.
"""

import asyncio
import contextlib
import logging
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from services.gateway.log_clock import LogClock
from services.gateway.sharing import SharedBudgets
from shared.clock import Clock
from shared.errors import InvalidError, LostOwnershipError, SetupError, UnavailableError
from shared.events import Usage, decode, encode, headers
from shared.kafka import (
    Consumer,
    Producer,
    Record,
    TopicPartition,
    droppable,
    open_consumer,
    open_producer,
    partitions_of,
    translated,
)
from shared.runtime import Lifecycle
from shared.topics import Topic

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.01
"""How often it is asked what is due, which also bounds how late the urgent is told."""
HISTORY_SECONDS: Final = 61 * 60
WAITING_MAX: Final = 128
TURN_MS: Final = 50
TURN_RECORDS_MAX: Final = 500
"""Records heard before other tasks of the process run again (some 10 ms)."""
QUIET_SECONDS_MAX: Final = 15.0
"""Nothing heard for so long, not even from ourselves, is reason enough to connect anew."""
RETRY_SECONDS: Final = 0.5
FLUSH_SECONDS: Final = 1.0
SOURCE: Final = "portico/gateway"


@dataclass(slots=True)
class Counts:
    """What became of records since the process began."""

    told: int = 0
    heard: int = 0
    unreadable: int = 0


class UsageExchange:
    """The budgets of networks, with what the other gateways admit.

    Args:
        bootstrap: Kafka's `host:port`.
        topic: where the totals stand.
        clock: the time.
        replica: this gateway's name, also as Kafka logs it.
    """

    def __init__(self, bootstrap: str, topic: Topic, *, clock: Clock, replica: str) -> None:
        self.counts = Counts()
        self.budgets = SharedBudgets(clock, replica, uuid.uuid4().hex)
        self._bootstrap = bootstrap
        self._topic = topic
        self._clock = clock
        self._replica = replica
        self._log_clock = LogClock()
        self._waiting: deque[Usage] = deque()
        self._filled = asyncio.Event()
        self._positions: dict[TopicPartition, int] = {}
        self._heard_at = 0.0
        self._is_ready = False
        self._collect()

    @property
    def is_ready(self) -> bool:
        """Whether everything has been heard that was there at the start."""
        return self._is_ready

    def missing(self) -> str | None:
        """What keeps it from being ready, for `Lifecycle.ready_when`."""
        return None if self._is_ready else f"{self._topic.name} is still being read"

    def register(self, lifecycle: Lifecycle) -> None:
        """Let it run as long as the process, which is not ready before it is."""
        lifecycle.ready_when("usage", self.missing)
        lifecycle.run_task("usage due", self.collect)
        lifecycle.run_task("usage told", self.publish)
        lifecycle.run_task("usage heard", self.follow)

    def gauges(self) -> dict[str, Callable[[], float]]:
        """What operators watch, for `GatewayMetrics.observe_usage`."""
        ledger = self.budgets.ledger
        return {
            "told": lambda: self.counts.told,
            "heard": lambda: self.counts.heard,
            "unreadable": lambda: self.counts.unreadable,
            "others": ledger.others_present,
            "silence_seconds": lambda: self._clock.monotonic() - ledger.heard_at,
        }

    # --- telling ----------------------------------------------------------------------------------

    async def collect(self) -> None:
        """Ask for ever what is due; only once the log's clock is known, after the hello."""
        while True:
            if self._log_clock.offset is not None:
                self._collect()
            await self._clock.sleep(TICK_SECONDS)

    def _collect(self) -> None:
        usage = self.budgets.to_tell(self._log_clock.of_log(self._clock.monotonic()))
        if usage is None:
            return
        self._waiting.append(usage)
        if len(self._waiting) > WAITING_MAX:
            self._waiting = deque(run_together(self._waiting))
        self._filled.set()

    async def publish(self) -> None:
        """Hand over for ever what is due; at the end what is left."""
        while True:
            try:
                async with open_producer(
                    self._bootstrap, client_id=f"gateway-usage-{self._replica}"
                ) as producer:
                    await self._publish(producer)
            except UnavailableError as error:
                log.warning("usage waits for Kafka", extra={"reason": error.message})
            await self._clock.sleep(RETRY_SECONDS)

    async def _publish(self, producer: Producer) -> None:
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                await self._send(producer)
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError, UnavailableError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    self.budgets.hurry()
                    self._collect()
                    await self._send(producer)
            raise

    async def _send(self, producer: Producer) -> None:
        """All that waits, at once; then wait for all confirmations."""
        sent_at = self._clock.monotonic()
        sent = []
        with translated("publishing usage"):
            while self._waiting:
                usage = self._waiting.popleft()
                sent.append((usage, await self._hand_over(producer, usage)))
            for usage, confirmation in sent:
                stamped = (await confirmation).timestamp / 1_000
                self._log_clock.sample(sent_at, stamped, self._clock.monotonic())
                self.budgets.ledger.confirm(usage)
                self.counts.told += 1

    async def _hand_over(self, producer: Producer, usage: Usage) -> "asyncio.Future[Any]":
        confirmation = await producer.send(
            self._topic.name,
            encode(usage),
            key=self._replica.encode(),
            headers=headers(usage, source=SOURCE, occurred_at=max(usage.at, 0.0)),
        )
        return droppable(confirmation)

    # --- hearing ----------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Hear for ever what the gateways tell; Kafka's absence is waited out.

        Raises:
            SetupError: the topic does not exist when it is first read.
        """
        while True:
            try:
                await self._until_time_is_known()
                async with open_consumer(
                    self._bootstrap,
                    client_id=f"gateway-usage-{self._replica}",
                    offset_reset="none",
                ) as consumer:
                    await self._follow(consumer)
            except (UnavailableError, LostOwnershipError) as error:
                log.warning("usage of other gateways interrupted", extra={"reason": str(error)})
            except SetupError as error:
                if not self._is_ready:
                    raise
                log.warning("usage of other gateways interrupted", extra={"reason": str(error)})
            await self._clock.sleep(RETRY_SECONDS)

    async def _until_time_is_known(self) -> None:
        """Wait until our hello is in the log: what was there before, we are going to read."""
        while self._log_clock.offset is None:
            await self._clock.sleep(TICK_SECONDS)

    async def _follow(self, consumer: Consumer) -> None:
        partitions = await partitions_of(consumer, [self._topic.name])
        ends = await self._begin(consumer, partitions)
        while not self._is_ready:
            await self._turn(consumer)
            if all([await consumer.position(item) >= end for item, end in ends.items()]):
                self._settle()
        while True:
            await self._turn(consumer)

    async def _begin(
        self, consumer: Consumer, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Go to where it stood, or to 61 minutes ago; the ends as of now."""
        consumer.assign(list(partitions))
        since = self._log_clock.of_log(self._clock.monotonic()) - HISTORY_SECONDS
        with translated(f"reading the offsets of {self._topic.name}"):
            ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
            starts = await consumer.beginning_offsets(partitions)
            found = await consumer.offsets_for_times(
                dict.fromkeys(partitions, max(round(since * 1_000), 0))
            )
        for item in partitions:
            earlier = ends[item] if found[item] is None else found[item].offset
            stood = self._positions.get(item, -1)
            is_there = self._is_ready and starts[item] <= stood <= ends[item]
            consumer.seek(item, stood if is_there else earlier)
        self._heard_at = self._clock.monotonic()
        return ends

    async def _turn(self, consumer: Consumer) -> None:
        with translated(f"reading {self._topic.name}"):
            batches = await consumer.getmany(timeout_ms=TURN_MS, max_records=TURN_RECORDS_MAX)
        now = self._clock.monotonic()
        for item, records in batches.items():
            self._heard_at = now
            for record in records:
                self._hear(record)
            self._positions[item] = records[-1].offset + 1
        if now - self._heard_at > QUIET_SECONDS_MAX:
            raise UnavailableError(f"nothing was heard for {QUIET_SECONDS_MAX:.0f} s")
        await self._clock.sleep(0)

    def _hear(self, record: Record[bytes, bytes]) -> None:
        try:
            usage = decode(Usage, record.value)
        except InvalidError as error:
            self.counts.unreadable += 1
            if self.counts.unreadable == 1:
                fields = {"partition": record.partition, "offset": record.offset}
                log.warning("unreadable usage", extra=fields | {"reason": error.message})
            return
        self.counts.heard += 1
        self.budgets.hear(usage, self._log_clock.of_ours(usage.at))

    def _settle(self) -> None:
        self._is_ready = True
        self.budgets.catch_up()
        log.info("usage heard", extra={"records": self.counts.heard})


def run_together(waiting: Iterable[Usage]) -> list[Usage]:
    """Half as many records, in order: of each pair the later, with what only the earlier told."""
    found: list[Usage] = []
    for index, usage in enumerate(waiting):
        if index % 2:
            totals = {(told.network_id, told.realm): told for told in found[-1].totals}
            totals |= {(told.network_id, told.realm): told for told in usage.totals}
            found[-1] = msgspec.structs.replace(usage, totals=tuple(totals.values()))
        else:
            found.append(usage)
    return found
