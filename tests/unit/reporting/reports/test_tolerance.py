"""Protects deployed programs: each oddity that they send is understood, or refused by name."""

from typing import Any

import pytest

from services.reporting.reports.domain import Report, read_format, read_report, read_report_by
from shared.errors import InvalidError

PLAIN = {
    "from": "2026-03-01",
    "to": "2026-03-31",
    "timezone_id": 67,
    "currency_id": "USD",
    "columns": [{"column": "sub1"}],
}
OFFER_7 = [{"resource_type": "offer", "filter_id_value": "7"}]


def asked(**change: Any) -> Report:
    return read_report(PLAIN | change)


@pytest.mark.parametrize(
    ("odd", "plain"),
    [
        ({"timezone_id": "67"}, {}),
        ({"timezone_id": 67.0}, {}),
        ({"currency_id": "usd"}, {}),
        ({"from": "2026-03-01 00:00:00", "to": "2026-03-31 23:59:59"}, {}),
        ({"query": {}}, {}),
        ({"query": None}, {}),
        ({"query": {"filters": [], "exclusions": [], "metric_filters": []}}, {}),
        ({"query": {"user_metrics": [], "search_terms": [], "settings": {}}}, {}),
        ({"query": {"settings": {"campaign_data_only": False}}}, {}),
        ({"autoRun": True, "page": 1, "limit": 50, "paging": {"page": 1}}, {}),
        ({"columns": ["sub1"]}, {}),
        (
            {"query": {"filters": [{"resource_type": "offer", "filter_id_value": 7}]}},
            {"query": {"filters": OFFER_7}},
        ),
        (
            {"query": {"filters": [*OFFER_7, *OFFER_7]}},
            {"query": {"filters": [*OFFER_7, *OFFER_7]}},
        ),
    ],
)
def test_what_is_written_oddly_means_what_it_says(odd: dict, plain: dict) -> None:
    """The report is the same as of a body by the book."""
    assert asked(**odd) == asked(**plain)


def test_repeated_columns_are_answered_repeatedly_and_day_is_date() -> None:
    """Programs repeat `sub5`, and read the columns by their place."""
    report = asked(columns=[{"column": "sub5"}, {"column": "day"}, {"column": "sub5"}])
    assert report.names == ("sub5", "day", "sub5")
    assert report.columns[1].name == "date"


def test_a_bound_in_the_future_is_answered() -> None:
    """The end of the month, say."""
    assert asked(**{"from": "2099-01-01", "to": "2099-01-31"}).interval.until > 4_000_000_000


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"columns": [{"column": "event"}]}, "'event' is no column"),
        ({"columns": [{}]}, "'None' is no column"),
        ({"timezone_id": ""}, "timezone_id: required"),
        ({"timezone_id": True}, "timezone_id: must be a whole number"),
        ({"from": 20260301}, "from: use YYYY-MM-DD"),
        ({"from": "2026-02-30"}, "from: use YYYY-MM-DD"),
        ({"currency_id": "ÜÜÜ"}, "ISO 4217"),
        ({"query": {"metric_filters": [{"metric_type": "cvr", "operator": "like"}]}}, "operator"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(body: dict, said: str) -> None:
    """With what would be right."""
    with pytest.raises(InvalidError, match=said):
        asked(**body)


@pytest.mark.parametrize("value", ["", "x", None, True, "1e30", "Infinity"])
def test_a_metric_value_is_a_number(value: Any) -> None:
    """A comparison with anything else is refused."""
    wanted = {"metric_type": "revenue", "operator": "equal", "metric_value": value}
    with pytest.raises(InvalidError, match="metric_value must be a number"):
        asked(query={"metric_filters": [wanted]})


def test_reports_of_one_column_need_no_currency_nor_columns() -> None:
    """The network's own currency is used; columns in the body are not looked at."""
    body = {"from": "2026-03-01", "to": "2026-03-02", "timezone_id": 80, "columns": "junk"}
    report = read_report_by(body, "offer", "EUR")
    assert (report.currency_id, report.names) == ("EUR", ("offer",))


def test_an_export_is_csv_unless_it_says_json() -> None:
    """In any case; other formats are refused."""
    assert [read_format({}, "csv"), read_format({"format": "JSON"}, "csv")] == ["csv", "json"]
    with pytest.raises(InvalidError, match="'xlsx' is none of csv, json"):
        read_format({"format": "xlsx"}, "csv")
