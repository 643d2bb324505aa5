"""Protects the rules of keys: who may have one, what each change tells, and that revoked is for good."""

from dataclasses import replace
from itertools import product

import msgspec
import pytest

from services.keys import domain
from services.keys.domain import IneligibleError, Partner
from shared import events
from shared.errors import ConflictError, InvalidError
from shared.events import KeyState
from tests.keys_parts import CAUSE, KEY, NOW


@pytest.mark.parametrize("flags", list(product([False, True], repeat=5)))
def test_every_obstacle_is_told_and_no_other(flags):
    """All combinations; none means that a key may be issued."""
    onboarding, incapable, fraud, quality, inactive = flags
    status = "inactive" if inactive else "active"
    partner = Partner(201, 7, "Cedar", onboarding, not incapable, fraud, quality, status)
    names = (
        "in_onboarding",
        "no_technical_capacity",
        "fraud_flag",
        "quality_flag",
        "account_inactive",
    )
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


def test_a_key_state_is_what_its_schema_says():
    """What is published can be read back by the doors."""
    for change in (domain.issued(KEY, CAUSE), domain.revoked(KEY, CAUSE)):
        for event in change.events:
            assert events.decode(type(event), events.encode(event)) == event
    assert isinstance(KEY.state(), KeyState)
