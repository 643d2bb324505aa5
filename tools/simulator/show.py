"""The course of the simulation: master data, history once, then live traffic until stopped.

What is decided is in `traffic`; what was decided is in the ledger; this turns the clock into calls
of the two and of the sender. A pause stops new visits and the records that are planned; it returns
once the broker has everything, so that totals stand still.
"""

import asyncio
import logging
from typing import Final

from shared.clock import Clock, utc
from shared.errors import NotFoundError
from tools.simulator.cast import DAY, Cast
from tools.simulator.config import SimulatorSettings
from tools.simulator.ledger import Ledger
from tools.simulator.metrics import SimulatorMetrics
from tools.simulator.sender import BATCH_RECORDS_MAX, Sender
from tools.simulator.traffic import Item, Traffic, history, history_stories, intensity

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.2
CATCH_UP_SECONDS_MAX: Final = 5.0
"""Longer gaps (a stopped machine, a pause) are not filled with visits afterwards."""


class Show:
    """The running simulation; `run` is its only task, the rest is called by the API."""

    def __init__(
        self,
        *,
        settings: SimulatorSettings,
        cast: Cast,
        traffic: Traffic,
        ledger: Ledger,
        sender: Sender,
        clock: Clock,
        metrics: SimulatorMetrics,
    ) -> None:
        self._settings = settings
        self._cast = cast
        self._traffic = traffic
        self._ledger = ledger
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._owed = 0.0
        self._seen_at = clock.time()
        self.is_paused = False
        self.missing: str | None = "master data and history are not on the log yet"

    async def run(self) -> None:
        """Play until cancelled."""
        await self._sender.announce(self._cast)
        if self._ledger.stories == 0:
            await asyncio.to_thread(self._write_history)
        await self._flush()
        self.missing = None
        log.info("history is on the log", extra={"records": self._ledger.sent()})
        self._seen_at = self._clock.time()
        told = utc(self._seen_at).date()
        while True:
            await self._clock.sleep(TICK_SECONDS)
            if (today := utc(self._clock.time()).date()) != told:
                await self._sender.announce(self._cast)  # with rates of the days to come
                told = today
            if not self.is_paused:
                async with self._turn:
                    await self._play()

    async def pause(self) -> None:
        """Stop traffic; returns once the broker has every record of the ledger."""
        self.is_paused = True
        async with self._turn:
            await self._flush()

    async def resume(self) -> None:
        """Go on with traffic from this moment."""
        async with self._turn:
            self._seen_at = self._clock.time()
            self.is_paused = False

    async def burst(self, partner: int, visits: int) -> None:
        """Let `visits` visitors of one partner come at this moment, paused or not.

        Raises:
            NotFoundError: the partner has no traffic.
        """
        if partner not in self._traffic.partners:
            raise NotFoundError(f"Partner {partner} runs no offer that is active.")
        async with self._turn:
            now = self._clock.time()
            self._visit([now] * visits, now, partner)
            await self._flush()

    def _write_history(self) -> None:
        end = self._ledger.born(self._settings.seed, self._clock.time())
        start = end - self._settings.history_days * DAY
        clicks = self._settings.history_clicks
        told = history(self._traffic, start, end, clicks)
        self._ledger.enter(told, end, stories=max(1, history_stories(clicks)))

    async def _play(self) -> None:
        """One tick: who came since the last one, and what is due by now."""
        now = self._clock.time()
        elapsed = min(max(0.0, now - self._seen_at), CATCH_UP_SECONDS_MAX)
        self._seen_at = now
        self._owed += elapsed * self._settings.rate * intensity(now)
        visits = int(self._owed)
        self._owed -= visits
        if visits:
            self._visit([now - elapsed * index / visits for index in range(visits)][::-1], now)
        while self._ledger.release(now, BATCH_RECORDS_MAX) == BATCH_RECORDS_MAX:
            await self._flush()
        await self._flush()

    def _visit(self, times: list[float], now: float, partner: int | None = None) -> None:
        number = self._ledger.stories
        items: list[Item] = []
        for index, at in enumerate(times):
            items += self._traffic.story(
                number + index, at, compression=self._settings.compression, partner=partner
            )
        items.sort(key=lambda item: item.due_at)
        self._ledger.enter(items, now, stories=number + len(times))

    async def _flush(self) -> None:
        self._metrics.records.inc(await self._sender.flush())
        self._metrics.planned.set(self._ledger.planned())
