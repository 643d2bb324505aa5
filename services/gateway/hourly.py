"""Hourly counts, each of them one for all gateways. Pure, but for the clock given.

A count admits so many in any 60 minutes, told apart to the minute: what was admitted in a minute
counts until that minute is an hour ago. With a ledger it counts what the others tell too, in the
minute in which it was admitted (their minutes may begin elsewhere in the hour, so that one minute's
worth may count up to a minute longer or shorter). N gateways together admit at most the limit and
what the others admitted before it was told, at most (N - 1) x the limit, in the worst case of N
floods within one instant. While nothing is heard each admits its share of what is left
(`ledger.py`).

A gateway that starts reads an hour of totals, so that a restart gives nobody a new budget.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from services.gateway.ledger import Account, BudgetState, Heard, Ledger, Name
from services.gateway.limiter import UNTOLD_MAX, Verdict
from shared.clock import Clock

HOUR_SECONDS: Final = 3_600
REALM_SUFFIX: Final = "/hour"
"""Tells a network's hourly totals from those of its bucket."""
_MINUTE_SECONDS: Final = 60
_MINUTES: Final = 60


@dataclass(slots=True)
class _Count:
    """Admissions by minute; minutes are numbered on the monotonic clock."""

    minutes: dict[int, int] = field(default_factory=dict)
    total: int = 0
    account: Account | None = None
    limit: int = 0
    refused: int = 0
    in_shadow: int = 0

    def add(self, minute: int, number: int) -> None:
        """Count so many in a minute."""
        self.minutes[minute] = self.minutes.get(minute, 0) + number
        self.total += number

    def forget(self, until: int) -> None:
        """Drop what is an hour ago: the minutes up to `until`."""
        for minute in [minute for minute in self.minutes if minute <= until]:
            self.total -= self.minutes.pop(minute)

    def seconds_to_room(self, now: float, below: int) -> int:
        """Whole seconds, rounded up, until fewer than `below` count; 0 asks until none do."""
        counted = self.total
        for minute in sorted(self.minutes):
            counted -= self.minutes[minute]
            if counted < max(below, 1):
                return math.ceil((minute + _MINUTES) * _MINUTE_SECONDS - now)
        return 0


class HourlyLimiter:
    """Rolling hourly counts by network and realm.

    Args:
        clock: its monotonic time counts.
        ledger: makes each count one over all gateways.
    """

    def __init__(self, clock: Clock, *, ledger: Ledger | None = None) -> None:
        self._clock = clock
        self._ledger = ledger
        self._counts: dict[Name, _Count] = {}
        self._allowances: dict[Name, int] = {}

    def take(self, name: Name, limit: int, *, shadow: bool = False) -> Verdict:
        """Count one against `limit` in the hour, if there is room.

        Args:
            name: which count.
            limit: how many an hour.
            shadow: admit even without room, and say so; it is not counted.
        """
        now = self._clock.monotonic()
        count = self._current(_renamed(name), now)
        room = self._room(_renamed(name), limit - count.total, now)
        over = room <= 0
        count.limit = limit
        if not over:
            count.add(int(now // _MINUTE_SECONDS), 1)
            self._admit(_renamed(name), count)
        elif shadow:
            count.in_shadow += 1
        else:
            count.refused += 1
        remaining = max(room - (not over), 0)
        below = 0 if remaining else limit
        return Verdict(
            admitted=shadow or not over,
            over=over,
            quota=limit,
            remaining=remaining,
            reset_seconds=count.seconds_to_room(now, below),
            window_seconds=HOUR_SECONDS,
        )

    def hear(self, heard: Heard, made_at: float) -> None:
        """Count what another gateway admitted, at `made_at` in monotonic seconds."""
        if heard.admitted:
            now = self._clock.monotonic()
            minute = int(min(made_at, now) // _MINUTE_SECONDS)
            self._current(heard.name, now).add(minute, heard.admitted)

    def states(self, most: int) -> Iterator[BudgetState]:
        """The counts that were asked for here, at most `most`, the latest new one first."""
        now = self._clock.monotonic()
        asked = ((name, count) for name, count in reversed(self._counts.items()) if count.limit)
        for name, count in islice(list(asked), most):
            current, own = self._current(name, now), count.account
            admitted = 0 if own is None else own.total
            left = current.limit - current.total
            yield BudgetState(name, left, admitted, count.refused, count.in_shadow)

    def __len__(self) -> int:
        return len(self._counts)

    def _current(self, name: Name, now: float) -> _Count:
        count = self._counts.get(name)
        if count is None:
            account = None if self._ledger is None else self._ledger.account(name)
            count = self._counts[name] = _Count(account=account)
        count.forget(int(now // _MINUTE_SECONDS) - _MINUTES)
        return count

    def _room(self, name: Name, left: int, now: float) -> int:
        """How many more may be admitted here: all that is left, or our share in a silence."""
        if self._ledger is None or not self._ledger.is_silent(now):
            self._allowances.clear()
            return left
        if name not in self._allowances:
            self._allowances[name] = int(max(left, 0) * self._ledger.share(name))
        return min(left, self._allowances[name])

    def _admit(self, name: Name, count: _Count) -> None:
        if name in self._allowances:
            self._allowances[name] -= 1
        if self._ledger is not None and count.account is not None:
            self._ledger.admit(count.account, UNTOLD_MAX)


def _renamed(name: Name) -> Name:
    return name[0], name[1] + REALM_SUFFIX
