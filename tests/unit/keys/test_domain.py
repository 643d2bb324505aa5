"""Protects the rules of keys: who may have one, what each change tells, and that revoked is for good."""

from dataclasses import replace
from itertools import product

import msgspec
import pytest

from services.keys import domain
from services.keys.domain import IneligibleError, Made, Partner, Turnover, Wish
from shared import events
from shared.errors import ConflictError, InvalidError
from shared.events import Actor, KeyState
from shared.partner_key import generate
from tests.keys_parts import CAUSE, KEY, NOW

PARTNER = Partner(201, 7, "Cedar")
MADE = Made("key_ffffffffffffffffffff", generate(), b"sealed anew")


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


def test_a_super_user_with_a_reason_sets_obstacles_aside_and_nobody_else():
    """Without obstacles nobody needs one, and nothing is told as set aside."""
    flagged = Partner(201, 7, "Cedar", has_fraud_flag=True, account_status="suspended")
    found = ("fraud_flag", "account_inactive")
    assert domain.overridden(flagged, "agreed", is_super_user=True) == found
    for reason, is_super_user in (("agreed", False), (" ", True), ("", True)):
        with pytest.raises(IneligibleError) as refused:
            domain.overridden(flagged, reason, is_super_user=is_super_user)
        assert refused.value.obstacles == found
    assert domain.overridden(Partner(201, 7, "Cedar"), "", is_super_user=False) == ()


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


def rotate(old=KEY, cause=CAUSE, **more):
    return domain.rotated(old, MADE, Turnover(**more), cause)


def test_a_rotation_links_two_keys_of_one_integration():
    """Both are told, each with its state; the old one lives on for the overlap and no longer."""
    old, new = rotate(replace(KEY, expires_at=None), overlap_seconds=100)
    assert [type(event) for event in old.events] == [events.KeyRotated, KeyState]
    assert [type(event) for event in new.events] == [events.KeyIssued, KeyState]
    assert old.events[0].successor_key_id == new.now.key_id == MADE.key_id
    assert new.events[0].predecessor_key_id == KEY.key_id
    assert old.events[0].overlap_ends_at == old.now.expires_at == NOW + 100
    assert (old.now.successor_key_id, old.now.rotated_at) == (MADE.key_id, NOW)
    assert (old.now.status, old.now.version, old.now.overlap_ends_at) == ("active", 2, NOW + 100)
    assert (new.now.predecessor_key_id, new.now.version) == (KEY.key_id, 1)
    assert new.now.overlap_ends_at is None
    assert (new.now.integration, new.now.allowlist) == (KEY.integration, KEY.allowlist)
    assert (new.now.digest, new.now.sealed) == (MADE.secret.digest, MADE.sealed)
    assert new.now.expires_at is None
    for change in (old, new):
        assert change.events[-1] == change.now.state()


def test_a_rotated_key_never_lives_longer_than_it_would_have():
    """The overlap ends with the key's own time, if that comes first."""
    old, _ = rotate(overlap_seconds=1_000)
    assert old.now.expires_at == old.events[0].overlap_ends_at == KEY.expires_at


def test_a_rotation_without_overlap_revokes_at_once():
    """For a key that leaked; there is no moment without a working key, and none with both."""
    old, new = rotate(overlap_seconds=0)
    assert [type(event) for event in old.events] == [events.KeyRotated, events.KeyRevoked, KeyState]
    assert (old.now.status, old.now.ended_at) == ("revoked", NOW)
    assert new.now.status == "active"


@pytest.mark.parametrize(
    ("old", "more", "expected"),
    [
        (replace(KEY, expires_at=None), {}, None),
        (KEY, {}, NOW + 120),  # it was meant to live two minutes
        (replace(KEY, not_before=NOW - 10), {}, NOW + 70),
        (replace(KEY, not_before=NOW + 20), {}, NOW + 60),
        (KEY, {"has_expiry": True}, None),
        (KEY, {"has_expiry": True, "expires_at": NOW + 5}, NOW + 5),
        (replace(KEY, expires_at=domain.MOMENT_MAX - 1), {}, domain.MOMENT_MAX - 1),
    ],
)
def test_a_successor_lives_by_the_rule_of_its_predecessor(old, more, expected):
    """As long as that one was meant to, from now on, unless staff say otherwise."""
    _, new = rotate(old, **more)
    assert new.now.expires_at == expected
    assert new.now.not_before == (old.not_before if old.not_before > NOW else 0)


def test_only_a_live_key_without_successor_is_rotated():
    """Else the refusal says which key to rotate."""
    with pytest.raises(ConflictError, match=MADE.key_id):
        rotate(rotate()[0].now)
    with pytest.raises(ConflictError, match="revoked"):
        rotate(domain.revoked(KEY, CAUSE).now)
    with pytest.raises(ConflictError, match="expired"):
        rotate(cause=replace(CAUSE, at=NOW + 60))
    with pytest.raises(InvalidError, match="passed"):
        rotate(has_expiry=True, expires_at=NOW)
    rotate(replace(KEY, not_before=NOW + 30))


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


def test_the_end_of_a_rotated_key_only_moves_earlier():
    """Else two keys of an integration would live side by side for as long as anybody likes."""
    old = rotate(overlap_seconds=50)[0].now
    assert domain.with_expiry(old, NOW + 20, CAUSE).now.expires_at == NOW + 20
    assert domain.with_expiry(old, NOW + 50, CAUSE) is None
    for later in (NOW + 51, None):
        with pytest.raises(ConflictError, match=MADE.key_id):
            domain.with_expiry(old, later, CAUSE)


def test_the_same_allowlist_is_no_change():
    """No event tells of nothing."""
    assert domain.with_allowlist(KEY, KEY.allowlist, CAUSE) is None


def test_a_key_state_is_what_its_schema_says():
    """What is published can be read back by the doors."""
    for change in (domain.issued(KEY, CAUSE), domain.revoked(KEY, CAUSE)):
        for event in change.events:
            assert events.decode(type(event), events.encode(event)) == event
    assert isinstance(KEY.state(), KeyState)
