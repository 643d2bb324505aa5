"""All SQL of reports. Every query takes a `Scope`, and reads through a scoped view.

Values reach ClickHouse as bound parameters only; the text of a query is made of this file's own
words and of expressions from `facts/`, `asking/` and `measures.py`.
"""
# ruff: noqa: S608 - see above: no value is ever part of the text

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from prometheus_client import Histogram

from services.reporting.asking import conditions as asked
from services.reporting.asking.bound import Bound
from services.reporting.facts import tables
from services.reporting.facts.columns import EMPTY, Column
from services.reporting.reports import measures
from services.reporting.reports.domain import Report
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse

ROWS_MAX: Final = 10_000
NO_LABEL: Final = "''"
"""Where no label is kept, the id is the label: `shown` falls back to it."""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One row of a report.

    Attributes:
        buckets: id and label of each distinct column, as the database has them.
        sums: a value for each of `measures.SUMS`.
        currencies: those in which the row's amounts are.
    """

    buckets: tuple[tuple[str, str], ...]
    sums: dict[str, Decimal | int]
    currencies: tuple[str, ...]


class ReportStore:
    """The facts of all partners, one partner at a time."""

    def __init__(self, clickhouse: ClickHouse, seconds: Histogram) -> None:
        self._clickhouse = clickhouse
        self._seconds = seconds

    async def report(self, scope: Scope, report: Report) -> list[ReportRow]:
        """The rows of a report, largest first; one more than `ROWS_MAX` if there are more.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        columns = list(dict.fromkeys(report.columns))
        bound = Bound(scope, report.interval)
        with self._seconds.labels("report").time():
            found = await self._clickhouse.query(_report_sql(report, columns, bound), bound.values)
        width = 2 * len(columns)
        return [
            ReportRow(
                buckets=tuple((row[i], row[i + 1]) for i in range(0, width, 2)),
                sums=dict(zip(measures.SUMS, row[width:-1], strict=True)),
                currencies=tuple(row[-1]),
            )
            for row in found
        ]


# --- one report -----------------------------------------------------------------------------------


def _report_sql(report: Report, columns: Sequence[Column], bound: Bound) -> str:
    """One grouping over the union of the three fact tables, with zeros where a fact has no part."""
    facts = " UNION ALL ".join(_facts(report, columns, bound))
    groups = [f"id{i}" for i in range(len(columns))]
    labels = [
        f"id{i}, argMax(label{i}, (label{i} != '', stamp)) AS newest{i}"
        for i in range(len(columns))
    ]
    sums = [f"sum(n_{name}) AS {name}" for name in measures.SUMS]
    amounts = " OR ".join(f"n_{name} != 0" for name in measures.AMOUNTS)
    conditions = [
        f"{measures.sql_of(each.metric)} {each.operator} {bound.text(each.value, 'Float64')}"
        for each in report.metric_filters
    ]
    having = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    inner = (
        f"SELECT {', '.join([*labels, *sums])}, groupUniqArrayIf(currency_id, {amounts}) AS money,"
        " unique_click + duplicate_click AS total_click"
        f" FROM ({facts}) GROUP BY {', '.join(groups)}"
    )
    shown = [f"{name}, newest{i}" for i, name in enumerate(groups)]
    return (
        f"SELECT {', '.join([*shown, *measures.SUMS])}, money FROM ({inner}) {having}"
        f" ORDER BY total_click DESC, revenue DESC, {', '.join(groups)} LIMIT {ROWS_MAX + 1}"
    )


def _facts(report: Report, columns: Sequence[Column], bound: Bound) -> Iterator[str]:
    conditions = list(asked.conditions(report.query, bound, is_traffic=True))
    for table, counted in (
        (tables.CLICKS, measures.FROM_CLICKS),
        (tables.IMPRESSIONS, measures.FROM_IMPRESSIONS),
    ):
        buckets = [
            f"{_bucket(column, column.traffic)} AS id{i},"
            f" {column.traffic_label or NO_LABEL} AS label{i}"
            for i, column in enumerate(columns)
        ]
        yield _fact(
            table,
            buckets,
            "unix_timestamp",
            counted=counted,
            conditions=conditions,
            bound=bound,
        )
    counted_if = asked.status(report.query, bound)
    buckets = [
        f"{_bucket(column, column.conversion)} AS id{i},"
        f" {column.conversion_label or NO_LABEL} AS label{i}"
        for i, column in enumerate(columns)
    ]
    counted = {
        name: expression.replace("is_counted", f"({counted_if})")
        for name, expression in measures.FROM_CONVERSIONS.items()
    }
    conditions = [*asked.conditions(report.query, bound, is_traffic=False), "NOT is_scrub"]
    yield _fact(
        tables.CONVERSIONS,
        buckets,
        "conversion_unix_timestamp",
        counted=counted,
        conditions=conditions,
        bound=bound,
    )


def _bucket(column: Column, expression: str) -> str:
    """The id that a row is grouped by: what reads `N/A` is one bucket."""
    if column.time or column.traffic_label:
        return expression
    return f"if({expression} = '{EMPTY}', '', {expression})"


def _fact(
    table: str,
    buckets: Sequence[str],
    stamp: str,
    *,
    counted: Mapping[str, str],
    conditions: Sequence[str],
    bound: Bound,
) -> str:
    counts = [f"toUInt64({counted.get(name, '0')}) AS n_{name}" for name in measures.COUNTS]
    amounts = [f"toDecimal64({counted.get(name, '0')}, 6) AS n_{name}" for name in measures.AMOUNTS]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return (
        f"SELECT {', '.join([*buckets, *counts, *amounts])}, {stamp} AS stamp, currency_id"
        f" FROM {bound.view(table)} {where}"
    )
