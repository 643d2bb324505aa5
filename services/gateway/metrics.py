"""Every metric of the gateway, with the question it answers."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from typing import Final

from prometheus_client import Counter, Gauge, generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

from services.gateway.http1.upstream import Pool
from shared.access import AccessReplicas
from shared.observability import new_registry
from shared.replica import ReplicaCollector

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ENDS: Final = (*map(str, _SECONDS), "+Inf")
_OF_USAGE: Final = {
    "told": "How many records of its usage has Kafka confirmed?",
    "heard": "How many records of usage were heard, its own among them?",
    "unreadable": "How many records of usage could not be read?",
    "others": "How many other gateways were there when any was heard last?",
    "silence_seconds": "How long ago was any gateway heard, this one included?",
}
NO_ROUTE: Final = "(none)"


class _Distribution:
    """How many observations fell into each bucket, the last one without an end, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(_SECONDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.sum += seconds


class RequestSeconds(Collector):
    """`gateway_request_seconds`. The library's histogram takes ten times as long for each request.

    Only the event loop's thread observes, so there is no lock.
    """

    def __init__(self) -> None:
        self._distributions: dict[tuple[str, str], _Distribution] = {}

    def labels(self, route: str, status: str) -> _Distribution:
        """The distribution of one route and status."""
        found = self._distributions.get((route, status))
        if found is None:
            found = self._distributions[route, status] = _Distribution()
        return found

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """All distributions."""
        family = HistogramMetricFamily(
            "gateway_request_seconds",
            "How long until the head of an answer, by route and status?",
            labels=("route", "status"),
        )
        for labels, found in sorted(self._distributions.items()):
            family.add_metric(labels, list(zip(_ENDS, _cumulative(found), strict=True)), found.sum)
        yield family


def _cumulative(found: _Distribution) -> Iterator[float]:
    return (float(count) for count in accumulate(found.counts))


class GatewayMetrics:
    """The gateway's registry."""

    def __init__(self) -> None:
        self._registry = new_registry()
        self.seconds = RequestSeconds()
        self._registry.register(self.seconds)
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
        self.pages = Counter(
            "gateway_pages",
            "How many requests for the pages for partners were answered, by status?",
            ("status",),
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

    def observe_connections(
        self, connections: Callable[[], int], pools: Mapping[str, Pool]
    ) -> None:
        """Show how many clients there are, and what the way to each service holds."""
        Gauge(
            "gateway_connections",
            "How many clients are connected?",
            registry=self._registry,
        ).set_function(connections)
        links = Gauge(
            "gateway_upstream_links",
            "How many connections to a service are busy or idle, and how many requests wait?",
            ("service", "state"),
            registry=self._registry,
        )
        for service, pool in pools.items():
            for state in ("busy", "idle", "waiting"):
                links.labels(service, state).set_function(partial(getattr, pool, state))

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

    def observe_usage(self, counts: Mapping[str, Callable[[], float]]) -> None:
        """Show what gateways tell one another, by the gauges' names without `gateway_usage_`."""
        for name, question in _OF_USAGE.items():
            gauge = Gauge(f"gateway_usage_{name}", question, registry=self._registry)
            gauge.set_function(counts[name])

    def render(self) -> bytes:
        """The registry in Prometheus' text form."""
        return generate_latest(self._registry)
