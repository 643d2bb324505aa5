"""Raw rows in bulk: all that match, in pieces of bounded size, however many there are.

Rows come by UTC day and then by id, the order in which they are stored, so each is read once. A
piece is several days with few rows, or a range of ids within one day with many, whose end is found
over the ids alone. How many rows each day has is not asked until a day has ended, so that the first
rows need not wait for it. A row that changes meanwhile is in one piece only, since neither its day
nor its id ever changes.
"""
# ruff: noqa: S608 - no value is ever part of the text

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from services.reporting.asking.bound import Bound
from services.reporting.asking.interval import DAY, Interval
from services.reporting.facts.shapes import CLICK, CONVERSION, Shape, selected, shown
from services.reporting.rows.domain import ClickSearch, Wanted
from services.reporting.rows.store import matching_clicks, matching_conversions
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse

PIECE_ROWS: Final = 20_000
"""Stored rows a piece spans: about 30 MB of clicks as JSON."""
FIRST_PIECE_ROWS: Final = 1_000
"""The same of the first piece, so that who asks need not wait for long until rows come."""
PIECE_SECONDS: Final = 120.0
"""How long one piece may take; as a rule it is less than one second."""

FORMS: Final = {"csv": "CSV", "json": "JSONEachRow", "ndjson": "JSONEachRow"}


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of one kind that are wanted, in one format.

    Attributes:
        shape: their kind.
        interval: when they happened.
        matching: the condition, as SQL over the view.
        form: `csv`, `json` or `ndjson`.
    """

    shape: Shape
    interval: Interval
    matching: Callable[[Bound], str]
    form: str

    @property
    def header(self) -> bytes:
        """The first line of a CSV; nothing in other formats."""
        if self.form != "csv":
            return b""
        return ",".join(f'"{name}"' for name, _ in self.shape.csv).encode() + b"\n"


def conversions(wanted: Wanted, form: str) -> Selection:
    """All conversions that are wanted."""
    return Selection(
        CONVERSION, wanted.interval, lambda bound: matching_conversions(wanted, bound), form
    )


def clicks(search: ClickSearch, form: str) -> Selection:
    """All clicks that are wanted."""
    return Selection(CLICK, search.interval, lambda bound: matching_clicks(search, bound), form)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the rows.

    Attributes:
        lines: as text, a line each.
        day: which of the days of the interval it ends in, from 0.
        days: how many there are.
        last_id: the id it reaches up to; empty for the end of the day.
        rows: how many rows it has.
    """

    lines: bytes
    day: int
    days: int
    last_id: str
    rows: int


class Bulk:
    """Reads selections of one partner at a time."""

    def __init__(
        self, clickhouse: ClickHouse, *, settings: Mapping[str, Any] | None = None
    ) -> None:
        self._clickhouse = clickhouse
        self._settings = settings

    async def pieces(
        self, scope: Scope, selection: Selection, *, day: int = 0, after: str = ""
    ) -> AsyncIterator[Piece]:
        """The pieces of a selection in order, from the given place on.

        Args:
            scope: whose rows.
            selection: which.
            day: the day to begin with.
            after: the id in it to begin behind.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        days = list(_days(selection.interval))
        counts: Sequence[int] = ()
        size = min(FIRST_PIECE_ROWS, PIECE_ROWS)
        while day < len(days):
            end, last, is_empty = "", day, False
            if after or not counts or counts[day] > size:
                end = await self._end(scope, selection.shape, days[day], after, size)
            if not end and not after:
                counts = counts or await self._counts(scope, selection)
                last = _last_together(counts, day, size)
                is_empty = not any(counts[day : last + 1])
            span = replace(days[day], until=days[last].until)
            lines = b""
            if not is_empty:
                lines = await self._lines(scope, selection, span, after=after, end=end)
            yield Piece(lines, last, len(days), end, _count(lines, selection.form))
            after, size = end, PIECE_ROWS
            day = last if end else last + 1

    async def _counts(self, scope: Scope, selection: Selection) -> list[int]:
        """How many rows are stored of each day of the interval."""
        shape, interval = selection.shape, selection.interval
        bound = Bound(scope, interval)
        sql = f"SELECT toUInt32(date), count() FROM {bound.view(shape.table)} GROUP BY date"
        rows = await self._clickhouse.query(sql, bound.values, seconds=PIECE_SECONDS)
        found = {int(day): int(count) for day, count in rows}
        days = range(interval.since // DAY, interval.until // DAY + 1)
        return [found.get(day, 0) for day in days]

    async def _end(self, scope: Scope, shape: Shape, day: Interval, after: str, size: int) -> str:
        """The id that the piece of `size` behind `after` ends with; empty if the day does."""
        bound = Bound(scope, day)
        sql = (
            f"SELECT toString({shape.key}) FROM {bound.view(shape.table, shape.key)}"
            f" WHERE {_range(shape, bound, after, '')} ORDER BY {shape.key}"
            f" LIMIT 1 OFFSET {bound.text(size - 1, 'UInt64')}"
        )
        rows = await self._clickhouse.query(sql, bound.values, seconds=PIECE_SECONDS)
        return str(rows[0][0]) if rows else ""

    async def _lines(
        self, scope: Scope, selection: Selection, span: Interval, after: str = "", end: str = ""
    ) -> bytes:
        bound, shape = Bound(scope, span), selection.shape
        columns = selected(shape.csv if selection.form == "csv" else shape.json)
        where = f"{_range(shape, bound, after, end)} AND {selection.matching(bound)}"
        view = bound.view(shape.table, shape.key, columns, where)
        sql = (
            f"SELECT {columns} FROM (SELECT * FROM {view} WHERE {where}) AS fact"
            f" ORDER BY fact.date, fact.{shape.key}"
        )
        lines = await self._clickhouse.text(
            sql,
            bound.values,
            form=FORMS[selection.form],
            seconds=PIECE_SECONDS,
            settings=self._settings,
        )
        return lines if selection.form == "csv" else shown(lines)


def _last_together(counts: Sequence[int], first: int, size: int) -> int:
    """The last of the days from `first` on that have no more rows together than `size`."""
    last, rows = first, counts[first]
    while last + 1 < len(counts) and rows + counts[last + 1] <= size:
        last += 1
        rows += counts[last]
    return last


def _count(lines: bytes, form: str) -> int:
    """How many rows; within the quotes of a CSV a line may end without its row."""
    if form != "csv":
        return lines.count(b"\n")
    return sum(part.count(b"\n") for part in lines.split(b'"')[::2])


def _range(shape: Shape, bound: Bound, after: str, end: str) -> str:
    parts = []
    if after:
        parts.append(f"{shape.key} > {bound.text(after, 'FixedString(32)')}")
    if end:
        parts.append(f"{shape.key} <= {bound.text(end, 'FixedString(32)')}")
    return " AND ".join(parts) or "1"


def _days(interval: Interval) -> Iterator[Interval]:
    """The interval cut at the ends of UTC days, at which the tables are cut as well."""
    since = interval.since
    while since <= interval.until:
        end = (since // DAY + 1) * DAY - 1
        yield replace(interval, since=since, until=min(end, interval.until))
        since = end + 1
