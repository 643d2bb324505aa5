"""The parameters of a query over facts, beginning with its scope: no query exists without one.

Values reach ClickHouse as bound parameters only; the text of a query is made of our own words.
"""

from typing import Any

from services.reporting.asking.interval import DAY, Interval
from services.reporting.facts import views
from services.reporting.scope import Scope
from shared.clock import utc


class Bound:
    """The parameters of one query, beginning with its scope and interval (None for all time).

    Attributes:
        values: by name, as the driver takes them.
    """

    def __init__(self, scope: Scope, interval: Interval | None) -> None:
        self.values: dict[str, Any] = {
            "network": scope.network_id,
            "partner": scope.network_affiliate_id,
        }
        self._interval = interval
        if interval is not None:
            self.values |= {
                "since": interval.since,
                "until": interval.until,
                "first_day": utc(interval.since).date(),
                "last_day": utc(interval.until).date(),
            }

    def view(self, table: str, *reading: str) -> views.View:
        """The scoped view of `table` with what the texts `reading` name of it.

        Days that are whole in UTC need no look at seconds.
        """
        interval = self._interval
        if interval is None:
            return views.of_all_time(table, *reading)
        if interval.since % DAY == 0 and (interval.until + 1) % DAY == 0:
            return views.of_days(table, *reading)
        return views.between(table, *reading)

    def text(self, value: Any, kind: str) -> str:
        """Bind `value`; the text that stands for it in SQL."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{kind}}}"
