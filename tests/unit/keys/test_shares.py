"""Protects what a link allows: once, in time, for an active key, and each step is told."""

from dataclasses import replace

import pytest

from services.keys import domain as keys_domain
from services.keys.domain import Cause
from services.keys.shares import domain
from services.keys.shares.domain import VISITOR, Target
from shared.errors import ConflictError
from shared.events import Actor
from tests.keys_parts import KEY, NOW
from tests.shares_parts import SHARE, TARGET, WITH_PASSPHRASE

ADA = Cause(Actor(subject="user-7", name="Ada"), NOW, "asked", "request-1", "192.0.2.9")
REVOKED = keys_domain.revoked(KEY, ADA).now
STAGES = {
    "open": (SHARE, TARGET),
    "used": (replace(SHARE, status="used", ended_at=NOW - 1), TARGET),
    "withdrawn": (replace(SHARE, status="withdrawn", ended_at=NOW - 1), TARGET),
    "locked": (replace(SHARE, status="locked", ended_at=NOW - 1), TARGET),
    "expired": (replace(SHARE, expires_at=NOW), TARGET),
    "ended": (SHARE, Target(REVOKED, is_suspended=False)),
    "suspended": (SHARE, Target(KEY, is_suspended=True)),
}


def visitor(at: float = NOW) -> Cause:
    return Cause(VISITOR, at, "", "request-2", "198.51.100.7")


def test_an_open_link_shows_the_key_and_is_used_then():
    """The event tells the moment, the address, and that a visitor did it."""
    opening = domain.opened(SHARE, TARGET, fits=True, cause=visitor())
    assert (opening.outcome, opening.share.status) == ("shown", "used")
    assert (opening.share.ended_at, opening.share.ended_ip) == (NOW, "198.51.100.7")
    event = opening.event
    assert (event.outcome, event.share_id, event.key_id) == ("shown", SHARE.share_id, KEY.key_id)
    assert (event.actor.kind, event.client_ip, event.occurred_at) == (
        "visitor",
        "198.51.100.7",
        NOW,
    )


@pytest.mark.parametrize(
    ("stage", "told_as"),
    [
        ("used", "used"),
        ("withdrawn", "withdrawn"),
        ("locked", "refused"),
        ("expired", "expired"),
        ("ended", "ended"),
        ("suspended", "ended"),
    ],
)
def test_no_other_link_shows_a_key_and_the_attempt_is_told_once_a_minute(stage, told_as):
    """Whatever stands against it, the right passphrase changes nothing; the link stays as it is."""
    share, target = STAGES[stage]
    first = domain.opened(share, target, fits=True, cause=visitor())
    assert (first.outcome, first.event.outcome) == (stage, told_as)
    assert replace(first.share, told_at=0.0) == share
    again = domain.opened(first.share, target, fits=True, cause=visitor(NOW + 59.9))
    assert (again.outcome in (stage, "expired"), again.event, again.share) == (
        True,
        None,
        first.share,
    )
    assert domain.opened(first.share, target, fits=True, cause=visitor(NOW + 60)).event is not None


def test_the_fifth_wrong_passphrase_closes_the_link_for_good():
    """Each is told; after that even the right one shows nothing."""
    share = WITH_PASSPHRASE
    for left in (4, 3, 2, 1):
        opening = domain.opened(share, TARGET, fits=False, cause=visitor())
        assert (opening.outcome, opening.event.outcome) == ("refused", "refused")
        assert opening.share.attempts_left == left
        share = opening.share
    last = domain.opened(share, TARGET, fits=False, cause=visitor())
    assert (last.outcome, last.event.outcome, last.share.status) == ("locked", "refused", "locked")
    assert last.share.passphrase == b""
    assert domain.opened(last.share, TARGET, fits=True, cause=visitor()).outcome == "locked"
    assert domain.opened(share, TARGET, fits=True, cause=visitor()).outcome == "shown"


def test_a_scheduled_key_may_be_shared_before_its_start():
    """The partner sets their program up first; an expired key shows nothing, noted or not."""
    scheduled = Target(replace(KEY, not_before=NOW + 20), is_suspended=False)
    assert domain.state_of(SHARE, scheduled, NOW) == "open"
    lapsed = Target(replace(KEY, expires_at=NOW - 1), is_suspended=False)
    assert domain.state_of(SHARE, lapsed, NOW) == "ended"


def test_a_link_is_made_for_an_active_key_with_few_open_links():
    """The event names the link and its end; the tenth is the last."""
    event = domain.made(SHARE, KEY, 9, ADA)
    assert (event.channel, event.share_id, event.share_expires_at) == (
        "link",
        SHARE.share_id,
        NOW + 30,
    )
    assert (event.reason, event.actor.subject) == ("asked", "user-7")
    with pytest.raises(ConflictError, match="10 open links"):
        domain.made(SHARE, KEY, 10, ADA)
    with pytest.raises(ConflictError, match="revoked"):
        domain.made(SHARE, REVOKED, 0, ADA)


@pytest.mark.parametrize("stage", ["open", "ended", "suspended"])
def test_what_nobody_has_used_can_be_withdrawn(stage):
    """Once; asked again nothing changes. The kept passphrase goes with it."""
    share, target = STAGES[stage]
    share = replace(share, has_passphrase=True, passphrase=b"salt and hash")
    withdrawn, event = domain.withdrawn(share, target, ADA)
    assert (withdrawn.status, withdrawn.ended_at, withdrawn.passphrase) == ("withdrawn", NOW, b"")
    assert (event.share_id, event.reason) == (share.share_id, "asked")
    assert domain.withdrawn(withdrawn, target, ADA) is None


@pytest.mark.parametrize("stage", ["used", "locked", "expired"])
def test_what_is_over_cannot_be_withdrawn(stage):
    """Staff must not believe that they took back what was seen."""
    with pytest.raises(ConflictError, match=stage):
        domain.withdrawn(*STAGES[stage], ADA)


def test_the_kept_passphrase_is_not_printed():
    """Not even its hash."""
    assert "salt and hash" not in repr(WITH_PASSPHRASE)
