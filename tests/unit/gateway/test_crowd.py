"""Protects the others from one client that connects without end, and nobody from being many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.http1.crowd import TURNED_AWAY_MAX, Crowd
from shared.access import parse_proxies

TRUSTED = parse_proxies("10.0.0.0/8, 2001:db8:ffff::/48")
ADDRESSES = ("203.0.113.7", "203.0.113.8", "::ffff:203.0.113.7", "2001:db8::1", "10.1.1.1", "")


@pytest.mark.parametrize(
    "same",
    [
        ("203.0.113.7", "::ffff:203.0.113.7"),
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("fe80::1%eth0", "fe80::2%eth0"),
    ],
)
def test_an_address_is_one_however_it_is_written(same):
    """An IPv4 one wrapped in IPv6 is itself; of an IPv6 one the /64 counts."""
    crowd = Crowd(100, 1)
    assert [crowd.enter(address) for address in same] == ["in", "too many"]


@pytest.mark.parametrize(
    "others",
    [
        ("203.0.113.7", "203.0.113.8"),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.5"),
        ("2001:db8:0:1::1", "2001:db8:0:2::1"),
    ],
)
def test_others_are_not_counted_together(others):
    """On a dual-stack port all IPv4 clients have the same /64 around them."""
    crowd = Crowd(100, 1)
    assert [crowd.enter(address) for address in others] == ["in", "in"]


@pytest.mark.parametrize("address", ["10.1.1.1", "::ffff:10.1.1.1", "2001:db8:ffff::7", ""])
def test_our_own_proxies_may_have_any_number(address):
    """As many as there may be at all."""
    crowd = Crowd(100, 1, TRUSTED)
    assert {crowd.enter(address) for _ in range(100)} == {"in"}
    assert crowd.enter(address) == "crowded"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(ADDRESSES)), max_size=600))
def test_whoever_comes_and_goes_the_bounds_hold_and_nothing_is_left(moves):
    """In any order of comings and goings, and when all have left there is room for all again."""
    crowd = Crowd(8, 3, TRUSTED)
    there: list[tuple[str, str]] = []
    for comes, address in moves:
        if comes or not there:
            there.append((address, crowd.enter(address)))
        else:
            crowd.leave(*there.pop(0))
        let_in = [one for one, entry in there if entry == "in"]
        assert len(let_in) <= 8
        assert sum(one in ("203.0.113.7", "::ffff:203.0.113.7") for one in let_in) <= 3
        assert len(crowd) <= 8 + TURNED_AWAY_MAX
    for one in there:
        crowd.leave(*one)
    assert (len(crowd), crowd.origins) == (0, 0)
    assert [crowd.enter("203.0.113.7") for _ in range(4)] == ["in"] * 3 + ["too many"]
