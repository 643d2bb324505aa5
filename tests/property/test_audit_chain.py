"""Protects: no tampering up to the last checkpoint stays unseen, whatever is done and wherever."""

import json
from collections.abc import Callable

from hypothesis import assume, given
from hypothesis import strategies as st

from services.audit import chain

NETWORK = 7

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {"event_id": TEXT, "kind": TEXT, "occurred_at": st.floats(0, 2e9), "body": VALUES}
)
CHAINS = st.lists(FIELDS, min_size=2, max_size=25, unique_by=lambda fields: fields["event_id"])


def _built(histories: list[dict[str, object]]) -> tuple[list[chain.StoredEntry], chain.Head]:
    return chain.extend(chain.genesis(NETWORK), NETWORK, histories)


def _rehashed(contents: list[dict[str, object]]) -> list[chain.StoredEntry]:
    """Entries with everything recomputed from `contents` on, as a database's owner could."""
    bare = [
        {
            name: value
            for name, value in content.items()
            if name not in ("network_id", "sequence", "previous")
        }
        for content in contents
    ]
    return _built(bare)[0]


@given(CHAINS, st.data())
def test_an_honest_chain_verifies_in_batches_of_any_size(histories, data):
    """Positive control: nothing honest is called tampering, and coverage is the last mark."""
    entries, head = _built(histories)
    marked = data.draw(st.sets(st.integers(1, len(entries))))
    verifier = chain.Verifier(
        NETWORK, [chain.Mark(sequence, entries[sequence - 1].hash) for sequence in marked]
    )
    cut = data.draw(st.integers(0, len(entries)))
    verifier.feed(entries[:cut])
    verifier.feed(entries[cut:])
    verdict = verifier.finish(head)
    assert verdict.problem is None
    assert verdict.covered_sequence == max(marked, default=0)


@given(CHAINS, st.data())
def test_a_chain_goes_on_from_where_it_was_checked_before(histories, data):
    """What the notary relies on: a part that follows a known head is judged alone."""
    entries, head = _built(histories)
    cut = data.draw(st.integers(1, len(entries)))
    start = chain.Head(cut, entries[cut - 1].hash)
    verifier = chain.Verifier(NETWORK, start=start)
    verifier.feed(entries[cut:])
    assert verifier.finish(head).problem is None


def _edit(entries, at, draw) -> list[chain.StoredEntry]:
    content = json.loads(entries[at].content)
    content["body"] = draw(VALUES.filter(lambda value: value != content["body"]))
    text = chain.canonical(content)
    return [*entries[:at], chain.StoredEntry(text, entries[at].hash), *entries[at + 1 :]]


def _edit_and_hash(entries, at, draw) -> list[chain.StoredEntry]:
    edited = _edit(entries, at, draw)
    edited[at] = chain.StoredEntry(edited[at].content, chain.digest(edited[at].content))
    return edited


def _edit_and_rehash_all(entries, at, draw) -> list[chain.StoredEntry]:
    return _rehashed([json.loads(entry.content) for entry in _edit(entries, at, draw)])


def _delete(entries, at, _draw) -> list[chain.StoredEntry]:
    return [*entries[:at], *entries[at + 1 :]]


def _delete_and_rehash_all(entries, at, draw) -> list[chain.StoredEntry]:
    return _rehashed([json.loads(entry.content) for entry in _delete(entries, at, draw)])


def _insert(entries, at, draw) -> list[chain.StoredEntry]:
    before = chain.Head(at, entries[at - 1].hash) if at else chain.genesis(NETWORK)
    return [*entries[:at], chain.link(before, NETWORK, draw(FIELDS)), *entries[at:]]


def _insert_and_rehash_all(entries, at, draw) -> list[chain.StoredEntry]:
    return _rehashed([json.loads(entry.content) for entry in _insert(entries, at, draw)])


def _swap(entries, at, draw) -> list[chain.StoredEntry]:
    other = draw(st.integers(0, len(entries) - 1).filter(lambda index: index != at))
    swapped = list(entries)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    return swapped


def _swap_and_rehash_all(entries, at, draw) -> list[chain.StoredEntry]:
    return _rehashed([json.loads(entry.content) for entry in _swap(entries, at, draw)])


def _cut_off(entries, at, _draw) -> list[chain.StoredEntry]:
    return list(entries[:at])


def _wrong_hash(entries, at, draw) -> list[chain.StoredEntry]:
    forged = chain.StoredEntry(entries[at].content, chain.digest(draw(TEXT)))
    return [*entries[:at], forged, *entries[at + 1 :]]


TAMPERINGS: list[Callable[..., list[chain.StoredEntry]]] = [
    _edit,
    _edit_and_hash,
    _edit_and_rehash_all,
    _delete,
    _delete_and_rehash_all,
    _insert,
    _insert_and_rehash_all,
    _swap,
    _swap_and_rehash_all,
    _cut_off,
    _wrong_hash,
]


@given(CHAINS, st.sampled_from(TAMPERINGS), st.data())
def test_every_tampering_up_to_the_last_checkpoint_is_found(histories, tamper, data):
    """Also by somebody who recomputes all hashes and sets the noted head to match."""
    entries, _ = _built(histories)
    covered = data.draw(st.integers(1, len(entries)), label="last checkpoint")
    at = data.draw(st.integers(0, covered - 1), label="tampered with")
    marks = [chain.Mark(covered, entries[covered - 1].hash)]
    tampered = tamper(entries, at, data.draw)
    assume(tampered[:covered] != entries[:covered])
    verifier = chain.Verifier(NETWORK, marks)
    verifier.feed(tampered)
    verdict = verifier.finish(verifier.head)
    assert verdict.problem is not None
    assert verdict.problem.sequence <= len(entries) + 1
    assert verdict.covered_sequence == 0, "the one checkpoint must not vouch for it"
