"""The metrics of audit, each with the question that it answers."""

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from shared.observability import new_registry


class AuditMetrics:
    """The API process's."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self.entries = Counter(
            "audit_entries_total",
            "How much happens? Entries added to the trail by this process.",
            registry=self.registry,
        )
        self.checkpoints = Counter(
            "audit_checkpoints_total",
            "Is the trail sealed? Checkpoints signed by this process.",
            registry=self.registry,
        )
        self.is_signer = Gauge(
            "audit_signer",
            "Which process signs? 1 for the one.",
            registry=self.registry,
        )
        self.uncovered = Gauge(
            "audit_uncovered_entries",
            "How much could still be rewritten? Entries of all networks behind no checkpoint.",
            registry=self.registry,
        )
        self.broken = Gauge(
            "audit_broken_trails",
            "Was the trail changed? Networks whose chain the signer found broken.",
            registry=self.registry,
        )
        self.streams = Gauge(
            "audit_streams",
            "Who is watching? Live feeds open now.",
            registry=self.registry,
        )
        self.verify_seconds = Histogram(
            "audit_verify_seconds",
            "How long does a verification take?",
            buckets=(0.01, 0.1, 1, 10, 60, 300),
            registry=self.registry,
        )

    def render(self) -> bytes:
        """The registry in Prometheus's text form."""
        return generate_latest(self.registry)


class AnomalyMetrics:
    """The anomaly worker's."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self.summaries = Counter(
            "anomalies_summaries_total",
            "Does the worker keep up? Summaries with refusals that were judged.",
            registry=self.registry,
        )
        self.refused = Counter(
            "anomalies_refused_total",
            "Are there summaries that do not decode? The trail's projection dead-letters them.",
            registry=self.registry,
        )
        self.published = Counter(
            "anomalies_published_total",
            "What was found? Events published, by kind.",
            ["kind"],
            registry=self.registry,
        )

    def render(self) -> bytes:
        """The registry in Prometheus's text form."""
        return generate_latest(self.registry)
