"""Token buckets, each of them one for all gateways. Pure, but for the clock given.

A bucket holds up to `burst` tokens and gains `rate` a second without steps; a request takes one.
Levels are counted in millionths of a token per microsecond of refill, so that whole rates are exact
whatever the moments of the requests. A bucket nobody used is full, so a full one needs no memory.

With a ledger, a bucket is one over all gateways, though each decides alone and at once: it takes
its own admissions at once and the others' when they are told, as of when they were made
(`spill.py`). So a level can fall below zero; that debt is repaid by refill before anybody is
admitted.

The promise. In any stretch of time all gateways together admit at most

    burst + rate x length + U

where U is what others had admitted of which the gateway that admitted last had not heard: with N
gateways, if a total takes D seconds until the others have heard it (50 ms and Kafka's time),

    U <= (N - 1) x (burst + rate x D)

The worst are N bursts at the same instant on a full bucket. In a steady overload, where the buckets
are empty, the others admit their part of the refill only: U <= rate x D x (N - 1) / N. Nothing adds
up, since all is repaid: over any longer time the network gets its budget. Clocks enter only by the
moment at which others' admissions are placed: if that is up to e seconds too early, add rate x e;
what is placed l too late costs the network at most rate x l each time the bucket was full
meanwhile.

Where it ends: what a gateway admitted and did not tell before it died is not repaid (at most what
it admits in D). One that starts takes its levels from what the others told last, and may be wrong
by what was on its way. While Kafka is silent, D lasts until each keeps to its share (`ledger.py`, 2
s), from which it repays what it let through until then; if only one gateway is cut off, its share
comes on top until it refuses everybody. Debt is kept up to (N - 1) x (burst + `DEBT_SECONDS` x
rate), so that a lowered budget is not paid for at the old rate's scale.
"""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec

from services.gateway.ledger import Account, BudgetState, Heard, Ledger
from services.gateway.spill import Spill
from shared.clock import Clock
from shared.events import Budget, UsageBucket

UNTOLD_MAX: Final = 25
"""So many untold admissions, and a quarter of the burst, are told at once."""
DEBT_SECONDS: Final = 3.0
_TOKEN: Final = 1_000_000
"""Units of a token: what a rate of 1/s gains in a second, counted in microseconds."""


class Verdict(msgspec.Struct, frozen=True):
    """A decision and what its headers say.

    Attributes:
        admitted: whether the request may go on.
        over: whether the bucket was empty; in shadow mode it is admitted all the same.
        quota: tokens of a full bucket.
        remaining: whole tokens left after the decision, none in debt.
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
    """A level, as of a moment in microseconds; rate and size are those it was last asked with."""

    units: float
    at: int
    rate: float
    full: float
    account: Account | None = None
    spill: Spill | None = None
    refused: int = 0
    in_shadow: int = 0

    def refill(self, now: int, rate: float, full: float) -> None:
        """Bring it to `now`; a smaller size than before cuts the level."""
        self.units += (now - self.at) * rate
        if self.units > full:
            if self.spill is not None and now > self.at:
                over = min(self.units - full, (now - self.at) * rate)
                self.spill.add(now - round(over / rate), now, over)
            self.units = full
        self.at, self.rate, self.full = now, rate, full

    def charge(self, tokens: int, made_at: int, now: int, debt_max: float) -> None:
        """Take what others admitted, as of when they did; may leave a debt."""
        self.refill(now, self.rate, self.full)
        units = float(tokens * _TOKEN)
        if self.spill is not None:
            units -= self.spill.reclaim(made_at, units)
        self.units = max(self.units - units, min(self.units, -debt_max))

    def alone(self, share: float, since: int) -> float:
        """What a share of it holds, had it been drawn on for itself since then."""
        gained = (self.at - since) * self.rate
        own = 0 if self.account is None else self.account.total - self.account.confirmed
        level = self.units - gained + own * _TOKEN
        if self.units >= self.full:  # it may have run over since, and so tells no more than this
            level = min(max(level, 0.0), self.full)
        return min(share * (level + gained) - own * _TOKEN, share * self.full)


_Told = dict[Hashable, dict[str, tuple[int, UsageBucket]]]
"""By budget and replica: when it told of its bucket last, in microseconds, and what."""


class Limiter:
    """Buckets by whatever names a budget.

    Args:
        clock: its monotonic time counts.
        buckets_max: when there are more, the longest unused, which is the fullest, is forgotten.
        ledger: makes each bucket one over all gateways; then names are `ledger.Name`.
    """

    def __init__(
        self, clock: Clock, *, buckets_max: int = 10_000, ledger: Ledger | None = None
    ) -> None:
        self._clock = clock
        self._buckets_max = buckets_max
        self._ledger = ledger
        self._buckets: dict[Hashable, _Bucket] = {}
        self._shares: dict[Hashable, tuple[float, _Bucket]] = {}
        self._told: _Told | None = None if ledger is None else {}

    def take(self, name: Hashable, budget: Budget, *, shadow: bool = False) -> Verdict:
        """Take a token from the bucket `name`, if there is one.

        Args:
            name: which bucket.
            budget: its present rate and burst; a smaller burst than before cuts the level.
            shadow: admit even without a token, and say so.
        """
        bucket = self._refilled(name, budget)
        part = self._part(name, bucket)
        over = bucket.units < _TOKEN or (part is not None and part.units < _TOKEN)
        if not over:
            bucket.units -= _TOKEN
            if part is not None:
                part.units -= _TOKEN
            if self._ledger is not None:
                self._admit(name, bucket, self._ledger)
        elif shadow:
            bucket.in_shadow += 1
        else:
            bucket.refused += 1
        return _verdict(bucket, part, budget, over=over, admitted=shadow or not over)

    def peek(self, name: Hashable, budget: Budget) -> Verdict:
        """What the bucket holds, for answers that take nothing from it."""
        bucket = self._refilled(name, budget)
        return _verdict(bucket, self._part(name, bucket), budget, over=False, admitted=True)

    def hear(self, heard: Heard, made_at: float) -> None:
        """Take what another gateway admitted.

        Args:
            heard: from the ledger.
            made_at: monotonic seconds at which it was admitted.
        """
        if heard.bucket is None:
            return
        now = self._now()
        made = min(round(made_at * 1_000_000), now)
        if self._told is not None:
            told = self._told.setdefault(heard.name, {})
            if heard.replica not in told or told[heard.replica][0] <= made:
                told[heard.replica] = (made, heard.bucket)
        elif heard.admitted:
            bucket = self._held(heard.name, heard.bucket.rate, heard.bucket.burst, made)
            bucket.charge(heard.admitted, made, now, self._debt_max(bucket))

    def catch_up(self) -> None:
        """Set each bucket to the least that the others last told of it; then take what they do."""
        told, self._told = self._told or {}, None
        now = self._now()
        for name, of_others in told.items():
            _, latest = max(of_others.values(), key=lambda one: one[0])
            bucket = self._held(name, latest.rate, latest.burst, now)
            bucket.refill(now, bucket.rate, bucket.full)
            for at, other in of_others.values():
                units = other.level * _TOKEN + (now - at) * other.rate
                bucket.units = min(bucket.units, units)

    def told(self, name: Hashable) -> UsageBucket | None:
        """A bucket as it is held here; None if it is not."""
        bucket = self._buckets.get(name)
        if bucket is None:
            return None
        bucket.refill(max(self._now(), bucket.at), bucket.rate, bucket.full)
        burst = round(bucket.full / _TOKEN)
        return UsageBucket(level=bucket.units / _TOKEN, rate=bucket.rate, burst=burst)

    def states(self, most: int) -> Iterator[BudgetState]:
        """The buckets last used, at most `most`, the latest first; names are `ledger.Name`."""
        now = self._now()
        for name, bucket in islice(reversed(self._buckets.items()), most):
            bucket.refill(max(now, bucket.at), bucket.rate, bucket.full)
            yield BudgetState(
                name=name,  # type: ignore[arg-type]
                level=bucket.units / _TOKEN,
                admitted=0 if bucket.account is None else bucket.account.total,
                refused=bucket.refused,
                in_shadow=bucket.in_shadow,
            )

    def __len__(self) -> int:
        return len(self._buckets)

    def _now(self) -> int:
        return round(self._clock.monotonic() * 1_000_000)

    def _refilled(self, name: Hashable, budget: Budget) -> _Bucket:
        """The bucket as of now, moved to the end of those last used."""
        now = self._now()
        bucket = self._held(name, budget.rate, budget.burst, now)
        bucket.refill(now, budget.rate, budget.burst * _TOKEN)
        return bucket

    def _held(self, name: Hashable, rate: float, burst: int, at: int) -> _Bucket:
        """The bucket, or a full one, moved to the end of those last used."""
        bucket = self._buckets.pop(name, None)
        if bucket is None:
            while len(self._buckets) >= self._buckets_max:
                del self._buckets[next(iter(self._buckets))]
            bucket = _Bucket(float(burst * _TOKEN), at, rate, float(burst * _TOKEN))
            if self._ledger is not None:
                bucket.spill = Spill()
        self._buckets[name] = bucket
        return bucket

    def _admit(self, name: Hashable, bucket: _Bucket, ledger: Ledger) -> None:
        if bucket.account is None:
            bucket.account = ledger.account(name)  # type: ignore[arg-type]
        ledger.admit(bucket.account, max(UNTOLD_MAX, int(bucket.full // _TOKEN) // 4))

    def _debt_max(self, bucket: _Bucket) -> float:
        others = 1 if self._ledger is None else max(self._ledger.others_present(), 1)
        return others * (bucket.full + DEBT_SECONDS * bucket.rate * _TOKEN)

    def _part(self, name: Hashable, bucket: _Bucket) -> _Bucket | None:
        """Our share of a bucket while nobody hears of the others; None otherwise.

        It stands as if it had been ours alone since anything was heard: what was admitted meanwhile
        came from the share, not from a bucket that seemed full as nobody else drew on it.
        """
        if self._ledger is None or not self._ledger.is_silent(bucket.at / 1_000_000):
            if self._shares:
                self._shares.clear()
            return None
        share, part = self._shares.get(name, (0.0, None))
        if part is None:
            share = self._ledger.share(name)  # type: ignore[arg-type]
            units = bucket.alone(share, round(self._ledger.heard_at * 1_000_000))
            part = _Bucket(units, bucket.at, bucket.rate, bucket.full)
            self._shares[name] = (share, part)
        part.refill(bucket.at, bucket.rate * share, max(bucket.full * share, _TOKEN))
        return part


def _verdict(
    bucket: _Bucket, part: _Bucket | None, budget: Budget, *, over: bool, admitted: bool
) -> Verdict:
    scarce = bucket if part is None or bucket.units <= part.units else part
    remaining = max(int(scarce.units // _TOKEN), 0)
    wanted = scarce.full if remaining else _TOKEN
    return Verdict(
        admitted=admitted,
        over=over,
        quota=budget.burst,
        remaining=remaining,
        reset_seconds=math.ceil((wanted - scarce.units) / _TOKEN / scarce.rate),
        window_seconds=math.ceil(budget.burst / budget.rate),
    )
