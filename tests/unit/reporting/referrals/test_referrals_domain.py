"""Protects what a request for referrals means, and that amounts are shown exactly."""

from decimal import Decimal
from typing import Any

import pytest

from services.reporting.paging import Page
from services.reporting.referrals import domain, reference
from shared import events
from shared.errors import InvalidError
from tests.catalog_parts import referral

BODY: dict[str, Any] = {"from": "2026-01-01", "to": "2026-01-01", "timezone_id": 67}


def test_what_programs_send_beside_the_interval_is_tolerated() -> None:
    """The same body as of other reports is understood; the query string's page wins."""
    more = {"currency_id": "EUR", "columns": [{"column": "offer"}], "query": {"filters": []}}
    asked = domain.read(BODY | more | {"page": 3, "page_size": "7"}, {"page": "2"})
    assert asked.page == Page(2, 7)
    assert asked.interval == domain.read(BODY, {}).interval
    assert asked.interval.until - asked.interval.since == 86_399


@pytest.mark.parametrize("name", ["filters", "exclusions", "metric_filters"])
def test_a_filter_is_refused_by_name(name: str) -> None:
    """An answer that ignored it would be wrong."""
    with pytest.raises(InvalidError, match=f"query.{name}"):
        domain.read(BODY | {"query": {name: [{"resource_type": "offer"}]}}, {})


@pytest.mark.parametrize("name", BODY)
def test_the_interval_is_required(name: str) -> None:
    """Each of its members, by name."""
    with pytest.raises(InvalidError, match=name):
        domain.read({key: value for key, value in BODY.items() if key != name}, {})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("12.350000", b"12.35"),
        ("1E-6", b"0.000001"),
        ("100", b"100"),
        ("100.0", b"100"),
        ("-0.5", b"-0.5"),
        ("123456789012345678901234567890.123456", b"123456789012345678901234567890.123456"),
    ],
)
def test_numbers_are_exact(value: str, text: bytes) -> None:
    """All digits, no trailing zeros, no exponent, whole ones without a point."""
    assert bytes(domain.number(Decimal(value))) == text


def test_a_referral_is_shown_as_the_reference_says() -> None:
    """Every documented member and no other; the referrer and the version stay inside."""
    row = reference.REFERRALS["properties"]["referrals"]["items"]["properties"]
    shown = domain.shown_referral(referral(1, 9))
    assert list(shown) == list(row) == list(reference.EXAMPLE["referrals"][0])
    assert not {"network_affiliate_id", "version"} & set(shown)


def test_an_amount_finer_than_six_decimals_is_refused() -> None:
    """Where it enters, so that totals never round."""
    whole = events.encode(referral(1, 9, amount=1.25)).replace(b"1.25", b"1.2345678")
    with pytest.raises(InvalidError, match="amount"):
        events.decode(events.Referral, whole)
