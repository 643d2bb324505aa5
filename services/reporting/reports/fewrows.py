"""Reports of few rows, which are made here of groups by tally; pure.

A report by columns of few values has so few rows that what the engine takes to read and plan the
text of a whole report, and to judge each fact, is more than what it takes to group them. So it is
asked for groups of facts that count alike, each with its number and amount, and the rest is done
here: by the same `measures`, in the same order, to the same bytes.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar

from services.reporting.asking import calendar
from services.reporting.asking import conditions as asked
from services.reporting.asking.bound import Bound
from services.reporting.asking.interval import Interval
from services.reporting.asking.query import Query
from services.reporting.facts import tables, tallies
from services.reporting.facts.columns import COLUMNS, EMPTY, Column
from services.reporting.reports import measures
from services.reporting.reports.domain import Report
from services.reporting.reports.grouping import Key, bucket_key, key_of
from services.reporting.reports.measures import Sums
from services.reporting.reports.pricing import Pricing
from shared.http import json_bytes

_OFFER: Final = COLUMNS["offer"]
_EMPTY: Final = EMPTY.encode()

Group = TypeVar("Group")
_Ids = tuple[int | bytes, ...]
"""What makes a group."""
Found = Iterable[tuple[Any, ...]]
"""Rows of `Grouping.tallied`."""


class Added(Generic[Group]):
    """Sums of facts, by group.

    Attributes:
        sums: what has been added.
        is_settled: whether all amounts in them have a rate.
    """

    def __init__(self, query: Query, priced: Pricing) -> None:
        self.sums: dict[Group, dict[str, Decimal | int]] = {}
        self.is_settled = True
        self._own = priced.own
        self._kinds = measures.counted(asked.statuses(query))
        self._names: dict[tuple[int, int], tuple[list[str], list[str]]] = {}

    def add(self, group: Group, kind: int, tally: int, count: int, amount: Decimal) -> None:
        """Add facts of one kind and tally to a group."""
        sums = self.sums.setdefault(group, dict(measures.NOTHING))
        counts, amounts = self._counting(kind, tally)
        for name in counts:
            sums[name] += count
        for name in amounts:
            sums[name] = measures.added(sums[name], amount)

    def judge(self, kind: int, tally: int, missing: int) -> None:
        """Whether such facts are settled, if `missing` tells that some amount has no rate."""
        if missing or self._own not in (None, tallies.currency_of(tally)):
            self.is_settled = self.is_settled and not self._kinds[kind].priced.holds(tally)

    def _counting(self, kind: int, tally: int) -> tuple[list[str], list[str]]:
        """The counts and amounts that facts of it are in."""
        known = self._names.get((kind, tally))
        if known is None:
            counted = self._kinds[kind]
            known = self._names[kind, tally] = (
                [name for name, which in counted.counts.items() if which.holds(tally)],
                [name for name, which in counted.amounts.items() if which.holds(tally)],
            )
        return known


def is_apt(report: Report) -> bool:
    """Whether a report may have few rows."""
    return (
        bool(report.columns)
        and not report.metric_filters
        and all(column.is_of_few for column in report.columns)
    )


def key(column: Column, interval: Interval, bound: Bound) -> Key:
    """The key of a column of such a report; how it is shown is said here."""
    if column.time and column.time != "hour":
        return bucket_key(calendar.starts(interval, column.time), bound)
    if column.time or column.word:
        return key_of(column, interval, bound)
    return Key(column.id)


def lines(report: Report, priced: Pricing, found: Found) -> list[bytes] | None:
    """All rows, largest first, as JSON.

    Returns:
        None if that takes more than `found` tells: an amount without a rate, or an offer of several
        names, the last of which is not known here.
    """
    columns = list(dict.fromkeys(report.columns))
    place = columns.index(_OFFER) if _OFFER in columns else None
    added = Added[_Ids](report.query, priced)
    names: dict[_Ids, str] = {}
    for kind, *ids, told, count, amount, missing in found:
        tally = told
        name = ""
        if place is not None:
            word = tables.Word.read(_text(told))
            ids.insert(place, word.id)
            tally, name = word.tally, word.name
        group = tuple(b"" if each == _EMPTY else each for each in ids)
        if name and names.setdefault(group, name) != name:
            return None
        added.add(group, kind, tally, count, amount)
        added.judge(kind, tally, missing)
    if not added.is_settled:
        return None
    cells = [_cells(column, at, report, names) for at, column in enumerate(columns)]
    shown = [
        (name, columns.index(of)) for name, of in zip(report.names, report.columns, strict=True)
    ]
    return [
        json_bytes(
            {
                "columns": [
                    {"column_type": name, "id": cell_id, "label": label}
                    for name, at in shown
                    for cell_id, label in (cells[at](ids),)
                ],
                "reporting": measures.reporting(sums),
            }
        )
        for ids, sums in sorted(added.sums.items(), key=_largest_first)
    ]


def _cells(
    column: Column, at: int, report: Report, names: Mapping[_Ids, str]
) -> Callable[[_Ids], tuple[str, str]]:
    """How a group shows the column that its id number `at` is of: as id and label."""
    if column is _OFFER:
        return lambda ids: _named(ids[at], names.get(ids, ""))
    if column.time == "hour":
        return lambda ids: (str(ids[at]), f"{int(ids[at]):02}:00")
    if column.time:
        begins = calendar.starts(report.interval, column.time)
        labels = calendar.labels(begins, column.time, report.interval.zone)
        shown: dict[Any, str] = dict(zip(begins, labels, strict=True))
        return lambda ids: (str(ids[at]), shown[ids[at]])
    return lambda ids: (_text(ids[at] or _EMPTY),) * 2


def _named(number: Any, name: str) -> tuple[str, str]:
    return (str(number), name or str(number)) if number else (EMPTY, EMPTY)


def _text(stored: Any) -> str:
    return bytes(stored).decode(errors="replace")


def _largest_first(row: tuple[tuple[Any, ...], Sums]) -> tuple[Any, ...]:
    """The order of rows, as the engine's."""
    ids, sums = row
    return -measures.value(sums, "total_click"), -sums["revenue"], ids
