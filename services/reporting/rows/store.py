"""All SQL over raw rows. Every query takes a `Scope`, and reads through a scoped view.

Values reach ClickHouse as bound parameters only; the text of a query is made of this file's own
words and of expressions from `facts/` and `asking/`.
"""
# ruff: noqa: S608 - see above: no value is ever part of the text

from prometheus_client import Histogram

from services.reporting.asking import conditions
from services.reporting.asking.bound import Bound
from services.reporting.facts import tables
from services.reporting.facts.shapes import (
    CLICK_FIELDS,
    CONVERSION_FIELDS,
    Row,
    row_of,
    selected,
)
from services.reporting.rows.domain import ConversionSearch
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse


class RowStore:
    """The raw rows of all partners, one partner at a time."""

    def __init__(self, clickhouse: ClickHouse, seconds: Histogram) -> None:
        self._clickhouse = clickhouse
        self._seconds = seconds

    async def conversions(self, scope: Scope, search: ConversionSearch) -> tuple[int, list[Row]]:
        """How many conversions match, and the page asked for, by time and id.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        bound = Bound(scope, search.interval)
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
            f"SELECT {selected(CONVERSION_FIELDS)} {where}"
            " ORDER BY conversion_unix_timestamp, conversion_id"
            f" LIMIT {bound.text(search.page.size, 'UInt64')} OFFSET {bound.text(offset, 'UInt64')}"
        )
        with self._seconds.labels("conversions").time():
            rows = await self._clickhouse.query(sql, bound.values)
        return total, [row_of(CONVERSION_FIELDS, row) for row in rows]

    async def click(self, scope: Scope, transaction_id: str, *, since: int) -> Row | None:
        """One click, if it is the partner's and younger than `since`, or led to a conversion.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        bound = Bound(scope, None)
        wanted = bound.text(transaction_id, "String")
        converted = (
            f"transaction_id IN (SELECT transaction_id FROM {bound.view(tables.CONVERSIONS)}"
            f" WHERE transaction_id = {wanted})"
        )
        sql = (
            f"SELECT {selected(CLICK_FIELDS)} FROM {bound.view(tables.CLICKS)}"
            f" WHERE transaction_id = {wanted}"
            f" AND (unix_timestamp >= {bound.text(since, 'UInt32')} OR {converted}) LIMIT 1"
        )
        with self._seconds.labels("click").time():
            rows = await self._clickhouse.query(sql, bound.values)
        return row_of(CLICK_FIELDS, rows[0]) if rows else None


def _matching(search: ConversionSearch, bound: Bound) -> str:
    kinds = [
        kind
        for kind, is_wanted in (
            ("NOT is_event", search.with_conversions),
            ("is_event", search.with_events),
        )
        if is_wanted
    ]
    wanted = [
        f"({' OR '.join(kinds) or '0'})",
        "NOT is_scrub",
        f"({conditions.status(search.query, bound)})",
        *conditions.conditions(search.query, bound),
    ]
    return " AND ".join(wanted)
