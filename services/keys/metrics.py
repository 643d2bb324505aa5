"""The metrics of the key service, each with the question that it answers."""

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from shared.observability import new_registry


class KeysMetrics:
    """The process's registry and the service's own metrics; the patterns add theirs."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self.changes = Counter(
            "keys_changes_total",
            "What do staff do? Changes committed by this process, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.denied = Counter(
            "keys_denied_total",
            "Who tries what they may not? Calls without the permission, by action.",
            ["action"],
            registry=self.registry,
        )
        self.confirm_seconds = Histogram(
            "keys_confirm_seconds",
            "How long do staff wait for Kafka? From commit to confirmation, or to giving up.",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self.registry,
        )
        self.unconfirmed = Counter(
            "keys_unconfirmed_total",
            "How often was a change answered before Kafka had it?",
            registry=self.registry,
        )
        self.reconciled_at = Gauge(
            "keys_reconciled_timestamp_seconds",
            "When were tables and topics last compared by this process?",
            registry=self.registry,
        )
        self.repaired = Counter(
            "keys_repaired_total",
            "Do the topics lose or change states? States published again, by topic.",
            ["topic"],
            registry=self.registry,
        )
        self.unknown = Gauge(
            "keys_unknown_states",
            "Does a topic hold states that no table knows? They may have come from elsewhere.",
            ["topic"],
            registry=self.registry,
        )
        self.master_keys_unreadable = Gauge(
            "keys_master_keys_unreadable",
            "Is the file of master keys wrong now? 1 while the ones before it stay in use.",
            registry=self.registry,
        )
        self.master_keys_lacking = Gauge(
            "keys_master_keys_lacking",
            "Would a restart fail? Master keys that secrets need and the setting does not give.",
            registry=self.registry,
        )
        self.data_keys_old = Gauge(
            "keys_data_keys_old",
            "Is a rotation unfinished? Networks whose data key is not under the first master key.",
            registry=self.registry,
        )
        self.usage_failures = Counter(
            "keys_usage_failures_total",
            "Does the table still learn of uses? Times that their projection failed.",
            registry=self.registry,
        )

    def render(self) -> bytes:
        """The registry in Prometheus's text form."""
        return generate_latest(self.registry)
