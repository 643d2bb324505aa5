"""Protects the access summaries: they add up, and what they lack is counted."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.gateway.summaries import ADDRESSES_MAX, UNKNOWN_ROWS_MAX, Row, Tally

ROW = Row("k1", "aff_…abcd", "GET", "/v1/affiliates/network", 200, "203.0.113.7", "")
UNKNOWN = Row("", "", "GET", "/v1/affiliates/network", 401, "203.0.113.7", "unknown")

requests = st.tuples(st.integers(10, 14), st.integers(0, 2), st.integers(200, 204))


@given(st.lists(requests, max_size=60), st.lists(st.integers(9, 16), max_size=4))
def test_every_request_is_told_once(made, moments):
    """Whenever it is published, all counts of all summaries are the requests made."""
    tally = Tally("g", rows_max=1_000)
    told: Counter = Counter()
    summaries = []
    for number, (second, partner, status) in enumerate(made):
        tally.add(second, partner, partner, replace(ROW, status=status))
        if number < len(moments):
            summaries += tally.take(moments[number])
    summaries += tally.take(float("inf"))
    for summary in summaries:
        for count in summary.counts:
            told[summary.second, summary.network_affiliate_id, count.status] += count.count
    assert told == Counter(made)
    assert ([*tally.take(float("inf"))], tally.dropped) == ([], 0)


def test_a_second_is_told_only_when_it_is_over():
    """One summary for a second, gateway and partner."""
    tally = Tally("g", rows_max=10)
    tally.add(10, 1, 7, ROW)
    assert not [*tally.take(10)]
    tally.add(10, 1, 7, ROW)
    (summary,) = tally.take(11)
    assert (summary.gateway, summary.second) == ("g", 10)
    assert (summary.network_id, summary.network_affiliate_id) == (1, 7)
    assert [count.count for count in summary.counts] == [2]


def test_what_does_not_fit_is_dropped_and_counted():
    """Kafka may be away for long; known rows go on counting, and room comes back."""
    tally = Tally("g", rows_max=3)
    for status in range(200, 206):
        tally.add(10, 1, 7, replace(ROW, status=status))
    tally.add(10, 1, 7, replace(ROW, status=200))
    assert tally.dropped == 3
    assert sum(count.count for summary in tally.take(11) for count in summary.counts) == 4
    tally.add(11, 1, 7, ROW)
    assert tally.dropped == 3


def test_of_unknown_callers_the_loudest_addresses_are_told():
    """A flood from everywhere stays one record of bounded size; nothing is lost from the sum."""
    tally = Tally("g", rows_max=1_000_000)
    for number in range(300):
        for _ in range(2 if number < ADDRESSES_MAX else 1):
            tally.add(10, 0, 0, replace(UNKNOWN, client_ip=f"10.0.{number // 256}.{number % 256}"))
    (summary,) = tally.take(11)
    told = {count.client_ip: count.count for count in summary.counts}
    assert told.pop("") == 200
    assert len(told) == ADDRESSES_MAX
    assert set(told.values()) == {2}


def test_a_flood_of_unknown_callers_is_bounded_in_memory():
    """Beyond a number of combinations they only add to the rest."""
    tally = Tally("g", rows_max=1_000_000)
    for number in range(UNKNOWN_ROWS_MAX + 500):
        tally.add(10, 0, 0, replace(UNKNOWN, client_ip=str(number)))
    (summary,) = tally.take(11)
    assert sum(count.count for count in summary.counts) == UNKNOWN_ROWS_MAX + 500
    assert (len(summary.counts), tally.dropped) == (ADDRESSES_MAX + 1, 0)


def test_a_record_is_bounded():
    """A partner calling from very many addresses within a second still fits through Kafka."""
    tally = Tally("g", rows_max=10_000)
    for number in range(2_500):
        tally.add(10, 1, 7, replace(ROW, client_ip=str(number)))
    summaries = [*tally.take(11)]
    assert [len(summary.counts) for summary in summaries] == [1_000, 1_000, 500]
    assert len({count.client_ip for summary in summaries for count in summary.counts}) == 2_500
