"""How a time zone cuts an interval: where its days and hours begin; pure.

All of it comes from `zoneinfo`, so that an answer does not depend on the rules that the database's
engine was built with. A day has 23 to 25 hours where clocks change; hours may begin at a quarter.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Literal

from services.reporting.asking.interval import DAY, Interval
from services.reporting.timezones import Timezone

LongUnit = Literal["date", "week", "month", "year"]

_QUARTER: Final = 900
"""Every zone is off by whole quarters of an hour, and changes at one."""
_HOUR: Final = 3_600


def starts(interval: Interval, unit: LongUnit) -> list[int]:
    """Seconds at which the days, weeks, months or years of `interval` begin, ascending.

    The first is at or before its beginning. A day that clocks begin twice begins the first time,
    one that has no midnight at its first second.
    """
    first = _first_day(interval.zone.date(interval.since), unit)
    last = interval.zone.date(interval.until)
    return [start_of(day, interval.zone) for day in _days(first, last, unit)]


def start_of(day: date, zone: Timezone) -> int:
    """The first second of a day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone.info).timestamp())


def labels(begins: Sequence[int], unit: LongUnit, zone: Timezone) -> list[str]:
    """What people call the days, weeks, months or years that begin so."""
    days = [zone.date(begin) for begin in begins]
    if unit == "year":
        return [f"{day:%Y}" for day in days]
    if unit == "month":
        return [f"{day:%Y-%m}" for day in days]
    return [day.isoformat() for day in days]


def hour_starts(interval: Interval) -> list[int]:
    """Seconds at which the hours of `interval` begin; an hour that happens twice is two hours."""
    moment = interval.since - interval.since % _QUARTER
    while not _is_hour_start(moment, interval.zone):
        moment -= _QUARTER
    return [
        quarter
        for quarter in range(moment, interval.until + 1, _QUARTER)
        if _is_hour_start(quarter, interval.zone)
    ]


def offsets(interval: Interval) -> list[tuple[int, int]]:
    """From when on local time is how many seconds ahead of UTC; the first holds from the start."""
    zone = interval.zone
    found = [(0, zone.seconds_ahead(interval.since))]
    for begin in range(interval.since, interval.until, DAY):
        end = min(begin + DAY, interval.until)
        if zone.seconds_ahead(end) != found[-1][1]:
            change = _change(begin, end, zone)
            found.append((change, zone.seconds_ahead(change)))
    return found


def _change(begin: int, end: int, zone: Timezone) -> int:
    """The quarter, behind `begin` and not behind `end`, from which on the offset is another."""
    before = zone.seconds_ahead(begin)
    quarters = range(begin - begin % _QUARTER + _QUARTER, end + 1, _QUARTER)
    return next(quarter for quarter in quarters if zone.seconds_ahead(quarter) != before)


def _is_hour_start(moment: int, zone: Timezone) -> bool:
    ahead, before = zone.seconds_ahead(moment), zone.seconds_ahead(moment - 1)
    local, local_before = moment + ahead, moment - 1 + before
    return local % _HOUR == 0 or local // _HOUR != local_before // _HOUR


def _first_day(day: date, unit: LongUnit) -> date:
    if unit == "week":
        return day - timedelta(days=day.weekday())
    if unit == "month":
        return day.replace(day=1)
    return day.replace(month=1, day=1) if unit == "year" else day


def _days(first: date, last: date, unit: LongUnit) -> Iterator[date]:
    while first <= last:
        yield first
        step = {"date": 1, "week": 7, "month": 32, "year": 367}[unit]
        first = _first_day(first + timedelta(days=step), unit)
