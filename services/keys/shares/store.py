"""All SQL of single-use links. A link is found by its token's digest, or through its network.

Whoever changes a link locks its key first and then the link, as `ShareUnit.share` does: openings of
one link come one after the other, and none passes a revocation of its key.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple
from typing import Final

from services.keys.shares.domain import Share, Target
from services.keys.store import KEY_COLUMNS, Store, Unit, key_of_row
from shared.errors import NotFoundError
from shared.postgres import translated

_COLUMNS: Final = """share_id, network_id, key_id, digest, has_passphrase, passphrase, created_at,
    created_by, created_by_name, expires_at, status, ended_at, ended_ip, wrong_passphrases,
    told_at"""

_BY_DIGEST: Final = f"SELECT {_COLUMNS} FROM shares WHERE digest = $1"  # noqa: S608
_OF_KEY: Final = f"""
SELECT {_COLUMNS} FROM shares WHERE network_id = $1 AND key_id = $2
ORDER BY created_at DESC, share_id DESC LIMIT $3"""  # noqa: S608
_LOCK: Final = f"""
SELECT {_COLUMNS} FROM shares WHERE network_id = $1 AND key_id = $2 AND share_id = $3
FOR UPDATE"""  # noqa: S608
_OPEN_COUNT: Final = """
SELECT count(*) FROM shares
WHERE network_id = $1 AND key_id = $2 AND status = 'open' AND expires_at > $3"""
_IS_SUSPENDED: Final = """
SELECT suspended FROM partner_access WHERE network_id = $1 AND network_affiliate_id = $2"""
_TARGET: Final = f"""
SELECT {KEY_COLUMNS}, EXISTS (
    SELECT FROM partner_access a
    WHERE a.network_id = keys.network_id AND a.network_affiliate_id = keys.network_affiliate_id
      AND a.suspended
) AS is_suspended
FROM keys WHERE network_id = $1 AND key_id = $2"""  # noqa: S608
_INSERT: Final = f"""
INSERT INTO shares ({_COLUMNS})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"""  # noqa: S608
_UPDATE: Final = """
UPDATE shares SET passphrase = $3, status = $4, ended_at = $5, ended_ip = $6,
    wrong_passphrases = $7, told_at = $8
WHERE network_id = $1 AND share_id = $2"""
# A page at a time, so that no transaction is long; what is locked is left for the next turn.
_PURGE: Final = """
DELETE FROM shares WHERE share_id IN (
    SELECT share_id FROM shares WHERE created_at < $1
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING share_id"""


class ShareUnit(Unit):
    """One transaction about the links of one key."""

    async def target(self, network_id: int, key_id: str) -> Target:
        """A key of the network, locked, and whether its partner is suspended.

        Raises:
            NotFoundError: the network has no such key.
        """
        key = await self.key(network_id, key_id)
        suspended = await self.connection.fetchval(
            _IS_SUSPENDED, network_id, key.network_affiliate_id
        )
        return Target(key, bool(suspended))

    async def share(self, network_id: int, key_id: str, share_id: str) -> tuple[Share, Target]:
        """A link of a key of the network, and what it leads to, both locked.

        Raises:
            NotFoundError: the network has no such key, or the key no such link.
        """
        target = await self.target(network_id, key_id)
        row = await self.connection.fetchrow(_LOCK, network_id, key_id, share_id)
        if row is None:
            raise NotFoundError
        return Share(**row), target

    async def open_count(self, network_id: int, key_id: str, now: float) -> int:
        """How many links of a key, which this unit has locked, may still be opened."""
        return int(await self.connection.fetchval(_OPEN_COUNT, network_id, key_id, now))

    async def add(self, share: Share) -> None:
        """Keep a new link."""
        await self.connection.execute(_INSERT, *astuple(share))

    async def keep(self, share: Share) -> None:
        """Keep a changed link, which this unit has locked."""
        changed = (share.passphrase, share.status, share.ended_at, share.ended_ip)
        counted = (share.wrong_passphrases, share.told_at)
        await self.connection.execute(_UPDATE, share.network_id, share.share_id, *changed, *counted)


class ShareStore(Store):
    """What is read of links, and where transactions about them begin."""

    @asynccontextmanager
    async def transaction(self, doing: str) -> AsyncIterator[ShareUnit]:
        """A transaction that commits when the block ends, and rolls back if it raises."""
        with translated(doing):
            async with self._pool.acquire() as connection, connection.transaction():
                yield ShareUnit(connection)

    async def find(self, digest: str) -> Share:
        """The link whose token has this digest.

        Raises:
            NotFoundError: there is none.
        """
        with translated("looking up a link"):
            row = await self._pool.fetchrow(_BY_DIGEST, digest)
        if row is None:
            raise NotFoundError
        return Share(**row)

    async def look(self, network_id: int, key_id: str) -> Target:
        """As `ShareUnit.target`, as it is now and not locked."""
        with translated("reading a key"):
            row = await self._pool.fetchrow(_TARGET, network_id, key_id)
        if row is None:
            raise NotFoundError
        return Target(key_of_row(row), row["is_suspended"])

    async def of_key(self, network_id: int, key_id: str, limit: int) -> list[Share]:
        """Up to `limit` links of a key of the network, newest first."""
        with translated("listing links"):
            rows = await self._pool.fetch(_OF_KEY, network_id, key_id, limit)
        return [Share(**row) for row in rows]

    async def purge(self, before: float, limit: int) -> int:
        """Forget up to `limit` links made before a moment; how many were."""
        with translated("purging links"):
            return len(await self._pool.fetch(_PURGE, before, limit))
