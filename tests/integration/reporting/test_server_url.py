"""Protects what `CLICKHOUSE_URL` chooses: the same calls over HTTP, as far as a door can show it.

The whole of `tests/integration/reporting` runs against a server, too, if `CLICKHOUSE_URL` names one.
"""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from deploy.local.ports import free_ports
from services.reporting.facts.tables import prepare
from services.reporting.reports.measures import SUMS
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse, open_clickhouse
from shared.errors import InvalidError, OverloadedError
from tests import reporting_parts as parts
from tests.backends import ROOT
from tests.integration.reporting.conftest import RETENTION_DAYS, reports_over, rows_over
from tests.integration.reporting.test_clickhouse import ENDLESS, RUNNING, none_running
from tests.waiting import DEADLINE_SECONDS

ME = (1, 10)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the door is."""
    (port,) = free_ports(1)
    folder = str(tmp_path_factory.mktemp("server"))
    command = [sys.executable, "-m", "tests.clickhouse_door", folder, str(port)]
    process = subprocess.Popen(command, cwd=ROOT)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not _listens(port):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield f"http://default@127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.fixture
async def server(url: str, database: str, tmp_path: Path) -> AsyncIterator[ClickHouse]:
    """The test's database there, with the fact tables."""
    async with open_clickhouse(path=tmp_path, database=database, url=url) as clickhouse:
        await prepare(clickhouse, retention_days=RETENTION_DAYS)
        yield clickhouse
        await clickhouse.command(f"DROP DATABASE {database}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_reports_and_rows_are_the_same_by_a_server(server: ClickHouse) -> None:
    """Inserted and asked over HTTP, with values, settings and arrays in the URL."""
    history = parts.History(5, 200)
    await parts.store(server, history.log, 5)
    facts = parts.facts(history.log, ME)
    wanted = parts.recount(facts, ("offer", "date"), ZoneInfo("UTC"), lambda _: True)
    rows = await parts.table(reports_over(server), ME, columns=parts.columns("offer", "date"))
    found = {
        tuple(cell["id"] for cell in row["columns"]): {
            name: row["reporting"][name] for name in SUMS
        }
        for row in rows
    }
    assert found == {
        key: {name: sums.get(name, 0) for name in SUMS} for key, sums in wanted.items()
    }
    click = facts["clicks"][0]
    raw = await rows_over(server).click(Scope(*ME), click.transaction_id, visible_since=0)
    assert raw is not None
    assert parts.exact(raw)["transaction_id"] == click.transaction_id


async def test_errors_are_told_apart_and_queries_killed(server: ClickHouse) -> None:
    """By the code in a header; a bad row takes its insert back."""
    with pytest.raises(InvalidError, match="writing to ClickHouse"):
        await server.insert("clicks", b'{"network_id":"x"}')
    with pytest.raises(OverloadedError, match="more time than one request may"):
        await server.query(ENDLESS, seconds=0.3)
    asking = asyncio.ensure_future(server.query(ENDLESS, seconds=60))
    while list(await server.query(RUNNING)) != [(2,)]:
        await asyncio.sleep(0.02)
    asking.cancel()
    await none_running(server)


async def test_a_rebuild_goes_to_another_database(server: ClickHouse, database: str) -> None:
    """And reads go there from the switch on."""
    other = f"{database}_next"
    async with server.beside(other) as beside:
        await prepare(beside, retention_days=RETENTION_DAYS)
        await parts.store(beside, [parts.click(1)], 0)
    assert await server.query("SELECT count() FROM clicks") == [(0,)]
    server.use(other)
    assert await server.query("SELECT count() FROM clicks") == [(1,)]
    server.use(database)
    await server.command(f"DROP DATABASE {other}")
