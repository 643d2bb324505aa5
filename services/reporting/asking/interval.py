"""The interval of a request: wall-clock bounds in one of the 99 zones; pure."""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from services.reporting.asking.members import Body, required, whole
from services.reporting.timezones import Timezone, timezone_of
from shared.errors import InvalidError

STAMP_MAX: Final = 2**32 - 1
"""The latest second that facts have."""
DAY: Final = 86_400
"""Seconds of a day in UTC."""
DAYS_MAX: Final = 367


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds since the epoch, UTC, both ends included, and the zone they were given in."""

    since: int
    until: int
    zone: Timezone


def read_interval(body: Body) -> Interval:
    """`from`, `to` and `timezone_id` of a body.

    Raises:
        InvalidError: one is missing or wrong, or they are more than a year apart.
    """
    zone = timezone_of(whole(required(body, "timezone_id"), "timezone_id"))
    since = _moment(required(body, "from"), "from", zone, is_end=False)
    until = _moment(required(body, "to"), "to", zone, is_end=True)
    if since > until:
        raise InvalidError("from, to: the interval ends before it begins")
    if until - since > DAYS_MAX * DAY:
        raise InvalidError("from, to: at most one year apart")
    return Interval(since, until, zone)


def _moment(text: Any, name: str, zone: Timezone, *, is_end: bool) -> int:
    """Wall-clock time of `zone` as seconds UTC; a bare end date is that day's last second.

    Where a clock is put back an hour happens twice: a start means the first, an end the second.
    A time that the clock skips means the moment at which it does, an end the second before.
    """
    try:
        if len(text) == len("2026-01-01"):
            day = date.fromisoformat(text) + timedelta(days=1 if is_end else 0)
            local = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - the zone follows
        else:
            local = datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - likewise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidError(f"{name}: use YYYY-MM-DD or YYYY-MM-DD HH:MM:SS") from error
    is_bare_end = is_end and len(text) == len("2026-01-01")
    fold = 1 if is_end and not is_bare_end else 0
    early, late = (int(local.replace(tzinfo=zone.info, fold=each).timestamp()) for each in (1, 0))
    is_skipped = early < late
    seconds = _change(early, late, zone) if is_skipped else (early if fold else late)
    is_before = is_bare_end or (is_end and is_skipped)
    return min(max(seconds - (1 if is_before else 0), 0), STAMP_MAX)


def _change(early: int, late: int, zone: Timezone) -> int:
    """The second between these from which on the clock is put forward."""
    ahead = _ahead(late, zone)
    moments = range(early, late + 1)
    return moments[bisect_left(moments, 1, key=lambda moment: _ahead(moment, zone) == ahead)]


def _ahead(moment: int, zone: Timezone) -> timedelta | None:
    return datetime.fromtimestamp(moment, zone.info).utcoffset()
