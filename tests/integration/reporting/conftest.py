"""An embedded ClickHouse for the session, a database of its own for each test."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from prometheus_client import CollectorRegistry, Histogram

from services.reporting.reports.handlers import Reports
from services.reporting.reports.store import FactStore
from shared.clickhouse import ENGINE, ClickHouse, open_clickhouse
from shared.clock import ManualClock
from tests.reporting_parts import NOW


@pytest.fixture(scope="session")
def clickhouse_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of this process's one engine, which stays up between tests."""
    folder = tmp_path_factory.mktemp("clickhouse")
    keeper = clickhouse_connect.get_client(
        interface="chdb",
        path=str(folder / "data"),
        chdb_options={name: str(value) for name, value in ENGINE.items()},
    )
    yield folder
    keeper.close()


@pytest.fixture
def database() -> str:
    """A database name of the test's own."""
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def clickhouse(clickhouse_folder: Path, database: str) -> AsyncIterator[ClickHouse]:
    """The test's database."""
    async with open_clickhouse(path=clickhouse_folder, database=database) as clickhouse:
        yield clickhouse
        await clickhouse.command(f"DROP DATABASE {database}")


@pytest.fixture
async def store(clickhouse: ClickHouse) -> FactStore:
    """The fact tables, empty."""
    histogram = Histogram("read_seconds", "-", ["read"], registry=CollectorRegistry())
    store = FactStore(clickhouse, histogram)
    await store.prepare()
    return store


@pytest.fixture
def reports(store: FactStore) -> Reports:
    """The handlers over those tables."""
    return Reports(store, lambda _scope, _tables: 1.25, ManualClock(NOW))
