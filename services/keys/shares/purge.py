"""Forgets links that are as old as the events that tell of them."""

import logging
from typing import Final

from services.keys.shares.domain import KEEP_SECONDS
from services.keys.shares.store import ShareStore
from shared.clock import Clock
from shared.errors import UnavailableError

log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 3_600.0
PAGE_ROWS: Final = 1_000


class Purge:
    """One turn at the start, then one an hour. Several processes may do it at once.

    Args:
        store: the links.
        clock: the time.
    """

    def __init__(self, store: ShareStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Take turns for ever; what is away is waited for until the next turn."""
        while True:
            try:
                await self.turn()
            except UnavailableError as error:
                log.warning("purge of links waits", extra={"reason": error.message})
            await self._clock.sleep(PAUSE_SECONDS)

    async def turn(self) -> None:
        """Forget every link that is old enough.

        Raises:
            UnavailableError: Postgres does not answer; the next turn goes on.
        """
        count = PAGE_ROWS
        while count == PAGE_ROWS:
            count = await self._store.purge(self._clock.time() - KEEP_SECONDS, PAGE_ROWS)
