"""Protects the simulator's rates: repeatable, near the usual, valid by the contract."""

from decimal import Decimal

from shared.events import Rate, decode, encode
from tools.simulator import cast
from tools.simulator.rates import AHEAD_DAYS, PAST_DAYS, rates

NOW = 1_775_000_000.0


def test_rates_are_of_each_day_and_the_same_when_told_again() -> None:
    """A day later they differ in nothing but the days at the ends."""
    networks = cast.make(1, int(NOW)).networks
    first, later = list(rates(networks, NOW)), list(rates(networks, NOW + 86_400))
    assert len(first) == len(networks) * 2 * (PAST_DAYS + AHEAD_DAYS + 1)
    assert len(set(first) - set(later)) == len(networks) * 2
    assert all(decode(Rate, encode(each)) == each for each in first)


def test_a_rate_is_near_the_usual_and_moves() -> None:
    """So that a report by another day's rate would show."""
    networks = cast.make(1, int(NOW)).networks
    euros = [
        Decimal(each.rate)
        for each in rates(networks, NOW)
        if (each.network_id, each.currency_id) == (201, "EUR")
    ]
    assert len(set(euros)) > PAST_DAYS
    assert all(abs(rate / Decimal("1.0840") - 1) <= Decimal("0.0101") for rate in euros)
