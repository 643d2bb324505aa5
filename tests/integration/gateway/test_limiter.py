"""Protects the one budget of a network with real gateways on a real Kafka.

The short form of `make bench ONLY=limiter`, which also measures how exactly it is met.
"""

import pytest

from shared.events import Budget
from tests.fleet_parts import Surroundings, open_fleet
from tests.soak import count

pytestmark = pytest.mark.slow

SECONDS = count(5, 30)


async def test_two_gateways_admit_what_one_bucket_would(kafka_bootstrap, tmp_path):
    """An overload of 1.6 times the rate, unevenly split: burst and rate, and not twice of them."""
    budget = Budget(rate=100, burst=100)
    surroundings = Surroundings(kafka_bootstrap, tmp_path)
    async with open_fleet(surroundings, 2) as fleet:
        key = await fleet.partner(901, budget)
        answers = await fleet.drive(key, (0.7, 0.3), SECONDS, requests_per_second=160)
    wanted = budget.burst + budget.rate * SECONDS
    assert answers.count(200) + answers.count(429) == len(answers.rows)
    assert answers.count(200) == pytest.approx(wanted, rel=0.1)
    assert 0 < answers.records < len(answers.rows) / 2
