"""Protects what partners may do: streams, suspensions hold by hold, and budgets, each change told once."""

from dataclasses import replace

import msgspec

from services.keys.access import domain
from services.keys.access.domain import Access
from shared import events
from shared.events import Budget, NetworkState
from tests.keys_parts import CAUSE


def test_access_changes_one_thing_at_a_time():
    """Streams and suspension do not touch each other, and no change is no event."""
    access = Access(network_id=201, network_affiliate_id=7, version=4, held_by_status=True)
    change = domain.with_firehose(access, enabled=True, cause=CAUSE)
    assert type(change.events[0]) is events.FirehoseEnabled
    assert change.now == replace(access, version=5, firehose_enabled=True)
    assert change.events[1] == change.now.state()
    assert domain.with_firehose(change.now, enabled=True, cause=CAUSE) is None
    resumed = domain.with_hold(change.now, "account_status", held=False, cause=CAUSE)
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


def test_holds_are_placed_and_lifted_one_by_one():
    """A partner is suspended while any stands; each step is an event that tells what remains."""
    access = Access(network_id=201, network_affiliate_id=7)
    told = []
    for hold, held in [
        ("staff", True),
        ("account_status", True),
        ("account_status", False),
        ("staff", False),
    ]:
        change = domain.with_hold(access, hold, held=held, cause=CAUSE)
        assert domain.with_hold(change.now, hold, held=held, cause=CAUSE) is None
        event, state = change.events
        assert state == change.now.state()
        assert (event.hold, state.version) == (hold, access.version + 1)
        told.append((type(event), state.suspended, getattr(event, "remaining", None)))
        access = change.now
    assert told == [
        (events.PartnerSuspended, True, None),
        (events.PartnerSuspended, True, None),
        (events.PartnerResumed, True, ("staff",)),
        (events.PartnerResumed, False, ()),
    ]
    assert access == Access(network_id=201, network_affiliate_id=7, version=4)
