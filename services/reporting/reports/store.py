"""All questions of reports to ClickHouse. Every query takes a `Scope`, and reads scoped views.

Rows come as the text that the wire has, rendered by the engine: ten thousand of them cost this
process nothing but their concatenation. Few rows are made here (`fewrows.py`), since a longer
statement would cost more. What they are made of is in `grouping.py`.
"""
# ruff: noqa: S608 - no value is ever part of the text, see `grouping.py`

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from prometheus_client import Histogram

from services.reporting.asking.bound import Bound
from services.reporting.facts import views
from services.reporting.facts.columns import COLUMNS, Column, column_of
from services.reporting.reports import fewrows, measures, pricing
from services.reporting.reports.domain import Report
from services.reporting.reports.fewrows import Added
from services.reporting.reports.grouping import Grouping, bucket_key, key_of
from services.reporting.reports.measures import Sums
from services.reporting.reports.pricing import Pricing
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse
from shared.errors import UnavailableError

ROWS_MAX: Final = 10_000
TALLIED_MAX: Final = 5_000
"""More groups than these, fewer than `ROWS_MAX`, are not worth adding up here."""
_ROWS, _SERIES, _SUMMARY = 0, 1, 2
_LINES: Final = {"output_format_json_escape_forward_slashes": 0}


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a report, largest first, each as the text of its format; and whether some are cut."""

    lines: Sequence[bytes]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Entity:
    """Rows, and the metrics (JSON) of all facts that they are made of.

    Attributes:
        rows: of the report.
        series: by the second that a bucket of time begins at; those without facts are left out.
        summary: of all rows, cut ones too.
    """

    rows: Rows
    series: Mapping[int, bytes]
    summary: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """The sums of the facts of a bucket of time.

    Attributes:
        cells: id and label of each column.
        begin: when the bucket begins (seconds, UTC).
        sums: a value for each of `measures.SUMS`.
    """

    cells: Sequence[tuple[str, str]]
    begin: int
    sums: Sums


def _is_settled(_priced: Pricing, found: Iterable[tuple[Any, ...]]) -> bool:
    return not any(row[0] for row in found)


class ReportStore:
    """Reports over the facts of all partners, one partner at a time.

    Args:
        clickhouse: has the facts and rates.
        seconds: how long each kind of read takes.
        rates_through: log time (seconds, UTC) up to which rates are stored.
    """

    def __init__(
        self,
        clickhouse: ClickHouse,
        seconds: Histogram,
        rates_through: Callable[[], float],
    ) -> None:
        self._clickhouse = clickhouse
        self._seconds = seconds
        self._rates_through = rates_through
        self._intricate: set[tuple[Scope, str]] = set()
        """Who, for which currency, has had amounts converted or an offer of several names."""
        self._many: set[tuple[Scope, tuple[Column, ...]]] = set()
        """Who has had more groups, of which columns, than are worth reading here."""

    async def table(self, scope: Scope, report: Report) -> Rows:
        """The rows of a report as JSON objects.

        Raises:
            InvalidError: an amount has no rate to the currency asked for.
            UnavailableError: ClickHouse does not answer in time.
        """
        few = await self._few(scope, report) if fewrows.is_apt(report) else None
        return few or await self._rows(scope, report, _json)

    async def csv(self, scope: Scope, report: Report) -> Rows:
        """The rows of a report as lines of CSV, see `csv_header`; raises as `table`."""
        return await self._rows(scope, report, _csv)

    async def entity(self, scope: Scope, report: Report, begins: Sequence[int]) -> Entity:
        """Rows, series by `begins` (seconds, ascending) and summary, by one statement.

        Raises:
            InvalidError: an amount has no rate to the currency asked for.
            UnavailableError: ClickHouse does not answer in time.
        """

        def statement(grouping: Grouping) -> str:
            parts = (_rows_sql(grouping, _json(report, grouping)), _series_sql(grouping, begins))
            return f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY kind, place"

        found = await self._asked(scope, report, statement)
        lines = [line for _, kind, _, line in found if kind == _ROWS]
        return Entity(
            rows=Rows(lines[:ROWS_MAX], len(lines) > ROWS_MAX),
            series={place: _bare(line) for _, kind, place, line in found if kind == _SERIES},
            summary=next(_bare(line) for _, kind, _, line in found if kind == _SUMMARY),
        )

    async def sums(self, scope: Scope, report: Report, begins: Sequence[int]) -> Mapping[int, Sums]:
        """The sums of all facts by the bucket of time, of `begins`, that they happened in.

        Columns and metric filters of `report` are not looked at.

        Raises:
            InvalidError: an amount has no rate to the currency asked for.
            UnavailableError: ClickHouse does not answer in time.
        """

        def statement(grouping: Grouping) -> str:
            return replace(grouping, keys=[bucket_key(begins, grouping.bound)]).tallied()

        sums: Mapping[int, Sums] = {}

        def is_settled(priced: Pricing, found: Iterable[tuple[Any, ...]]) -> bool:
            nonlocal sums
            added = Added[int](report.query, priced)
            for kind, begin, tally, count, amount, missing in found:
                added.add(begin, kind, tally, count, amount)
                added.judge(kind, tally, missing)
            sums = added.sums
            return added.is_settled

        plain = replace(report, names=(), columns=(), metric_filters=())
        await self._asked(scope, plain, statement, is_settled)
        return sums

    async def pieces(self, scope: Scope, report: Report, begins: Sequence[int]) -> list[Piece]:
        """The sums of all facts by the report's columns and buckets of time; raises as `sums`."""

        def statement(grouping: Grouping) -> str:
            grouping = replace(grouping, keys=[*grouping.keys, bucket_key(begins, grouping.bound)])
            *shown, _ = grouping.shown()
            cells = ", ".join(f"({cell_id}, {label})" for cell_id, label in shown)
            bucket = grouping.ids[-1]
            return (
                f"SELECT unsettled, [{cells}] AS cells, toUInt32({bucket}) AS begin,"
                f" {', '.join(measures.SUMS)} FROM {grouping.groups()} ORDER BY begin"
            )

        return [
            Piece([(_text(a), _text(b)) for a, b in cells], begin, _sums(sums))
            for _, cells, begin, *sums in await self._asked(scope, report, statement)
        ]

    async def names(self, scope: Scope, report: Report) -> list[tuple[tuple[str, str], ...]]:
        """Id and label of each column, of all rows, whatever their amounts are in.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        bound = Bound(scope, report.interval)
        grouping = _grouping(report, pricing.unconverted(report.currency_id, bound), bound)
        shown = [expression for pair in grouping.shown() for expression in pair]
        order = _order(grouping.ids)
        sql = (
            f"SELECT {', '.join(shown)} FROM {grouping.groups()} ORDER BY {order} LIMIT {ROWS_MAX}"
        )
        with self._seconds.labels("names").time():
            found = await self._clickhouse.query(sql, bound.values)
        return [tuple(zip(row[::2], row[1::2], strict=True)) for row in found]

    async def _few(self, scope: Scope, report: Report) -> Rows | None:
        """The rows of a report made here; None if that takes more than was thought.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        if (scope, report.currency_id) in self._intricate or (scope, report.columns) in self._many:
            return None
        bound = Bound(scope, report.interval)
        keys = [fewrows.key(column, report.interval, bound) for column in _distinct(report)]
        priced = pricing.unconverted(report.currency_id, bound)
        grouping = Grouping(report.query, keys, priced, bound)
        found = await self._found(grouping, lambda grouping: grouping.tallied(TALLIED_MAX + 1))
        if len(found) > TALLIED_MAX:
            self._many.add((scope, report.columns))
            return None
        lines = fewrows.lines(report, priced, found)
        if lines is None:
            self._intricate.add((scope, report.currency_id))
            return None
        return Rows(lines, is_cut=False)

    async def _rows(self, scope: Scope, report: Report, render: "_Render") -> Rows:
        def statement(grouping: Grouping) -> str:
            return f"{_rows_sql(grouping, render(report, grouping))} ORDER BY place"

        found = await self._asked(scope, report, statement)
        return Rows([line for *_, line in found[:ROWS_MAX]], len(found) > ROWS_MAX)

    async def _asked(
        self,
        scope: Scope,
        report: Report,
        statement: "_Statement",
        is_settled: "_Judge" = _is_settled,
    ) -> Sequence[tuple[Any, ...]]:
        """The rows of a statement, once they are settled: by default those not `unsettled`.

        Most partners earn in one currency and ask for it, and most offers keep their names, so that
        is tried first; a partner for whom it was not enough is taken to need the whole again.

        Raises:
            InvalidError: an amount has no rate to the currency asked for.
            UnavailableError: ClickHouse does not answer in time, or rates are still being read.
        """
        if (scope, report.currency_id) not in self._intricate:
            bound = Bound(scope, report.interval)
            priced = pricing.unconverted(report.currency_id, bound)
            plain = replace(_grouping(report, priced, bound), is_dated=False)
            found = await self._found(plain, statement)
            if is_settled(priced, found):
                return found
        bound = Bound(scope, report.interval)
        grouping = _grouping(report, await self._converting(report, bound), bound)
        found = await self._found(grouping, statement)
        if not is_settled(grouping.pricing, found):
            raise await self._unpriced(report, grouping)
        self._intricate.add((scope, report.currency_id))
        return found

    async def _found(
        self, grouping: Grouping, statement: "_Statement"
    ) -> Sequence[tuple[Any, ...]]:
        with self._seconds.labels("report").time():
            return await self._clickhouse.query(
                statement(grouping), grouping.bound.values, settings=_LINES, texts_as_bytes=True
            )

    async def _unpriced(self, report: Report, grouping: Grouping) -> Exception:
        """What to tell: a rate that was logged before the amount may not be read yet."""
        through_ms = int(self._rates_through() * 1_000)
        sql = (
            "SELECT toString(currency_id), toUInt32(min(stamp)) AS first, min(_appended)"
            f" FROM {grouping.unpriced()} GROUP BY currency_id ORDER BY first LIMIT 1"
        )
        found = await self._clickhouse.query(sql, grouping.bound.values)
        if not found:
            return UnavailableError("Amounts changed while they were read; ask again in a moment.")
        [(currency, stamp, appended_ms)] = found
        if appended_ms > through_ms:
            return UnavailableError("Currency rates are still being read; ask again in a moment.")
        return pricing.no_rate(currency, report.currency_id, stamp)

    async def _converting(self, report: Report, bound: Bound) -> Pricing:
        """Amounts by the rates of their days."""
        foreign = await self._foreign(report, bound)
        if not foreign:
            return pricing.unconverted(report.currency_id, bound)
        days = pricing.days_of(report.interval)
        since = days.start - pricing.EARLIER_DAYS_MAX
        names = bound.text([*foreign, report.currency_id], "Array(String)")
        bound.values |= {"first": since, "last": days.stop}
        sql = (
            f"SELECT base_currency_id, currency_id, toInt32(date), rate FROM {views.RATES_BETWEEN}"
            f" WHERE currency_id IN {names} OR base_currency_id IN {names}"
        )
        found = await self._clickhouse.query(sql, bound.values)
        daily = pricing.daily_rates(_rates(found), report.currency_id, foreign, days)
        return pricing.converted(report.currency_id, daily, report.interval, bound)

    async def _foreign(self, report: Report, bound: Bound) -> list[str]:
        """The other currencies in which the partner's facts have amounts."""
        wanted = bound.text(report.currency_id, "String")
        parts = [
            "SELECT DISTINCT toString(currency_id) AS currency"
            f" FROM {bound.view(table, 'currency_id revenue')}"
            f" WHERE currency_id != {wanted} AND revenue != 0"
            for table in ("clicks", "impressions", "conversions")
        ]
        sql = f"SELECT DISTINCT currency FROM ({' UNION ALL '.join(parts)}) ORDER BY currency"
        return [currency for (currency,) in await self._clickhouse.query(sql, bound.values)]


def csv_header(report: Report) -> bytes:
    """The first line of the CSV form: an offer has two fields, metrics their keys."""
    names = [
        field
        for name, column in zip(report.names, report.columns, strict=True)
        for field in (("network_offer_id", "offer_name") if column.name == "offer" else (name,))
    ]
    return ",".join([*names, *measures.METRICS]).encode()


# --- statements -----------------------------------------------------------------------------------


def _grouping(report: Report, priced: Pricing, bound: Bound) -> Grouping:
    keys = [key_of(column, report.interval, bound) for column in _distinct(report)]
    kept = [
        f"({measures.sql_of(each.metric)}) {each.operator}"
        f" {bound.text(each.value, f'Decimal(38, {measures.PLACES})')}"
        for each in report.metric_filters
    ]
    return Grouping(report.query, keys, priced, bound, " AND ".join(kept))


def _distinct(report: Report) -> list[Column]:
    return list(dict.fromkeys(report.columns))


def _order(ids: Iterable[str]) -> str:
    return ", ".join(["unsettled DESC", "total_click DESC", "revenue DESC", *ids])


def _rows_sql(grouping: Grouping, line: str) -> str:
    """The largest groups as lines, in order by `place`; one more than `ROWS_MAX` if there is."""
    largest = (
        f"SELECT * FROM {grouping.groups()} ORDER BY {_order(grouping.ids)} LIMIT {ROWS_MAX + 1}"
    )
    return (
        f"SELECT unsettled, {_ROWS} AS kind, toUInt32(rowNumberInAllBlocks()) AS place,"
        f" {line} AS line FROM ({largest})"
    )


def _series_sql(grouping: Grouping, begins: Sequence[int]) -> str:
    """The facts of all groups by bucket of time, and together as the summary.

    Where metric filters keep some groups only, their facts alone are taken.
    """
    ids = ", ".join(grouping.ids)
    only = f"({ids}) IN (SELECT {ids} FROM {grouping.groups()})" if grouping.kept else ""
    bucket = bucket_key(begins, grouping.bound)
    by_time = Grouping(
        query=grouping.query,
        keys=[*grouping.keys, bucket] if only else [bucket],
        pricing=grouping.pricing,
        bound=grouping.bound,
        only=only,
        is_dated=grouping.is_dated,
    )
    place = by_time.ids[-1]
    sums = [f"sum({name}) AS {name}" for name in (*measures.SUMS, "total_click")]
    buckets = (
        "SELECT max(unsettled) AS unsettled,"
        f" if(grouping({place}) = 0, {_SERIES}, {_SUMMARY}) AS kind, toUInt32({place}) AS place,"
        f" {', '.join(sums)}"
        f" FROM {by_time.groups()} GROUP BY GROUPING SETS (({place}), ())"
    )
    return f"SELECT unsettled, kind, place, {_metrics()} AS line FROM ({buckets})"


# --- lines ----------------------------------------------------------------------------------------

_Statement = Callable[[Grouping], str]
_Judge = Callable[[Pricing, Sequence[tuple[Any, ...]]], bool]
_Render = Callable[[Report, Grouping], str]
"""How a group becomes a line: an expression over the groups."""
_BEFORE_METRICS: Final = len('{"reporting":')


def _json(report: Report, grouping: Grouping) -> str:
    cells = ", ".join(
        f"('{name}', {cell_id}, {label})" for name, (cell_id, label) in _cells(report, grouping)
    )
    cell = "Tuple(column_type String, id String, label String)"
    return (
        f"formatRowNoNewline('JSONEachRow', CAST([{cells}], 'Array({cell})') AS columns,"
        f" {measures.sql_reporting()} AS reporting)"
    )


def _csv(report: Report, grouping: Grouping) -> str:
    fields = []
    for name, (cell_id, label) in _cells(report, grouping):
        fields += [cell_id, label] if column_of(name) is COLUMNS["offer"] else [label]
    return f"formatRowNoNewline('CSV', {', '.join(fields)}, {measures.sql_reporting()})"


def _metrics() -> str:
    return f"formatRowNoNewline('JSONEachRow', {measures.sql_reporting()} AS reporting)"


def _text(found: Any) -> str:
    """A text that the driver may have left as bytes."""
    return found.decode() if isinstance(found, bytes) else str(found)


def _sums(values: Sequence[Any]) -> Sums:
    return dict(zip(measures.SUMS, values, strict=True))


def _bare(line: bytes) -> bytes:
    """The metrics alone."""
    return line[_BEFORE_METRICS:-1]


def _cells(report: Report, grouping: Grouping) -> list[tuple[str, tuple[str, str]]]:
    """The columns by the names that were asked for, repeated ones repeated."""
    shown = dict(zip(_distinct(report), grouping.shown(), strict=True))
    return [
        (name, shown[column]) for name, column in zip(report.names, report.columns, strict=True)
    ]


def _rates(found: Iterable[tuple[str, str, int, Decimal]]) -> pricing.Rates:
    rates: dict[str, dict[str, dict[int, Decimal]]] = defaultdict(lambda: defaultdict(dict))
    for base, currency, day, rate in found:
        rates[base][currency][day] = rate
    return rates
