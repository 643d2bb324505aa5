"""What the service does by itself: keep the doors' topics true.

The owner of a table compares it with the topic that tells it, and publishes again what differs: a
record may have been lost with a disk, changed by hand, or be ahead of a database that was restored.
A state is judged only if nothing of it waited in the outbox when its row was read, and against the
topic as it was after that moment; so a difference is none of our own delay. (Kafka may show a
confirmed record a moment late; then a state is published once more, which changes nothing.)

States that no table knows are counted and left alone: what put them there has to be found first.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from services.keys import domain, mending
from services.keys.domain import Cause, Key
from services.keys.mending import Owned, State
from services.keys.metrics import KeysMetrics
from services.keys.store import PAGE_ROWS, Expected, Store, Unit
from shared.clock import Clock
from shared.errors import UnavailableError
from shared.replica import Replica

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 0.5
"""How often it is looked whether a turn is due, and whether the topic has been read far enough."""
FRESH_SECONDS_MAX: Final = 30.0
"""How long the topic may take to be read far enough before the turn is given up."""

R = TypeVar("R", bound=State)


class Upkeep:
    """One turn at the start, then one every `pause_seconds`, in the process that publishes.

    Args:
        store: the tables.
        replicas: the topics that this service owns and the doors read.
        is_publisher: whether this process holds the outbox's lease: one process is enough.
        clock: the time.
        metrics: of the service.
        pause_seconds: between two turns.
        keep_seconds: how long the doors remember an ended key.
    """

    def __init__(
        self,
        store: Store,
        replicas: Sequence[Replica[Any]],
        is_publisher: Callable[[], bool],
        *,
        clock: Clock,
        metrics: KeysMetrics,
        pause_seconds: float,
        keep_seconds: float,
    ) -> None:
        self._store = store
        self._replicas = replicas
        self._is_publisher = is_publisher
        self._clock = clock
        self._metrics = metrics
        self._pause_seconds = pause_seconds
        self._keep_seconds = keep_seconds

    async def run(self) -> None:
        """Take turns for ever; what is away is waited for until the next turn."""
        while True:
            if self._is_publisher() and all(replica.is_ready for replica in self._replicas):
                try:
                    await self.turn()
                except UnavailableError as error:
                    log.warning("upkeep waits", extra={"reason": error.message})
                await self._clock.sleep(self._pause_seconds)
            else:
                await self._clock.sleep(CHECK_SECONDS)

    async def turn(self) -> None:
        """Compare every topic once.

        Raises:
            UnavailableError: Postgres or Kafka does not answer; the next turn goes on.
        """
        for replica in self._replicas:
            await self._compare(replica)
        self._metrics.reconciled_at.set(self._clock.time())

    async def _compare(self, replica: Replica[Any]) -> None:
        unknown = {name for name, _ in replica.items()}
        behind = ""
        while True:
            asked_at = self._clock.monotonic()
            page = await self._store.expected(replica.topic, behind)
            await self._until_read(replica, asked_at)
            for expected in page:
                unknown.discard(expected.name)
                await self._mend_if_needed(replica, expected)
            if len(page) < PAGE_ROWS:
                break
            behind = page[-1].name
        self._metrics.unknown.labels(replica.topic.name).set(len(unknown))

    async def _until_read(self, replica: Replica[Any], moment: float) -> None:
        """Wait until the replica shows the topic as it was at `moment` (monotonic) or later."""
        while self._clock.monotonic() - replica.freshness_seconds() < moment:
            if self._clock.monotonic() - moment > FRESH_SECONDS_MAX:
                raise UnavailableError(f"{replica.topic.name} is not read up to its end")
            await self._clock.sleep(CHECK_SECONDS / 10)

    async def _mend_if_needed(self, replica: Replica[Any], expected: Expected) -> None:
        seen: State | None = replica.get(expected.name)
        is_over = mending.is_over(expected.owned, self._clock.time() - self._keep_seconds)
        wanted = None if is_over else mending.state_of(expected.owned)
        if not expected.is_settled or (seen == wanted and not replica.is_withheld(expected.name)):
            return
        async with self._store.transaction("mending a state") as unit:
            owned = await unit.again(expected.owned)
            if owned != expected.owned or await unit.pending(owned):
                return  # changed meanwhile: that change is being told
            await self._mend(unit, owned, seen, is_over=is_over)
        self._metrics.repaired.labels(replica.topic.name).inc()
        fields = {"topic": replica.topic.name, "key": expected.name, "is_over": is_over}
        log.warning("state published again", extra=fields)

    async def _mend(self, unit: Unit, owned: Owned, seen: State | None, *, is_over: bool) -> None:
        now = self._clock.time()
        if is_over and isinstance(owned, Key):
            await unit.append_tombstone(owned, now)
            return
        change = mending.mended(owned, seen, Cause(domain.SYSTEM, now))
        await unit.save(change.now)
        await unit.append(change.events, now)
