"""What operators see of the fact tables: parts, merges, sizes, freshness, read again and again."""

import logging
from collections.abc import Callable
from typing import Final

from services.reporting.metrics import ReportingMetrics
from shared.clickhouse import ClickHouse
from shared.clock import Clock
from shared.errors import UnavailableError

log = logging.getLogger(__name__)

SECONDS: Final = 10.0
"""Pause between two readings."""

_TABLES: Final = """
SELECT name, active_parts, total_rows, total_bytes
FROM system.tables WHERE database = {database:String} AND engine LIKE '%MergeTree'
"""
_MERGES: Final = """
SELECT table, count() FROM system.merges WHERE database = {database:String} GROUP BY table
"""


class Upkeep:
    """Reads the state of the tables into the metrics, and keeps the last reading by table.

    Args:
        clickhouse: the facts.
        metrics: where the readings go.
        through: the log time up to which all facts are stored.
        clock: the time.
    """

    def __init__(
        self,
        clickhouse: ClickHouse,
        metrics: ReportingMetrics,
        through: Callable[[], float],
        clock: Clock,
    ) -> None:
        self._clickhouse = clickhouse
        self._metrics = metrics
        self._through = through
        self._clock = clock
        self.latest: dict[str, dict[str, int]] = {}
        metrics.queries_waiting.set_function(lambda: clickhouse.queries_waiting)

    @property
    def database(self) -> str:
        """The generation that is read."""
        return self._clickhouse.database

    async def run(self) -> None:
        """Read until cancelled; a ClickHouse that is away costs readings, not the process."""
        while True:
            self._metrics.through.set(self._through())
            try:
                await self.read()
            except UnavailableError as error:
                log.warning("facts_state_unknown", extra={"reason": error.message})
            await self._clock.sleep(SECONDS)

    async def read(self) -> None:
        """One reading."""
        values = {"database": self.database}
        merging = dict(await self._clickhouse.query(_MERGES, values))
        found = await self._clickhouse.query(_TABLES, values)
        self.latest = {
            table: {
                "parts": parts or 0,
                "rows": rows or 0,
                "disk_bytes": size or 0,
                "merges": merging.get(table, 0),
            }
            for table, parts, rows, size in found
        }
        for table, state in self.latest.items():
            self._metrics.parts.labels(table).set(state["parts"])
            self._metrics.rows.labels(table).set(state["rows"])
            self._metrics.disk_bytes.labels(table).set(state["disk_bytes"])
            self._metrics.merges.labels(table).set(state["merges"])
