"""The measures of a report: how each is counted from facts, how ratios are made of sums.

They are the `reporting` member of a row. Sums are exact; ratios of a zero denominator are 0.
Percentages and `rpm` have at most three decimals, `rpc` two, as live rows do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import Final

import msgspec

from services.reporting.facts.numbers import number
from services.reporting.facts.tables import DUPLICATE, INVALID, OUTCOME, UNIQUE

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

_BASE: Final = "NOT is_event AND NOT is_view_through"
_HELD: Final = "status = 'on_hold'"


@dataclass(frozen=True, slots=True)
class Which:
    """Some of the facts of a kind, as SQL.

    Attributes:
        fact: a condition on each fact; empty for none.
        outcome: likewise on a click's outcome, for which `{}` stands; empty for none.
    """

    fact: str = ""
    outcome: str = ""

    @property
    def sql(self) -> str:
        """Both conditions."""
        return " AND ".join(filter(None, (self.outcome.format(OUTCOME), self.fact))) or "1"


@dataclass(frozen=True, slots=True)
class Counted:
    """What one kind of fact counts for: names of sums, and the facts that each is of.

    Attributes:
        counts: of `COUNTS`.
        amounts: of `AMOUNTS`, the sums of the facts' amounts.
        priced: the facts whose amount is in any of these.
    """

    counts: Mapping[str, Which]
    amounts: Mapping[str, Which]
    priced: Which


_VALID: Final = f"{{}} != {INVALID}"
_REDIRECTED: Final = "is_redirect_traffic"
FROM_CLICKS: Final = Counted(
    counts={
        "unique_click": Which(outcome=f"{{}} = {UNIQUE}"),
        "duplicate_click": Which(outcome=f"{{}} = {DUPLICATE}"),
        "invalid_click": Which(outcome=f"{{}} = {INVALID}"),
    },
    amounts={
        "revenue": Which(outcome=_VALID),
        "redirect_traffic_revenue": Which(_REDIRECTED, _VALID),
    },
    priced=Which(outcome=_VALID),
)
FROM_IMPRESSIONS: Final = Counted(
    counts={"imp": Which()},
    amounts={"revenue": Which(), "redirect_traffic_revenue": Which(_REDIRECTED)},
    priced=Which(),
)


def from_conversions(is_counted: str) -> Counted:
    """Conversions count where that condition holds; those on hold are shown beside it."""
    return Counted(
        counts={
            "cv": Which(f"{is_counted} AND {_BASE}"),
            "view_through_cv": Which(f"{is_counted} AND NOT is_event AND is_view_through"),
            "event": Which(f"{is_counted} AND is_event"),
            "on_hold_conversion_count": Which(_HELD),
        },
        amounts={
            "revenue": Which(is_counted),
            "redirect_traffic_revenue": Which(f"{is_counted} AND {_REDIRECTED}"),
            "on_hold_potential_revenue": Which(_HELD),
        },
        priced=Which(f"({is_counted} OR {_HELD})"),
    )


KINDS: Final = (FROM_CLICKS, FROM_IMPRESSIONS, from_conversions(""))
"""All kinds of fact, in the order of a grouping, for the names of what each counts."""


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

    def of(self, sums: Mapping[str, Decimal | int]) -> Decimal:
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


def value(sums: Mapping[str, Decimal | int], metric: str) -> Decimal | int:
    """A metric that is no ratio, of a row's sums."""
    if metric == "total_click":
        return sums["unique_click"] + sums["duplicate_click"]
    return sums[metric]


def reporting(sums: Mapping[str, Decimal | int]) -> dict[str, int | msgspec.Raw]:
    """The `reporting` member of a row.

    Args:
        sums: a value for each of `SUMS`.
    """
    whole = dict(sums) | {"total_click": sums["unique_click"] + sums["duplicate_click"]}
    return {
        name: number(RATIOS[name].of(whole) if name in RATIOS else whole[name]) for name in METRICS
    }


def total(rows: Iterable[Mapping[str, Decimal | int]]) -> dict[str, Decimal | int]:
    """The sums of all rows together."""
    found: dict[str, Decimal | int] = dict(NOTHING)
    for row in rows:
        for name in SUMS:
            found[name] += row[name]
    return found


def daily(sums: Mapping[str, Decimal | int]) -> dict[str, int | msgspec.Raw]:
    """The `reporting` member of a day."""
    whole = reporting(sums)
    return {name: whole[name] for name in DAILY}


NOTHING: Final[Mapping[str, int]] = MappingProxyType(dict.fromkeys(SUMS, 0))
"""The sums of no facts."""
