"""Protects how reports are read: what deployed programs send is understood or refused by name."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.reporting.asking.query import Filter, Query
from services.reporting.reports import domain
from shared.errors import InvalidError

BODY = {
    "from": "2026-03-01",
    "to": "2026-03-31",
    "timezone_id": 67,
    "currency_id": "USD",
    "columns": [{"column": "offer"}],
}


def interval(zone: Any, since: str, until: str) -> tuple[str, str]:
    found = domain.read_report(BODY | {"timezone_id": zone, "from": since, "to": until}).interval
    return tuple(
        datetime.fromtimestamp(each, UTC).strftime("%Y-%m-%d %H:%M:%S")
        for each in (found.since, found.until)
    )


@pytest.mark.parametrize(
    ("zone", "since", "until", "expected"),
    [
        (67, "2026-03-01", "2026-03-01", ("2026-03-01 00:00:00", "2026-03-01 23:59:59")),
        ("67", "2026-03-01 10:00:00", "2026-03-01 10:00:00", ("2026-03-01 10:00:00",) * 2),
        (80, "2026-03-08", "2026-03-08", ("2026-03-08 05:00:00", "2026-03-09 03:59:59")),
        (56, "2025-10-26", "2025-10-26", ("2025-10-25 22:00:00", "2025-10-26 22:59:59")),
        (
            56,
            "2025-10-26 02:30:00",
            "2025-10-26 02:30:00",
            ("2025-10-26 00:30:00", "2025-10-26 01:30:00"),
        ),
    ],
)
def test_bounds_are_wall_clock_time_of_the_zone(
    zone: Any, since: str, until: str, expected: tuple[str, str]
) -> None:
    """A bare end is the end of its day, days have 23 or 25 hours, a repeated hour counts whole."""
    assert interval(zone, since, until) == expected


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"from": None}, "from: required"),
        ({"from": "01/02/2026"}, "from: use YYYY-MM-DD"),
        ({"to": "2026-02-01"}, "ends before it begins"),
        ({"to": "2027-06-01"}, "one year apart"),
        ({"timezone_id": None}, "timezone_id: required"),
        ({"timezone_id": 100}, "timezone_id"),
        ({"timezone_id": "x"}, "timezone_id: must be a whole number"),
        ({"currency_id": None}, "currency_id: required"),
        ({"currency_id": "dollars"}, "currency_id: an ISO 4217"),
        ({"columns": []}, "columns: give 1 to 10"),
        ({"columns": "offer"}, "columns: give 1 to 10"),
        ({"columns": [{"column": "goal"}]}, "'goal' is no column; use offer"),
        ({"columns": [{"column": "hour"}, {"column": "date"}]}, "at most one time column"),
        ({"columns": [{"column": f"sub{i}"} for i in range(11)]}, "at most 10"),
        ({"query": {"filters": [{"resource_type": "advertiser"}]}}, "'advertiser'"),
        ({"query": {"filters": [{"resource_type": "date", "filter_id_value": "1"}]}}, "'date'"),
        ({"query": {"filters": ["offer"]}}, "objects with resource_type"),
        (
            {"query": {"filters": [{"resource_type": "status", "filter_id_value": "done"}]}},
            "'done' is none of approved",
        ),
        ({"query": {"filters": [{"resource_type": "offer"}]}}, "must be a string or a whole"),
        ({"query": {"metric_filters": [{"metric_type": "payout"}]}}, "metric_type"),
        ({"query": {"search_terms": ["x"]}}, "search_terms"),
        ({"query": {"settings": {"campaign_data_only": True}}}, "no campaigns"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    """Never answered as if it had not been asked."""
    with pytest.raises(InvalidError, match=named):
        domain.read_report(BODY | change)


def test_what_programs_send_beside_the_reference_is_tolerated() -> None:
    """Unknown members, no query, repeated columns, a column by its alias or as bare text."""
    body = BODY | {"autoRun": 1, "limit": 5, "query": None}
    columns = [{"column": "sub5"}, {"column": "sub5"}, "day"]
    report = domain.read_report(body | {"columns": columns})
    assert report.names == ("sub5", "sub5", "day")
    assert [column.name for column in report.columns] == ["sub5", "sub5", "date"]
    assert report.query == Query()


def test_filters_of_one_type_are_alternatives_and_of_two_are_conditions() -> None:
    """Ids as numbers or strings; `N/A` asks for what has no value."""
    pairs = [("offer", 7), ("sub1", "N/A"), ("offer", "8")]
    filters = [{"resource_type": name, "filter_id_value": value} for name, value in pairs]
    report = domain.read_report(BODY | {"query": {"filters": filters}})
    assert report.query.filters == (
        Filter("offer", ("7", "8")),
        Filter("sub1", ("",)),
    )
