"""The simulator's metrics."""

from prometheus_client import Counter, Gauge, generate_latest

from shared.observability import new_registry


class SimulatorMetrics:
    """What tells whether the simulator keeps up."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self.records = Counter(
            "simulator_records",
            "How many records has the broker confirmed since the start?",
            registry=self.registry,
        )
        self.planned = Gauge(
            "simulator_planned_records",
            "How many records are decided and due later?",
            registry=self.registry,
        )

    def render(self) -> bytes:
        """The registry as Prometheus reads it."""
        return generate_latest(self.registry)
