"""Protects the one budget of a network with real gateways on a real Kafka.

The short form of `make bench ONLY=limiter`, which also measures how exactly it is met.
"""

import asyncio
from collections import Counter

import pytest

from shared.events import Budget
from tests.fleet_parts import Surroundings, open_fleet
from tests.gateway_parts import KEY, TABLE, gate, open_gateway
from tests.soak import count
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.slow

GRANULAR = {"columns": [{"column": "sub1"}]}

SECONDS = count(5, 30)


async def test_two_gateways_admit_what_one_bucket_would(kafka_bootstrap, tmp_path):
    """An overload of 1.6 times the rate, unevenly split: burst and rate, and not twice of them."""
    budget = Budget(rate=100, burst=100)
    surroundings = Surroundings(kafka_bootstrap, tmp_path)
    async with open_fleet(surroundings, 2) as fleet:
        key = await fleet.partner(901, budget)
        answers = await fleet.drive(key, (0.7, 0.3), SECONDS, requests_per_second=160)
    wanted = budget.burst + budget.rate * answers.lasted
    assert answers.count(200) + answers.count(429) == len(answers.rows)
    assert answers.count(200) == pytest.approx(wanted, rel=0.1)
    assert 0 < answers.records < len(answers.rows) / 2


@pytest.fixture
async def surroundings(kafka_bootstrap, unique):
    async with gate(kafka_bootstrap, unique) as found:
        await found.put_key(KEY)
        yield found


async def test_what_one_gateway_admits_the_others_count(surroundings):
    """A burst used up at one door is used up at all, and a change of the budget reaches all."""
    await surroundings.put_network(affiliate=Budget(rate=0.01, burst=10))
    async with open_gateway(surroundings) as one, open_gateway(surroundings) as two:
        statuses = Counter([await one.status(key=KEY) for _ in range(12)])
        assert statuses == {200: 10, 429: 2}
        await two.until_status(429, key=KEY)
        await surroundings.put_network(affiliate=Budget(rate=1_000, burst=1_000))
        await one.until_status(200, key=KEY)
        await two.until_status(200, key=KEY)


async def test_a_restart_gives_nobody_a_new_hour(surroundings):
    """A gateway that starts has read what was admitted before, also by one that is no more."""
    await surroundings.put_network(granular_per_hour=3)
    async with open_gateway(surroundings) as gateway:
        for _ in range(2):
            assert await gateway.status(TABLE, key=KEY, method="POST", json=GRANULAR) == 200
    async with open_gateway(surroundings) as gateway:
        statuses = [
            await gateway.status(TABLE, key=KEY, method="POST", json=GRANULAR) for _ in range(2)
        ]
    assert statuses == [200, 429]


async def test_in_shadow_mode_a_budget_over_several_gateways_refuses_nobody(surroundings):
    """It is counted everywhere, and says what it would have done."""
    await surroundings.put_network(affiliate=Budget(rate=0.01, burst=3), shadow=True)
    async with open_gateway(surroundings) as one, open_gateway(surroundings) as two:
        async with asyncio.timeout(DEADLINE_SECONDS):
            remaining = None
            while remaining != "0":
                assert await one.status(key=KEY) == 200
                status, headers, _ = await two.ask(key=KEY)
                assert status == 200
                remaining = headers["X-RateLimit-Remaining"]
