"""Protects cursors: what they say is read back, and damage is found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cursor import TYPES_MAX, Cursor, CursorStamp, Place, tag_of
from shared.errors import InvalidError

ids = st.integers(0, 2**53 - 1)
places = st.dictionaries(
    st.integers(0, 2**16 - 1),
    st.builds(Place, st.binary(min_size=8, max_size=8), st.integers(0, 2**63 - 1)),
    min_size=1,
    max_size=TYPES_MAX,
)
cursors = st.builds(Cursor, ids, ids, places)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ .\u00e9"


@given(cursors)
def test_a_cursor_is_read_back_as_it_was_written(cursor):
    """Any process goes on exactly where another one stopped."""
    assert Cursor.decode(cursor.encode()) == cursor


@given(cursors, st.data())
def test_a_changed_character_is_found(cursor, data):
    """Damage on the way never becomes another place."""
    text = cursor.encode()
    index = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(ALPHABET.replace(text[index], "")))
    with pytest.raises(InvalidError, match="cursor"):
        Cursor.decode(text[:index] + other + text[index + 1 :])


@given(cursors, st.integers(0, 200))
def test_a_cut_cursor_is_found(cursor, length):
    """A line cut short by a copy is refused."""
    text = cursor.encode()
    with pytest.raises(InvalidError, match="cursor"):
        Cursor.decode(text[: min(length, len(text) - 1)])


@given(st.text(max_size=600))
def test_any_text_is_either_a_cursor_or_refused(text):
    """Nothing but `InvalidError` comes of what a client sends."""
    with pytest.raises(InvalidError, match="cursor"):
        Cursor.decode(text)


@given(cursors, st.data())
def test_a_stamp_writes_what_a_cursor_would(cursor, data):
    """The fast way and the plain way are one format."""
    offsets = [data.draw(st.integers(0, 2**63 - 1)) for _ in cursor.places]
    stamp = CursorStamp(
        cursor.network_id,
        cursor.network_affiliate_id,
        {tag: place.topic_id for tag, place in cursor.places.items()},
    )
    moved = {
        tag: Place(place.topic_id, offset)
        for (tag, place), offset in zip(cursor.places.items(), offsets, strict=True)
    }
    expected = Cursor(cursor.network_id, cursor.network_affiliate_id, moved)
    assert Cursor.decode(stamp.text(offsets)) == expected


def test_the_types_of_the_platform_have_tags_of_their_own():
    """A cursor never takes one type for another."""
    names = ("clicks", "conversions", "impressions")
    assert len({tag_of(name) for name in names}) == len(names)
