"""An export worker in a process of its own, to be killed.

    python -m tests.faults.export_process FOLDER DATABASE_URL SCHEMA

It stores the facts and asks for the export if that was not done before, makes it, and ends.
`PORTICO_CRASH_AT` says where it kills itself.
"""

import asyncio
import sys
from pathlib import Path

import msgspec

from services.reporting.exports.domain import checked
from services.reporting.exports.files import Folder
from services.reporting.exports.store import ExportStore, WorkStore
from services.reporting.exports.worker import Bounds, Worker
from services.reporting.facts.tables import prepare
from services.reporting.rows import bulk
from services.reporting.scope import Scope
from shared.clickhouse import open_clickhouse
from shared.clock import ManualClock
from shared.postgres import migrate, open_pool
from tests.reporting_parts import NOW, WIDE, conversion, store

CONVERSIONS = 30
EXPORT_ID = "e" * 32
REQUEST = WIDE | {"kind": "conversions", "format": "csv"}


async def main(folder: str, url: str, schema: str) -> None:
    """Make the export."""
    bulk.PIECE_ROWS = 4
    async with (
        open_pool(url, schema=schema, application="child") as pool,
        open_clickhouse(path=Path(folder) / "clickhouse", database="facts") as clickhouse,
    ):
        await migrate(pool, "services.reporting.migrations")
        await prepare(clickhouse, retention_days=20_000)
        exports = ExportStore(pool)
        if not await exports.list(Scope(1, 10)):
            await store(clickhouse, [conversion(i) for i in range(CONVERSIONS)], 0)
            request = checked(msgspec.json.decode(msgspec.json.encode(REQUEST)), now=NOW)
            await exports.create(Scope(1, 10), EXPORT_ID, request, now=NOW, through=NOW)
        worker = Worker(
            WorkStore(pool),
            Folder(Path(folder) / "exports"),
            bulk.Bulk(clickhouse),
            Bounds(file_bytes_max=10**9, total_bytes_max=10**9, kept_seconds=10**6),
            ManualClock(NOW),
        )
        while await worker.work_once():
            pass


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
