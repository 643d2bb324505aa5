"""Protects the numbers of a report: exact sums, ratios as live rows show them."""

from decimal import Decimal

import pytest

from services.reporting.reports.measures import SUMS, reporting, total
from shared.http import json_bytes


def sums(**known: Decimal | int) -> dict[str, Decimal | int]:
    return dict.fromkeys(SUMS, 0) | known


@pytest.mark.parametrize(
    ("known", "name", "expected"),
    [
        ({"cv": 5, "unique_click": 46}, "cvr", "10.87"),
        ({"cv": 7, "unique_click": 5, "duplicate_click": 4}, "cvr", "77.778"),
        ({"revenue": Decimal("28202.01"), "unique_click": 10_042}, "rpc", "2.81"),
        ({"revenue": Decimal("1.5"), "imp": 4}, "rpm", "375"),
        ({"unique_click": 1, "imp": 3}, "ctr", "33.333"),
        ({"event": 1, "cv": 4}, "evr", "25"),
        ({"revenue": Decimal(5)}, "rpc", "0"),
    ],
)
def test_ratios_are_those_of_live_rows(
    known: dict[str, Decimal | int], name: str, expected: str
) -> None:
    """Published samples among them; a denominator of zero gives zero."""
    assert json_bytes(reporting(sums(**known))[name]).decode() == expected


def test_clicks_are_the_unique_and_the_repeated_ones() -> None:
    """Refused clicks count for themselves only."""
    row = reporting(sums(unique_click=3, duplicate_click=2, invalid_click=9))
    assert (row["total_click"], row["invalid_click"]) == (5, 9)


def test_large_converted_amounts_add_up_exactly() -> None:
    """Sixteen decimals of a sum of trillions are more than the 28 digits that Python has."""
    one = Decimal("10000000000000.0000000000000001")
    (found,) = {total([sums(revenue=one)] * 3)["revenue"]}
    assert found == Decimal("30000000000000.0000000000000003")
