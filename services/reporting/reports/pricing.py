"""What amounts are worth in the currency that a report asks for, as SQL over facts; pure.

A day's rate is exact to ten decimals and an amount to six, so their product is exact and nothing is
rounded: sums of converted amounts agree whatever they are grouped by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from services.reporting.asking.bound import Bound
from services.reporting.asking.interval import DAY, Interval
from services.reporting.facts import tallies
from services.reporting.reports.measures import PLACES
from shared.clock import rfc3339
from shared.errors import InvalidError

EARLIER_DAYS_MAX: Final = 7
"""How old a rate may be on the day that it is used for."""
RATE_PLACES: Final = 10
LOG_PLACES: Final = 6
"""Decimals of an amount in the log."""
TALLY_OF_FACT: Final = "$tally"
"""Stands for a tally in an expression."""

Rates = Mapping[str, Mapping[str, Mapping[int, Decimal]]]
"""What a unit is worth in a base currency: by base, currency and day since the epoch (UTC)."""


@dataclass(frozen=True, slots=True)
class Pricing:
    """How amounts are read.

    Attributes:
        amount: expression of a fact's revenue in the wanted currency.
        is_missing: expression that tells an amount that cannot be converted, if it is not 0.
        places: how many decimals amounts have.
        own: the currency that needs no rate as tallies have it, if all others have none: then
            `is_missing` is an expression over the tally, `TALLY_OF_FACT`.
    """

    amount: str
    is_missing: str
    places: int
    own: int | None = None

    @property
    def is_by_tally(self) -> bool:
        """Whether it follows from the tally that an amount cannot be converted."""
        return self.own is not None


def unconverted(currency_id: str, bound: Bound) -> Pricing:
    """Amounts as they are; those in another currency cannot be converted."""
    own = tallies.currency(currency_id)
    is_missing = f"{tallies.currency_in(TALLY_OF_FACT)} != {bound.text(own, 'UInt32')}"
    return Pricing("revenue", is_missing, LOG_PLACES, own)


def converted(
    currency_id: str, daily: Mapping[str, Sequence[Decimal]], interval: Interval, bound: Bound
) -> Pricing:
    """Amounts by the rate of their day.

    Args:
        currency_id: wanted.
        daily: by currency, the rates of `days_of(interval)`, 0 where there is none.
        interval: of the facts.
        bound: takes the values.
    """
    days = len(days_of(interval))
    names = bound.text(list(daily), "Array(String)")
    places = bound.text([index * days for index in range(len(daily))], "Array(Int64)")
    flat = bound.text(
        [rate for rates in daily.values() for rate in rates], f"Array(Decimal(38, {RATE_PLACES}))"
    )
    day = f"intDiv(stamp, {DAY}) - {bound.text(days_of(interval).start, 'Int64')}"
    begin = f"transform(toString(currency_id), {names}, {places}, toInt64(-1))"
    known = f"arrayElement({flat}, {begin} + {day} + 1)"
    rate = f"if({begin} < 0, toDecimal128(0, {RATE_PLACES}), {known})"
    own = f"currency_id = {bound.text(currency_id, 'String')}"
    amount = (
        f"multiIf({own}, toDecimal128(revenue, {PLACES}), revenue = 0, toDecimal128(0, {PLACES}),"
        f" toDecimal128(revenue, 6) * if(({rate}) = 0, toDecimal128(1, {RATE_PLACES}), {rate}))"
    )
    return Pricing(amount, f"NOT ({own}) AND ({rate}) = 0", PLACES)


def days_of(interval: Interval) -> range:
    """The UTC days of an interval, as days since the epoch."""
    return range(interval.since // DAY, interval.until // DAY + 1)


def daily_rates(
    rates: Rates, wanted: str, currencies: Sequence[str], days: range
) -> dict[str, list[Decimal]]:
    """For each currency what a unit is worth in `wanted` on each of `days`; 0 where unknown.

    Between two currencies that are both foreign to the network the rate is the quotient of theirs,
    rounded half up to ten decimals.

    Args:
        rates: known ones, from `EARLIER_DAYS_MAX` before the first day on.
        wanted: the currency asked for.
        currencies: those to convert from.
        days: as days since the epoch.
    """
    return {
        currency: [_cross(rates, currency, wanted, day) for day in days] for currency in currencies
    }


def _cross(rates: Rates, currency: str, wanted: str, day: int) -> Decimal:
    for base, known in rates.items():
        above, below = _worth(known, base, currency, day), _worth(known, base, wanted, day)
        if above and below:
            return (above / below).quantize(Decimal(1).scaleb(-RATE_PLACES), ROUND_HALF_UP)
    return Decimal(0)


def _worth(
    known: Mapping[str, Mapping[int, Decimal]], base: str, currency: str, day: int
) -> Decimal:
    """What a unit of `currency` is worth in `base` by the nearest earlier rate; 0 if none."""
    if currency == base:
        return Decimal(1)
    found = known.get(currency, {})
    earlier = (found[at] for at in range(day, day - EARLIER_DAYS_MAX - 1, -1) if at in found)
    return next(earlier, Decimal(0))


def no_rate(currency_id: str, wanted: str, stamp: int) -> InvalidError:
    """The refusal of a report with an amount that cannot be converted.

    Args:
        currency_id: of the amount.
        wanted: asked for.
        stamp: when the amount's fact happened (seconds, UTC).
    """
    return InvalidError(
        f"currency_id: an amount in {currency_id} of {rfc3339(stamp)[:10]} cannot be shown in "
        f"{wanted}: no rate of that day or the {EARLIER_DAYS_MAX} before it is known"
    )
