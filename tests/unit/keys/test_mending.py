"""Protects the doors' states from a wrong word: ours returns, and what ended or is held stays so."""

from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.keys import mending
from services.keys.access.domain import Access
from shared import events
from shared.events import PartnerAccess
from tests.keys_parts import CAUSE, KEY, NOW


@given(
    st.sampled_from(["active", "revoked", "expired"]),
    st.integers(1, 9),
    st.none() | st.tuples(st.sampled_from(["active", "revoked", "expired"]), st.integers(1, 9)),
)
def test_a_mended_state_replaces_the_seen_one_and_never_revives(status, version, seen):
    """It is newer than both, and as far ended as either, whatever the database was restored to."""
    key = replace(KEY, status=status, version=version, ended_at=None if status == "active" else 1.0)
    known = None
    if seen is not None:
        known = msgspec.structs.replace(key.state(), status=seen[0], version=seen[1])
    change = mending.mended(key, known, CAUSE)
    state = change.events[-1]
    assert state == change.now.state()
    assert state.version > max(version, seen[1] if seen else 0)
    both = (status, seen[0] if seen else "active")
    ends = [end for end in ("revoked", "expired") if end in both]
    assert state.status == (ends[0] if ends else "active")
    kinds = {"revoked": events.KeyRevoked, "expired": events.KeyExpired}
    told = [kinds[state.status]] if state.status != status else []
    assert [type(event) for event in change.events[:-1]] == told


def test_doors_forget_an_ended_key_only_after_its_time():
    """And never one that is active."""
    ended = replace(KEY, status="revoked", ended_at=NOW)
    assert not mending.is_over(ended, NOW)
    assert mending.is_over(ended, NOW + 0.1)
    assert not mending.is_over(KEY, NOW * 2)


@given(
    st.none() | st.floats(NOW, NOW + 99), st.none() | st.floats(NOW, NOW + 99), st.integers(1, 4)
)
def test_an_end_that_a_restored_table_has_lost_is_believed(ours, theirs, version):
    """Where the log is ahead a key ends no later than it says; else our table decides."""
    key = replace(KEY, expires_at=ours, version=2)
    seen = msgspec.structs.replace(key.state(), expires_at=theirs, version=version)
    change = mending.mended(key, seen, CAUSE)
    ends = [end for end in (ours, theirs if version > 2 else None) if end is not None]
    assert change.events[-1] == change.now.state()
    assert change.now.expires_at == (min(ends) if ends else None)
    moved = change.now.expires_at != ours
    assert [type(event) for event in change.events[:-1]] == [events.ExpiryChanged] * moved
    assert change.now.version == max(2, version) + 1


def test_what_only_the_table_knows_of_a_key_outlives_mending():
    """Links of a rotation, its start, and who issued it."""
    key = replace(
        KEY,
        not_before=NOW + 9,
        created_by_name="Ada",
        predecessor_key_id="key_0",
        successor_key_id="key_1",
        rotated_at=NOW,
    )
    assert mending.mended(key, None, CAUSE).now == replace(key, version=2)


@given(st.booleans(), st.booleans(), st.booleans(), st.integers(1, 4))
def test_a_suspension_that_a_restored_table_has_lost_is_believed(staff, status, seen, version):
    """Where the log is ahead; staff hold it then, who may lift it. No hold is ever lifted."""
    access = Access(201, 7, 2, held_by_staff=staff, held_by_status=status)
    known = PartnerAccess(network_id=201, network_affiliate_id=7, version=version, suspended=seen)
    change = mending.mended(access, known, CAUSE)
    placed = seen and version > 2 and not (staff or status)
    assert (change.now.held_by_staff, change.now.held_by_status) == (staff or placed, status)
    assert [type(event) for event in change.events[:-1]] == [events.PartnerSuspended] * placed
    assert change.events[-1] == change.now.state()
    assert change.now.version == max(2, version) + 1
