"""An audit service of the test's own: schema, checkpoint folder and port; the topics are shared."""

import asyncio
from pathlib import Path

import pytest

from shared import topics
from tests.audit_parts import Platform
from tests.projection_parts import create


@pytest.fixture(scope="session")
def applied_topics(kafka_bootstrap: str) -> str:
    """`kafka_bootstrap`, with the platform's topics."""
    asyncio.run(create(kafka_bootstrap, *topics.SOURCES))
    return kafka_bootstrap


@pytest.fixture
def platform(applied_topics: str, database_url: str, schema: str, tmp_path: Path) -> Platform:
    """What an audit service needs; nothing runs yet."""
    return Platform(applied_topics, database_url, schema, tmp_path)
