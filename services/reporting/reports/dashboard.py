"""The dashboard's periods and cards; pure.

Days and months are those of the time zone. What is of today is so far; it is compared with
yesterday up to the same time of day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from services.reporting.asking import calendar
from services.reporting.asking.interval import Interval
from services.reporting.facts.numbers import number
from services.reporting.reports import measures
from services.reporting.reports.measures import Sums
from services.reporting.timezones import Timezone
from shared.clock import utc

AMOUNT_CARDS: Final = {
    "revenue": "revenue",
    "click": "total_click",
    "conversion": "cv",
    "events": "event",
    "impression": "imp",
    "redirect_revenue": "redirect_traffic_revenue",
    "on_hold_potential_revenue": "on_hold_potential_revenue",
    "on_hold_conversion_count": "on_hold_conversion_count",
}
"""The metric of each card that is compared with yesterday."""
RATIO_CARDS: Final = ("cvr", "evr")
PERIODS: Final = ("today", "yesterday", "current_month", "last_month")


@dataclass(frozen=True, slots=True)
class Periods:
    """When the periods begin, in seconds, UTC.

    Attributes:
        now: the end of all of them, included.
        today: midnight.
        same_time: yesterday at the time of day that it is now; excluded from what is compared.
        yesterday: the midnight before.
        month: of the current month.
        last_month: of the month before.
        zone: in which they are.
    """

    now: int
    today: int
    same_time: int
    yesterday: int
    month: int
    last_month: int
    zone: Timezone

    @property
    def interval(self) -> Interval:
        """All of them together."""
        return Interval(min(self.last_month, self.yesterday), self.now, self.zone)

    @property
    def begins(self) -> list[int]:
        """Seconds that cut the interval so that each period is whole pieces."""
        begins = {self.last_month, self.month, self.yesterday, self.same_time, self.today}
        return sorted(begins)

    def of(self, name: str, pieces: Mapping[int, Sums]) -> Sums:
        """The sums of a period, of `PERIODS` or `same_time`, by those of the pieces."""
        first, last = {
            "today": (self.today, self.now + 1),
            "yesterday": (self.yesterday, self.today),
            "same_time": (self.yesterday, self.same_time),
            "current_month": (self.month, self.now + 1),
            "last_month": (self.last_month, self.month),
        }[name]
        return measures.total(sums for begin, sums in pieces.items() if first <= begin < last)


def periods(now: float, zone: Timezone) -> Periods:
    """The periods at `now` (seconds, UTC)."""
    local = utc(now).astimezone(zone.info)
    today = local.date()
    yesterday = today - timedelta(days=1)
    month = today.replace(day=1)
    last_month = (month - timedelta(days=1)).replace(day=1)
    same = datetime.combine(yesterday, local.time(), zone.info)
    begin = calendar.start_of(today, zone)
    return Periods(
        now=int(now),
        today=begin,
        same_time=min(int(same.timestamp()) + 1, begin),
        yesterday=calendar.start_of(yesterday, zone),
        month=calendar.start_of(month, zone),
        last_month=calendar.start_of(last_month, zone),
        zone=zone,
    )


def cards(found: Periods, pieces: Mapping[int, Sums]) -> dict[str, Any]:
    """The cards by the sums of the pieces."""
    sums = {name: found.of(name, pieces) for name in (*PERIODS, "same_time")}
    shown = {name: measures.reporting(of) for name, of in sums.items()}
    amounts = {
        card: {name: shown[name][metric] for name in PERIODS}
        | {"trending_percentage": trending(sums["today"], sums["same_time"], metric)}
        for card, metric in AMOUNT_CARDS.items()
    }
    ratios = {card: {name: shown[name][card] for name in PERIODS} for card in RATIO_CARDS}
    return amounts | ratios


def trending(now: Sums, before: Sums, metric: str) -> Any:
    """By how many percent a metric has grown; 100 where nothing was before, 0 where nothing is."""
    value, earlier = (Decimal(measures.value(sums, metric)) for sums in (now, before))
    if not earlier:
        return 100 if value else 0
    percent = (value - earlier) * 100 / earlier
    return number(percent.quantize(Decimal("0.1"), ROUND_HALF_UP))


def trending_offer(
    offer_id: str, name: str, found: Periods, pieces: Mapping[int, Sums]
) -> dict[str, Any]:
    """An offer's today so far beside its yesterday up to the same time; compared by clicks."""
    today, before = (found.of(period, pieces) for period in ("today", "same_time"))
    return {
        "network_offer_id": int(offer_id),
        "name": name,
        "reporting": measures.reporting(today),
        "yesterday": measures.reporting(before),
        "trending_percentage": trending(today, before, "total_click"),
    }


def by_clicks(offer: Mapping[str, Any]) -> tuple[int, int]:
    """Sorts the offers with most clicks first."""
    return -offer["reporting"]["total_click"], offer["network_offer_id"]


def series(begins: Sequence[int], pieces: Mapping[int, Sums]) -> list[dict[str, Any]]:
    """A time series with zeros where nothing was."""
    return [
        {"unix": begin, "reporting": measures.reporting(pieces.get(begin, measures.NOTHING))}
        for begin in begins
    ]
