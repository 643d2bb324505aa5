"""What the areas without facts ask of the facts: today's metrics, and which names occur.

Both are reports like any other, through the one store of facts and its scoped views.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from services.reporting.asking import calendar
from services.reporting.asking.answers import Answer
from services.reporting.asking.interval import DAY, Interval
from services.reporting.asking.query import Query
from services.reporting.facts.columns import COLUMNS
from services.reporting.reports import measures
from services.reporting.reports.domain import Report, read_totals
from services.reporting.reports.handlers import TABLES, Reports
from services.reporting.scope import Scope
from services.reporting.timezones import TIMEZONES, timezone_of
from shared.clock import Clock

NAMES_DAYS: Final = 92
"""How far back names are looked for: as far as raw clicks are shown."""
_UTC: Final = TIMEZONES[67]


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
        until = int(self.clock.time()) + DAY
        interval = Interval(until - NAMES_DAYS * DAY, until, _UTC)
        asked = tuple(COLUMNS[name] for name in columns)
        report = Report(interval, "", tuple(columns), asked, Query(), ())
        through = self.reports.through(scope, TABLES)
        return Names(await self.reports.store.names(scope, report), through)

    async def today(self, scope: Scope, timezone_id: int, currency_id: str) -> Answer:
        """The metrics of today so far, as days begin in a time zone, amounts in a currency.

        Raises:
            InvalidError: no such time zone, or an amount has no rate to the currency.
        """
        zone = timezone_of(timezone_id)
        day = zone.date(self.clock.time())
        begin, end = (calendar.start_of(each, zone) for each in (day, day + timedelta(days=1)))
        report = read_totals({}, Interval(begin, end - 1, zone), currency_id)
        through = self.reports.through(scope, TABLES)
        found = await self.reports.store.sums(scope, report, [begin])
        return Answer(measures.reporting(found.get(begin, measures.NOTHING)), through)
