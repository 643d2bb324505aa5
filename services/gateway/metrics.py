"""Every metric of the gateway, with the question it answers."""

from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from shared.access import AccessReplicas
from shared.observability import new_registry
from shared.replica import ReplicaCollector

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
NO_ROUTE: Final = "(none)"


class GatewayMetrics:
    """The gateway's registry."""

    def __init__(self) -> None:
        self._registry = new_registry()
        self.seconds = Histogram(
            "gateway_request_seconds",
            "How long until the head of an answer, by route and status?",
            ("route", "status"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.refusals = Counter(
            "gateway_refusals",
            "How many requests went no further than the door, and why?",
            ("reason",),
            registry=self._registry,
        )
        self.over_in_shadow = Counter(
            "gateway_over_budget_in_shadow",
            "How many requests would a budget in shadow mode have refused?",
            registry=self._registry,
        )
        self.upstream_failures = Counter(
            "gateway_upstream_failures",
            "How often did a service not answer as it should?",
            ("service", "reason"),
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "gateway_requests_in_flight",
            "How many requests are being answered now?",
            registry=self._registry,
        )

    def observe_replicas(self, replicas: AccessReplicas) -> None:
        """Show the replicas too: entries, freshness, records."""
        self._registry.register(ReplicaCollector(replicas.all))

    def observe_summaries(self, confirmed: Callable[[], int], dropped: Callable[[], int]) -> None:
        """Show how many summaries are published, and how many requests are missing from them."""
        Gauge(
            "gateway_access_summaries",
            "How many access summaries has Kafka confirmed?",
            registry=self._registry,
        ).set_function(confirmed)
        Gauge(
            "gateway_access_dropped",
            "How many requests are in no access summary, since too many were held?",
            registry=self._registry,
        ).set_function(dropped)

    def render(self) -> bytes:
        """The registry in Prometheus' text form."""
        return generate_latest(self._registry)
