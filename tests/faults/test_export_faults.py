"""Protects exports from SIGKILL: the job goes on, and no half file is ever taken for a whole one."""

import csv
import gzip
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

from services.reporting.exports.store import ExportStore
from services.reporting.scope import Scope
from shared.postgres import open_pool
from tests.faults.export_process import CONVERSIONS, EXPORT_ID

POINTS = ("exports.after_piece:1", "exports.after_piece:3", "exports.after_rename:1")


def run(folder: Path, url: str, schema: str, crash_at: str = "") -> int:
    """The worker's process, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.export_process", str(folder), url, schema],
        env=os.environ | {"PORTICO_CRASH_AT": crash_at},
        check=False,
        timeout=120,
    ).returncode


async def test_an_export_is_whole_through_kills_at_every_point(
    database_url: str, schema: str, tmp_path: Path
) -> None:
    """After the first piece, some pieces later, and between the file's name and the job's state."""
    for point in POINTS:
        assert run(tmp_path, database_url, schema, point) == -signal.SIGKILL
        async with open_pool(database_url, schema=schema, application="test") as pool:
            job = await ExportStore(pool).get(Scope(1, 10), EXPORT_ID)
        assert job.state == "running"
        assert job.day > 0
    assert run(tmp_path, database_url, schema) == 0
    async with open_pool(database_url, schema=schema, application="test") as pool:
        job = await ExportStore(pool).get(Scope(1, 10), EXPORT_ID)
    assert (job.state, job.rows) == ("done", CONVERSIONS)
    (path,) = (tmp_path / "exports").iterdir()
    text = gzip.decompress(path.read_bytes()).decode()
    rows = [int(row["transaction_id"], 16) for row in csv.DictReader(io.StringIO(text))]
    assert rows == list(range(CONVERSIONS))
