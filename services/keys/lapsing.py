"""What the service does as time passes: note keys that have lapsed, forget answers kept for a day.

Doors judge a key by its times themselves, also while this service is away. Noting its end makes it
an event and a state: within about `LOOK_SECONDS` of its time, in the process that publishes.
"""

import logging
from collections.abc import Callable
from typing import Final

from services.keys import domain
from services.keys.domain import Cause
from services.keys.idempotency import KEEP_SECONDS
from services.keys.store import Store
from shared.clock import Clock
from shared.errors import UnavailableError

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
"""How often it is looked for keys that have lapsed: one reading of an index."""
AWAY_SECONDS: Final = 5.0
"""Pause while the database is away."""
FORGET_SECONDS: Final = 60.0
"""How often it is looked for answers that were kept long enough."""
ROWS_MAX: Final = 500
"""Keys noted, or answers forgotten, in one transaction."""


class Lapsing:
    """Notes ends and forgets answers for ever, in the process that publishes.

    Args:
        store: the tables.
        is_publisher: whether this process holds the outbox's lease: one process is enough.
        clock: the time.
    """

    def __init__(self, store: Store, is_publisher: Callable[[], bool], clock: Clock) -> None:
        self._store = store
        self._is_publisher = is_publisher
        self._clock = clock
        self._forget_at = clock.monotonic()

    async def run(self) -> None:
        """Look for ever; a database that is away is waited for."""
        while True:
            pause = LOOK_SECONDS
            if self._is_publisher():
                try:
                    await self._look()
                except UnavailableError as error:
                    log.warning("noting lapsed keys waits", extra={"reason": error.message})
                    pause = AWAY_SECONDS
            await self._clock.sleep(pause)

    async def _look(self) -> None:
        await self.note_lapsed()
        if self._clock.monotonic() >= self._forget_at:
            await self.forget_answers()
            self._forget_at = self._clock.monotonic() + FORGET_SECONDS

    async def note_lapsed(self) -> None:
        """Note every key whose time has ended.

        Raises:
            UnavailableError: Postgres does not answer; the rest is noted the next time.
        """
        count = ROWS_MAX
        while count == ROWS_MAX:
            now = self._clock.time()
            cause = Cause(domain.SYSTEM, now, reason="its time has ended")
            async with self._store.transaction("noting lapsed keys") as unit:
                changes = [domain.expired(key, cause) for key in await unit.lapsed(now, ROWS_MAX)]
                for change in changes:
                    await unit.save(change.now)
                if changes:
                    await unit.append([event for one in changes for event in one.events], now)
            count = len(changes)

    async def forget_answers(self) -> None:
        """Forget what was answered under an Idempotency-Key longer ago than is promised.

        Raises:
            UnavailableError: Postgres does not answer; the rest is forgotten the next time.
        """
        count = ROWS_MAX
        while count == ROWS_MAX:
            before = self._clock.time() - KEEP_SECONDS
            count = await self._store.forget_answers(before, ROWS_MAX)
