"""The metrics of reporting, each with the question that it answers."""

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from shared.observability import new_registry
from shared.projection import ProjectionMetrics


class ReportingMetrics:
    """The metrics of the process."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self.projection = ProjectionMetrics(self.registry, "reporting")
        self.read_seconds = Histogram(
            "reporting_read_seconds",
            "How long do partners wait for the store? By what they read.",
            ["read"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
            registry=self.registry,
        )

        self.read_rows = Counter(
            "reporting_read_rows", "How much do queries cost? Rows read.", registry=self.registry
        )
        self.read_bytes = Counter(
            "reporting_read_bytes",
            "How much do queries cost? Bytes read, uncompressed.",
            registry=self.registry,
        )
        self.queries_waiting = Gauge(
            "reporting_queries_waiting",
            "Do partners wait for one another? Queries that wait for their turn.",
            registry=self.registry,
        )
        self.through = Gauge(
            "reporting_facts_through_timestamp_seconds",
            "How fresh are answers? The log time up to which every partner's facts are stored.",
            registry=self.registry,
        )
        by_table = ("table",)
        self.parts = Gauge(
            "reporting_facts_parts",
            "Do merges keep up with inserts? Active parts; hundreds in a month slow reads.",
            by_table,
            registry=self.registry,
        )
        self.rows = Gauge(
            "reporting_facts_rows",
            "How much is stored? Rows, those that a merge will drop included.",
            by_table,
            registry=self.registry,
        )
        self.disk_bytes = Gauge(
            "reporting_facts_disk_bytes", "Likewise, on disk.", by_table, registry=self.registry
        )
        self.merges = Gauge(
            "reporting_facts_merges", "Merges that run now.", by_table, registry=self.registry
        )

    def spent(self, rows: int, size: int) -> None:
        """A query has read so much."""
        self.read_rows.inc(rows)
        self.read_bytes.inc(size)

    def render(self) -> bytes:
        """The registry in Prometheus's text form."""
        return generate_latest(self.registry)
