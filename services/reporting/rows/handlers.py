"""What each endpoint of raw rows does: read the request, ask the store, hand on the rows."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from services.reporting.asking.answers import Answer, Through
from services.reporting.asking.members import is_hex_id, read_body
from services.reporting.facts import tables
from services.reporting.paging import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from services.reporting.rows import bulk, domain
from services.reporting.rows.domain import EXPORTS, STREAM_ROWS_MAX, TRUNCATED, Wanted
from services.reporting.rows.store import RowStore
from services.reporting.scope import Scope
from shared.clock import Clock
from shared.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class Found:
    """One row as JSON, and the log time (seconds, UTC) up to which it is complete."""

    row: bytes
    through: float


@dataclass(frozen=True, slots=True)
class Flow:
    """An answer that is written while it is read.

    Attributes:
        parts: of the body.
        through: log time (seconds, UTC) up to which it is complete.
        headers: further ones.
    """

    parts: AsyncIterator[bytes]
    through: float
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Rows:
    """The handlers, with what they need."""

    store: RowStore
    bulk: bulk.Bulk
    through: Through
    clock: Clock

    # --- conversions ------------------------------------------------------------------------------

    async def conversions(self, scope: Scope, raw: bytes, parameters: Mapping[str, str]) -> Answer:
        """`POST /v1/affiliates/reporting/conversions`.

        Raises:
            InvalidError: the body or the query string is wrong.
            UnavailableError: ClickHouse does not answer in time.
        """
        return await self._page(scope, raw, parameters, domain.read_conversions)

    async def events(self, scope: Scope, raw: bytes, parameters: Mapping[str, str]) -> Answer:
        """`POST /v1/affiliates/reporting/postconversions`; raises as `conversions`.

        Its programs know of no pages, so one that asks for none gets the largest.
        """
        return await self._page(scope, raw, parameters, domain.read_events, PAGE_SIZE_MAX)

    async def held(self, scope: Scope, raw: bytes, parameters: Mapping[str, str]) -> Answer:
        """`POST /v1/affiliates/reporting/onhold`; raises as `conversions`."""
        return await self._page(scope, raw, parameters, domain.read_held)

    async def _page(
        self,
        scope: Scope,
        raw: bytes,
        parameters: Mapping[str, str],
        read: Callable[..., Wanted],
        size: int = PAGE_SIZE_DEFAULT,
    ) -> Answer:
        body = read_body(raw)
        wanted = read(body, now=self.clock.time())
        search = domain.read_search(wanted, body, parameters, size)
        through = self.through(scope, (tables.CONVERSIONS,))
        page = await self.store.conversions(scope, search)
        paging: dict[str, Any] = dict(search.page.echo(page.total))
        if len(page.places) == search.page.size:
            paging["next_cursor"] = domain.write_cursor(
                *page.places[-1], goes_down=search.is_newest_first
            )
        rows = [msgspec.Raw(row) for row in page.rows]
        return Answer({"conversions": rows, "paging": paging}, through)

    async def conversion(self, scope: Scope, conversion_id: str) -> Found:
        """`GET /v1/affiliates/reporting/conversions/{conversion_id}`.

        Raises:
            NotFoundError: the partner has no such conversion that stands approved.
            UnavailableError: ClickHouse does not answer in time.
        """
        return await self._one(scope, conversion_id, self.store.conversion)

    async def held_one(self, scope: Scope, hold_id: str) -> Found:
        """`GET /v1/affiliates/reporting/onhold/{hold_id}`.

        Raises:
            NotFoundError: no conversion of the partner had this time on hold.
            UnavailableError: ClickHouse does not answer in time.
        """
        return await self._one(scope, hold_id, self.store.held)

    async def export(self, scope: Scope, raw: bytes) -> Flow:
        """`POST /v1/affiliates/reporting/conversions/export`.

        Raises:
            InvalidError: the body is wrong.
            UnavailableError: ClickHouse does not answer in time.
        """
        body = read_body(raw)
        wanted = domain.read_conversions(body, now=self.clock.time())
        form = domain.read_format(body)
        through = self.through(scope, (tables.CONVERSIONS,))
        selection = bulk.conversions(wanted, form)
        pieces = self.bulk.pieces(scope, selection)
        first = await anext(pieces)
        parts = _csv(first, pieces, selection.header) if form == "csv" else _json(first, pieces)
        kind = {"csv": "text/csv; charset=utf-8", "json": "application/json"}[form]
        name = f'attachment; filename="conversions.{form}"'
        return Flow(parts, through, {"content-type": kind, "content-disposition": name})

    # --- clicks -----------------------------------------------------------------------------------

    async def clicks(self, scope: Scope, raw: bytes) -> Flow:
        """`POST /v1/affiliates/reporting/clicks/stream`, and its older name `…/clicks`.

        Raises:
            InvalidError: the body is wrong.
            UnavailableError: ClickHouse does not answer in time.
        """
        search = domain.read_clicks(read_body(raw), now=self.clock.time())
        through = self.through(scope, (tables.CLICKS, tables.CONVERSIONS))
        places = await self.store.newest_clicks(scope, search, STREAM_ROWS_MAX + 1)
        headers = {"content-type": "application/json"}
        is_truncated = len(places) > STREAM_ROWS_MAX
        if is_truncated:
            total = await self.store.count_clicks(scope, search)
            headers[TRUNCATED] = f'rows={STREAM_ROWS_MAX}, total={total}, exports="{EXPORTS}"'

        async def parts() -> AsyncIterator[bytes]:
            yield b'{"clicks":['
            rows = b",".join(await self.store.clicks(scope, search, places[:STREAM_ROWS_MAX]))
            yield rows
            yield b'],"table":['
            yield rows
            yield b'],"incomplete_results":%s}' % (b"true" if is_truncated else b"false")

        return Flow(parts(), through, headers)

    async def click(self, scope: Scope, transaction_id: str) -> Found:
        """`GET /v1/affiliates/reporting/clicks/{transaction_id}`.

        Raises:
            NotFoundError: the partner has no such click, or it is too old to be shown.
            UnavailableError: ClickHouse does not answer in time.
        """
        since = domain.clicks_visible_since(self.clock.time())

        async def read(scope: Scope, wanted: str) -> bytes | None:
            return await self.store.click(scope, wanted, visible_since=since)

        return await self._one(scope, transaction_id, read, tables.CLICKS, tables.CONVERSIONS)

    async def _one(
        self,
        scope: Scope,
        row_id: str,
        read: Callable[[Scope, str], Awaitable[bytes | None]],
        *read_tables: str,
    ) -> Found:
        wanted = row_id.lower()
        if not is_hex_id(wanted):
            raise NotFoundError("Not Found")
        through = self.through(scope, read_tables or (tables.CONVERSIONS,))
        row = await read(scope, wanted)
        if row is None:
            raise NotFoundError("Not Found")
        return Found(row, through)


async def _csv(
    first: bulk.Piece, rest: AsyncIterator[bulk.Piece], header: bytes
) -> AsyncIterator[bytes]:
    yield header + first.lines
    async for piece in rest:
        if piece.lines:
            yield piece.lines


async def _json(first: bulk.Piece, rest: AsyncIterator[bulk.Piece]) -> AsyncIterator[bytes]:
    """An object with one list, as the endpoint with pages has it."""
    yield b'{"conversions":[' + _listed(first.lines)
    has_rows = bool(first.lines)
    async for piece in rest:
        if piece.lines:
            yield (b"," if has_rows else b"") + _listed(piece.lines)
            has_rows = True
    yield b"]}"


def _listed(lines: bytes) -> bytes:
    return lines.rstrip(b"\n").replace(b"\n", b",")
