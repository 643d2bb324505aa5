"""What each endpoint of reports does: read the request, ask the store, shape the answer."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import msgspec

from services.reporting.asking import calendar
from services.reporting.asking.answers import Answer, Through
from services.reporting.asking.interval import DAY, Interval
from services.reporting.asking.members import Body, read_body
from services.reporting.asking.pages import read_page
from services.reporting.facts import tables
from services.reporting.reports import dashboard, domain, measures
from services.reporting.reports.measures import Sums
from services.reporting.reports.store import ReportStore, Rows, csv_header
from services.reporting.scope import Scope
from shared.clock import Clock
from shared.errors import NotFoundError
from shared.http import json_bytes

TABLES: Final = (tables.CLICKS, tables.IMPRESSIONS, tables.CONVERSIONS, tables.RATES)
CSV: Final = "text/csv; charset=utf-8"
TRENDING_MAX: Final = 10
"""How many trending offers are shown."""
LINES_A_CHUNK: Final = 500
"""Rows of a streamed answer that are sent together."""
HOURLY_SECONDS_MAX: Final = 2 * DAY + 3_600
"""Longest interval whose series is by the hour: two days, one of which may have an hour more."""

_NOTHING_ASKED: Final[Mapping[str, str]] = MappingProxyType({})

OwnCurrency = Callable[[Scope], Awaitable[str]]
"""The currency of the partner's network, for requests that name none."""


@dataclass(frozen=True, slots=True)
class File:
    """An answer that is sent as it is made.

    Attributes:
        media_type: of its content.
        chunks: its bytes.
        is_cut: whether rows beyond the first 10,000 were left out, or facts are gone for their age.
        through: log time (seconds, UTC) up to which it is complete.
    """

    media_type: str
    chunks: Iterator[bytes]
    is_cut: bool
    through: float


@dataclass(frozen=True, slots=True)
class Reports:
    """The handlers, with what they need."""

    store: ReportStore
    through: Through
    own_currency: OwnCurrency
    clock: Clock
    has_header_if_empty: bool = True
    """Whether a CSV file without rows has its header line."""
    kept_days: int = tables.RETENTION_DAYS
    """For how long facts are kept; an answer that reaches back further may be incomplete."""

    async def table(self, scope: Scope, raw: bytes) -> Answer:
        """`POST /v1/affiliates/reporting/entity/table`.

        Raises:
            InvalidError: the body is wrong, or an amount has no rate to its currency.
            UnavailableError: ClickHouse does not answer in time.
        """
        return await self._table(scope, domain.read_report(read_body(raw)))

    async def entity(self, scope: Scope, raw: bytes) -> Answer:
        """`POST /v1/affiliates/reporting/entity`; raises as `table`."""
        report = domain.read_report(read_body(raw))
        through = self.through(scope, TABLES)
        begins = series_of(report.interval)
        found = await self.store.entity(scope, report, begins)
        nothing = json_bytes(measures.reporting(measures.NOTHING))
        series = [
            {"unix": begin, "reporting": msgspec.Raw(found.series.get(begin, nothing))}
            for begin in begins
        ]
        more = {"summary": msgspec.Raw(found.summary), "performance": series}
        return Answer(_table_body(self._judged(report, found.rows)) | more, through)

    async def export(self, scope: Scope, raw: bytes) -> File:
        """`POST /v1/affiliates/reporting/entity/table/export`; raises as `table`."""
        return await self._file(scope, raw, "csv")

    async def stream(self, scope: Scope, raw: bytes) -> File:
        """`POST /v1/affiliates/reporting/entity/stream`; raises as `table`."""
        return await self._file(scope, raw, "json")

    async def _file(self, scope: Scope, raw: bytes, default: str) -> File:
        body = read_body(raw)
        report = domain.read_report(body)
        file_format = domain.read_format(body, default)
        through = self.through(scope, TABLES)
        if file_format == "json":
            return _stream(self._judged(report, await self.store.table(scope, report)), through)
        rows = self._judged(report, await self.store.csv(scope, report))
        if not rows.lines and not self.has_header_if_empty:
            return File(CSV, iter(()), rows.is_cut, through)
        chunks = _chunks(rows.lines, csv_header(report) + b"\r\n", b"\r\n", b"\r\n")
        return File(CSV, chunks, rows.is_cut, through)

    async def by_sub(self, scope: Scope, raw: bytes, number: str) -> Answer:
        """`POST /v1/affiliates/reporting/sub/{number}`; raises as `table`.

        Raises:
            NotFoundError: there is no such sub.
        """
        name = domain.sub_column(number)
        body = read_body(raw)
        own = await self._own_currency(scope, body)
        return await self._table(scope, domain.read_report_by(body, name, own))

    async def by_offer(
        self, scope: Scope, raw: bytes, parameters: Mapping[str, str] = _NOTHING_ASKED
    ) -> Answer:
        """`POST /v1/affiliates/reporting/offer`: `columns` and `filters` are ignored.

        In pages if body or query string ask for one; raises as `table`.
        """
        body = read_body(raw)
        own = await self._own_currency(scope, body)
        report = domain.read_report_by(domain.without_filters(body), "offer", own)
        page = read_page(body, parameters) if domain.asks_for_page(body, parameters) else None
        through = self.through(scope, TABLES)
        rows = self._judged(report, await self.store.table(scope, report))
        if page is None:
            return Answer(_table_body(rows), through)
        lines = rows.lines[page.offset : page.offset + page.size]
        paging = {"paging": page.echo(len(rows.lines))}
        return Answer(_table_body(Rows(lines, rows.is_cut)) | paging, through)

    async def daily(self, scope: Scope, raw: bytes) -> Answer:
        """`POST /v1/affiliates/reporting/daily`: each day of the interval; raises as `table`."""
        body = read_body(raw)
        own = await self._own_currency(scope, body)
        report = domain.read_daily(body, own)
        through = self.through(scope, TABLES)
        begins = calendar.starts(report.interval, "date")
        found = await self.store.sums(scope, report, begins)
        names = calendar.labels(begins, "date", report.interval.zone)
        rows = [
            {"date": name, "reporting": measures.daily(found.get(begin, measures.NOTHING))}
            for begin, name in zip(begins, names, strict=True)
        ]
        summary = measures.reporting(measures.total(found.values()))
        is_cut = self._is_forgotten(report)
        return Answer({"table": rows, "summary": summary, "incomplete_results": is_cut}, through)

    async def summary(self, scope: Scope, raw: bytes) -> Answer:
        """`POST /v1/affiliates/dashboard/summary`: the cards; raises as `table`."""
        body = read_body(raw)
        periods = dashboard.periods(self.clock.time(), domain.read_zone(body))
        own = await self._own_currency(scope, body)
        report = domain.read_totals(body, periods.interval, own)
        through = self.through(scope, TABLES)
        pieces = await self.store.sums(scope, report, periods.begins)
        return Answer(dashboard.cards(periods, pieces), through)

    async def performance(self, scope: Scope, raw: bytes) -> Answer:
        """`POST /v1/affiliates/dashboard/performance`: a series; raises as `table`."""
        body = read_body(raw)
        own = await self._own_currency(scope, body)
        report = domain.read_chart(body, own, now=self.clock.time())
        through = self.through(scope, TABLES)
        begins = series_of(report.interval)
        pieces = await self.store.sums(scope, report, begins)
        summary = measures.reporting(measures.total(pieces.values()))
        return Answer(
            {"performance": dashboard.series(begins, pieces), "summary": summary}, through
        )

    async def trending(self, scope: Scope, raw: bytes) -> Answer:
        """`POST /v1/affiliates/dashboard/trending/offers`: those with most clicks today.

        Raises as `table`.
        """
        through = self.through(scope, TABLES)
        offers, _ = await self._trending(scope, raw, None)
        shown = sorted(offers, key=dashboard.by_clicks)[:TRENDING_MAX]
        return Answer({"offers": shown, "incomplete_results": len(offers) > TRENDING_MAX}, through)

    async def trending_offer(self, scope: Scope, raw: bytes, offer_id: str) -> Answer:
        """`POST /v1/affiliates/dashboard/trending/offers/{offer_id}`; raises as `table`.

        Raises:
            NotFoundError: neither today nor yesterday has a fact of it.
        """
        through = self.through(scope, TABLES)
        offers, report = await self._trending(scope, raw, offer_id)
        if not offers:
            raise NotFoundError
        begins = calendar.hour_starts(report.interval)
        pieces = await self.store.sums(scope, report, begins)
        return Answer(offers[0] | {"performance": dashboard.series(begins, pieces)}, through)

    async def _trending(
        self, scope: Scope, raw: bytes, offer_id: str | None
    ) -> tuple[list[dict[str, Any]], domain.Report]:
        """The offers of yesterday and today, and the report of them without its columns."""
        body = read_body(raw)
        periods = dashboard.periods(self.clock.time(), domain.read_zone(body))
        own = await self._own_currency(scope, body)
        interval = Interval(periods.yesterday, periods.now, periods.zone)
        report = domain.read_offers(body, interval, own, offer_id)
        found: dict[str, dict[int, Sums]] = defaultdict(dict)
        names: dict[str, str] = {}
        for piece in await self.store.pieces(scope, report, periods.begins):
            ((number, name),) = piece.cells
            found[number][piece.begin] = piece.sums
            if name != number:
                names[number] = name  # pieces are in the order of time: the last is kept
        offers = [
            dashboard.trending_offer(number, names.get(number, number), periods, pieces)
            for number, pieces in found.items()
        ]
        return offers, replace(report, names=(), columns=())

    async def _table(self, scope: Scope, report: domain.Report) -> Answer:
        through = self.through(scope, TABLES)
        rows = await self.store.table(scope, report)
        return Answer(_table_body(self._judged(report, rows)), through)

    def _judged(self, report: domain.Report, rows: Rows) -> Rows:
        """The rows of a report, with whether they are all that was."""
        return replace(rows, is_cut=rows.is_cut or self._is_forgotten(report))

    def _is_forgotten(self, report: domain.Report) -> bool:
        """Whether facts of its interval may have been removed for their age."""
        return report.interval.since < self.clock.time() - self.kept_days * DAY

    async def _own_currency(self, scope: Scope, body: Body) -> str:
        return "" if body.get("currency_id") else await self.own_currency(scope)


def series_of(interval: Interval) -> list[int]:
    """The seconds at which a series' buckets begin: hours of a short interval, days of others."""
    if interval.until - interval.since < HOURLY_SECONDS_MAX:
        return calendar.hour_starts(interval)
    return calendar.starts(interval, "date")


def _table_body(rows: Rows) -> dict[str, Any]:
    return {
        "table": [msgspec.Raw(line) for line in rows.lines],
        "incomplete_results": rows.is_cut,
    }


def _stream(rows: Rows, through: float) -> File:
    end = b'],"incomplete_results":%s}' % (b"true" if rows.is_cut else b"false")
    chunks = _chunks(rows.lines, b'{"table":[', b",", end)
    return File("application/json", chunks, rows.is_cut, through)


def _chunks(lines: Sequence[bytes], begin: bytes, between: bytes, end: bytes) -> Iterator[bytes]:
    """The lines with what stands around them, some at a time; the first chunk is the beginning."""
    yield begin
    for index in range(0, len(lines), LINES_A_CHUNK):
        chunk = between.join(lines[index : index + LINES_A_CHUNK])
        yield chunk if index + LINES_A_CHUNK >= len(lines) else chunk + between
    yield end if lines or end != between else b""
