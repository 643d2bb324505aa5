"""Protects the doors' states from a wrong word: ours returns, and what ended or is held stays so."""

from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.keys import mending
from shared import events
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
