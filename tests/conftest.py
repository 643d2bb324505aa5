"""Fixtures for every test: real Kafka and Postgres on demand, unique names, nothing left behind."""

import asyncio
import inspect
import logging
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from deploy.local.kafka import Kafka
from tests import backends
from tests.soak import SOAK

os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
"""A broker of a test is over before a second compilation of its code, or a second thread of its
collector, has paid: starting and stopping one costs two thirds of the processor time."""

settings.register_profile(
    "test",
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "soak", settings.get_profile("test"), derandomize=False, max_examples=1_500, print_blob=True
)
settings.load_profile("soak" if SOAK else "test")


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """`host:port` of a running Kafka, one for the session: use unique topics and groups."""
    with backends.kafka() as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """`postgresql://…` of a running Postgres, one for the session: use a schema of your own."""
    with backends.postgres() as url:
        yield url


@pytest.fixture
def kafka_broker(tmp_path: Path) -> Iterator[Kafka]:
    """A running broker of the test's own, to be stopped, killed and started at will."""
    broker = backends.embedded_kafka(tmp_path / "kafka")
    asyncio.run(broker.start())
    yield broker
    asyncio.run(broker.stop())


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Makes names that no other test has, for topics, groups and transactional ids."""
    return lambda name: f"{name}-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def schema(database_url: str) -> Iterator[str]:
    """The name of a Postgres schema of the test's own, not yet created, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    asyncio.run(_drop(database_url, name))


async def _drop(database_url: str, name: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
    await connection.close()


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(f"{record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that logs an error, unless marked `logs_errors`, or leaves a task running."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("no_tasks_left")
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    yield
    logging.getLogger().removeHandler(errors)
    if errors.messages and request.node.get_closest_marker("logs_errors") is None:
        pytest.fail("The test logged errors:\n" + "\n".join(errors.messages))


@pytest.fixture
async def no_tasks_left() -> AsyncIterator[None]:
    """Fails a test whose tasks outlive it."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        pytest.fail("The test left tasks running:\n" + "\n".join(map(repr, left)))
