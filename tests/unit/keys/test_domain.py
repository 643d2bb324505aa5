"""Protects the rules of keys: who may have one, what each change tells, and that revoked is for good."""

from dataclasses import replace
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.keys import domain
from services.keys.domain import Cause, IneligibleError, Partner
from shared import events
from shared.errors import ConflictError, InvalidError
from shared.events import Actor, Budget, KeyState, NetworkState, PartnerAccess
from tests.keys_parts import KEY, NOW

CAUSE = Cause(Actor(subject="user-7", behind="user-1"), NOW, "why", "request-1", "192.0.2.1")


@pytest.mark.parametrize("flags", list(product([False, True], repeat=4)))
def test_every_obstacle_is_told_and_no_other(flags):
    """All sixteen combinations; none means that a key may be issued."""
    onboarding, incapable, fraud, quality = flags
    partner = Partner(201, 7, "Cedar", onboarding, not incapable, fraud, quality)
    names = ("in_onboarding", "no_technical_capacity", "fraud_flag", "quality_flag")
    expected = tuple(name for name, stands in zip(names, flags, strict=True) if stands)
    assert partner.obstacles() == expected


def test_a_refusal_tells_all_reasons_and_the_way_out():
    """Staff need not try again for each."""
    error = IneligibleError(("in_onboarding", "fraud_flag"))
    assert error.message == (
        "The partner may not have a key: it is in onboarding, it has an open fraud flag. "
        "A Super User may override this with a written reason (override_reason)."
    )


@pytest.mark.parametrize("text", ["", "  ", "a\x00b", "a\u200bb", "x" * 101])
def test_an_integration_needs_a_name_that_people_can_read(text: str):
    """Neither empty, nor hidden characters, nor endless."""
    with pytest.raises(InvalidError, match="integration"):
        domain.integration_name(text)


def test_names_that_look_alike_are_one():
    """White space and the way an accent is coded make no second integration."""
    assert domain.integration_name("  Café \n  CRM ") == "Café CRM"


def test_a_key_ends_when_its_time_does():
    """For people it is expired from that second on, noted or not."""
    assert [KEY.shown_status(NOW + after) for after in (59.9, 60)] == ["active", "expired"]
    assert replace(KEY, expires_at=None).shown_status(NOW * 2) == "active"


def test_a_moment_that_has_passed_is_no_expiry():
    """A key that never worked would be a mystery to its partner."""
    with pytest.raises(InvalidError, match="expires_at"):
        domain.checked_expiry(NOW, NOW)
    assert domain.checked_expiry(NOW + 1, NOW) == NOW + 1


def told(event) -> dict:
    return {name: getattr(event, name) for name in ("actor", "reason", "request_id", "client_ip")}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (domain.issued(KEY, CAUSE, ("fraud_flag",)), events.KeyIssued),
        (domain.revoked(KEY, CAUSE), events.KeyRevoked),
        (domain.expired(KEY, CAUSE), events.KeyExpired),
        (domain.with_allowlist(KEY, (), CAUSE), events.AllowlistChanged),
    ],
)
def test_a_change_of_a_key_is_an_event_and_a_state(change, kind):
    """The event tells who, why and from where; the state carries the version of the row."""
    event, state = change.events
    assert type(event) is kind
    assert told(event) == {
        "actor": CAUSE.actor,
        "reason": "why",
        "request_id": "request-1",
        "client_ip": "192.0.2.1",
    }
    assert (event.key_id, event.masked, event.integration) == (KEY.key_id, KEY.masked, "crm")
    assert state == change.now.state()
    assert state.version == (1 if kind is events.KeyIssued else 2)


def test_what_is_told_of_a_key_holds_no_secret():
    """Neither the sealed secret nor, in events, the digest."""
    for change in (domain.issued(KEY, CAUSE), domain.revoked(KEY, CAUSE)):
        event, state = (msgspec.json.encode(one) for one in change.events)
        assert b"sealed" not in event + state
        assert KEY.digest.encode() not in event
        assert KEY.digest.encode() in state
    assert "sealed" not in repr(KEY)


def test_revoking_is_permanent_and_told_once():
    """A second time changes nothing; a revoked key allows nothing any more."""
    revoked = domain.revoked(KEY, CAUSE).now
    assert (revoked.status, revoked.ended_at, revoked.version) == ("revoked", NOW, 2)
    assert domain.revoked(revoked, CAUSE) is None
    for attempt in (
        lambda: domain.reshared(revoked, CAUSE),
        lambda: domain.with_allowlist(revoked, (), CAUSE),
    ):
        with pytest.raises(ConflictError, match="revoked"):
            attempt()


def test_a_lapsed_key_is_not_shown_but_may_be_revoked():
    """Also before its end was noted."""
    late = replace(CAUSE, at=NOW + 61)
    with pytest.raises(ConflictError, match="expired"):
        domain.reshared(KEY, late)
    assert domain.reshared(KEY, CAUSE).key_id == KEY.key_id
    assert domain.revoked(domain.expired(KEY, late).now, late).now.status == "revoked"


def test_the_same_allowlist_is_no_change():
    """No event tells of nothing."""
    assert domain.with_allowlist(KEY, KEY.allowlist, CAUSE) is None


def test_access_changes_one_thing_at_a_time():
    """Streams and suspension do not touch each other, and no change is no event."""
    access = PartnerAccess(network_id=201, network_affiliate_id=7, version=4, suspended=True)
    change = domain.with_firehose(access, enabled=True, cause=CAUSE)
    assert type(change.events[0]) is events.FirehoseEnabled
    assert change.now == msgspec.structs.replace(access, version=5, firehose_enabled=True)
    assert change.events[1] == change.now
    assert domain.with_firehose(change.now, enabled=True, cause=CAUSE) is None
    resumed = domain.with_suspension(change.now, suspended=False, cause=CAUSE)
    assert type(resumed.events[0]) is events.PartnerResumed
    assert resumed.now.firehose_enabled


def test_each_part_of_a_budget_that_differs_is_told():
    """Before and after in words; the state follows."""
    before = NetworkState(network_id=201, version=3)
    wanted = NetworkState(
        network_id=201, version=0, affiliate=Budget(rate=7.5, burst=20), shadow=True
    )
    change = domain.with_budgets(before, wanted, CAUSE)
    *differing, state = change.events
    assert [(event.realm, event.before, event.after) for event in differing] == [
        ("affiliate", "5/s, burst 20", "7.5/s, burst 20"),
        ("shadow", "enforce", "report only"),
    ]
    assert state == change.now == msgspec.structs.replace(wanted, version=4)
    assert domain.with_budgets(change.now, wanted, CAUSE) is None


@given(
    st.sampled_from(["active", "revoked", "expired"]),
    st.integers(1, 9),
    st.none() | st.tuples(st.sampled_from(["active", "revoked", "expired"]), st.integers(1, 9)),
)
def test_a_mended_state_replaces_the_seen_one_and_never_revives(status, version, seen):
    """It is newer than both, and revoked if either was, whichever the database was restored to."""
    key = replace(KEY, status=status, version=version, ended_at=None if status == "active" else 1.0)
    known = None
    if seen is not None:
        known = msgspec.structs.replace(key.state(), status=seen[0], version=seen[1])
    change = domain.mended(key, known, CAUSE)
    state = change.events[-1]
    assert state == change.now.state()
    assert state.version > max(version, seen[1] if seen else 0)
    was_revoked = "revoked" in (status, seen[0] if seen else "")
    assert state.status == ("revoked" if was_revoked else status)
    newly_revoked = was_revoked and status != "revoked"
    assert [type(event) for event in change.events[:-1]] == [events.KeyRevoked] * newly_revoked


def test_doors_forget_an_ended_key_only_after_its_time():
    """And never one that is active."""
    ended = replace(KEY, status="revoked", ended_at=NOW)
    assert not domain.is_over(ended, NOW)
    assert domain.is_over(ended, NOW + 0.1)
    assert not domain.is_over(KEY, NOW * 2)


def test_a_key_state_is_what_its_schema_says():
    """What is published can be read back by the doors."""
    for change in (domain.issued(KEY, CAUSE), domain.revoked(KEY, CAUSE)):
        for event in change.events:
            assert events.decode(type(event), events.encode(event)) == event
    assert isinstance(KEY.state(), KeyState)
