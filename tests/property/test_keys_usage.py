"""Protects the sums of last use: however the log is cut and ordered, a recount finds the same."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.keys.usage.domain import Sighting, Usage, folded
from tests.usage_parts import DAY, ENDPOINT, NOON, recount

NOW = float(NOON)
MOMENTS = st.one_of(
    st.integers(NOON - 100, NOON + 5),
    st.integers(NOON - 2 * DAY, NOON),
    st.integers(NOON - 95 * DAY, NOON),
)
SIGHTINGS = st.builds(
    Sighting,
    key_id=st.just("k"),
    network_id=st.just(201),
    at=MOMENTS.map(float),
    ip=st.integers(0, 31).map(lambda n: f"10.0.{n // 2}.{n}"),
    endpoint=st.sampled_from([ENDPOINT, "GET /v1/firehose/stream"]),
    count=st.integers(0, 5),
    refusal=st.sampled_from(["", "", "", "revoked", "allowlist"]),
)


def in_batches(seen: list[Sighting], cuts: list[int]) -> Usage:
    usage = Usage()
    for start, end in pairwise([0, *sorted(cuts), len(seen)]):
        usage = folded(usage, seen[start:end], NOW)
    return usage


@given(st.lists(SIGHTINGS, max_size=60), st.data())
def test_any_cut_and_any_order_give_what_a_recount_gives(
    seen: list[Sighting], data: st.DataObject
) -> None:
    """Late, early and equal moments, several days, forgotten sources: maxima and sums."""
    cuts = data.draw(st.lists(st.integers(0, len(seen)), max_size=8))
    shuffled = data.draw(st.permutations(seen))
    expected = recount(seen, NOW)
    assert in_batches(seen, cuts) == expected
    assert in_batches(shuffled, cuts) == expected


@given(st.randoms(use_true_random=False), st.integers(101, 140))
def test_the_hundred_sources_used_last_are_kept_whatever_the_order(random, networks: int) -> None:
    """One that was dropped comes back with a later use; only its count begins anew."""
    seen = [
        Sighting("k", 201, float(NOON - random.randrange(300)), f"10.0.{n}.1", ENDPOINT, 1)
        for n in range(networks)
        for _ in range(random.randrange(1, 3))
    ]
    random.shuffle(seen)
    cuts = [random.randrange(len(seen)) for _ in range(6)]
    found, expected = in_batches(seen, cuts), recount(seen, NOW)
    assert {name: one.last for name, one in found.sources.items()} == {
        name: one.last for name, one in expected.sources.items()
    }
    assert (found.last, found.count_on_day) == (expected.last, expected.count_on_day)
    assert found.many_networks_at == expected.many_networks_at


@given(st.lists(SIGHTINGS, min_size=1, max_size=30))
def test_seeing_nothing_new_changes_nothing(seen: list[Sighting]) -> None:
    """So a batch of old news writes no row."""
    usage = in_batches(seen, [])
    assert folded(usage, [], NOW + 60) == usage
