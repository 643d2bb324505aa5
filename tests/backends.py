"""The Kafka, Postgres and ClickHouse that tests use: given ones, containers, or embedded ones.

`KAFKA_BOOTSTRAP`, `DATABASE_URL` and `CLICKHOUSE_URL` name given ones. Otherwise
`PORTICO_TEST_BACKEND=containers` starts containers of the first two, and without it the embedded
ones start in a temporary folder.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.kafka import Kafka
from deploy.local.ports import free_ports
from deploy.local.postgres import Postgres

ROOT = Path(__file__).parent.parent
LIBS = ROOT / ".portico" / "kafka" / "libs"

CLICKHOUSE_URL = os.environ.get("CLICKHOUSE_URL")
"""A server for the tests of `tests/integration/reporting`; None for the embedded engine."""

_CONTAINERS = os.environ.get("PORTICO_TEST_BACKEND") == "containers"


def embedded_kafka(home: Path) -> Kafka:
    """A broker on free ports, not started."""
    port, controller_port = free_ports(2)
    return Kafka(home, port=port, controller_port=controller_port, libs=LIBS)


def embedded_postgres(home: Path) -> Postgres:
    """A server on a free port, not started."""
    return Postgres(home, port=free_ports(1)[0], durable=False)


@contextmanager
def kafka() -> Iterator[str]:
    """A Kafka for the session, as `host:port`."""
    if given := os.environ.get("KAFKA_BOOTSTRAP"):
        yield given
    elif _CONTAINERS:
        from testcontainers.kafka import KafkaContainer

        with KafkaContainer("confluentinc/cp-kafka:8.1.0").with_kraft() as container:
            yield container.get_bootstrap_server()
    else:
        with tempfile.TemporaryDirectory(prefix="portico-kafka-") as folder:
            broker = embedded_kafka(Path(folder))
            asyncio.run(broker.start())
            yield broker.bootstrap
            asyncio.run(broker.stop())


@contextmanager
def postgres() -> Iterator[str]:
    """A Postgres for the session, as `postgresql://…`."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
    elif _CONTAINERS:
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer("postgres:18", driver=None) as container:
            yield container.get_connection_url()
    else:
        with tempfile.TemporaryDirectory(prefix="portico-postgres-") as folder:
            server = embedded_postgres(Path(folder))
            asyncio.run(server.start())
            yield server.url
            asyncio.run(server.stop())
