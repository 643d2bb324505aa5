"""Every metric of the gateway, with the question it answers."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Final

from prometheus_client import Counter, Gauge, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from services.gateway.access_log import AccessLog
from services.gateway.http1.server import Server
from services.gateway.http1.upstream import Pool
from services.gateway.ledger import BudgetState
from services.gateway.sharing import SharedBudgets
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
_OF_ACCESS_LOG: Final = {
    "written": "How many requests have a line in the access log?",
    "dropped": "How many have none, since its disk was slow or full?",
}
NO_ROUTE: Final = "(none)"
BUDGETS_SHOWN: Final = 100
"""Networks whose budgets have metrics."""
_BUDGET: Final = ("network", "realm")
_LEVELS: Final = (
    ("gateway_budget_left", "How many requests would a budget admit now?"),
    ("gateway_budget_debt", "How many were admitted elsewhere that it has still to make up for?"),
)
_DECISIONS: Final = (
    ("gateway_budget_admitted", "How many requests did this gateway admit from a budget?"),
    ("gateway_budget_refused", "How many did it refuse, since the budget was spent?"),
    ("gateway_budget_in_shadow", "How many would it have refused, were it not in shadow mode?"),
)


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


class BudgetCollector(Collector):
    """`gateway_budget_*`: the budgets of networks as this gateway holds them.

    Of the networks only the `BUDGETS_SHOWN` last used are shown, so that their number does not
    decide how long a scrape is; what all were refused is in `gateway_refusals`. A budget is named
    by network and realm, the hourly one of granular reports by `<realm>/hour`.
    """

    def __init__(self, states: Callable[[int], Sequence[BudgetState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """The five families."""
        gauges = {name: GaugeMetricFamily(name, text, labels=_BUDGET) for name, text in _LEVELS}
        counters = {
            name: CounterMetricFamily(name, text, labels=_BUDGET) for name, text in _DECISIONS
        }
        for state in self._states(BUDGETS_SHOWN):
            network_id, realm = state.name
            labels = (str(network_id), realm)
            for family, value in zip(gauges.values(), (state.level, -state.level), strict=True):
                family.add_metric(labels, max(value, 0.0))
            counts = (state.admitted, state.refused, state.in_shadow)
            for counter, count in zip(counters.values(), counts, strict=True):
                counter.add_metric(labels, count)
        yield from gauges.values()
        yield from counters.values()


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

    def observe_budgets(self, budgets: SharedBudgets) -> None:
        """Show what each network has left, and what was decided by it."""
        self._registry.register(BudgetCollector(budgets.states))

    def observe_connections(self, server: Server, pools: Mapping[str, Pool]) -> None:
        """Show how many clients there are, and what the way to each service holds."""
        told: dict[str, tuple[str, Callable[[], float]]] = {
            "gateway_connections": (
                "How many clients are connected?",
                lambda: server.connections,
            ),
            "gateway_connections_addresses": (
                "From how many addresses are clients connected?",
                lambda: server.crowd.origins,
            ),
            "gateway_connections_cut_off": (
                "How many connections were cut off, since too many were being turned away?",
                lambda: server.crowd.cut_off,
            ),
        }
        for name, (question, value) in told.items():
            Gauge(name, question, registry=self._registry).set_function(value)
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

    def observe_access_log(self, access_log: AccessLog) -> None:
        """Show how many lines the access log has, and how many it lacks."""
        for name, question in _OF_ACCESS_LOG.items():
            gauge = Gauge(f"gateway_access_log_{name}", question, registry=self._registry)
            gauge.set_function(partial(getattr, access_log, name))

    def observe_usage(self, counts: Mapping[str, Callable[[], float]]) -> None:
        """Show what gateways tell one another, by the gauges' names without `gateway_usage_`."""
        for name, question in _OF_USAGE.items():
            gauge = Gauge(f"gateway_usage_{name}", question, registry=self._registry)
            gauge.set_function(counts[name])

    def render(self) -> bytes:
        """The registry in Prometheus' text form."""
        return generate_latest(self._registry)
