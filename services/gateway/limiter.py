"""The budgets of one gateway: token buckets and hourly counts. Pure but for the clock given.

A bucket holds up to `burst` tokens and gains `rate` a second without steps; a request takes one.
Levels are counted in millionths of a token per microsecond of refill, so that whole rates are exact
whatever the moments of the requests. A bucket nobody used is full, so a full one needs no memory.

An hourly count admits so many in any 60 minutes, told apart to the minute: what was admitted in a
minute counts until that minute is an hour ago.

One replica decides alone here; several gateways admit up to as many budgets.
"""

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from shared.clock import Clock
from shared.events import Budget

HOUR_SECONDS: Final = 3_600
_MINUTE_SECONDS: Final = 60
_MINUTES: Final = 60
_TOKEN: Final = 1_000_000
"""Units of a token: what a rate of 1/s gains in a second, counted in microseconds."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and what its headers say.

    Attributes:
        admitted: whether the request may go on.
        over: whether the bucket was empty; in shadow mode it is admitted all the same.
        quota: tokens of a full bucket.
        remaining: whole tokens left after the decision.
        reset_seconds: whole seconds, rounded up, to the next token if none remains, else to full.
        window_seconds: whole seconds, rounded up, in which an empty bucket fills.
    """

    admitted: bool
    over: bool
    quota: int
    remaining: int
    reset_seconds: int
    window_seconds: int


@dataclass(slots=True)
class _Bucket:
    units: float
    at_microseconds: int


class Limiter:
    """Buckets by whatever names a budget.

    Args:
        clock: its monotonic time counts.
        buckets_max: when there are more, the longest unused, which is the fullest, is forgotten.
    """

    def __init__(self, clock: Clock, *, buckets_max: int = 10_000) -> None:
        self._clock = clock
        self._buckets_max = buckets_max
        self._buckets: dict[Hashable, _Bucket] = {}

    def take(self, name: Hashable, budget: Budget, *, shadow: bool = False) -> Verdict:
        """Take a token from the bucket `name`, if there is one.

        Args:
            name: which bucket.
            budget: its present rate and burst; a smaller burst than before cuts the level.
            shadow: admit even without a token, and say so.
        """
        bucket = self._refilled(name, budget)
        over = bucket.units < _TOKEN
        if not over:
            bucket.units -= _TOKEN
        return _verdict(bucket.units, budget, over=over, admitted=shadow or not over)

    def peek(self, name: Hashable, budget: Budget) -> Verdict:
        """What the bucket holds, for answers that take nothing from it."""
        units = self._refilled(name, budget).units
        return _verdict(units, budget, over=False, admitted=True)

    def __len__(self) -> int:
        return len(self._buckets)

    def _refilled(self, name: Hashable, budget: Budget) -> _Bucket:
        """The bucket as of now, moved to the end of those last used."""
        now = round(self._clock.monotonic() * 1_000_000)
        full = budget.burst * _TOKEN
        bucket = self._buckets.pop(name, None)
        if bucket is None:
            self._make_room()
            bucket = _Bucket(full, now)
        gained = (now - bucket.at_microseconds) * budget.rate
        bucket.units = min(full, bucket.units + gained)
        bucket.at_microseconds = now
        self._buckets[name] = bucket
        return bucket

    def _make_room(self) -> None:
        while len(self._buckets) >= self._buckets_max:
            del self._buckets[next(iter(self._buckets))]


class HourlyLimiter:
    """Rolling hourly counts by whatever names a budget.

    Args:
        clock: its monotonic time counts.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._minutes: dict[Hashable, deque[_Minute]] = {}

    def take(self, name: Hashable, limit: int, *, shadow: bool = False) -> Verdict:
        """Count one against `limit` in the hour, if there is room.

        Args:
            name: which count.
            limit: how many an hour.
            shadow: admit even without room, and say so; it is not counted.
        """
        now = self._clock.monotonic()
        minutes = self._within_the_hour(name, now)
        over = sum(minute.count for minute in minutes) >= limit
        if not over:
            _count_in(minutes, int(now // _MINUTE_SECONDS))
        remaining = max(limit - sum(minute.count for minute in minutes), 0)
        return Verdict(
            admitted=shadow or not over,
            over=over,
            quota=limit,
            remaining=remaining,
            reset_seconds=_seconds_to_room(minutes, now, 0 if remaining else limit),
            window_seconds=HOUR_SECONDS,
        )

    def _within_the_hour(self, name: Hashable, now: float) -> "deque[_Minute]":
        minutes = self._minutes.setdefault(name, deque())
        while minutes and minutes[0].number + _MINUTES <= now // _MINUTE_SECONDS:
            minutes.popleft()
        return minutes


@dataclass(slots=True)
class _Minute:
    number: int
    count: int


def _count_in(minutes: deque[_Minute], number: int) -> None:
    if not minutes or minutes[-1].number != number:
        minutes.append(_Minute(number, 0))
    minutes[-1].count += 1


def _seconds_to_room(minutes: deque[_Minute], now: float, below: int) -> int:
    """Whole seconds, rounded up, until fewer than `below` count; 0 asks until none do."""
    counted = sum(minute.count for minute in minutes)
    for minute in minutes:
        counted -= minute.count
        if counted < max(below, 1):
            ends = (minute.number + _MINUTES) * _MINUTE_SECONDS
            return math.ceil(ends - now)
    return 0


def _verdict(units: float, budget: Budget, *, over: bool, admitted: bool) -> Verdict:
    remaining = int(units // _TOKEN)
    wanted = budget.burst * _TOKEN if remaining else _TOKEN
    return Verdict(
        admitted=admitted,
        over=over,
        quota=budget.burst,
        remaining=remaining,
        reset_seconds=math.ceil((wanted - units) / _TOKEN / budget.rate),
        window_seconds=math.ceil(budget.burst / budget.rate),
    )
