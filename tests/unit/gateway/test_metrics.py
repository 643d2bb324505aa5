"""Protects the figures operators see of the gateway's answers."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from services.gateway.metrics import _SECONDS, GatewayMetrics, RequestSeconds

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
