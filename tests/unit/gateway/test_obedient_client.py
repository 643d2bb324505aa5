"""Protects partners who do as the headers say: for ten minutes, on a clock of its own."""

import random

import pytest

from services.gateway.handlers import Door, Limits
from shared.access import AccessTable
from shared.clock import ManualClock
from shared.events import Budget, KeyState, NetworkState
from shared.identity import IdentitySigner
from shared.partner_key import generate
from tests.door_parts import rates, requested
from tests.rate_parts import items
from tests.soak import count
from tests.views import FakeView

KEY = generate()
TEN_MINUTES = 600.0
BUDGETS = [
    Budget(rate=5, burst=20),
    Budget(rate=0.3, burst=1),
    Budget(rate=7.7, burst=3),
    Budget(rate=30, burst=50),
]


class Client:
    """The only client of a network; it waits `t` seconds when `r` is 0."""

    def __init__(self, budget: Budget, seed: int) -> None:
        self.clock = ManualClock(0.0)
        self.random = random.Random(seed)
        self.is_eager = False
        keys, networks = FakeView(), FakeView()
        table = AccessTable(keys=keys, partners=FakeView(), networks=networks, stale_seconds=30)
        limits = Limits(
            header_bytes_max=2_000,
            body_bytes_max=1_000,
            token_budget=Budget(rate=1, burst=1),
            guess_budget=Budget(rate=1, burst=1),
        )
        signer = IdentitySigner("a secret of sixteen bytes")
        self.door = Door(table, signer, self.clock, trusted=(), limits=limits)
        networks.put("1", NetworkState(network_id=1, version=1, affiliate=budget))
        fields = {"network_affiliate_id": 7, "integration": "warehouse", "digest": KEY.digest}
        keys.put("k1", KeyState(key_id="k1", version=1, network_id=1, **fields))

    def ask(self) -> tuple[bool, dict[str, int]]:
        """Whether it was let in, and what the headers say."""
        headers = [(b"x-eflow-api-key", KEY.reveal().encode())]
        passage = self.door.judge(requested("GET", "/v1/affiliates/network", headers))
        told = dict(rates(passage))[b"ratelimit"].decode()
        return passage.rejection is None, items(told)["affiliate"]

    def work(self) -> int:
        """Ask for ten minutes, now eagerly, now idly; how many were let in: all that asked."""
        asked = 0
        while self.clock.monotonic() < TEN_MINUTES:
            is_in, state = self.ask()
            assert is_in, f"refused after {asked} at {self.clock.monotonic()} s"
            asked += 1
            if not state["r"]:
                self.clock.advance(state["t"])
            elif not self.is_eager and self.random.random() < 0.002:
                self.clock.advance(self.random.uniform(0, 20))
            else:
                self.clock.advance(self.random.expovariate(200))
        return asked


@pytest.mark.slow
@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: f"{budget.rate}/s")
@pytest.mark.parametrize("seed", range(count(1, 30)))
def test_an_obedient_client_sees_no_429_in_ten_minutes(budget, seed):
    """`r` and `t` promise no more than there is, at whatever moment they are asked."""
    client = Client(budget, seed)
    assert client.work() > budget.burst


def test_an_eager_obedient_client_gets_all_of_its_budget():
    """Waiting as told wastes nothing: burst and refill, to the last whole wait."""
    client = Client(Budget(rate=5, burst=20), 0)
    client.is_eager = True
    asked = client.work()
    assert 20 + 5 * TEN_MINUTES - 10 <= asked <= 20 + 5 * TEN_MINUTES + 1
