"""Protects the catalog's batches: whatever is in them, they come to the same as one by one."""

from hypothesis import given
from hypothesis import strategies as st

from services.reporting.catalog import domain
from tests.catalog_parts import item, offer, removed

saving = st.builds(
    lambda offer_id, version, note: offer(offer_id, version, name=str(note)),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 99),
)
removal = st.builds(
    lambda offer_id, event: removed(offer(offer_id), f"e{event}"),
    st.integers(1, 3),
    st.integers(1, 3),
)
histories = st.lists(st.one_of(saving, removal), max_size=40)


class Rows:
    """What the tables do with each change, as plainly as possible."""

    def __init__(self) -> None:
        self.rows: dict[domain.Key, tuple[int, str | None, str | None]] = {}

    def save(self, thing: domain.Thing) -> None:
        version, _, removal_id = self.rows.get(domain.key_of(thing), (0, None, None))
        if version < thing.version:
            self.rows[domain.key_of(thing)] = (thing.version, thing.name, removal_id)

    def remove(self, gone: domain.Removed) -> None:
        version, _, removal_id = self.rows.get(gone.key, (0, None, None))
        if removal_id != gone.event_id:
            self.rows[gone.key] = (version, None, gone.event_id)

    def apply(self, change: domain.Change) -> None:
        if isinstance(change, domain.Removed):
            self.remove(change)
        else:
            self.save(change)


def named_anew(history: list[domain.Change]) -> list[domain.Change]:
    """`history` with each removal named anew, as producers do."""
    return [
        domain.Removed(change.kind, change.key, f"e{index}")
        if isinstance(change, domain.Removed)
        else change
        for index, change in enumerate(history)
    ]


@given(histories, st.randoms(use_true_random=False))
def test_waves_come_to_the_same_as_changes_one_by_one(history, dice) -> None:
    """In any cut into batches, and within a wave in any order."""
    history = named_anew(history)
    one_by_one, batched = Rows(), Rows()
    for change in history:
        one_by_one.apply(change)
    rest = history
    while rest:
        cut = dice.randint(1, len(rest))
        batch, rest = rest[:cut], rest[cut:]
        for wave in domain.waves((change, item(change).record.value) for change in batch):
            turns = [thing for thing, _ in wave.saved.values()] + list(wave.removed.values())
            dice.shuffle(turns)
            for change in turns:
                batched.apply(change)
    assert batched.rows == one_by_one.rows


@given(histories)
def test_no_wave_meets_a_thing_twice(history) -> None:
    """Postgres refuses a statement that updates a row a second time."""
    for wave in domain.waves((change, item(change).record.value) for change in history):
        assert not wave.saved.keys() & wave.removed.keys()


@given(histories, st.integers(0, 40))
def test_a_tail_of_the_log_sent_again_changes_nothing(history, start) -> None:
    """A producer that crashed repeats its last events, in order, with their ids.

    Only the last removal of a thing is remembered, so the tail ends before a second one.
    """
    history = named_anew(history)
    tail: list[domain.Change] = []
    for change in history[start:]:
        if isinstance(change, domain.Removed) and any(
            isinstance(other, domain.Removed) and other.key == change.key for other in tail
        ):
            break
        tail.append(change)
    rows = Rows()
    for change in [*history[:start], *tail]:
        rows.apply(change)
    before = dict(rows.rows)
    for change in tail:
        rows.apply(change)
    assert rows.rows == before
