"""Protects partners from being guessed, and from being locked out by whoever guesses."""

import pytest

from services.gateway.domain import Passage
from services.gateway.guessing import ADDRESSES_MAX, origin
from services.gateway.handlers import Door, Limits
from shared.access import AccessTable, parse_proxies
from shared.clock import ManualClock
from shared.events import Budget, KeyState
from shared.identity import IdentitySigner
from shared.partner_key import PartnerKey, generate
from tests.door_parts import requested
from tests.views import FakeView

BURST = 5
KEY, REVOKED, EXPIRED, FOREIGN = (generate() for _ in range(4))
TEXT = "Unable to authenticate request"


class Gate:
    """A door that lets an address fail five times at once, and once in two seconds."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        keys = FakeView()
        table = AccessTable(keys=keys, partners=FakeView(), networks=FakeView(), stale_seconds=30)
        limits = Limits(
            header_bytes_max=2_000,
            body_bytes_max=1_000,
            token_budget=Budget(rate=1, burst=1_000),
            guess_budget=Budget(rate=0.5, burst=BURST),
        )
        signer = IdentitySigner("a secret of sixteen bytes")
        trusted = parse_proxies("192.0.2.1")
        self.door = Door(table, signer, self.clock, trusted=trusted, limits=limits)
        states = {KEY: {}, REVOKED: {"status": "revoked"}, EXPIRED: {"expires_at": 1.0}}
        for key, state in (states | {FOREIGN: {"realm": "network"}}).items():
            fields = {"key_id": key.masked, "version": 1, "digest": key.digest, "network_id": 1}
            more = {"network_affiliate_id": 7, "integration": "warehouse"}
            keys.put(key.masked, KeyState(**(fields | more | state)))

    def ask(
        self, *keys: PartnerKey | str, peer="203.0.113.7", path="/v1/affiliates/network", via=""
    ):
        """What becomes of a request with these keys."""
        texts = [key.reveal() if isinstance(key, PartnerKey) else key for key in keys]
        headers = [(b"x-eflow-api-key", text.encode()) for text in texts]
        if via:
            headers.append((b"x-forwarded-for", via.encode()))
        return self.door.judge(requested("GET", path, headers, peer=peer))

    def exhaust(self, **where: str) -> None:
        """Fail as often as an address may at once."""
        for _ in range(BURST):
            assert told(self.ask(generate(), **where)) == (401, TEXT, "unknown")


def told(passage: Passage) -> tuple[int, str, str] | None:
    """Status, text and reason of a refusal."""
    rejection = passage.rejection
    return None if rejection is None else (int(rejection.status), rejection.text, rejection.reason)


def status_of(passage: Passage) -> int:
    """200 for whoever is let in."""
    return 200 if passage.rejection is None else int(passage.rejection.status)


def test_whoever_goes_on_guessing_is_slowed_down_and_told_so():
    """After the burst: 429 with the wait, and the text again when it is over."""
    gate = Gate()
    gate.exhaust()
    passage = gate.ask(generate())
    text = "Too many keys from this address that open nothing; come again in 2 s."
    assert told(passage) == (429, text, "guessing")
    assert passage.rejection is not None
    assert passage.rejection.headers == ((b"retry-after", b"2"),)
    assert passage.rejection.members["violated-policies"] == ["failed-keys"]
    assert passage.verdict is None
    gate.clock.advance(2)
    assert told(gate.ask(generate())) == (401, TEXT, "unknown")
    assert status_of(gate.ask(generate())) == 429


def test_a_good_key_passes_whatever_its_address_has_done():
    """Nobody is locked out by others behind the same address."""
    gate = Gate()
    for _ in range(20 * BURST):
        gate.ask(generate())
    assert [status_of(gate.ask(KEY)) for _ in range(10)] == [200] * 10


def test_a_good_key_costs_and_earns_nothing():
    """It neither uses up what its address may fail nor gives it back."""
    gate = Gate()
    for _ in range(BURST - 1):
        assert status_of(gate.ask(generate())) == 401
        assert status_of(gate.ask(KEY)) == 200
    assert status_of(gate.ask(generate())) == 401
    assert status_of(gate.ask(KEY)) == 200
    assert status_of(gate.ask(generate())) == 429


@pytest.mark.parametrize(
    "keys",
    [(generate(),), (REVOKED,), (EXPIRED,), ("",), ("aff_short",), ("x" * 1_000,), (KEY, KEY)],
    ids=["unknown", "revoked", "expired", "empty", "short", "long", "two"],
)
def test_all_that_opens_nothing_is_alike_before_and_after(keys):
    """If one were spared, its answer would tell that it is, or was, a key."""
    gate = Gate()
    assert told(gate.ask(*keys))[:2] == (401, TEXT)
    for _ in range(BURST - 1):
        gate.ask(generate())
    unknown = gate.ask(generate())
    assert told(gate.ask(*keys))[:2] == told(unknown)[:2] == (429, unknown.rejection.text)
    other = Gate()
    for _ in range(BURST):
        assert status_of(other.ask(*keys)) == 401
    assert status_of(other.ask(generate())) == 429


def test_a_revoked_key_still_in_use_is_told_as_such():
    """Its owner's summary names it, slowed down or not."""
    gate = Gate()
    gate.exhaust()
    passage = gate.ask(REVOKED)
    assert (status_of(passage), passage.rejection.reason) == (429, "revoked")
    assert passage.caller.key_id == REVOKED.masked


def test_other_refusals_are_no_guesses():
    """No key at all, an unknown path, another realm: as often as one likes."""
    gate = Gate()
    for _ in range(3 * BURST):
        assert status_of(gate.ask()) == 401
        assert status_of(gate.ask(generate(), path="/v1/nothing")) == 404
        assert status_of(gate.ask(FOREIGN)) == 403
    gate.exhaust()
    assert status_of(gate.ask(FOREIGN)) == 403
    assert told(gate.ask())[1] == "No Authentication Method Found"


def test_a_route_for_tokens_is_no_way_around():
    """A key sent there is judged, and counted, like any other."""
    gate = Gate()
    for _ in range(BURST):
        assert status_of(gate.ask(generate(), path="/v1/networks/apikeys")) == 401
    assert status_of(gate.ask(generate(), path="/v1/networks/apikeys")) == 429
    assert status_of(gate.ask(generate())) == 429


def test_another_address_is_not_touched():
    """An IPv4 address is one, an IPv6 address its /64; a mapped one is the IPv4 address it wraps."""
    gate = Gate()
    gate.exhaust(peer="2001:db8:0:1::1")
    assert status_of(gate.ask(generate(), peer="2001:db8:0:1:ffff::2")) == 429
    assert status_of(gate.ask(generate(), peer="2001:db8:0:2::1")) == 401
    gate.exhaust(peer="203.0.113.8")
    assert status_of(gate.ask(generate(), peer="::ffff:203.0.113.8")) == 429
    assert status_of(gate.ask(generate(), peer="203.0.113.9")) == 401


def test_behind_our_proxy_the_client_is_who_it_names():
    """Through a trusted proxy each client counts alone; an invented header buys nothing."""
    gate = Gate()
    gate.exhaust(peer="192.0.2.1", via="198.51.100.1")
    assert status_of(gate.ask(generate(), peer="192.0.2.1", via="198.51.100.1")) == 429
    assert status_of(gate.ask(generate(), peer="192.0.2.1", via="198.51.100.2")) == 401
    assert status_of(gate.ask(generate(), peer="192.0.2.1", via="9.9.9.9, 198.51.100.1")) == 429
    gate.exhaust(peer="198.51.100.9")
    assert status_of(gate.ask(generate(), peer="198.51.100.9", via="8.8.8.8")) == 429


def test_what_is_remembered_is_bounded():
    """An attacker with very many addresses makes the door forget, not grow."""
    gate = Gate()
    for number in range(ADDRESSES_MAX + 500):
        gate.ask("aff_short", peer=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(gate.door._guesses._failures) == ADDRESSES_MAX


@pytest.mark.parametrize(
    ("address", "stands_for"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:0:0:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
        ("", ""),
    ],
)
def test_whom_an_address_stands_for(address, stands_for):
    """What is no address is taken as it is."""
    assert origin(address) == stands_for
