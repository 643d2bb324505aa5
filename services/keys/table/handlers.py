"""What the table answers, one method a question: permit, read.

Every question is about the network of the token and no other. Who lacks the permission to read is
refused, and the attempt is an event.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.keys.staff import READ, Permits, Staff
from services.keys.store import Store
from services.keys.table.domain import Filters, Found, Listing, Row, Sort
from services.keys.table.store import TableStore
from services.keys.usage.domain import Source, Usage
from services.keys.usage.store import Usages
from shared.clock import Clock

BATCH_ROWS: Final = 1_000
"""Rows of a file that are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a list; `next_cursor` is None at its end, `at` the moment of judgement."""

    rows: Sequence[Row]
    next_cursor: str | None
    at: float


@dataclass(frozen=True, slots=True)
class OneKey:
    """A key, how it is used, and the networks it is used from, the last one first."""

    row: Row
    usage: Usage
    sources: Sequence[Source]
    at: float


@dataclass(frozen=True, slots=True)
class Export:
    """All rows of a list, in batches that are read as they are asked for."""

    batches: AsyncIterator[Sequence[Row]]
    at: float


@dataclass(frozen=True, slots=True)
class TableHandlers:
    """What the API calls.

    Raises, all of them:
        ForbiddenError: the caller is not staff, or lacks the permission.
        UnavailableError: Postgres does not answer.
    """

    table: TableStore
    store: Store
    usages: Usages
    permits: Permits
    clock: Clock

    async def page(
        self, staff: Staff, filters: Filters, sort: Sort, cursor: str | None, limit: int
    ) -> Page:
        """Up to `limit` keys of the network, behind `cursor` if there is one.

        Raises:
            InvalidError: the cursor was damaged, or belongs to another list.
        """
        await self.permits.permit(staff, READ, "list keys", filters.network_affiliate_id or 0)
        listing = Listing(staff.network_id, filters, sort)
        behind = listing.place(cursor) if cursor is not None else None
        now = self.clock.time()
        found = await self.table.page(listing, behind, now=now, limit=limit + 1)
        shown = found[:limit]
        goes_on = len(found) > limit
        following = listing.cursor(shown[-1].place) if goes_on else None
        return Page([one.row for one in shown], following, now)

    async def page_of_partner(
        self, staff: Staff, filters: Filters, sort: Sort, cursor: str | None, limit: int
    ) -> Page:
        """The same of the partner that `filters` name.

        Raises:
            InvalidError: the cursor was damaged, or belongs to another list.
            NotFoundError: the network has no such partner.
        """
        partner = filters.network_affiliate_id or 0
        await self.permits.permit(staff, READ, "list keys", partner)
        await self.store.partner(staff.network_id, partner)
        return await self.page(staff, filters, sort, cursor, limit)

    async def one(self, staff: Staff, key_id: str) -> OneKey:
        """A key, and who uses it.

        Raises:
            NotFoundError: the network has no such key.
        """
        await self.permits.permit(staff, READ, f"look at {key_id}")
        now = self.clock.time()
        row = await self.table.one(staff.network_id, key_id, now)
        usage = await self.usages.usage(staff.network_id, key_id)
        sources = sorted(
            usage.sources.values(), key=lambda one: (one.last, one.network), reverse=True
        )
        return OneKey(row, usage, sources, now)

    async def export(self, staff: Staff, filters: Filters, sort: Sort) -> Export:
        """All keys of the network that were issued until now; the first batch has been read.

        Each batch is read anew behind the last row of the one before, and nothing is held between:
        a reader may take its time. So a row is as it was when its batch was read, and one that
        changes its place in the order meanwhile may come twice or not at all; none does in the
        orders by creation, integration and partner.
        """
        await self.permits.permit(staff, READ, "export keys", filters.network_affiliate_id or 0)
        listing = Listing(staff.network_id, filters, sort)
        now = self.clock.time()
        first = await self._batch(listing, None, now)
        return Export(self._batches(listing, first, now), now)

    async def _batches(
        self, listing: Listing, first: Sequence[Found], at: float
    ) -> AsyncIterator[Sequence[Row]]:
        batch = first
        while batch:
            yield [found.row for found in batch]
            is_last = len(batch) < BATCH_ROWS
            batch = [] if is_last else await self._batch(listing, batch[-1], at)

    async def _batch(self, listing: Listing, last: Found | None, at: float) -> list[Found]:
        behind = last.place if last else None
        return await self.table.page(listing, behind, now=at, limit=BATCH_ROWS, issued_until=at)
