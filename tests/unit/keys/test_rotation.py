"""Protects rotations: two keys linked for the overlap and no longer, and never a third beside them."""

from dataclasses import replace

import pytest

from services.keys import domain, rotation
from services.keys.rotation import Turnover
from shared import events
from shared.errors import ConflictError, InvalidError
from shared.events import KeyState
from tests.keys_parts import CAUSE, KEY, MADE, NOW


def rotate(old=KEY, cause=CAUSE, **more):
    return rotation.rotated(old, MADE, Turnover(**more), cause)


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


def test_the_end_of_a_rotated_key_only_moves_earlier():
    """Else two keys of an integration would live side by side for as long as anybody likes."""
    old = rotate(overlap_seconds=50)[0].now
    assert domain.with_expiry(old, NOW + 20, CAUSE).now.expires_at == NOW + 20
    assert domain.with_expiry(old, NOW + 50, CAUSE) is None
    for later in (NOW + 51, None):
        with pytest.raises(ConflictError, match=MADE.key_id):
            domain.with_expiry(old, later, CAUSE)
