"""An embedded ClickHouse for the session, a database of its own for each test."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Histogram

from services.reporting.facts.tables import prepare
from services.reporting.reports.handlers import Reports
from services.reporting.reports.store import ReportStore
from services.reporting.rows.bulk import Bulk
from services.reporting.rows.handlers import Rows
from services.reporting.rows.store import RowStore
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse, connection, open_clickhouse
from shared.clock import ManualClock
from tests.backends import CLICKHOUSE_URL
from tests.reporting_parts import NOW

RETENTION_DAYS = 20_000
"""Tests tell of fixed days, which must not grow too old; a limit past 2106 would be in the past."""


@pytest.fixture(scope="session")
def clickhouse_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of this process's one engine, which stays up between tests."""
    folder = tmp_path_factory.mktemp("clickhouse")
    keeper = connection(folder)
    yield folder
    keeper.close()


@pytest.fixture
def database() -> str:
    """A database name of the test's own."""
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def clickhouse(clickhouse_folder: Path, database: str) -> AsyncIterator[ClickHouse]:
    """The test's database."""
    async with open_clickhouse(
        path=clickhouse_folder, database=database, url=CLICKHOUSE_URL
    ) as clickhouse:
        yield clickhouse
        await clickhouse.command(f"DROP DATABASE {database}")


@pytest.fixture
async def facts(clickhouse: ClickHouse) -> ClickHouse:
    """The test's database with the fact tables, empty."""
    await prepare(clickhouse, retention_days=RETENTION_DAYS)
    return clickhouse


@pytest.fixture
def reports(facts: ClickHouse) -> Reports:
    """The handlers of reports over those tables."""
    return reports_over(facts)


@pytest.fixture
def rows(facts: ClickHouse) -> Rows:
    """The handlers of raw rows over those tables."""
    return Rows(rows_over(facts), Bulk(facts), lambda _scope, _tables: 1.25, ManualClock(NOW))


def reports_over(clickhouse: ClickHouse) -> Reports:
    """The handlers of reports over a database with the fact tables."""
    store = ReportStore(clickhouse, _histogram(), lambda: NOW)
    return Reports(store, lambda _scope, _tables: 1.25, own_currency, ManualClock(NOW))


def rows_over(clickhouse: ClickHouse) -> RowStore:
    """The raw rows of a database with the fact tables."""
    return RowStore(clickhouse, _histogram())


async def own_currency(_scope: Scope) -> str:
    """Of every network."""
    return "USD"


def _histogram() -> Histogram:
    return Histogram("read_seconds", "-", ["read"], registry=CollectorRegistry())
