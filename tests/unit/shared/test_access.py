"""Protects the doors: who gets in, in which order it is judged, and with which text."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.access import (
    REMEMBERED_MAX,
    AccessTable,
    ClientAddresses,
    client_ip,
    parse_allowlist,
    parse_proxies,
)
from shared.errors import ForbiddenError, UnauthenticatedError, UnavailableError
from shared.events import KeyState, NetworkState, PartnerAccess
from shared.partner_key import PartnerKey, PresentedKey, generate
from tests.views import FakeView

NOW = 1_767_225_600.0
KEY = generate()


class Door:
    """An access table over fakes with one key, `KEY`, of partner 7 of network 1."""

    def __init__(self, **state) -> None:
        self.keys, self.partners, self.networks = FakeView(), FakeView(), FakeView()
        self.table = AccessTable(
            keys=self.keys, partners=self.partners, networks=self.networks, stale_seconds=30
        )
        self.version = 0
        self.set_key(**state)

    def set_key(self, key: PartnerKey = KEY, **state) -> None:
        self.version += 1
        fields = {
            "key_id": "k1",
            "version": self.version,
            "digest": key.digest,
            "network_id": 1,
            "network_affiliate_id": 7,
            "integration": "warehouse",
        }
        value = KeyState(**(fields | state))
        self.keys.put(value.key_id, value)

    def set_partner(self, **access) -> None:
        value = PartnerAccess(network_id=1, network_affiliate_id=7, version=1, **access)
        self.partners.put("1:7", value)

    def admit(self, secret: str = "", *, realm="affiliate", ip="203.0.113.7", now=NOW):
        return self.table.admit(secret or KEY.reveal(), realm=realm, client_ip=ip, now=now)

    def reason(self, **how):
        """Why `admit` would refuse."""
        arguments = {"realm": "affiliate", "client_ip": "203.0.113.7", "now": NOW} | how
        refusal = self.table.decide(PresentedKey(KEY.reveal()), **arguments).refusal
        return refusal and refusal.reason


def test_a_good_key_tells_whose_it_is():
    """The positive control of every refusal below."""
    door = Door()
    grant = door.admit()
    assert (grant.network_id, grant.network_affiliate_id, grant.key_id) == (1, 7, "k1")
    assert (grant.masked, grant.realm, grant.firehose_enabled) == (KEY.masked, "affiliate", False)
    assert door.table.still_admitted(grant, NOW) is None
    assert KEY.reveal() not in repr(grant)


@pytest.mark.parametrize(
    "state",
    [{"status": "revoked"}, {"status": "expired"}, {"expires_at": NOW}, {"not_before": NOW + 1}],
)
def test_a_key_that_does_not_work_reads_as_unknown(state):
    """Nobody learns from the answer whether a key ever existed."""
    with pytest.raises(UnauthenticatedError) as known:
        Door(**state).admit()
    with pytest.raises(UnauthenticatedError) as unknown:
        Door().admit(generate().reveal())
    with pytest.raises(UnauthenticatedError) as malformed:
        Door().admit("aff_nonsense")
    texts = {str(known.value), str(unknown.value), str(malformed.value)}
    assert texts == {"Unable to authenticate request"}


def test_the_time_window_is_half_open():
    """A key works from `not_before` on, and not at `expires_at` any more."""
    door = Door(not_before=NOW, expires_at=NOW + 10)
    assert door.admit(now=NOW).key_id == "k1"
    assert door.admit(now=NOW + 9.999).key_id == "k1"
    assert door.reason(now=NOW - 0.001) == "not_yet_valid"
    assert door.reason(now=NOW + 10) == "expired"


def test_another_realm_is_refused_before_anything_else_about_the_key():
    """The order of the checks is part of the contract."""
    door = Door(realm="network", status="revoked", allowlist=("10.0.0.0/8",))
    door.set_partner(suspended=True)
    with pytest.raises(ForbiddenError, match=r"^Out of realm$"):
        door.admit()
    assert door.reason(realm="any") == "revoked"
    door.set_key(allowlist=("10.0.0.0/8",))
    assert door.reason() == "allowlist"
    assert door.reason(client_ip="10.1.2.3") == "suspended"
    assert door.reason(realm="none") == "realm"
    door.set_partner(suspended=False)
    assert door.reason(client_ip="10.1.2.3") is None


@pytest.mark.parametrize(
    ("entries", "address", "listed"),
    [
        (("203.0.113.7",), "203.0.113.7", True),
        (("203.0.113.7",), "203.0.113.8", False),
        (("203.0.113.0/24",), "::ffff:203.0.113.9", True),
        (("::ffff:203.0.113.0/120",), "203.0.113.9", True),
        (("::ffff:203.0.113.0/120",), "203.0.114.9", False),
        (("2001:db8::/32",), "2001:db8::1", True),
        (("2001:db8::/32",), "2001:db9::1", False),
        (("2001:db8::/32", "198.51.100.1"), "198.51.100.1", True),
        (("10.0.0.1/8",), "10.9.9.9", True),
        (("not an address",), "203.0.113.7", False),
        (("not an address", "203.0.113.7"), "203.0.113.7", True),
        (("203.0.113.7",), "unknown", False),
        ((), "203.0.113.7", True),
        ((), "unknown", True),
    ],
)
def test_the_allowlist(entries, address, listed):
    """Both families, single addresses and networks, IPv4 inside IPv6; empty means any."""
    assert (Door(allowlist=entries).reason(client_ip=address) is None) == listed


def test_what_is_remembered_of_a_caller_is_of_that_caller():
    """One key from listed and unlisted addresses in turn: each is judged and named by its own."""
    door = Door(allowlist=("203.0.113.0/24",))
    for _ in range(3):
        assert door.admit(ip="203.0.113.7").client_ip == "203.0.113.7"
        assert door.reason(client_ip="198.51.100.1") == "allowlist"
        assert door.admit(ip="203.0.113.8").client_ip == "203.0.113.8"


def test_a_grant_tells_of_the_firehose_as_it_is_now():
    """What was remembered of the last request does not outlive a change of the partner."""
    door = Door()
    enabled = []
    for value in (False, True, True, False):
        door.set_partner(firehose_enabled=value)
        enabled.append(door.admit().firehose_enabled)
    assert enabled == [False, True, True, False]


def test_a_malformed_key_is_none_even_if_its_digest_is_known():
    """Nobody can have been issued it; a good key is let in beside it, again and again."""
    malformed = PartnerKey(f"{KEY.reveal()[:-1]}!")
    door = Door()
    door.set_key(malformed, key_id="k2")
    for _ in range(2):
        with pytest.raises(UnauthenticatedError):
            door.admit(malformed.reveal())
        assert door.admit().key_id == "k1"


def test_an_allowlist_is_parsed_when_the_state_changes():
    """The next request is judged by the new one."""
    door = Door(allowlist=("10.0.0.0/8",))
    assert door.reason() == "allowlist"
    door.set_key(allowlist=("203.0.113.0/24",))
    assert door.reason() is None


def test_a_revocation_is_followed_at_once_and_by_open_streams():
    """Whoever holds a grant hears of the change and finds out what it is."""
    door = Door()
    door.set_partner(firehose_enabled=True)
    grant = door.admit()
    calls: list[str | None] = []

    def on_change() -> None:
        refusal = door.table.still_admitted(grant, NOW)
        calls.append(refusal and refusal.reason)

    unwatch = door.table.watch(grant, on_change)
    assert door.table.firehose_enabled(grant)
    door.set_partner(firehose_enabled=False)
    assert (calls, door.table.firehose_enabled(grant)) == ([None], False)
    door.set_partner(suspended=True)
    door.set_partner()
    door.set_key(allowlist=("10.0.0.0/8",))
    door.set_key(status="revoked")
    door.keys.put("k1", None)
    assert calls == [None, "suspended", None, "allowlist", "revoked", "unknown"]
    unwatch()
    door.set_key()
    assert len(calls) == 6
    assert door.table.still_admitted(grant, NOW) is None


def test_a_grant_outlives_its_key_only_until_it_asks():
    """Time windows end without a record: a stream asks again with the time."""
    door = Door(expires_at=NOW + 5)
    grant = door.admit()
    assert door.table.still_admitted(grant, NOW + 4) is None
    refusal = door.table.still_admitted(grant, NOW + 5)
    assert refusal is not None
    assert refusal.reason == "expired"


@pytest.mark.parametrize("view", ["keys", "partners"])
def test_a_door_that_cannot_know_refuses_everybody(view):
    """Half a minute behind the log, a key may long be revoked."""
    door = Door()
    grant = door.admit()
    getattr(door, view).age = 30.0
    assert door.admit() == grant
    getattr(door, view).age = 30.1
    with pytest.raises(UnavailableError):
        door.admit()
    stale = door.table.still_admitted(grant, NOW)
    assert stale is not None
    assert stale.reason == "stale"
    with pytest.raises(UnauthenticatedError):
        door.admit("aff_nonsense")


def test_a_partner_whose_record_cannot_be_read_is_not_guessed():
    """It may have been a suspension; other partners go on."""
    door = Door()
    door.partners.withheld.add("1:7")
    assert door.reason() == "stale"
    door.set_key(network_affiliate_id=8)
    assert door.reason() is None


def test_a_digest_that_moves_to_another_key_is_not_lost_by_the_old_ones_end():
    """The index follows the changes in whatever order they come."""
    door = Door()
    door.set_key(key_id="k2")
    door.keys.put("k1", None)
    assert door.admit().key_id == "k2"
    door.keys.put("k2", None)
    assert door.reason() == "unknown"


def test_a_network_without_a_budget_has_the_default_one():
    """5 a second, bursts of 20."""
    door = Door()
    assert door.table.network(1) == NetworkState(network_id=1, version=1)
    state = NetworkState(network_id=1, version=2, shadow=True)
    door.networks.put("1", state)
    assert door.table.network(1) == state


TRUSTED = parse_proxies("10.0.0.0/8, 2001:db8:1::/48,192.0.2.1")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "believed"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.2.0.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1", "10.2.0.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("2001:db8:1::9", ["[2001:db8::5]:4711"], "2001:db8::5"),
        ("192.0.2.1", ["2001:db8::5"], "2001:db8::5"),
        ("10.0.0.1", ["198.51.100.1, garbage"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_client_address_is_believed_only_through_our_proxies(peer, forwarded_for, believed):
    """What stands left of an address that is not ours may have been invented by it."""
    assert client_ip(peer, forwarded_for, TRUSTED) == believed


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["10.0.0.1", "::ffff:10.0.0.1", "203.0.113.7", ""]),
            st.lists(
                st.sampled_from(["", "1.1.1.1", "1.1.1.1,10.0.0.9", "x", "1.1.1.1," * 20]),
                max_size=3,
            ),
        ),
        max_size=20,
    )
)
def test_remembered_addresses_are_those_that_would_be_found_anew(ways):
    """Whatever came before, each request gets the address of its own way."""
    for trusted in (TRUSTED, ()):
        addresses = ClientAddresses(trusted)
        assert [addresses.of(*way) for way in ways] == [client_ip(*way, trusted) for way in ways]


def test_addresses_are_remembered_up_to_a_bound():
    """Neither many callers nor long headers fill the memory."""
    addresses = ClientAddresses(TRUSTED)
    for number in range(REMEMBERED_MAX + 10):
        addresses.of("10.0.0.1", [f"2001:db8::{number:x}"])
        addresses.of("10.0.0.1", [f"2001:db8::{number:x}, " + "1" * 64])
    assert 0 < len(addresses) <= REMEMBERED_MAX


def test_without_proxies_nobody_is_believed():
    """The default: the header is a claim."""
    assert client_ip("203.0.113.7", ["10.0.0.1"], parse_proxies("")) == "203.0.113.7"


def test_a_wrong_proxy_setting_is_named():
    """The service must not start with half of its proxies."""
    with pytest.raises(ValueError, match=r"10\.0\.0/8"):
        parse_proxies("10.0.0.1,10.0.0/8")


def test_parsed_allowlists_keep_their_length():
    """A damaged entry lets nobody in instead of making the list empty, which would mean any."""
    assert parse_allowlist(["x"]) == (ipaddress.ip_network("0.0.0.0/32"),)
