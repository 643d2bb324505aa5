"""Protects the one time that gateways have in common."""

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.log_clock import SECONDS_REMEMBERED, LogClock

delays = st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)), min_size=1, max_size=40)


@given(delays, st.floats(-1e5, 1e5))
def test_it_is_wrong_by_at_most_half_of_the_tightest_bounds(delays, offset):
    """Whatever the ways there and back take, however far the clocks are apart."""
    clock = LogClock()
    for index, (there, back) in enumerate(delays):
        sent = 100.0 + index
        clock.sample(sent, sent + there - offset, sent + there + back)
    latest = min(there for there, _ in delays)
    earliest = min(back for _, back in delays)
    assert clock.offset is not None
    assert abs(clock.offset - offset) <= (latest + earliest) / 2 + 1e-6
    assert abs(clock.of_ours(clock.of_log(123.0)) - 123.0) < 1e-6


def test_when_the_logs_clock_is_set_what_was_known_is_forgotten():
    """Bounds that contradict each other cannot both be true."""
    clock = LogClock()
    clock.sample(10.0, 1_000.0, 10.1)
    clock.sample(11.0, 2_000.0, 11.1)
    assert clock.offset == 11.05 - 2_000.0


def test_clocks_that_drift_are_followed():
    """Only the last minute's bounds count."""
    clock = LogClock()
    for second in range(5 * SECONDS_REMEMBERED):
        drift = 1e-4 * second
        clock.sample(float(second), second + drift, second + 0.002)
    assert clock.offset is not None
    assert abs(clock.offset + drift) < 1e-4 * SECONDS_REMEMBERED + 0.002


def test_before_the_first_record_it_knows_nothing():
    """Then no time of the log means anything."""
    clock = LogClock()
    assert (clock.offset, clock.of_log(5.0), clock.of_ours(5.0)) == (None, 0.0, 0.0)
