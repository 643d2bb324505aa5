"""Protects amounts on the wire."""

from decimal import Decimal

import pytest

from services.reporting.facts.numbers import number
from shared.http import json_bytes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("25.996000"), "25.996"),
        (Decimal("12345678901234567890.000001"), "12345678901234567890.000001"),
        (Decimal("3.000000"), "3"),
        (Decimal("-0.500000"), "-0.5"),
        (Decimal("0.000000"), "0"),
        (Decimal("-0"), "0"),
        (Decimal(1000000), "1000000"),
        (7, "7"),
    ],
)
def test_amounts_are_the_shortest_exact_numbers(value: Decimal | int, expected: str) -> None:
    """Beyond what a double holds, too."""
    assert json_bytes(number(value)).decode() == expected
