"""All SQL over the facts. Every query takes a `Scope`, and reads through a scoped view.

Values reach ClickHouse as bound parameters only; the text of a query is made of this file's own
words and of expressions from `columns.py` and `measures.py`.
"""
# ruff: noqa: S608 - see above: no value is ever part of the text

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from prometheus_client import Histogram

from services.reporting.reports import measures, tables
from services.reporting.reports.columns import COLUMNS, EMPTY, Column
from services.reporting.reports.domain import (
    ConversionSearch,
    Filter,
    Interval,
    Query,
    Report,
)
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse

ROWS_MAX: Final = 10_000
NO_LABEL: Final = "''"
"""Where no label is kept, the id is the label: `shown` falls back to it."""
ALL_TIME: Final = (0, 2**32 - 1)

_SCOPED: Final = (
    "{table}_of(network = {{network:UInt64}}, partner = {{partner:UInt64}}, "
    "since = {{since:UInt32}}, until = {{until:UInt32}})"
)

OFFER_FIELDS: Final = (
    "network_offer_id",
    "network_id",
    "name",
    "offer_status",
    "network_tracking_domain_id",
)
_SUBS: Final = ("sub1", "sub2", "sub3", "sub4", "sub5")
_DEVICE_IDS: Final = (
    "idfa",
    "idfa_md5",
    "idfa_sha1",
    "google_ad_id",
    "google_ad_id_md5",
    "google_ad_id_sha1",
    "android_id",
    "android_id_md5",
    "android_id_sha1",
)
CONVERSION_FIELDS: Final = (
    "conversion_id",
    "conversion_unix_timestamp",
    *_SUBS,
    "source_id",
    "revenue_type",
    "sale_amount",
    "is_event",
    "is_view_through",
    "session_user_ip",
    "country",
    "region",
    "city",
    "carrier",
    "platform",
    "device_type",
    *_DEVICE_IDS,
    "transaction_id",
    "click_unix_timestamp",
    "revenue",
    "currency_id",
    "event",
    "order_id",
    "coupon_code",
    "conversion_user_ip",
    "http_user_agent",
    "language",
    "dma",
    "isp",
    "referer",
    "os_version",
    "brand",
    "browser",
    "app_id",
    "adv1",
    "adv2",
    "adv3",
    "adv4",
    "adv5",
)
CLICK_FIELDS: Final = (
    "transaction_id",
    "unix_timestamp",
    "is_unique",
    "tracking_url",
    "source_id",
    *_SUBS,
    "revenue_type",
    "revenue",
    "currency_id",
    "coupon_code",
    "referer",
    "user_ip",
    "error_code",
    "error_message",
    *_DEVICE_IDS,
)
RELATED: Final = "relationship"

Row = dict[str, Any]


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


class FactStore:
    """The facts of all partners, one partner at a time."""

    def __init__(self, clickhouse: ClickHouse, seconds: Histogram) -> None:
        self._clickhouse = clickhouse
        self._seconds = seconds

    async def prepare(self, engine: str = tables.ENGINE) -> None:
        """Make the tables and views that are missing."""
        for statement in tables.statements(engine):
            await self._clickhouse.command(statement)

    async def report(self, scope: Scope, report: Report) -> list[ReportRow]:
        """The rows of a report, largest first; one more than `ROWS_MAX` if there are more.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        columns = list(dict.fromkeys(report.columns))
        bound = _Bound(scope, report.interval)
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

    async def conversions(self, scope: Scope, search: ConversionSearch) -> tuple[int, list[Row]]:
        """How many conversions match, and the page asked for, by time and id.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        bound = _Bound(scope, search.interval)
        matching = f"FROM {bound.view(tables.CONVERSIONS)} WHERE {_matching(search, bound)}"
        with self._seconds.labels("conversions_count").time():
            [(total,)] = await self._clickhouse.query(f"SELECT count() {matching}", bound.values)
        where = matching
        if search.after is not None:
            stamp, row_id = search.after
            where += (
                f" AND (conversion_unix_timestamp, conversion_id) >"
                f" ({bound.text(stamp, 'UInt32')}, {bound.text(row_id, 'String')})"
            )
        offset = 0 if search.after is not None else search.page.offset
        sql = (
            f"SELECT {_selected(CONVERSION_FIELDS)} {where}"
            " ORDER BY conversion_unix_timestamp, conversion_id"
            f" LIMIT {bound.text(search.page.size, 'UInt64')} OFFSET {bound.text(offset, 'UInt64')}"
        )
        with self._seconds.labels("conversions").time():
            rows = await self._clickhouse.query(sql, bound.values)
        return total, [_row(CONVERSION_FIELDS, row) for row in rows]

    async def click(self, scope: Scope, transaction_id: str, *, since: int) -> Row | None:
        """One click, if it is the partner's and younger than `since`, or led to a conversion.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        bound = _Bound(scope, None)
        wanted = bound.text(transaction_id, "String")
        converted = (
            f"transaction_id IN (SELECT transaction_id FROM {bound.view(tables.CONVERSIONS)}"
            f" WHERE transaction_id = {wanted})"
        )
        sql = (
            f"SELECT {_selected(CLICK_FIELDS)} FROM {bound.view(tables.CLICKS)}"
            f" WHERE transaction_id = {wanted}"
            f" AND (unix_timestamp >= {bound.text(since, 'UInt32')} OR {converted}) LIMIT 1"
        )
        with self._seconds.labels("click").time():
            rows = await self._clickhouse.query(sql, bound.values)
        return _row(CLICK_FIELDS, rows[0]) if rows else None


class _Bound:
    """The parameters of one query, beginning with its scope and interval."""

    def __init__(self, scope: Scope, interval: Interval | None) -> None:
        since, until = ALL_TIME if interval is None else (interval.since, interval.until)
        self.values: dict[str, Any] = {
            "network": scope.network_id,
            "partner": scope.network_affiliate_id,
            "since": since,
            "until": until,
        }
        if interval is not None:
            self.values["zone"] = interval.zone.name

    def view(self, table: str) -> str:
        """The scoped view of `table`."""
        return _SCOPED.format(table=table)

    def text(self, value: Any, kind: str) -> str:
        """Bind `value`; the text that stands for it in SQL."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{kind}}}"


def _selected(fields: Sequence[str]) -> str:
    """The fields and the related data; ids of fixed length are read as text."""
    texts = [
        f"toString({name})" if name.endswith(("transaction_id", "conversion_id")) else name
        for name in fields
    ]
    return ", ".join([*texts, RELATED])


def _row(fields: Sequence[str], values: Sequence[Any]) -> Row:
    return dict(zip((*fields, RELATED), values, strict=True))


# --- one report -----------------------------------------------------------------------------------


def _report_sql(report: Report, columns: Sequence[Column], bound: _Bound) -> str:
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
        for each in report.query.metric_filters
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


def _facts(report: Report, columns: Sequence[Column], bound: _Bound) -> Iterator[str]:
    conditions = list(_conditions(report.query, bound, is_traffic=True))
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
    counted_if = _status(report.query, bound)
    buckets = [
        f"{_bucket(column, column.conversion)} AS id{i},"
        f" {column.conversion_label or NO_LABEL} AS label{i}"
        for i, column in enumerate(columns)
    ]
    counted = {
        name: expression.replace("is_counted", f"({counted_if})")
        for name, expression in measures.FROM_CONVERSIONS.items()
    }
    conditions = [*_conditions(report.query, bound, is_traffic=False), "NOT is_scrub"]
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
    bound: _Bound,
) -> str:
    counts = [f"toUInt64({counted.get(name, '0')}) AS n_{name}" for name in measures.COUNTS]
    amounts = [f"toDecimal64({counted.get(name, '0')}, 6) AS n_{name}" for name in measures.AMOUNTS]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return (
        f"SELECT {', '.join([*buckets, *counts, *amounts])}, {stamp} AS stamp, currency_id"
        f" FROM {bound.view(table)} {where}"
    )


# --- conditions -----------------------------------------------------------------------------------


def _matching(search: ConversionSearch, bound: _Bound) -> str:
    kinds = [
        kind
        for kind, is_wanted in (
            ("NOT is_event", search.with_conversions),
            ("is_event", search.with_events),
        )
        if is_wanted
    ]
    conditions = [
        f"({' OR '.join(kinds) or '0'})",
        "NOT is_scrub",
        f"({_status(search.query, bound)})",
        *_conditions(search.query, bound, is_traffic=False),
    ]
    return " AND ".join(conditions)


def _status(query: Query, bound: _Bound) -> str:
    """Which conversions count: the approved ones, unless the filters name others."""
    wanted = [each.values for each in query.filters if each.resource == "status"]
    refused = [each.values for each in query.exclusions if each.resource == "status"]
    kept = bound.text(list(wanted[0] if wanted else ("approved",)), "Array(String)")
    condition = f"status IN {kept}"
    if refused:
        condition += f" AND status NOT IN {bound.text(list(refused[0]), 'Array(String)')}"
    return condition


def _conditions(query: Query, bound: _Bound, *, is_traffic: bool) -> Iterator[str]:
    """The filters that say which rows; a status is judged where conversions are counted."""
    for filters, operator in ((query.filters, "IN"), (query.exclusions, "NOT IN")):
        for each in filters:
            if each.resource != "status":
                yield (
                    f"{_expression(each, is_traffic=is_traffic)} {operator}"
                    f" {bound.text(list(_values(each)), 'Array(String)')}"
                )
    if query.redirect_traffic is not None:
        yield "is_redirect_traffic" if query.redirect_traffic else "NOT is_redirect_traffic"


def _expression(each: Filter, *, is_traffic: bool) -> str:
    if each.resource == "transaction_id":
        return "transaction_id"
    column = COLUMNS[each.resource]
    return column.traffic if is_traffic else column.conversion


def _values(each: Filter) -> Iterator[str]:
    unset = COLUMNS[each.resource].unset if each.resource in COLUMNS else ""
    for value in each.values:
        if value:
            yield value
        else:
            yield from (unset, EMPTY)
