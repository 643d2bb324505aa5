"""A key service of the module's own, as a process; the topics are shared."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from shared import topics
from tests.keys_parts import Platform, errors_logged, running
from tests.projection_parts import create


@pytest.fixture(scope="session")
def applied_topics(kafka_bootstrap: str) -> str:
    """`kafka_bootstrap`, with the platform's topics."""
    asyncio.run(create(kafka_bootstrap, *topics.SOURCES))
    return kafka_bootstrap


@pytest.fixture(scope="module")
def service(
    applied_topics: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """A running service, which must not have logged an error when all is over."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    found = Platform(applied_topics, database_url, schema, tmp_path_factory.mktemp("keys"))
    with running(found):
        yield found
    assert errors_logged(found.log) == []
    asyncio.run(_drop(database_url, schema))


async def _drop(database_url: str, name: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
    await connection.close()


@pytest.fixture
def platform(applied_topics: str, database_url: str, schema: str, tmp_path: Path) -> Platform:
    """What a key service needs; nothing runs yet."""
    return Platform(applied_topics, database_url, schema, tmp_path)
