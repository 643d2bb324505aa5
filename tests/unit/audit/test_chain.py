"""Protects: what verification says about one kind of tampering, in words an operator can act on."""

import dataclasses
import json

import pytest

from services.audit import chain


def _fields(number: int) -> dict[str, object]:
    return {"event_id": f"event-{number}", "kind": "KeyIssued", "body": {"number": number}}


def _chain(length: int, network_id: int = 1) -> tuple[list[chain.StoredEntry], chain.Head]:
    return chain.extend(
        chain.genesis(network_id), network_id, [_fields(number) for number in range(1, length + 1)]
    )


def _mark(entries: list[chain.StoredEntry], sequence: int) -> chain.Mark:
    return chain.Mark(sequence, entries[sequence - 1].hash)


def _rewritten(
    entries: list[chain.StoredEntry], network_id: int = 1, **changes: object
) -> list[chain.StoredEntry]:
    """The chain as somebody makes it who changes the second entry and recomputes every hash."""
    contents = [json.loads(entry.content) for entry in entries]
    contents[1] |= changes
    for content in contents:
        del content["network_id"], content["sequence"], content["previous"]
    return chain.extend(chain.genesis(network_id), network_id, contents)[0]


def test_an_untouched_chain_is_intact_and_names_its_last_covered_entry():
    """Verification says yes only with how far that yes is proved."""
    entries, head = _chain(5)
    verdict = chain.verify(1, entries, [_mark(entries, 2), _mark(entries, 4)], noted_head=head)
    assert verdict == chain.Verdict(entries=5, checkpoints=2, covered_sequence=4, problem=None)


def test_an_empty_chain_is_intact():
    """A network without events has nothing to prove."""
    assert chain.verify(1, [], [], noted_head=chain.genesis(1)).is_intact


def test_an_edited_entry_is_named():
    """A changed content no longer has the hash beside it."""
    entries, _ = _chain(4)
    entries[2] = dataclasses.replace(entries[2], content=entries[2].content.replace("3", "9", 1))
    problem = chain.verify(1, entries).problem
    assert problem is not None
    assert (problem.kind, problem.sequence) == ("edited", 3)


def test_an_edit_with_its_own_hash_recomputed_breaks_the_next_link():
    """Entry 4 still names the old hash of entry 3."""
    entries, _ = _chain(4)
    content = entries[2].content.replace("event-3", "event-x")
    entries[2] = chain.StoredEntry(content, chain.digest(content))
    problem = chain.verify(1, entries).problem
    assert problem is not None
    assert (problem.kind, problem.sequence) == ("edited", 3)


def test_a_deleted_entry_is_named():
    """A gap in the sequence is a deletion."""
    entries, head = _chain(4)
    del entries[1]
    problem = chain.verify(1, entries, noted_head=head).problem
    assert problem is not None
    assert (problem.kind, problem.sequence) == ("deleted", 2)


def test_an_entry_further_on_was_reordered_rather_than_deleted():
    """What is missing here stands there."""
    entries, _ = _chain(4)
    entries[1], entries[2] = entries[2], entries[1]
    problem = chain.verify(1, entries).problem
    assert problem is not None
    assert (problem.kind, problem.sequence) == ("reordered", 2)


def test_an_inserted_entry_is_named():
    """A sequence that stands twice was inserted."""
    entries, _ = _chain(3)
    forged = chain.link(chain.Head(1, entries[0].hash), 1, _fields(99))
    entries.insert(2, forged)
    problem = chain.verify(1, entries).problem
    assert problem is not None
    assert (problem.kind, problem.sequence) == ("inserted", 2)


def test_an_entry_of_another_network_does_not_fit():
    """No chain can pass for another's."""
    entries, _ = _chain(2)
    entries[0] = _chain(1, network_id=2)[0][0]
    problem = chain.verify(1, entries).problem
    assert problem is not None
    assert (problem.kind, problem.sequence) == ("inserted", 1)


def test_a_cut_off_tail_is_found_by_the_checkpoint():
    """Even with the head row set back to match."""
    entries, _ = _chain(4)
    mark = _mark(entries, 4)
    shorter, head = _chain(2)
    problem = chain.verify(1, shorter, [mark], noted_head=head).problem
    assert problem is not None
    assert (problem.kind, problem.sequence) == ("cut_off", 3)


def test_a_cut_off_tail_behind_the_last_checkpoint_is_found_by_the_head():
    """Against somebody who deletes rows of one table only."""
    entries, head = _chain(4)
    problem = chain.verify(1, entries[:3], [_mark(entries, 2)], noted_head=head).problem
    assert problem is not None
    assert (problem.kind, problem.sequence) == ("cut_off", 4)


def test_recomputing_every_hash_is_found_by_the_first_checkpoint_after_the_change():
    """Who can write the whole database cannot sign."""
    entries, _ = _chain(5)
    marks = [_mark(entries, 1), _mark(entries, 3), _mark(entries, 5)]
    forged = _rewritten(entries, kind="KeyRevoked")
    assert chain.verify(1, forged).is_intact, "without checkpoints it cannot be told"
    verdict = chain.verify(1, forged, marks)
    assert verdict.problem is not None
    assert (verdict.problem.kind, verdict.problem.sequence) == ("rewritten", 3)
    assert verdict.covered_sequence == 1


@pytest.mark.parametrize("content", ["", "null", "[]", '{"sequence":"1"}', "[" * 5_000])
def test_what_is_no_entry_at_all_is_a_problem_and_no_crash(content: str):
    """Verification judges whatever somebody wrote into the table."""
    problem = chain.verify(1, [chain.StoredEntry(content, chain.digest(content))]).problem
    assert problem is not None
    assert problem.kind == "unreadable"


def test_the_same_event_has_one_canonical_text():
    """Order of members and spaces never reach the hash; characters stay as they are."""
    assert chain.canonical({"b": [1, 2.5], "a": "é\u2028"}) == '{"a":"é\u2028","b":[1,2.5]}'
