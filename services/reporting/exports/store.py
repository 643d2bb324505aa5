"""All SQL of export jobs.

Partners' reads and writes take a `Scope`, which stands in each condition and, for row-level
security, in the transaction's settings. The worker's methods see the jobs of all partners.
"""
# ruff: noqa: S608 - the texts are made of this file's own words only

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from asyncpg import Record

from services.reporting.exports.domain import HELD_MAX, OPEN_MAX, Job
from services.reporting.scope import Scope
from shared.errors import ConflictError, LostOwnershipError, NotFoundError, TooManyError
from shared.postgres import Connection, Pool, translated

_SET_SCOPE: Final = """
SELECT set_config('portico.network_id', $1, true),
       set_config('portico.network_affiliate_id', $2, true)
"""
_SEE_ALL: Final = "SELECT set_config('portico.projecting', 'on', true)"
_MINE: Final = "network_id = $1 AND network_affiliate_id = $2"

_LOCK_PARTNER: Final = "SELECT pg_advisory_xact_lock(hashtextextended('exports ' || $1, 0))"
_COUNT: Final = f"""
SELECT count(*) FILTER (WHERE state IN ('queued', 'running')) AS open, count(*) AS held
FROM exports WHERE {_MINE}
"""
_CREATE: Final = """
INSERT INTO exports (network_id, network_affiliate_id, export_id, request, created_at, through)
VALUES ($1, $2, $3, $4::json, $5, $6) RETURNING *
"""
_LIST: Final = f"SELECT * FROM exports WHERE {_MINE} ORDER BY created_at DESC, export_id"
_GET: Final = f"SELECT * FROM exports WHERE {_MINE} AND export_id = $3"
_DELETE: Final = f"DELETE FROM exports WHERE {_MINE} AND export_id = $3 RETURNING export_id"

_OPEN: Final = """
SELECT export_id FROM exports WHERE state IN ('queued', 'running') ORDER BY created_at, export_id
"""
_TRY_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended('export ' || $1, 0))"
_UNLOCK: Final = "SELECT pg_advisory_unlock(hashtextextended('export ' || $1, 0))"
# Taken by somebody who died, if it was running: what that one still writes counts for nothing.
_TAKE: Final = """
UPDATE exports SET state = 'running', fence = fence + 1, failures = failures + 1
WHERE export_id = $1 AND state IN ('queued', 'running') RETURNING *
"""
_PROGRESS: Final = """
UPDATE exports SET day = $3, days = $4, after_id = $5, rows = $6, bytes = $7, failures = 0
WHERE export_id = $1 AND fence = $2 AND state = 'running'
"""
_FINISH: Final = """
UPDATE exports SET state = $3, reason = $4, sha256 = $5, finished_at = $6
WHERE export_id = $1 AND fence = $2 AND state = 'running'
"""
_EXCUSE: Final = """
UPDATE exports SET failures = failures - 1 WHERE export_id = $1 AND fence = $2
"""
_EXPIRED: Final = "DELETE FROM exports WHERE finished_at < $1 RETURNING export_id"
_IDS: Final = "SELECT export_id FROM exports"
_USED: Final = """
SELECT coalesce(sum(bytes), 0)::bigint FROM exports WHERE export_id <> $1 AND state <> 'failed'
"""
_ONE: Final = "UPDATE 1"


class ExportStore:
    """The jobs of one scope at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self, scope: Scope, export_id: str, request: bytes, *, now: float, through: float
    ) -> Job:
        """A new job, waiting.

        Raises:
            TooManyError: too many of the partner's jobs are not done.
            ConflictError: the partner has too many.
        """
        async with self._scoped(scope) as connection:
            ids = _ids(scope)
            await connection.execute(_LOCK_PARTNER, f"{ids[0]}:{ids[1]}")
            is_open, held = await connection.fetchrow(_COUNT, *ids) or (0, 0)
            if is_open >= OPEN_MAX:
                raise TooManyError(
                    f"{OPEN_MAX} exports of yours are being made; wait until one is done",
                    retry_after_seconds=30,
                )
            if held >= HELD_MAX:
                raise ConflictError(f"{HELD_MAX} exports are kept; delete one that you have loaded")
            values = (export_id, request.decode(), now, through)
            (row,) = await connection.fetch(_CREATE, *ids, *values)
        return _job(row)

    async def list(self, scope: Scope) -> list[Job]:
        """The partner's jobs, newest first."""
        async with self._scoped(scope) as connection:
            return [_job(row) for row in await connection.fetch(_LIST, *_ids(scope))]

    async def get(self, scope: Scope, export_id: str) -> Job:
        """One job of the partner.

        Raises:
            NotFoundError: there is none.
        """
        async with self._scoped(scope) as connection:
            row = await connection.fetchrow(_GET, *_ids(scope), export_id)
        if row is None:
            raise NotFoundError
        return _job(row)

    async def delete(self, scope: Scope, export_id: str) -> None:
        """Forget one job of the partner.

        Raises:
            NotFoundError: there is none.
        """
        async with self._scoped(scope) as connection:
            if await connection.fetchval(_DELETE, *_ids(scope), export_id) is None:
                raise NotFoundError

    @asynccontextmanager
    async def _scoped(self, scope: Scope) -> AsyncIterator[Connection]:
        with translated("export jobs"):
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_SET_SCOPE, *map(str, _ids(scope)))
                yield connection


class WorkStore:
    """The jobs of all partners, for whoever makes them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[Job | None]:
        """The oldest open job that nobody holds, held while this is entered; None if there is none.

        The lock is the connection's: it ends with the process that holds it, at once.
        """
        with translated("taking an export job"):
            async with self._pool.acquire() as connection:
                export_id = await self._lock_first(connection)
                if export_id is None:
                    yield None
                    return
                try:
                    async with _seeing_all(connection):
                        row = await connection.fetchrow(_TAKE, export_id)
                    yield None if row is None else _job(row)
                finally:
                    await connection.execute(_UNLOCK, export_id)

    @staticmethod
    async def _lock_first(connection: Connection) -> str | None:
        async with _seeing_all(connection):
            rows = await connection.fetch(_OPEN)
        for row in rows:
            if await connection.fetchval(_TRY_LOCK, row["export_id"]):
                return str(row["export_id"])
        return None

    async def progress(self, job: Job) -> None:
        """Note how far `job` is.

        Raises:
            LostOwnershipError: it was deleted, or another worker has it.
        """
        values = (job.day, job.days, job.after_id, job.rows, job.bytes)
        await self._update(_PROGRESS, job, *values)

    async def excuse(self, job: Job) -> None:
        """Take back that `job` was taken without progress: a store was away.

        Raises:
            LostOwnershipError: as of `progress`.
        """
        await self._update(_EXCUSE, job)

    async def finish(self, job: Job, now: float) -> None:
        """Note that `job` is done or has failed, by its state.

        Raises:
            LostOwnershipError: as of `progress`.
        """
        await self._update(_FINISH, job, job.state, job.reason, job.sha256, now)

    async def _update(self, statement: str, job: Job, *values: object) -> None:
        async with self._all() as connection:
            done = await connection.execute(statement, job.export_id, job.fence, *values)
        if done != _ONE:
            raise LostOwnershipError(f"export {job.export_id} is somebody else's, or deleted")

    async def used_by_others(self, job: Job) -> int:
        """Bytes of all other jobs' files."""
        async with self._all() as connection:
            return int(await connection.fetchval(_USED, job.export_id))

    async def forget_expired(self, before: float) -> list[str]:
        """Forget the jobs that ended before that moment; their ids."""
        async with self._all() as connection:
            return [row["export_id"] for row in await connection.fetch(_EXPIRED, before)]

    async def ids(self) -> set[str]:
        """The ids of all jobs."""
        async with self._all() as connection:
            return {row["export_id"] for row in await connection.fetch(_IDS)}

    @asynccontextmanager
    async def _all(self) -> AsyncIterator[Connection]:
        with translated("export jobs"):
            async with self._pool.acquire() as connection, _seeing_all(connection):
                yield connection


@asynccontextmanager
async def _seeing_all(connection: Connection) -> AsyncIterator[None]:
    async with connection.transaction():
        await connection.execute(_SEE_ALL)
        yield


def _ids(scope: Scope) -> tuple[int, int]:
    return scope.network_id, scope.network_affiliate_id


def _job(row: Record) -> Job:
    values = dict(row)
    scope = Scope(values.pop("network_id"), values.pop("network_affiliate_id"))
    return Job(scope=scope, request=msgspec.json.decode(values.pop("request")), **values)
