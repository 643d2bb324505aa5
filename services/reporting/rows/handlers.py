"""What each endpoint of raw rows does: read the request, ask the store, shape the rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.reporting.asking.answers import Answer, Through
from services.reporting.asking.members import is_hex_id, read_body
from services.reporting.facts import shapes, tables
from services.reporting.rows import domain
from services.reporting.rows.store import RowStore
from services.reporting.scope import Scope
from shared.clock import Clock
from shared.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class Rows:
    """The handlers, with what they need."""

    store: RowStore
    through: Through
    clock: Clock

    async def conversions(self, scope: Scope, raw: bytes, parameters: Mapping[str, str]) -> Answer:
        """`POST /v1/affiliates/reporting/conversions`.

        Raises:
            InvalidError: the body or the query string is wrong.
            UnavailableError: ClickHouse does not answer in time.
        """
        search = domain.read_conversion_search(read_body(raw), parameters, now=self.clock.time())
        through = self.through(scope, (tables.CONVERSIONS,))
        total, rows = await self.store.conversions(scope, search)
        paging: dict[str, Any] = dict(search.page.echo(total))
        if len(rows) == search.page.size:
            last = rows[-1]
            paging["next_cursor"] = domain.write_cursor(
                last["conversion_unix_timestamp"], last["conversion_id"]
            )
        return Answer(
            {"conversions": [shapes.conversion(row) for row in rows], "paging": paging}, through
        )

    async def click(self, scope: Scope, transaction_id: str) -> Answer:
        """`GET /v1/affiliates/reporting/clicks/{transaction_id}`.

        Raises:
            NotFoundError: the partner has no such click, or it is too old to be shown.
            UnavailableError: ClickHouse does not answer in time.
        """
        wanted = transaction_id.lower()
        if not is_hex_id(wanted):
            raise NotFoundError("Not Found")
        through = self.through(scope, (tables.CLICKS, tables.CONVERSIONS))
        since = max(0, int(self.clock.time()) - domain.CLICK_DAYS_MAX * 86_400)
        row = await self.store.click(scope, wanted, since=since)
        if row is None:
            raise NotFoundError("Not Found")
        return Answer(shapes.click(row), through)
