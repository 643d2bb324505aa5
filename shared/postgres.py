"""The edge to Postgres: pools bound to one schema, forward-only migrations, errors as ours.

Each service owns one schema and shares no table. `search_path` is set on every connection, so SQL
names tables without their schema and tests run the same SQL in a schema of their own.
"""

import importlib.resources
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import asyncpg

from shared.errors import ConflictError, SetupError, UnavailableError

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Pool = asyncpg.Pool

COMMAND_TIMEOUT_SECONDS: Final = 10.0
IDLE_TRANSACTION_MS: Final = 10_000
"""A process that hangs within a transaction keeps its locks no longer than this."""
_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_MIGRATION_LOCK: Final = 0x706F7274  # any constant: "port"

_PASSING: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that the server closes while it is handed out
    ConnectionError,
    TimeoutError,
)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise the driver's errors as ours, naming what was being done.

    Raises:
        ConflictError: a unique constraint says that it is there already.
        UnavailableError: the connection, the server or a lock failed; it may recover.
    """
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise ConflictError(f"{doing}: {error.detail or error}") from error
    except _PASSING as error:
        raise UnavailableError(f"{doing}: Postgres: {error!r}") from error


@asynccontextmanager
async def open_pool(
    url: str, *, schema: str, application: str, size_max: int = 10
) -> AsyncIterator[Pool]:
    """A pool whose connections see `schema` first; the schema is created if it is missing.

    Raises:
        SetupError: `schema` is no plain identifier, or Postgres refuses the connection.
    """
    if not _IDENTIFIER.fullmatch(schema):
        raise SetupError(f"Schema {schema!r}: use lower-case letters, digits and underscores.")
    await _create_schema(url, schema)
    pool = await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size_max,
        command_timeout=COMMAND_TIMEOUT_SECONDS,
        server_settings={
            "search_path": schema,
            "application_name": application,
            "idle_in_transaction_session_timeout": str(IDLE_TRANSACTION_MS),
        },
    )
    try:
        yield pool
    finally:
        await pool.close()


async def connect(url: str, *, schema: str, application: str) -> asyncpg.Connection:
    """One connection outside any pool, for LISTEN and for locks that live with a session."""
    with translated("connecting to Postgres"):
        return await asyncpg.connect(
            url,
            command_timeout=COMMAND_TIMEOUT_SECONDS,
            server_settings={"search_path": schema, "application_name": application},
        )


async def _create_schema(url: str, schema: str) -> None:
    try:
        connection = await asyncpg.connect(url, command_timeout=COMMAND_TIMEOUT_SECONDS)
    except (OSError, asyncpg.PostgresError) as error:
        raise SetupError(
            f"DATABASE_URL: Postgres does not answer ({error}). Is it running, and are host, "
            "port, user and password right?"
        ) from error
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    finally:
        await connection.close()


async def migrate(pool: Pool, package: str) -> tuple[str, ...]:
    """Apply the `NNNN_what.sql` files of `package` that the schema has not seen, in order.

    Several processes may start at once: one migrates, the others wait. Each file is applied in a
    transaction with its record, so that a crash leaves either both or neither.

    Returns:
        The names applied now.

    Raises:
        SetupError: a file that was applied has since been removed: the code is older than the
            schema.
    """
    files = {
        item.name: item.read_text()
        for item in importlib.resources.files(package).iterdir()
        if item.name.endswith(".sql")
    }
    applied: list[str] = []
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        seen = {row["name"] for row in await connection.fetch("SELECT name FROM schema_migrations")}
        if unknown := seen - files.keys():
            raise SetupError(
                f"The schema has migrations {sorted(unknown)} that this release does not know: "
                "it was used by a newer release. Start that one, or use another schema."
            )
        for name in sorted(files.keys() - seen):
            await connection.execute(files[name])
            await connection.execute("INSERT INTO schema_migrations (name) VALUES ($1)", name)
            applied.append(name)
    return tuple(applied)
