"""What a benchmark is given: a Kafka, a Postgres, a folder, and names of its own."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import backends


@dataclass(frozen=True, slots=True)
class Context:
    """One for all benchmarks of a run.

    Attributes:
        kafka_bootstrap: `host:port` of a running Kafka.
        database_url: `postgresql://…` of a running Postgres.
        folder: empty at first; deleted after the run.
        prefix: of the figures that were asked for; others need not be measured.
    """

    kafka_bootstrap: str
    database_url: str
    folder: Path
    prefix: str = ""

    def unique(self, name: str) -> str:
        """A name that nothing else has."""
        return f"{name}-{uuid.uuid4().hex[:12]}"


@contextmanager
def open_context(prefix: str = "") -> Iterator[Context]:
    """A context for the figures whose names begin with `prefix`; what was started for it stops at the end."""
    with (
        backends.kafka() as kafka_bootstrap,
        backends.postgres() as database_url,
        TemporaryDirectory(prefix="portico-bench-") as folder,
    ):
        yield Context(kafka_bootstrap, database_url, Path(folder), prefix)
