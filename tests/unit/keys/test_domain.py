"""Protects the rules of keys: who may have one, what each change tells, and that revoked is for good."""

from dataclasses import replace

import msgspec
import pytest

from services.keys import domain
from services.keys.domain import Wish
from services.keys.eligibility import Partner
from shared import events
from shared.errors import ConflictError, InvalidError
from shared.events import Actor, KeyState
from tests.keys_parts import CAUSE, KEY, MADE, NOW

PARTNER = Partner(201, 7, "Cedar")


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


def test_a_scheduled_key_is_shown_as_such_until_it_begins():
    """For people; doors know its times. Once it has ended it is neither."""
    later = replace(KEY, not_before=NOW + 30)
    assert [later.shown_status(NOW + after) for after in (29.9, 30, 60)] == [
        "scheduled",
        "active",
        "expired",
    ]
    assert replace(later, status="revoked", ended_at=NOW).shown_status(NOW) == "revoked"
    assert later.state().not_before == NOW + 30
    later.require_live(NOW)


@pytest.mark.parametrize("moment", [domain.MOMENT_MAX, float("inf"), float("nan")])
def test_a_moment_that_cannot_be_told_is_refused(moment: float):
    """What has no date would break every answer that shows it."""
    with pytest.raises(InvalidError, match="9999"):
        domain.checked_expiry(moment, NOW)
    with pytest.raises(InvalidError, match="9999"):
        domain.new_key(PARTNER, Wish("crm", not_before=moment), MADE, CAUSE)


def test_a_wish_becomes_a_key():
    """By whom, from when to when; a start that has passed is none."""
    wish = Wish(" CRM ", ["192.0.2.7/32"], expires_at=NOW + 90, not_before=NOW + 30)
    key = domain.new_key(
        PARTNER, wish, MADE, replace(CAUSE, actor=Actor(subject="user-7", name="Ada"))
    )
    assert (key.integration, key.allowlist) == ("CRM", ("192.0.2.7",))
    assert (key.created_by, key.created_by_name, key.created_at) == ("user-7", "Ada", NOW)
    assert (key.not_before, key.expires_at) == (NOW + 30, NOW + 90)
    assert (key.digest, key.masked) == (MADE.secret.digest, MADE.secret.masked)
    event, state = domain.issued(key, CAUSE).events
    assert (event.not_before, state.not_before) == (NOW + 30, NOW + 30)
    assert domain.new_key(PARTNER, Wish("crm", not_before=NOW), MADE, CAUSE).not_before == 0
    with pytest.raises(InvalidError, match="start"):
        domain.new_key(PARTNER, replace(wish, expires_at=NOW + 30), MADE, CAUSE)


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
        (domain.with_expiry(KEY, None, CAUSE), events.ExpiryChanged),
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


def test_an_end_may_move_until_it_has_come():
    """Told with before and after; the same again is no change, and a passed moment is refused."""
    change = domain.with_expiry(KEY, None, CAUSE)
    event, state = change.events
    assert (type(event), event.before, event.after) == (events.ExpiryChanged, NOW + 60, None)
    assert (state.expires_at, state.version) == (None, 2)
    assert domain.with_expiry(KEY, KEY.expires_at, CAUSE) is None
    assert domain.with_expiry(KEY, NOW + 1, CAUSE).now.expires_at == NOW + 1
    with pytest.raises(InvalidError, match="revoke"):
        domain.with_expiry(KEY, NOW, CAUSE)
    with pytest.raises(ConflictError, match="expired"):
        domain.with_expiry(KEY, NOW + 99, replace(CAUSE, at=NOW + 60))


def test_the_same_allowlist_is_no_change():
    """No event tells of nothing."""
    assert domain.with_allowlist(KEY, KEY.allowlist, CAUSE) is None


def test_a_key_state_is_what_its_schema_says():
    """What is published can be read back by the doors."""
    for change in (domain.issued(KEY, CAUSE), domain.revoked(KEY, CAUSE)):
        for event in change.events:
            assert events.decode(type(event), events.encode(event)) == event
    assert isinstance(KEY.state(), KeyState)
