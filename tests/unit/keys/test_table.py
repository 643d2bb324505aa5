"""Protects what the table promises: cursors go on in their own list only, and rows' shapes."""

import base64
import zlib
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.keys.table import api, domain, wire
from services.keys.table.domain import PLACES, Filters, Listing, Row, Sort
from services.keys.table.handlers import OneKey
from services.keys.usage.domain import Refused, Source, Usage, Use
from shared.errors import InvalidError
from tests.keys_parts import KEY, NOW

KEY_ID = "key_0123456789abcdef0123"
LISTING = Listing(201)

moments = st.floats(allow_nan=False, allow_infinity=False)
values = {
    "created_at": st.tuples(moments),
    "last_used_at": st.tuples(moments),
    "expires_at": st.tuples(moments | st.none()),
    "integration": st.tuples(
        st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=100)
    ),
    "partner": st.tuples(st.integers(1, 2**53 - 1), moments),
    "status": st.tuples(st.sampled_from(domain.STATUSES), moments),
}


@st.composite
def listings_with_places(draw):
    """A list in any sort, and a place in it."""
    listing = Listing(draw(st.integers(1, 2**53)), sort=draw(st.sampled_from(get_args(Sort))))
    return listing, (*draw(values[listing.sort_name]), KEY_ID)


@given(listings_with_places())
def test_a_cursor_tells_its_place_exactly(given_):
    """To the last bit of a moment, and through any text."""
    listing, place = given_
    cursor = listing.cursor(place)
    assert listing.place(cursor) == place
    assert len(cursor) <= domain.CURSOR_LENGTH_MAX
    assert set(cursor) <= set(map(chr, range(128)))


OTHERS = [
    replace(LISTING, network_id=202),
    replace(LISTING, sort="created_at"),
    replace(LISTING, sort="-last_used_at"),
    replace(LISTING, filters=Filters(network_affiliate_id=7)),
    replace(LISTING, filters=Filters(status="active")),
    replace(LISTING, filters=Filters(integration="crm")),
    replace(LISTING, filters=Filters(warning="unused_90_days")),
    replace(LISTING, filters=Filters(search="crm")),
]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_a_cursor_of_another_list_is_refused(other):
    """It would begin a page somewhere that means nothing; the text says what to do."""
    cursor = LISTING.cursor((1.0, KEY_ID))
    with pytest.raises(InvalidError, match="another sort or other filters"):
        other.place(cursor)
    assert LISTING.place(cursor) == (1.0, KEY_ID)


def test_every_damage_is_found():
    """Each character changed, each cut, and what never was a cursor."""
    cursor = LISTING.cursor((1_767_225_600.25, KEY_ID))
    damaged = [cursor[:end] for end in range(len(cursor))]
    for index, letter in enumerate(cursor[:-1]):  # the last one has bits without meaning
        damaged.append(cursor[:index] + ("A" if letter != "A" else "B") + cursor[index + 1 :])
    for text in [*damaged, cursor + "A", KEY_ID, "é", "=", "A" * 2_000, "\x00"]:
        with pytest.raises(InvalidError, match="cut short or damaged"):
            LISTING.place(text)


def forged(body: bytes) -> str:
    return base64.urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4, "big")).decode().rstrip("=")


@pytest.mark.parametrize(
    "place",
    [
        '["x","key_0123456789abcdef0123"]',
        '[1.0,"key_x"]',
        "[1.0]",
        "[1.0,2.0,3.0]",
        "{}",
        "null",
        '[1e999,"key_0123456789abcdef0123"]',
        '[NaN,"key_0123456789abcdef0123"]',
        '["\xff"]',
        "[",
    ],
)
def test_a_forged_place_reaches_no_database(place):
    """Whoever computes the checksum anew still gets only places that the sort can have."""
    body = f'["{LISTING._digest()}",{place}]'.encode("latin-1")
    with pytest.raises(InvalidError, match="damaged"):
        LISTING.place(forged(body))


@given(st.binary(max_size=60))
def test_no_bytes_are_a_bug(body):
    """They are a place, or are refused."""
    with pytest.raises(InvalidError):
        LISTING.place(forged(body))


def test_every_sort_has_places_and_both_directions():
    """A sort that is added is added everywhere."""
    assert {sort.removeprefix("-") for sort in get_args(Sort)} == set(PLACES)
    assert len(get_args(Sort)) == 2 * len(PLACES)
    assert tuple(sorted(domain.STATUSES)) == domain.STATUSES


@pytest.mark.parametrize(
    ("text", "name"),
    [(None, None), ("", None), ("  ", None), (" a  b ", "a b"), ("Cafe\u0301", "Café")],
)
def test_a_name_is_looked_for_as_names_are_kept(text, name):
    """Composed and trimmed, so that what was issued is found."""
    assert domain.plain(text) == name


ROW = Row(
    key_id=KEY_ID,
    network_affiliate_id=7,
    partner_name="Cedar Coupons",
    is_suspended=False,
    integration="crm",
    masked="aff_…abcd",
    status="active",
    allowlist=("192.0.2.7",),
    created_at=NOW - 60,
    created_by="user-7",
    created_by_name="Ada",
    not_before=0.0,
    expires_at=NOW + 86_400,
    ended_at=None,
    predecessor_key_id=None,
    successor_key_id=None,
    last=Use(NOW - 61, "192.0.2.7", "GET /v1/affiliates/network"),
    count_on_day=3,
    many_networks_at=0.0,
    predecessor_used_at=None,
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"last": Use(), "expires_at": None},
        {"status": "revoked", "ended_at": NOW},
        {"not_before": NOW + 60},
        {"successor_key_id": KEY_ID, "predecessor_key_id": KEY_ID},
    ],
    ids=str,
)
def test_a_row_has_the_documented_shape(changes):
    """Closed models: a member too many or too few fails; the columns of a file are all of them."""
    row = replace(ROW, **changes)
    shown = api.table_row(row, NOW)
    wire.TableRow(**shown)
    assert sorted(shown) == sorted(api.COLUMNS)
    assert set(wire.TableRow.model_fields) == set(api.COLUMNS)
    sources = [Source("192.0.2.0/24", row.last, 3)]
    for usage in (Usage(), Usage(refused=Refused(NOW, "192.0.2.8", "revoked"))):
        wire.OneKey(**api.one_row(OneKey(row, usage, sources, NOW)))


def test_moments_of_use_are_told_to_the_minute():
    """Nothing finer is kept up to date; the day's count is of today or nothing."""
    shown = api.table_row(ROW, NOW)
    assert shown["last_used_at"] == "2025-12-31T23:58:00.000Z"
    assert shown["used_today"] == 0
    assert api.table_row(ROW, NOW - 60)["used_today"] == 3
    assert api.table_row(replace(ROW, last=Use()), NOW)["last_used_at"] is None


@given(
    st.sampled_from(["active", "revoked", "expired"]),
    st.sampled_from([0.0, NOW - 1, NOW, NOW + 1]),
    st.sampled_from([None, NOW - 1, NOW, NOW + 1]),
)
def test_a_row_has_the_status_of_its_key(status, not_before, expires_at):
    """One rule, wherever a key is shown."""
    values = {"status": status, "not_before": not_before, "expires_at": expires_at}
    assert replace(ROW, **values).shown_status(NOW) == replace(KEY, **values).shown_status(NOW)
