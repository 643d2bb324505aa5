"""What each endpoint of reports does: read the request, ask the store, shape the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.reporting.asking.answers import Answer, Through
from services.reporting.asking.members import read_body
from services.reporting.facts import tables
from services.reporting.facts.columns import shown
from services.reporting.reports import domain, measures
from services.reporting.reports.store import ROWS_MAX, ReportRow, ReportStore
from services.reporting.scope import Scope
from shared.errors import InvalidError


@dataclass(frozen=True, slots=True)
class Reports:
    """The handlers, with what they need."""

    store: ReportStore
    through: Through

    async def table(self, scope: Scope, raw: bytes) -> Answer:
        """`POST /v1/affiliates/reporting/entity/table`.

        Raises:
            InvalidError: the body is wrong, or its amounts are in another currency.
            UnavailableError: ClickHouse does not answer in time.
        """
        report = domain.read_report(read_body(raw))
        through = self.through(scope, (tables.CLICKS, tables.IMPRESSIONS, tables.CONVERSIONS))
        found = await self.store.report(scope, report)
        rows = found[:ROWS_MAX]
        _refuse_other_currencies(report, rows)
        body = {
            "table": [_report_row(report, row) for row in rows],
            "incomplete_results": len(found) > ROWS_MAX,
        }
        return Answer(body, through)


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
