"""Protects how zones cut time: days and hours as `zoneinfo` has them, whatever clocks do."""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import pytest

from services.reporting.asking import calendar
from services.reporting.asking.interval import Interval, read_interval
from services.reporting.timezones import TIMEZONES, Timezone

YEAR = (int(datetime(2025, 9, 1, tzinfo=UTC).timestamp()), 400)


def changes(zone: Timezone) -> list[int]:
    """Quarters of the year at which the zone's clocks change, found by looking at each hour."""
    begin, days = YEAR
    hours = range(begin, begin + days * 86_400, 3_600)
    ahead = [datetime.fromtimestamp(hour, zone.info).utcoffset() for hour in hours]
    return [hours[i] for i in range(1, len(hours)) if ahead[i] != ahead[i - 1]]


@pytest.mark.parametrize("zone", TIMEZONES.values(), ids=lambda zone: zone.name)
def test_days_and_hours_are_those_of_zoneinfo_around_every_change(zone: Timezone) -> None:
    """Every quarter of four days around each change is in the bucket of its local date and hour."""
    for change in changes(zone) or [YEAR[0] + 100 * 86_400]:
        interval = Interval(change - 100_000, change + 100_000, zone)
        days, hours = calendar.starts(interval, "date"), calendar.hour_starts(interval)
        begins, ahead = zip(*calendar.offsets(interval), strict=True)
        for moment in range(interval.since, interval.until, 900):
            local = datetime.fromtimestamp(moment, zone.info)
            day = datetime.fromtimestamp(days[bisect_right(days, moment) - 1], zone.info)
            hour = datetime.fromtimestamp(hours[bisect_right(hours, moment) - 1], zone.info)
            assert (day.date(), hour.date(), hour.hour) == (local.date(), local.date(), local.hour)
            offset = timedelta(seconds=ahead[bisect_right(begins, moment) - 1])
            assert offset == local.utcoffset()


@pytest.mark.parametrize("zone", TIMEZONES.values(), ids=lambda zone: zone.name)
def test_a_bare_day_is_all_of_it_and_nothing_else(zone: Timezone) -> None:
    """Bounds around every change: the seconds inside have that date, those outside do not."""
    for change in changes(zone) or [YEAR[0]]:
        day = datetime.fromtimestamp(change, zone.info).date().isoformat()
        body = {"from": day, "to": day, "timezone_id": zone.timezone_id}
        interval = read_interval(body)
        seen = [
            datetime.fromtimestamp(each, zone.info).date().isoformat() == day
            for each in (interval.since - 1, interval.since, interval.until, interval.until + 1)
        ]
        assert seen == [False, True, True, False]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("week", ["2025-12-29", "2026-01-05"]),
        ("month", ["2025-12", "2026-01"]),
        ("year", ["2025", "2026"]),
    ],
)
def test_longer_units_begin_on_mondays_and_firsts(unit, expected: list[str]) -> None:
    """Also where the interval begins in the middle of one."""
    body = {"from": "2025-12-30", "to": "2026-01-06", "timezone_id": 80}
    interval = read_interval(body)
    begins = calendar.starts(interval, unit)
    assert calendar.labels(begins, unit, interval.zone) == expected


def test_an_hour_that_happens_twice_is_two_hours_and_a_missing_one_none() -> None:
    """New York, when clocks go back and forth."""
    for day, hours in (("2025-11-02", 25), ("2026-03-08", 23), ("2026-03-09", 24)):
        body = {"from": day, "to": day, "timezone_id": 80}
        assert len(calendar.hour_starts(read_interval(body))) == hours
