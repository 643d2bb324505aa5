"""The metrics of reporting, each with the question that it answers."""

from prometheus_client import Histogram, generate_latest

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

    def render(self) -> bytes:
        """The registry in Prometheus's text form."""
        return generate_latest(self.registry)
