"""What the areas without facts ask of the facts: today's metrics, and which names occur.

Both are reports like any other, through the one store of facts and its scoped views.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.reporting.asking.answers import Answer
from services.reporting.asking.interval import Interval
from services.reporting.asking.query import Query
from services.reporting.facts import tables
from services.reporting.facts.columns import COLUMNS, shown
from services.reporting.reports import measures
from services.reporting.reports.domain import Report
from services.reporting.reports.handlers import Reports
from services.reporting.scope import Scope
from services.reporting.timezones import TIMEZONES, timezone_of
from shared.clock import Clock
from shared.http import json_bytes

NAMES_DAYS: Final = 92
"""How far back names are looked for: as far as raw clicks are shown."""
_DAY_SECONDS: Final = 86_400
_UTC: Final = TIMEZONES[67]
_TABLES: Final = (tables.CLICKS, tables.IMPRESSIONS, tables.CONVERSIONS)


@dataclass(frozen=True, slots=True)
class Names:
    """Which values occur together in a partner's facts.

    Attributes:
        rows: id and label for each column asked for, most traffic first; `N/A` for none.
        through: log time (seconds, UTC) up to which it is complete.
    """

    rows: Sequence[tuple[tuple[str, str], ...]]
    through: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """Asks `reports` for what it needs.

    Attributes:
        reports: the reports.
        clock: the time.
    """

    reports: Reports
    clock: Clock

    async def names(self, scope: Scope, columns: Sequence[str]) -> Names:
        """The values of `columns` that occur in the last three months, at most 10,000 rows."""
        until = int(self.clock.time()) + _DAY_SECONDS
        interval = Interval(until - NAMES_DAYS * _DAY_SECONDS, until, _UTC)
        asked = tuple(COLUMNS[name] for name in columns)
        report = Report(interval, "", tuple(columns), asked, Query(), ())
        through = self.reports.through(scope, _TABLES)
        found = await self.reports.store.report(scope, report)
        rows = [
            tuple(
                shown(column, *bucket, _UTC.info)
                for column, bucket in zip(asked, row.buckets, strict=True)
            )
            for row in found
        ]
        return Names(rows, through)

    async def today(self, scope: Scope, timezone_id: int, currency_id: str) -> Answer:
        """The metrics of today so far, as days begin in a time zone, amounts in a currency.

        Raises:
            InvalidError: no such time zone, or an amount has no rate to the currency.
        """
        day = self.clock.time()
        date = timezone_of(timezone_id).date(day).isoformat()
        body = {
            "from": date,
            "to": date,
            "timezone_id": timezone_id,
            "currency_id": currency_id,
            "columns": [{"column": "date"}],
        }
        answer = await self.reports.table(scope, json_bytes(body))
        rows = answer.body["table"]
        none = measures.reporting(dict.fromkeys(measures.SUMS, 0))
        return Answer(rows[0]["reporting"] if rows else none, answer.through)
