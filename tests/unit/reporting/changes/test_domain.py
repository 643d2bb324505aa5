"""Protects the change feed's decisions: what is told, as what, and cursors that say where they are."""

import itertools
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporting.changes.domain import (
    DAY_MS,
    LIMIT_DEFAULT,
    LIMIT_MAX,
    Change,
    FeedCursor,
    Seen,
    read_poll,
    told,
)
from services.reporting.scope import Scope
from shared.cursor import Cursor, Place
from shared.errors import InvalidError

ME = Scope(1, 10)
CURSOR = FeedCursor(ME, b"t" * 16, 7, 1_775_000_000_000)
FIRST = Seen(0, "a", 1, "pending", False, (0, ""), Decimal(1), Decimal(0))


def kinds(changes: list[Change]) -> list[tuple[int, str, tuple[str, ...]]]:
    return [(change.seen.offset, change.kind, change.changed) for change in changes]


def test_each_change_says_what_it_is() -> None:
    """Status, amount, hold and scrub by name; anything else as a change without one."""
    log = [
        FIRST,
        replace(FIRST, offset=1, version=2, status="approved"),
        replace(FIRST, offset=2, version=3, status="approved", revenue=Decimal(2)),
        replace(FIRST, offset=3, version=4, status="on_hold", hold=(9, "on_hold"), is_scrub=True),
        replace(FIRST, offset=4, version=6, status="on_hold", hold=(9, "on_hold"), is_scrub=True),
        replace(FIRST, offset=5, conversion_id="b"),
    ]
    assert kinds(told(log, [])) == [
        (0, "new", ()),
        (1, "changed", ("status",)),
        (2, "changed", ("amount",)),
        (3, "changed", ("status", "amount", "hold", "scrub")),
        (4, "changed", ()),
        (5, "new", ()),
    ]


def test_a_late_lower_version_is_told_as_superseded_and_is_no_base_to_compare_with() -> None:
    """A copy keeps what it has; the next higher version is compared with the highest before."""
    log = [
        replace(FIRST, offset=0, version=3, status="approved"),
        replace(FIRST, offset=1, version=2, status="rejected"),
        replace(FIRST, offset=2, version=4, status="approved", revenue=Decimal(5)),
    ]
    assert kinds(told(log, [])) == [
        (0, "new", ()),
        (1, "superseded", ()),
        (2, "changed", ("amount",)),
    ]


def test_a_republished_record_is_not_told_again() -> None:
    """Its first place counts, also when a page holds only the second."""
    again = replace(FIRST, offset=5)
    assert told([again], [FIRST]) == []
    assert kinds(told([FIRST, again], [again, FIRST, FIRST])) == [(0, "new", ())]


records = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.integers(0, 3)), max_size=30
)


@given(records, st.lists(st.integers(0, 30), max_size=6))
def test_pages_of_any_size_tell_the_same(rows, cuts) -> None:
    """What is told of a place depends on the places before it alone."""
    log = [
        replace(FIRST, offset=2 * i, conversion_id=key, version=version, revenue=Decimal(amount))
        for i, (key, version, amount) in enumerate(rows)
    ]
    bounds = sorted({0, len(log), *(cut for cut in cuts if cut <= len(log))})
    paged = [
        change
        for begin, end in itertools.pairwise(bounds)
        for change in told(log[begin:end], log[:end])
    ]
    assert paged == told(log, [])
    assert len({(c.seen.conversion_id, c.seen.version) for c in paged}) == len(paged)
    assert len(paged) == len({(key, version) for key, version, _ in rows})


def test_a_cursor_is_read_back_and_damage_or_another_partner_is_refused() -> None:
    """By name, so that a program's author sees what happened."""
    text = CURSOR.encode()
    assert read_poll(ME, {"cursor": text}).cursor == CURSOR
    firehose = Cursor(1, 10, {5: Place(b"t" * 8, 7)}).encode()
    for wrong, reason in (
        (text[:-1], "damaged"),
        (text[:10] + ("A" if text[10] != "A" else "B") + text[11:], "checksum"),
        ("?", "not base64url"),
        (firehose, "unknown here"),
    ):
        with pytest.raises(InvalidError, match=reason):
            read_poll(ME, {"cursor": wrong})
    with pytest.raises(InvalidError, match="another partner"):
        read_poll(Scope(1, 11), {"cursor": text})


def test_a_cursor_ages_with_what_it_stands_before() -> None:
    """Past what is kept, or of a topic created anew, it cannot be served."""
    kept = CURSOR.since_ms + 90 * DAY_MS
    assert CURSOR.is_servable(CURSOR.topic_id, now_ms=kept, kept_days=90)
    assert not CURSOR.is_servable(CURSOR.topic_id, now_ms=kept + 2 * DAY_MS, kept_days=90)
    assert not CURSOR.is_servable(b"u" * 16, now_ms=kept, kept_days=90)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, LIMIT_DEFAULT),
        ("", LIMIT_DEFAULT),
        ("0", LIMIT_DEFAULT),
        ("7", 7),
        ("-1", LIMIT_MAX),
        ("99999", LIMIT_MAX),
    ],
)
def test_limits_are_read_as_page_sizes_are(text: str | None, expected: int) -> None:
    """Out of range means the nearest that makes sense."""
    assert read_poll(ME, {} if text is None else {"limit": text}).limit == expected


def test_a_limit_that_is_no_number_is_refused() -> None:
    """By name."""
    with pytest.raises(InvalidError, match="limit: use a whole number"):
        read_poll(ME, {"limit": "many"})
