"""Every metric of the firehose, with the question it answers."""

from collections.abc import Callable

from prometheus_client import Counter, Gauge, generate_latest

from shared.access import AccessReplicas
from shared.observability import new_registry
from shared.replica import ReplicaCollector
from shared.tail import Tail, TailCollector


class FirehoseMetrics:
    """The firehose's registry."""

    def __init__(self) -> None:
        self._registry = new_registry()
        self.streams = Gauge(
            "firehose_streams",
            "How many streams are open, by format?",
            ("format",),
            registry=self._registry,
        )
        self.events = Counter(
            "firehose_events",
            "How many events were handed to connections, by type?",
            ("type",),
            registry=self._registry,
        )
        self.bytes = Counter(
            "firehose_bytes",
            "How many bytes of ended streams were handed to connections?",
            registry=self._registry,
        )
        self.ended = Counter(
            "firehose_streams_ended",
            "How many streams ended, and why?",
            ("reason",),
            registry=self._registry,
        )
        self.refusals = Counter(
            "firehose_refusals",
            "How many requests were not given a stream, by status?",
            ("status",),
            registry=self._registry,
        )

    def observe(self, replicas: AccessReplicas, tail: Tail, waiting: Callable[[], int]) -> None:
        """Show the replicas, the tail and the session records that wait for Kafka."""
        self._registry.register(ReplicaCollector(replicas.all))
        self._registry.register(TailCollector(tail))
        Gauge(
            "firehose_sessions_waiting",
            "How many session records has Kafka not confirmed yet?",
            registry=self._registry,
        ).set_function(waiting)

    def render(self) -> bytes:
        """The registry in Prometheus' text form."""
        return generate_latest(self._registry)
