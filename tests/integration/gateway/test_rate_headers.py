"""Protects what partners' programs steer by: the budget's headers say what was decided.

Each test has a network of its own, so that none spends another's budget.
"""

import itertools
import time

import pytest

from shared.events import Budget
from shared.partner_key import generate
from tests.hostile_parts import Fort, Message, fort, request, until
from tests.rate_parts import limits_of, shows_limits
from tests.soak import count

pytestmark = pytest.mark.slow

PATH = "/v1/affiliates/network"
TABLE = "/v1/affiliates/reporting/entity/table"
ANY_REALM = "/v1/meta/timezones"
STAFF = "/v1/networks/apikeys"
SECONDS = count(6, 60)
LARGE = Budget(rate=1_000, burst=10_000)
FINE_REPORT = b'{"columns": [{"column": "sub1"}]}'


@pytest.fixture(scope="module")
def gateway(kafka_bootstrap, tmp_path_factory):
    """A gateway for the whole file."""
    folder = tmp_path_factory.mktemp("rates")
    settings = {"GATEWAY_SILENCE_SECONDS": "1", "GATEWAY_GUESS_BURST": "100000"}
    with fort(kafka_bootstrap, f"rates-{folder.name}", folder, **settings) as found:
        yield found
        assert found.errors() == []


_numbers = itertools.count(1)


class Network:
    """A network with a budget that nobody has used, and a key.

    A second key, of another realm and so with a bucket of its own, tells when the budget holds.
    """

    def __init__(self, gateway: Fort, budget: Budget, **state: object) -> None:
        self.gateway = gateway
        self.number = next(_numbers)
        self.key, probe = generate(), generate()
        gateway.put_network(self.number, budget, **state)
        self.put_key()
        gateway.put_key(probe, f"probe{self.number}", network_id=self.number, realm="network")
        gateway.until_status(200, request(ANY_REALM, key=probe))
        gateway.until_status(403, request(STAFF, key=self.key))
        until(lambda: self._quota(request(ANY_REALM, key=probe)) == budget.burst)

    def _quota(self, content: bytes) -> int:
        return limits_of(self.gateway.ask(content))[0]["affiliate"]["q"]

    def put_key(self, **state: object) -> None:
        """Publish the key's state."""
        self.gateway.put_key(self.key, f"k{self.number}", network_id=self.number, **state)

    def request(self, target: str = PATH, **options: object) -> bytes:
        """A request with its key."""
        return request(target, key=self.key, **options)

    def ask(self, target: str = PATH, **options: object) -> Message:
        """The answer to such a request."""
        return self.gateway.ask(self.request(target, **options))


STATUSES = [
    (PATH, {}, 200),
    (f"{PATH}?do=raw&n=missing", {}, 404),
    (f"{PATH}?do=raw&n=failed", {}, 500),
    (f"{PATH}?do=vanish", {}, 502),
    (f"{PATH}?do=stall", {}, 504),
    (TABLE, {"method": "POST", "body": b"x" * 70_000}, 413),
    (TABLE, {"method": "POST", "headers": ("Content-Length: 10",)}, 408),
]


@pytest.mark.parametrize(("target", "options", "status"), STATUSES)
def test_every_answer_to_whom_we_know_tells_the_budget(gateway: Fort, target, options, status):
    """Whatever became of the request: it took a token, and the headers say what is left."""
    network = Network(gateway, LARGE)
    answer = network.ask(target, **options)
    assert answer.status == status
    policies, states = limits_of(answer)
    assert policies == {"affiliate": {"q": 10_000, "w": 10}}
    assert states["affiliate"]["r"] == 9_999


def test_a_service_cannot_speak_for_the_budget(gateway: Fort):
    """Its own headers of these names are dropped; a partner reads one value, ours."""
    network = Network(gateway, LARGE)
    answer = network.ask(f"{PATH}?do=raw&n=claim")
    assert (answer.status, answer.json) == (200, {})
    assert limits_of(answer)[1]["affiliate"]["r"] == 9_999


def test_a_refusal_of_a_key_that_is_ours_tells_the_budget_and_costs_nothing(gateway: Fort):
    """Allowlist and suspension: the key works as such, so its owner may know."""
    network = Network(gateway, Budget(rate=0.001, burst=5))
    network.put_key(allowlist=("10.0.0.0/8",))
    refused = gateway.until_status(403, network.request())
    left = limits_of(refused)[1]["affiliate"]["r"]
    assert limits_of(network.ask())[1]["affiliate"]["r"] == left
    gateway.put_partner(network.number, 7, suspended=True)
    network.put_key()
    until(lambda: "suspended" in network.ask().json.get("error", ""))
    left = limits_of(network.ask())[1]["affiliate"]["r"]
    assert limits_of(network.ask())[1]["affiliate"]["r"] == left


def test_who_is_not_known_learns_of_no_budget(gateway: Fort):
    """Nor does anybody before their key was judged."""
    network = Network(gateway, LARGE)
    for answer in (
        gateway.ask(request()),
        gateway.ask(request(key=generate())),
        gateway.ask(request("/v1/nothing", key=network.key)),
        gateway.ask(request(method="DELETE", key=network.key)),
        gateway.ask(request(STAFF, key=network.key)),
    ):
        assert answer.status in (401, 403, 404, 405)
        assert not shows_limits(answer)


def test_a_budget_counts_down_is_refused_and_comes_back_when_it_says(gateway: Fort):
    """The nth request shows what is left; `Retry-After` later, and not before, there is a token."""
    network = Network(gateway, Budget(rate=0.5, burst=3))
    for left in (2, 1, 0):
        answer = network.ask()
        assert (answer.status, limits_of(answer)[1]["affiliate"]["r"]) == (200, left)
    answer = network.ask()
    sent_at = time.monotonic()
    assert answer.status == 429
    policies, states = limits_of(answer)
    assert policies == {"affiliate": {"q": 3, "w": 6}}
    assert states["affiliate"]["t"] in (1, 2)
    assert answer.json["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert answer.json["status"] == 429
    assert answer.json["Error"] == answer.json["error"] == answer.json["message"]
    assert answer.json["title"]
    time.sleep(max(0.0, sent_at + states["affiliate"]["t"] - time.monotonic()))
    assert network.ask().status == 200


def test_a_granular_report_tells_both_budgets(gateway: Fort):
    """Each by its name; a refused one names the budget that was at its end."""
    network = Network(gateway, LARGE, granular_per_hour=2)
    post = {"target": TABLE, "method": "POST", "body": FINE_REPORT}
    until(lambda: limits_of(network.ask(**post))[0]["granular"]["q"] == 2)
    answers = [network.ask(**post) for _ in range(3)]
    assert answers[-1].status == 429
    for answer in answers:
        policies, states = limits_of(answer)
        assert policies["granular"] == {"q": 2, "w": 3_600}
        assert (answer.status == 429) == (states["granular"]["r"] == 0 and answer is not answers[0])
    assert answers[-1].json["violated-policies"] == ["granular"]
    assert network.ask().status == 200


def test_shadow_refuses_nobody_and_says_that_nothing_is_left(gateway: Fort):
    """A new budget can be tried before it holds."""
    network = Network(gateway, Budget(rate=0.001, burst=2), shadow=True)
    answers = [network.ask() for _ in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    assert [limits_of(answer)[1]["affiliate"]["r"] for answer in answers] == [1, 0, 0, 0]


def test_whoever_obeys_the_headers_is_never_refused(gateway: Fort):
    """A network's only client that waits `t` when `r` is 0 sees no 429, and gets its budget."""
    network = Network(gateway, Budget(rate=5, burst=20))
    statuses: list[int] = []
    end = time.monotonic() + SECONDS
    with gateway.wire() as wire:
        while time.monotonic() < end:
            answer = wire.send(network.request()).answer()
            statuses.append(answer.status)
            state = limits_of(answer)[1]["affiliate"]
            if not state["r"]:
                time.sleep(state["t"])
    assert set(statuses) == {200}
    assert len(statuses) > 20
