"""The parameters of a query over facts, beginning with its scope: no query exists without one.

Values reach ClickHouse as bound parameters only; the text of a query is made of our own words.
"""

from typing import Any, Final

from services.reporting.asking.interval import STAMP_MAX, Interval
from services.reporting.scope import Scope

ALL_TIME: Final = (0, STAMP_MAX)

_SCOPED: Final = (
    "{table}_of(network = {{network:UInt64}}, partner = {{partner:UInt64}}, "
    "since = {{since:UInt32}}, until = {{until:UInt32}})"
)


class Bound:
    """The parameters of one query, beginning with its scope and interval (None for all time).

    Attributes:
        values: by name, as the driver takes them.
    """

    def __init__(self, scope: Scope, interval: Interval | None) -> None:
        since, until = ALL_TIME if interval is None else (interval.since, interval.until)
        self.values: dict[str, Any] = {
            "network": scope.network_id,
            "partner": scope.network_affiliate_id,
            "since": since,
            "until": until,
        }
        if interval is not None:
            self.values["zone"] = interval.zone.name

    def view(self, table: str) -> str:
        """The scoped view of `table`."""
        return _SCOPED.format(table=table)

    @staticmethod
    def view_of_all_time(table: str) -> str:
        """The scoped view of `table` without the interval."""
        ends = ("{since:UInt32}", "{until:UInt32}")
        view = _SCOPED.format(table=table)
        for end, bound in zip(ends, ALL_TIME, strict=True):
            view = view.replace(end, str(bound))
        return view

    def text(self, value: Any, kind: str) -> str:
        """Bind `value`; the text that stands for it in SQL."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{kind}}}"
