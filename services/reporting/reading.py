"""Reading rows of Postgres that belong to partners: one consistent view of one scope."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from services.reporting.scope import Scope
from shared.postgres import Connection, Pool, translated

_SET_SCOPE: Final = """
SELECT set_config('portico.network_id', $1, true),
       set_config('portico.network_affiliate_id', $2, true)
"""


@asynccontextmanager
async def reading(pool: Pool, scope: Scope, what: str) -> AsyncIterator[Connection]:
    """A transaction in which row-level security shows the rows of `scope`, as of one moment.

    Args:
        pool: of the database.
        scope: whose rows.
        what: is read, for whoever is told that it failed.

    Raises:
        UnavailableError: Postgres does not answer.
    """
    with translated(f"reading {what}"):
        async with (
            pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute(
                _SET_SCOPE, str(scope.network_id), str(scope.network_affiliate_id)
            )
            yield connection
