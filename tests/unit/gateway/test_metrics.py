"""Protects the figures operators see of the gateway's answers."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from services.gateway.metrics import _SECONDS, BUDGETS_SHOWN, GatewayMetrics, RequestSeconds
from services.gateway.sharing import SharedBudgets
from shared.clock import ManualClock
from shared.events import Budget, Usage, UsageBucket, UsageTotal

seconds = st.one_of(st.sampled_from(_SECONDS), st.floats(0, 100, allow_nan=False))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["200", "429"]), seconds)))
def test_request_seconds_read_as_the_librarys_histogram(observed):
    """Ends of buckets, their counts, count and sum: whoever draws them sees no difference."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    request_seconds = RequestSeconds()
    ours.register(request_seconds)
    histogram = Histogram(
        "gateway_request_seconds",
        "How long until the head of an answer, by route and status?",
        ("route", "status"),
        buckets=_SECONDS,
        registry=theirs,
    )
    for route, status, value in observed:
        request_seconds.labels(route, status).observe(value)
        histogram.labels(route, status).observe(value)
    assert _samples(ours) == _samples(theirs)


def _samples(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line)


def test_the_gateway_shows_its_request_seconds():
    """One scrape has them beside the other metrics."""
    metrics = GatewayMetrics()
    metrics.seconds.labels("/v1/affiliates/network", "200").observe(0.003)
    text = metrics.render().decode()
    line = (
        'gateway_request_seconds_bucket{le="0.005",route="/v1/affiliates/network",status="200"} 1.0'
    )
    assert line in text
    assert "gateway_refusals" in text


def _budgets(budgets: SharedBudgets) -> dict[str, float]:
    """The samples of budgets in one scrape."""
    metrics = GatewayMetrics()
    metrics.observe_budgets(budgets)
    lines = metrics.render().decode().splitlines()
    found = [line.rpartition(" ") for line in lines if line.startswith("gateway_budget_")]
    return {
        name.replace("gateway_budget_", "").replace("_total", ""): float(value)
        for name, _, value in found
        if "_created" not in name
    }


def test_the_budgets_of_networks_are_shown_as_they_stand():
    """What is left, what was decided, what others took, of both kinds; by network and realm."""
    clock = ManualClock(0.0)
    budgets = SharedBudgets(clock, "one", "1")
    budgets.catch_up()
    budget = Budget(rate=1, burst=2)
    for _ in range(3):
        budgets.buckets.take((7, "affiliate"), budget)
        budgets.hourly.take((7, "affiliate"), 2)
    budgets.buckets.take((7, "affiliate"), budget, shadow=True)
    clock.advance(0.5)
    bucket = UsageBucket(level=0, rate=1, burst=2)
    told = UsageTotal(network_id=7, realm="affiliate", total=3, bucket=bucket)
    budgets.hear(Usage(replica="two", incarnation="1", sequence=0, at=0, totals=(told,)), 0.5)
    of_bucket, of_hour = '{network="7",realm="affiliate"}', '{network="7",realm="affiliate/hour"}'
    assert _budgets(budgets) == {
        f"left{of_bucket}": 0.0,
        f"debt{of_bucket}": 2.5,
        f"admitted{of_bucket}": 2.0,
        f"refused{of_bucket}": 1.0,
        f"in_shadow{of_bucket}": 1.0,
        f"left{of_hour}": 0.0,
        f"debt{of_hour}": 0.0,
        f"admitted{of_hour}": 2.0,
        f"refused{of_hour}": 1.0,
        f"in_shadow{of_hour}": 0.0,
    }


def test_many_networks_do_not_make_a_scrape_long():
    """The last used are shown."""
    budgets = SharedBudgets(ManualClock(0.0), "one", "1")
    for network_id in range(1, 3 * BUDGETS_SHOWN):
        budgets.buckets.take((network_id, "affiliate"), Budget(rate=1, burst=2))
        budgets.hourly.take((network_id, "affiliate"), 2)
    shown = {name for name in _budgets(budgets) if name.startswith("left")}
    assert len(shown) == 2 * BUDGETS_SHOWN
    assert f'left{{network="{3 * BUDGETS_SHOWN - 1}",realm="affiliate"}}' in shown
