"""The measures of a report: how each is counted from facts, how ratios are made of sums.

They are the `reporting` member of a row. Sums are exact; ratios of a zero denominator are 0.
Percentages and `rpm` have at most three decimals, `rpc` two, as live rows do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import msgspec

from services.reporting.facts.numbers import number
from services.reporting.facts.tallies import DUPLICATE, INVALID, UNIQUE, Which, which

COUNTS: Final = (
    "imp",
    "unique_click",
    "duplicate_click",
    "invalid_click",
    "cv",
    "view_through_cv",
    "event",
    "on_hold_conversion_count",
)
AMOUNTS: Final = ("revenue", "redirect_traffic_revenue", "on_hold_potential_revenue")
SUMS: Final = (*COUNTS, *AMOUNTS)
"""What is added up per fact, in the order of the query's columns."""
Sums = Mapping[str, Decimal | int]
"""A value for each of them."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one kind of fact counts for: names of sums, and the facts that each is of.

    Attributes:
        counts: of `COUNTS`.
        amounts: of `AMOUNTS`, the sums of the facts' amounts.
        priced: the facts whose amount is in any of these and is not 0.
    """

    counts: Mapping[str, Which]
    amounts: Mapping[str, Which]
    priced: Which


_VALID: Final = (UNIQUE, DUPLICATE)
_HELD: Final = ("on_hold",)


@lru_cache(maxsize=64)
def counted(statuses: frozenset[str]) -> tuple[Counted, Counted, Counted]:
    """What clicks, impressions and conversions count for.

    Args:
        statuses: of conversions that count; those on hold are shown beside them.
    """
    return (
        Counted(
            counts={
                "unique_click": which(outcomes=[UNIQUE]),
                "duplicate_click": which(outcomes=[DUPLICATE]),
                "invalid_click": which(outcomes=[INVALID]),
            },
            amounts={
                "revenue": which(outcomes=_VALID),
                "redirect_traffic_revenue": which(outcomes=_VALID, redirected=True),
            },
            priced=which(outcomes=_VALID, amount=True),
        ),
        Counted(
            counts={"imp": which()},
            amounts={"revenue": which(), "redirect_traffic_revenue": which(redirected=True)},
            priced=which(amount=True),
        ),
        Counted(
            counts={
                "cv": which(statuses=statuses, event=False, view_through=False),
                "view_through_cv": which(statuses=statuses, event=False, view_through=True),
                "event": which(statuses=statuses, event=True),
                "on_hold_conversion_count": which(statuses=_HELD),
            },
            amounts={
                "revenue": which(statuses=statuses),
                "redirect_traffic_revenue": which(statuses=statuses, redirected=True),
                "on_hold_potential_revenue": which(statuses=_HELD),
            },
            priced=which(statuses={*statuses, *_HELD}, amount=True),
        ),
    )


_EXACT: Final = Context(prec=76)
"""More digits than the engine's amounts have; the usual 28 would round large converted ones."""
PLACES: Final = 16
"""Decimals of an amount, in the engine: six of the log, ten of a rate."""
_AMOUNT: Final = f"Decimal(38, {PLACES})"


@dataclass(frozen=True, slots=True)
class Ratio:
    """`numerator / denominator`, times `scale`, rounded half up; the denominator is a count."""

    numerator: str
    denominator: str
    scale: int = 1
    decimals: int = 3

    def of(self, sums: Sums) -> Decimal:
        """Its value for a row's sums."""
        below = Decimal(sums[self.denominator])
        if not below:
            return Decimal(0)
        value = Decimal(sums[self.numerator]) * self.scale / below
        return value.quantize(Decimal(1).scaleb(-self.decimals), ROUND_HALF_UP)

    @property
    def sql(self) -> str:
        """The same over columns that have the names of the sums: exact, by one digit more."""
        places = PLACES if self.numerator in AMOUNTS else 0
        above = f"toDecimal256({self.numerator}, {places}) * {self.scale}"
        below = f"toDecimal128(greatest({self.denominator}, 1), 0)"
        quotient = f"divideDecimal({above}, {below}, {self.decimals + 1})"
        value = f"toDecimal128(round({quotient}, {self.decimals}), {self.decimals})"
        return f"if({self.denominator} = 0, toDecimal128(0, {self.decimals}), {value})"


RATIOS: Final[Mapping[str, Ratio]] = {
    "ctr": Ratio("total_click", "imp", 100),
    "cvr": Ratio("cv", "total_click", 100),
    "evr": Ratio("event", "cv", 100),
    "rpc": Ratio("revenue", "total_click", decimals=2),
    "rpm": Ratio("revenue", "imp", 1000),
}
"""`evr` counts events per base conversion; the sources name that and unique clicks."""

METRICS: Final = (
    "imp",
    "total_click",
    "unique_click",
    "duplicate_click",
    "invalid_click",
    "ctr",
    "cv",
    "view_through_cv",
    "event",
    "cvr",
    "evr",
    "revenue",
    "rpc",
    "rpm",
    "redirect_traffic_revenue",
    "on_hold_conversion_count",
    "on_hold_potential_revenue",
)
"""The members of `reporting`, in their order."""


DAILY: Final = ("imp", "total_click", "unique_click", "cv", "cvr", "revenue", "event")
"""Those of them that a day of the daily report has."""


def sql_of(metric: str) -> str:
    """The metric as rows show it, over the sums of a query."""
    return RATIOS[metric].sql if metric in RATIOS else metric


def sql_type_of(metric: str) -> str:
    """Its type in the database."""
    if metric in RATIOS:
        return f"Decimal(38, {RATIOS[metric].decimals})"
    return _AMOUNT if metric in AMOUNTS else "UInt64"


def sql_reporting() -> str:
    """The `reporting` member of a row as a named tuple, over the sums of a query."""
    values = ", ".join(sql_of(metric) for metric in METRICS)
    types = ", ".join(f"{metric} {sql_type_of(metric)}" for metric in METRICS)
    return f"CAST(tuple({values}), 'Tuple({types})')"


def value(sums: Sums, metric: str) -> Decimal | int:
    """A metric that is no ratio, of a row's sums."""
    if metric == "total_click":
        return sums["unique_click"] + sums["duplicate_click"]
    return sums[metric]


def reporting(sums: Sums) -> dict[str, int | msgspec.Raw]:
    """The `reporting` member of a row.

    Args:
        sums: a value for each of `SUMS`.
    """
    whole = dict(sums) | {"total_click": sums["unique_click"] + sums["duplicate_click"]}
    return {
        name: number(RATIOS[name].of(whole) if name in RATIOS else whole[name]) for name in METRICS
    }


def added(one: Decimal | int, other: Decimal | int) -> Decimal:
    """The sum of two amounts, exact as the engine's."""
    return _EXACT.add(one, other)


def total(rows: Iterable[Sums]) -> dict[str, Decimal | int]:
    """The sums of all rows together."""
    found: dict[str, Decimal | int] = dict(NOTHING)
    for row in rows:
        for name in COUNTS:
            found[name] += row[name]
        for name in AMOUNTS:
            found[name] = added(found[name], row[name])
    return found


def daily(sums: Sums) -> dict[str, int | msgspec.Raw]:
    """The `reporting` member of a day."""
    whole = reporting(sums)
    return {name: whole[name] for name in DAILY}


NOTHING: Final[Mapping[str, int]] = MappingProxyType(dict.fromkeys(SUMS, 0))
"""The sums of no facts."""
