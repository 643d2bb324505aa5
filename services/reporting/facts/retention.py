"""How long facts are kept: settings, applied to the tables at every start.

Parts are dropped whole, once their youngest row is past its time, so a fact may stay for up to a
month longer than its days.
"""

import re
from dataclasses import dataclass
from typing import Final

from services.reporting.facts import tables
from shared.clickhouse import ClickHouse
from shared.errors import SetupError

CHANGES_MARGIN_DAYS: Final = 2
"""Changes stay a little longer than they are told to beginners: those may go on meanwhile."""

_TTL: Final = re.compile(r" TTL (?P<stamp>.+?) \+ toIntervalDay\((?P<days>\d+)\)")
_ENGINES: Final = "SELECT name, engine_full FROM system.tables WHERE database = {database:String}"


@dataclass(frozen=True, slots=True)
class Retention:
    """Days that facts are kept, by the day they happened."""

    clicks_days: int = tables.RETENTION_DAYS
    impressions_days: int = tables.RETENTION_DAYS
    conversions_days: int = tables.RETENTION_DAYS

    def by_table(self) -> dict[str, int]:
        """The days of each table."""
        return {
            tables.CLICKS: self.clicks_days,
            tables.IMPRESSIONS: self.impressions_days,
            tables.CONVERSIONS: self.conversions_days,
            tables.CHANGES: self.conversions_days + CHANGES_MARGIN_DAYS,
        }


async def keep(clickhouse: ClickHouse, retention: Retention) -> list[str]:
    """Make the tables forget what is older; returns the tables that had another setting.

    Parts that are past their new time go in the background.

    Raises:
        SetupError: a table is not one of ours.
        UnavailableError: ClickHouse does not answer.
    """
    found = dict(await clickhouse.query(_ENGINES, {"database": clickhouse.database}))
    changed = []
    for table, days in retention.by_table().items():
        ttl = _TTL.search(found.get(table, ""))
        if ttl is None:
            raise SetupError(f"Table {clickhouse.database}.{table} has no TTL: is it ours?")
        if int(ttl["days"]) != days:
            await clickhouse.command(
                f"ALTER TABLE {table} MODIFY TTL {ttl['stamp']} + toIntervalDay({days})"
            )
            changed.append(table)
    return changed
