"""All SQL over raw rows. Every query takes a `Scope`, and reads through a scoped view.

Which rows an answer has is found over narrow columns, then their whole rows are read from the days
that they are of: so the last page costs what the first does. ClickHouse writes the rows as text.

Values reach ClickHouse as bound parameters only; the text of a query is made of this file's own
words and of expressions from `facts/` and `asking/`.
"""
# ruff: noqa: S608 - see above: no value is ever part of the text

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from prometheus_client import Histogram

from services.reporting.asking import conditions
from services.reporting.asking.bound import Bound
from services.reporting.asking.interval import DAY, Interval
from services.reporting.facts import tables, views
from services.reporting.facts.shapes import CLICK, CONVERSION, HELD, Shape, selected, shown
from services.reporting.rows.domain import ClickSearch, ConversionSearch, Wanted
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse

WINDOW_DAYS: Final = (1, 4)
"""The newest clicks are looked for in so many days, then in all."""

Place = tuple[int, str]
"""Time and id of a row."""


@dataclass(frozen=True, slots=True)
class RowPage:
    """Rows as JSON.

    Attributes:
        total: how many match, on all pages.
        rows: those of the page, in order.
        places: their times and ids.
    """

    total: int
    rows: list[bytes]
    places: list[Place]


class _Stamped(msgspec.Struct):
    """What of a click says how old it is."""

    unix_timestamp: int


class RowStore:
    """The raw rows of all partners, one partner at a time."""

    def __init__(self, clickhouse: ClickHouse, seconds: Histogram) -> None:
        self._clickhouse = clickhouse
        self._seconds = seconds

    # --- conversions ------------------------------------------------------------------------------

    async def conversions(self, scope: Scope, search: ConversionSearch) -> RowPage:
        """The page asked for, by time and id; with `hold_statuses`, of times on hold.

        A row that changes while the page is read is shown as it is after.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        wanted = search.wanted
        shape = CONVERSION if wanted.hold_statuses is None else HELD
        bound = Bound(scope, wanted.interval)
        where = matching_conversions(wanted, bound)
        sql = f"SELECT count() FROM {bound.view(tables.CONVERSIONS, where)} WHERE {where}"
        with self._seconds.labels("conversions_count").time():
            [(total,)] = await self._clickhouse.query(sql, bound.values)
        places = await self._page(scope, search, shape)
        order = "DESC" if search.is_newest_first else ""
        rows = await self._rows(scope, shape, wanted.interval, places, order)
        return RowPage(total, rows, places)

    async def _page(self, scope: Scope, search: ConversionSearch, shape: Shape) -> list[Place]:
        interval, offset = search.wanted.interval, search.page.offset
        order, beyond = ("DESC", "<") if search.is_newest_first else ("", ">")
        if search.after is not None:
            interval = _beyond(interval, search.after[0], is_newest_first=search.is_newest_first)
            offset = 0
        bound = Bound(scope, interval)
        where = matching_conversions(search.wanted, bound)
        if search.after is not None:
            stamp, row_id = search.after
            where += (
                f" AND ({shape.stamp}, {shape.key}) {beyond}"
                f" ({bound.text(stamp, 'UInt32')}, {bound.text(row_id, 'String')})"
            )
        view = bound.view(shape.table, shape.stamp, shape.key, where)
        sql = (
            f"SELECT {shape.stamp}, toString({shape.key}) FROM {view}"
            f" WHERE {where} ORDER BY {shape.stamp} {order}, {shape.key} {order}"
            f" LIMIT {bound.text(search.page.size, 'UInt64')} OFFSET {bound.text(offset, 'UInt64')}"
        )
        with self._seconds.labels("conversions_find").time():
            return [
                (int(row[0]), row[1]) for row in await self._clickhouse.query(sql, bound.values)
            ]

    async def _rows(
        self, scope: Scope, shape: Shape, interval: Interval, places: Sequence[Place], order: str
    ) -> list[bytes]:
        """The whole rows of `places`, by time and id."""
        if not places:
            return []
        stamps = [stamp for stamp, _ in places]
        bound = Bound(scope, replace(interval, since=min(stamps), until=max(stamps)))
        ids = bound.text([row_id for _, row_id in places], "Array(FixedString(32))")
        columns = selected(shape.json)
        view = bound.view(shape.table, shape.stamp, shape.key, columns)
        sql = (
            f"SELECT {columns} FROM (SELECT * FROM {view} WHERE {shape.key} IN {ids}) AS fact"
            f" ORDER BY fact.{shape.stamp} {order}, fact.{shape.key} {order}"
        )
        with self._seconds.labels(f"{shape.table}_rows").time():
            return shown(await self._clickhouse.text(sql, bound.values)).splitlines()

    async def conversion(self, scope: Scope, conversion_id: str) -> bytes | None:
        """One conversion, if it stands approved.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        approved = " AND fact.status = 'approved' AND NOT fact.is_scrub"
        place = views.one(tables.CONVERSIONS, "conversion_id", approved)
        return await self._one("conversion", scope, CONVERSION, place, conversion_id)

    async def held(self, scope: Scope, hold_id: str) -> bytes | None:
        """One time on hold.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        id_column = "hold.on_hold_conversion_id"
        place = views.one(tables.CONVERSIONS, id_column, " AND NOT fact.is_scrub")
        return await self._one("held", scope, HELD, place, hold_id)

    # --- clicks -----------------------------------------------------------------------------------

    async def click(self, scope: Scope, transaction_id: str, *, visible_since: int) -> bytes | None:
        """One click, if it is the partner's and younger than that, or led to a conversion.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        place = views.one(tables.CLICKS, "transaction_id")
        row = await self._one("click", scope, CLICK, place, transaction_id)
        if row is None or msgspec.json.decode(row, type=_Stamped).unix_timestamp >= visible_since:
            return row
        return row if await self._has_converted(scope, transaction_id) else None

    async def _has_converted(self, scope: Scope, transaction_id: str) -> bool:
        bound = Bound(scope, None)
        sql = (
            f"SELECT 1 FROM {bound.view(tables.CONVERSIONS, 'transaction_id')}"
            f" WHERE transaction_id = {bound.text(transaction_id, 'String')} LIMIT 1"
        )
        with self._seconds.labels("click_converted").time():
            return bool(await self._clickhouse.query(sql, bound.values))

    async def newest_clicks(self, scope: Scope, search: ClickSearch, count: int) -> list[Place]:
        """Time and id of the newest clicks, newest first; `count` at most.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        found: list[Place] = []
        for window in _windows(search.interval):
            bound = Bound(scope, window)
            where = matching_clicks(search, bound)
            view = bound.view(tables.CLICKS, "unix_timestamp transaction_id", where)
            sql = (
                f"SELECT unix_timestamp, toString(transaction_id) FROM {view} WHERE {where}"
                " ORDER BY unix_timestamp DESC, transaction_id DESC"
                f" LIMIT {bound.text(count, 'UInt64')}"
            )
            with self._seconds.labels("clicks_find").time():
                rows = await self._clickhouse.query(sql, bound.values)
            found = [(int(row[0]), row[1]) for row in rows]
            if len(found) == count:
                break
        return found

    async def count_clicks(self, scope: Scope, search: ClickSearch) -> int:
        """How many clicks match.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        bound = Bound(scope, search.interval)
        where = matching_clicks(search, bound)
        sql = f"SELECT count() FROM {bound.view(tables.CLICKS, where)} WHERE {where}"
        with self._seconds.labels("clicks_count").time():
            [(total,)] = await self._clickhouse.query(sql, bound.values)
        return int(total)

    async def clicks(self, scope: Scope, search: ClickSearch, places: list[Place]) -> list[bytes]:
        """The whole rows of `places`, newest first.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        return await self._rows(scope, CLICK, search.interval, places, "DESC")

    async def _one(
        self, read: str, scope: Scope, shape: Shape, place: str, row_id: str
    ) -> bytes | None:
        values = Bound(scope, None).values | {"id": row_id}
        with self._seconds.labels(read).time():
            sql = f"SELECT {selected(shape.json)} FROM {place}"
            return shown(await self._clickhouse.text(sql, values)).strip() or None


def _beyond(interval: Interval, stamp: int, *, is_newest_first: bool) -> Interval:
    """What of an interval can hold rows behind one of that time."""
    if is_newest_first:
        return replace(interval, until=min(interval.until, stamp))
    return replace(interval, since=max(interval.since, stamp))


def _windows(interval: Interval) -> Iterator[Interval]:
    """The last days of an interval, more each time, and then the whole of it."""
    for days in WINDOW_DAYS:
        since = interval.until - days * DAY + 1
        if since > interval.since:
            yield replace(interval, since=since)
    yield interval


def matching_conversions(wanted: Wanted, bound: Bound) -> str:
    """Which conversions are wanted, as SQL over the view."""
    kinds = [
        kind
        for kind, is_wanted in (
            ("NOT is_event", wanted.with_conversions),
            ("is_event", wanted.with_events),
        )
        if is_wanted
    ]
    parts = [f"({' OR '.join(kinds) or '0'})", "NOT is_scrub"]
    if wanted.view_through is not None:
        parts.append("is_view_through" if wanted.view_through else "NOT is_view_through")
    if wanted.with_scrubbed_only:
        parts.append("is_scrub")
    if wanted.hold_statuses is None:
        counting = bound.text(sorted(conditions.statuses(wanted.query)), "Array(String)")
        parts.append(f"status IN {counting}")
    else:
        parts.append("hold.on_hold_conversion_id != ''")
        statuses = bound.text(list(wanted.hold_statuses), "Array(String)")
        parts.append(f"hold.status IN {statuses}")
    return " AND ".join([*parts, *conditions.conditions(wanted.query, bound)])


def matching_clicks(search: ClickSearch, bound: Bound) -> str:
    """Which clicks are wanted, as SQL over the view."""
    parts = list(conditions.conditions(search.query, bound))
    if search.interval.since < search.visible_since:
        converted = views.of_all_time(tables.CONVERSIONS, "transaction_id")
        parts.append(
            f"(unix_timestamp >= {bound.text(search.visible_since, 'UInt32')}"
            f" OR transaction_id IN (SELECT transaction_id FROM {converted}))"
        )
    return " AND ".join(parts) or "1"
