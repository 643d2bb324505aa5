"""Which database holds the facts that partners read: a rebuild makes the next generation.

A generation is a database of its own, with all tables and views. Which one is read is the last row
of one small table, so that a switch is one insert: before it the old generation is read, after it
the new one, whenever the process is killed. Generations that are not read are left over from a
rebuild that was killed, or from before a switch, and are dropped.
"""

import logging
import re
from typing import Final

from shared.clickhouse import ClickHouse
from shared.clock import Clock, SystemClock
from shared.errors import UnavailableError

log = logging.getLogger(__name__)

UNKNOWN_SECONDS: Final = 1.0
"""Pause between two looks whether a switch has taken effect."""

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS {meta}.switches (number UInt64, database String, at DateTime('UTC'))
ENGINE = MergeTree ORDER BY number SETTINGS fsync_after_insert = 1
"""
_LAST: Final = "SELECT number, database FROM {meta}.switches ORDER BY number DESC LIMIT 1"
_SWITCH: Final = "INSERT INTO {meta}.switches VALUES ({number}, '{database}', now())"
_OURS: Final = "SELECT name FROM system.databases WHERE match(name, {pattern:String})"


class Generations:
    """The generations of one set of facts.

    Args:
        clickhouse: opened on the first generation, whose name the others begin with.
        clock: the time.
    """

    def __init__(self, clickhouse: ClickHouse, clock: Clock | None = None) -> None:
        self._clickhouse = clickhouse
        self._clock = clock or SystemClock()
        self._first = clickhouse.database
        self._meta = f"{clickhouse.database}_generations"
        self._number = 1
        self.current = clickhouse.database

    async def resume(self) -> None:
        """Use the generation that was switched to last, and drop all others.

        Raises:
            UnavailableError: ClickHouse does not answer.
        """
        await self._clickhouse.command(f"CREATE DATABASE IF NOT EXISTS {self._meta}")
        await self._clickhouse.command(_TABLE.format(meta=self._meta))
        found = await self._clickhouse.query(_LAST.format(meta=self._meta))
        if found:
            self._number, self.current = found[0]
        self._clickhouse.use(self.current)
        await self.drop_others()

    def following(self) -> str:
        """The name of the next generation."""
        return f"{self._first}_g{self._number + 1}"

    async def switch(self, beside: ClickHouse) -> None:
        """Read and write the next generation from now on; the caller holds the writes.

        An insert that was not confirmed may have taken effect, and what is written meanwhile to the
        generation that is not read at the next start would be lost. So this does not return before
        it is known: writes that wait for too long end the process, and the next start reads it.

        Args:
            beside: the next generation, whose connections are not held.

        Raises:
            UnavailableError: ClickHouse has not taken the switch.
        """
        following = self.following()
        values = {"meta": self._meta, "number": self._number + 1, "database": following}
        try:
            await beside.command(_SWITCH.format(**values))
        except UnavailableError:
            if not await self._is_last(beside, following):
                raise
        self._clickhouse.use(following)
        self._number += 1
        self.current = following

    async def _is_last(self, beside: ClickHouse, database: str) -> bool:
        """Whether a generation is the one that was switched to last; waits until that is known."""
        while True:
            try:
                found = await beside.query(_LAST.format(meta=self._meta))
            except UnavailableError as error:
                log.warning("switch_unknown", extra={"reason": error.message})
                await self._clock.sleep(UNKNOWN_SECONDS)
            else:
                return bool(found) and found[0][1] == database

    async def drop_others(self) -> None:
        """Drop every generation but the one that is read."""
        pattern = f"^{re.escape(self._first)}(_g[0-9]+)?$"
        for (name,) in await self._clickhouse.query(_OURS, {"pattern": pattern}):
            if name != self.current:
                await self._clickhouse.command(f"DROP DATABASE IF EXISTS {name}")
