"""Protects how searches of raw rows are read: their reach, their cursors."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.reporting.rows import domain
from shared.errors import InvalidError

BODY = {"from": "2026-03-01", "to": "2026-03-31", "timezone_id": 67}
NOW = datetime(2026, 4, 1, tzinfo=UTC).timestamp()


def test_a_cursor_reads_as_it_was_written_and_a_damaged_one_is_refused() -> None:
    """Also one that decodes to something else."""
    cursor = domain.write_cursor(1_774_000_000, "a" * 32)
    assert domain.read_cursor(cursor) == ((1_774_000_000, "a" * 32), False)
    for damaged in ("", "x", cursor[:-4], cursor.swapcase(), "Mi4xLmE", "ÿ"):
        with pytest.raises(InvalidError, match="cursor"):
            domain.read_cursor(damaged)


def test_raw_conversions_reach_back_a_year() -> None:
    """Further back is refused, the future is not."""
    ahead = BODY | {"from": "2026-03-31", "to": "2026-04-30"}
    assert domain.read_conversions(ahead, now=NOW).with_conversions
    with pytest.raises(InvalidError, match="365 days"):
        domain.read_conversions(BODY | {"from": "2025-03-20", "to": "2025-04-20"}, now=NOW)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({}, {"with_conversions": True, "with_events": False, "view_through": None}),
        ({"show_conversions": False, "show_events": True}, {"with_conversions": False}),
        ({"show_conversions": "yes", "show_events": None}, {"with_conversions": True}),
        ({"show_only_vt": True}, {"view_through": True}),
        ({"show_only_ct": True}, {"view_through": False}),
        ({"show_only_vt": False, "show_only_ct": False}, {"view_through": None}),
        ({"show_only_scrub": True}, {"with_scrubbed_only": True}),
        ({"currency_id": "EUR", "autoRun": 1, "paging": None, "query": None}, {}),
        ({"query": {"filters": None, "search_terms": [], "user_metrics": []}}, {}),
    ],
)
def test_flags_of_deployed_programs_are_honoured_or_tolerated(
    sent: dict[str, Any], read: dict[str, Any]
) -> None:
    """What is no yes or no counts as absent; what means nothing here is left alone."""
    wanted = domain.read_conversions(BODY | sent, now=NOW)
    assert {name: getattr(wanted, name) for name in read} == read


def test_flags_that_exclude_each_other_are_refused() -> None:
    """By name."""
    with pytest.raises(InvalidError, match="show_only_vt, show_only_ct"):
        domain.read_conversions(BODY | {"show_only_vt": True, "show_only_ct": True}, now=NOW)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({}, ("on_hold", "approved", "rejected")),
        ({"on_hold_status_filter": ""}, ("on_hold", "approved", "rejected")),
        ({"on_hold_status_filter": None}, ("on_hold", "approved", "rejected")),
        ({"on_hold_status_filter": "rejected"}, ("rejected",)),
        (
            {"query": {"filters": [{"resource_type": "status", "filter_id_value": "approved"}]}},
            ("approved",),
        ),
        (
            {"query": {"exclusions": [{"resource_type": "status", "filter_id_value": "rejected"}]}},
            ("on_hold", "approved"),
        ),
    ],
)
def test_held_conversions_are_chosen_by_how_their_hold_stands(
    sent: dict[str, Any], expected: tuple[str, ...]
) -> None:
    """By the filter of their own or by one for the status; base conversions only on request."""
    wanted = domain.read_held(BODY | sent, now=NOW)
    assert wanted.hold_statuses == expected
    assert not wanted.with_conversions
    with pytest.raises(InvalidError, match="on_hold_status_filter: use on_hold"):
        domain.read_held(BODY | {"on_hold_status_filter": "open"}, now=NOW)


def test_clicks_take_fourteen_days_and_point_to_exports_beyond() -> None:
    """From a date to one 14 days later, both whole, also where clocks are put back."""
    body = {"from": "2025-10-20", "to": "2025-11-03", "timezone_id": 56}
    assert domain.read_clicks(body, now=NOW).visible_since < NOW - 91 * 86_400
    with pytest.raises(InvalidError, match="14 days apart; POST /v1/affiliates/reporting/exports"):
        domain.read_clicks(body | {"to": "2025-11-04"}, now=NOW)


def test_an_order_is_honoured_or_refused_by_name() -> None:
    """Rows have one order, in two directions."""
    wanted = domain.read_conversions(BODY, now=NOW)

    def is_newest_first(**parameters: str) -> bool:
        return domain.read_search(wanted, BODY, parameters).is_newest_first

    assert not is_newest_first()
    assert not is_newest_first(order_direction="asc")
    assert is_newest_first(order_direction="DESC")
    assert is_newest_first(order_field="conversion_unix_timestamp", order_direction="desc")
    down = domain.write_cursor(1_774_000_000, "a" * 32, goes_down=True)
    assert is_newest_first(cursor=down)
    assert is_newest_first(cursor=down, order_direction="desc")
    for cursor, other in ((down, "asc"), (domain.write_cursor(1, "a" * 32), "desc")):
        with pytest.raises(InvalidError, match="the cursor goes the other way"):
            is_newest_first(cursor=cursor, order_direction=other)
    with pytest.raises(InvalidError, match="order_field: rows are ordered by conversion_unix"):
        is_newest_first(order_field="revenue")
    with pytest.raises(InvalidError, match="order_direction: use asc or desc"):
        is_newest_first(order_direction="down")


def test_a_page_is_of_the_size_that_its_endpoint_has() -> None:
    """Unless the request says another."""
    wanted = domain.read_conversions(BODY, now=NOW)
    for sent, size in (({}, 2_000), ({"page_size": "0"}, 2_000), ({"page_size": "7"}, 7)):
        assert domain.read_search(wanted, BODY, sent, 2_000).page.size == size
