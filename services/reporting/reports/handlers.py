"""What each endpoint of the facts does: read the request, ask the store, shape the answer.

How fresh an answer is, is asked before the facts are: so it is never ahead of what was read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.reporting.reports import domain, measures, tables
from services.reporting.reports.columns import shown
from services.reporting.reports.store import (
    CLICK_FIELDS,
    CONVERSION_FIELDS,
    OFFER_FIELDS,
    RELATED,
    ROWS_MAX,
    FactStore,
    ReportRow,
    Row,
)
from services.reporting.scope import Scope
from shared import topics
from shared.clock import Clock
from shared.errors import InvalidError, NotFoundError
from shared.events import Click, Conversion, Impression, Tracked, check_tracked
from shared.kafka import Record

CLICK_DAYS_MAX: Final = 92
"""Raw clicks are shown for three months, and for good if they led to a conversion."""

Through = Callable[[Scope, Sequence[str]], float]
"""Log time up to which the partner's rows of these tables are stored."""


def check_fact(record: Record[bytes, bytes]) -> Tracked:
    """The fact in a record of a tracking topic, proved to be of its key's partner (step 6).

    Raises:
        InvalidError: it is not of its schema, or of another partner.
    """
    if record.topic == topics.CLICKS.name:
        return check_tracked(Click, record.key, record.value)
    if record.topic == topics.IMPRESSIONS.name:
        return check_tracked(Impression, record.key, record.value)
    return check_tracked(Conversion, record.key, record.value)


@dataclass(frozen=True, slots=True)
class Answer:
    """A body, and the log time (seconds, UTC) up to which it is complete."""

    body: dict[str, Any]
    through: float


@dataclass(frozen=True, slots=True)
class Reports:
    """The handlers, with what they need."""

    store: FactStore
    through: Through
    clock: Clock

    async def table(self, scope: Scope, raw: bytes) -> Answer:
        """`POST /v1/affiliates/reporting/entity/table`.

        Raises:
            InvalidError: the body is wrong, or its amounts are in another currency.
            UnavailableError: ClickHouse does not answer in time.
        """
        report = domain.read_report(domain.read_body(raw))
        through = self.through(scope, (tables.CLICKS, tables.IMPRESSIONS, tables.CONVERSIONS))
        found = await self.store.report(scope, report)
        rows = found[:ROWS_MAX]
        _refuse_other_currencies(report, rows)
        body = {
            "table": [_report_row(report, row) for row in rows],
            "incomplete_results": len(found) > ROWS_MAX,
        }
        return Answer(body, through)

    async def conversions(self, scope: Scope, raw: bytes, parameters: Mapping[str, str]) -> Answer:
        """`POST /v1/affiliates/reporting/conversions`.

        Raises:
            InvalidError: the body or the query string is wrong.
            UnavailableError: ClickHouse does not answer in time.
        """
        search = domain.read_conversion_search(
            domain.read_body(raw), parameters, now=self.clock.time()
        )
        through = self.through(scope, (tables.CONVERSIONS,))
        total, rows = await self.store.conversions(scope, search)
        paging: dict[str, Any] = dict(search.page.echo(total))
        if len(rows) == search.page.size:
            last = rows[-1]
            paging["next_cursor"] = domain.write_cursor(
                last["conversion_unix_timestamp"], last["conversion_id"]
            )
        return Answer(
            {"conversions": [_conversion(row) for row in rows], "paging": paging}, through
        )

    async def click(self, scope: Scope, transaction_id: str) -> Answer:
        """`GET /v1/affiliates/reporting/clicks/{transaction_id}`.

        Raises:
            NotFoundError: the partner has no such click, or it is too old to be shown.
            UnavailableError: ClickHouse does not answer in time.
        """
        wanted = transaction_id.lower()
        if not domain.is_hex_id(wanted):
            raise NotFoundError("Not Found")
        through = self.through(scope, (tables.CLICKS, tables.CONVERSIONS))
        since = max(0, int(self.clock.time()) - CLICK_DAYS_MAX * 86_400)
        row = await self.store.click(scope, wanted, since=since)
        if row is None:
            raise NotFoundError("Not Found")
        return Answer(_click(row), through)


def _refuse_other_currencies(report: domain.Report, rows: Sequence[ReportRow]) -> None:
    others = {currency for row in rows for currency in row.currencies} - {report.currency_id}
    if others:
        raise InvalidError(
            f"currency_id: amounts are recorded in {', '.join(sorted(others))} and cannot be "
            f"shown in {report.currency_id}: no conversion rates are known"
        )


def _report_row(report: domain.Report, row: ReportRow) -> dict[str, Any]:
    zone = report.interval.zone.info
    distinct = dict(zip(dict.fromkeys(report.columns), row.buckets, strict=True))
    columns = []
    for name, column in zip(report.names, report.columns, strict=True):
        bucket_id, label = shown(column, *distinct[column], zone)
        columns.append({"column_type": name, "id": bucket_id, "label": label})
    return {"columns": columns, "reporting": measures.reporting(row.sums)}


def _conversion(row: Row) -> dict[str, Any]:
    shaped = {name: row[name] for name in CONVERSION_FIELDS}
    shaped["revenue"] = measures.number(row["revenue"])
    shaped["sale_amount"] = measures.number(row["sale_amount"])
    related = row[RELATED]
    shaped[RELATED] = {"offer": _offer(related), "events_count": related["events_count"]}
    return shaped


def _click(row: Row) -> dict[str, Any]:
    shaped = {name: row[name] for name in CLICK_FIELDS}
    shaped["revenue"] = measures.number(row["revenue"])
    related = row[RELATED]
    shaped[RELATED] = dict(related) | {"offer": _offer(related)}
    return shaped


def _offer(related: Mapping[str, Any]) -> dict[str, Any]:
    """The offer beside a row; a record may leave out the status of an active one."""
    offer = {name: related["offer"][name] for name in OFFER_FIELDS}
    offer["offer_status"] = offer["offer_status"] or "active"
    return offer
