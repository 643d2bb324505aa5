"""Protects what projections decide in pure code, over generated histories."""

from hypothesis import given
from hypothesis import strategies as st

from shared.batches import Batcher, Freshness, LetterBudget, Limits, halves
from shared.kafka import Record
from shared.lag import lag_of

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=60)


def records(sizes: list[int], first: int = 0) -> list[Record[bytes, bytes]]:
    return [
        Record("t", 0, first + i, 0, 0, None, b"x" * size, None, 0, size, ())
        for i, size in enumerate(sizes)
    ]


@given(
    st.lists(SIZES, min_size=1, max_size=8),
    st.integers(1, 20),
    st.integers(1, 100),
    st.data(),
)
def test_batches_hold_every_record_once_in_order_and_within_bounds(
    chunks: list[list[int]], records_max: int, bytes_max: int, data: st.DataObject
) -> None:
    """Whatever arrives whenever: count and bytes bound each batch, and nothing waits too long."""
    limits = Limits(records_max=records_max, bytes_max=bytes_max, age_seconds_max=1.0)
    batcher = Batcher(limits)
    now, offset, taken = 0.0, 0, []
    oldest: float | None = None
    for chunk in chunks:
        now += data.draw(st.floats(0, 0.7))
        fresh = records(chunk, offset)
        offset += len(chunk)
        oldest = now if oldest is None else oldest
        batcher.offer(fresh, now)
        while batcher.is_ready(now):
            batch = batcher.take(now)
            assert 1 <= len(batch) <= records_max
            assert sum(len(r.value) for r in batch) <= bytes_max or len(batch) == 1
            taken += batch
            oldest = now if len(batcher) else None
        assert oldest is None or now - oldest < limits.age_seconds_max
    while len(batcher):
        taken += batcher.take(now)
    assert [r.offset for r in taken] == list(range(offset))
    assert batcher.due_at is None
    assert batcher.is_low


@given(SIZES, st.integers(1, 10))
def test_a_full_lane_pauses_before_it_resumes(sizes: list[int], records_max: int) -> None:
    """Full and low never hold at once: between them lies a batch, so pausing does not flutter."""
    limits = Limits(records_max=records_max, bytes_max=10**9)
    batcher = Batcher(limits)
    batcher.offer(records(sizes), 0.0)
    while len(batcher):
        assert not (batcher.is_full and batcher.is_low)
        assert batcher.is_full == (len(batcher) >= 2 * records_max)
        batcher.take(0.0)


@given(
    st.lists(
        st.tuples(st.sampled_from(["append", "fetch", "store"]), st.integers(1, 9)), max_size=80
    )
)
def test_through_is_never_ahead_of_the_truth_and_catches_up(steps: list[tuple[str, int]]) -> None:
    """A model of a log: nothing appended up to `through` is ever missing from what is stored."""
    now = 1_000
    appended: list[int] = []
    fetched = stored = 0
    freshness = Freshness(0)

    def fetch() -> None:
        nonlocal fetched, now
        found = len(appended)
        now += 1  # the answer travels
        fetched = found
        freshness.polled(now, found)

    for step, amount in steps:
        now += amount
        if step == "append":
            appended.append(now)
        elif step == "fetch":
            fetch()
        else:
            stored = min(fetched, stored + amount)
            freshness.stored(stored, appended[stored - 1] if stored else None)
        missing = appended[stored:]
        assert not missing or freshness.through_ms < missing[0]
    for _ in range(2):
        fetch()
        freshness.stored(len(appended), None)
        now += 5
    assert freshness.through_ms >= now - 20


@given(st.lists(st.booleans(), max_size=400), st.integers(1, 5), st.floats(0.05, 0.5))
def test_dead_letters_stop_at_the_limits(
    history: list[bool], run_max: int, ratio_max: float
) -> None:
    """As a plain count over the same history says: runs, and the part of a window."""
    limits = Limits(letters_run_max=run_max, letters_ratio_max=ratio_max, letters_window=50)
    budget = LetterBudget(limits)
    seen: list[bool] = []
    run = 0
    for is_refused in history:
        seen.append(is_refused)
        if not is_refused:
            run = 0
            budget.accepted(("t", 0))
            continue
        run += 1
        is_over = run > run_max or sum(seen[-50:]) > ratio_max * 50
        assert (budget.refused(("t", 0)) is not None) == is_over
        if is_over:
            return


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.data())
def test_halves_cover_everything_and_give_gaps_an_owner(
    gaps: list[int], data: st.DataObject
) -> None:
    """Applied one after the other they leave the offset where the whole would have."""
    offsets = [sum(gaps[: i + 1]) + i for i in range(len(gaps))]
    end = offsets[-1] + 1 + data.draw(st.integers(0, 3))
    (first, middle), (second, last) = halves(offsets, lambda offset: offset, end)
    assert [*first, *second] == offsets
    assert first
    assert second
    assert (middle, last) == (second[0], end)


@given(
    st.integers(0, 100),
    st.integers(0, 100),
    st.integers(1, 10**6),
    st.none() | st.integers(1, 10**6),
)
def test_lag_is_zero_exactly_when_no_record_waits(
    stored: int, end: int, asked_ms: int, first_ms: int | None
) -> None:
    """And `through` stays before the first record that waits, and before the question."""
    lag = lag_of(stored=stored, end=end, asked_ms=asked_ms, first_ms=first_ms)
    waits = stored < end and first_ms is not None
    assert (lag.records > 0) == waits
    assert lag.through_ms <= asked_ms
    if waits and first_ms is not None:
        assert lag.through_ms < first_ms
        assert lag.seconds == max(0, asked_ms - first_ms) / 1000
