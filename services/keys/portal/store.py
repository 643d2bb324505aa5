"""All SQL of the partner's own view; each statement names network and partner."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from services.keys.domain import Key
from services.keys.store import KEY_COLUMNS, Store, Unit, key_of_row
from shared.postgres import translated

# Those that work first, then the newest. Shared locks: what is shown is not revoked meanwhile, so
# that the events of a key tell of its end last; two who look at once do not wait for each other.
_OWN: Final = f"""
SELECT {KEY_COLUMNS} FROM keys WHERE network_id = $1 AND network_affiliate_id = $2
ORDER BY status = 'active' AND (expires_at IS NULL OR expires_at > $3) DESC,
    created_at DESC, key_id DESC
LIMIT $4 FOR SHARE"""  # noqa: S608
_IS_SUSPENDED: Final = """
SELECT EXISTS (SELECT FROM partner_access
    WHERE network_id = $1 AND network_affiliate_id = $2 AND suspended)"""


class PortalUnit(Unit):
    """One transaction about what one partner sees."""

    async def own(
        self, network_id: int, network_affiliate_id: int, now: float, limit: int
    ) -> list[Key]:
        """Up to `limit` keys of a partner: those that work first, then the newest."""
        rows = await self.connection.fetch(_OWN, network_id, network_affiliate_id, now, limit)
        return [key_of_row(row) for row in rows]

    async def is_suspended(self, network_id: int, network_affiliate_id: int) -> bool:
        """Whether no key of the partner works."""
        found = await self.connection.fetchval(_IS_SUSPENDED, network_id, network_affiliate_id)
        return bool(found)


class PortalStore(Store):
    """Where transactions about a partner's view begin."""

    @asynccontextmanager
    async def transaction(self, doing: str) -> AsyncIterator[PortalUnit]:
        """A transaction that commits when the block ends, and rolls back if it raises."""
        with translated(doing):
            async with self._pool.acquire() as connection, connection.transaction():
                yield PortalUnit(connection)
