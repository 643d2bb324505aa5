"""Protects what the bounds of a request mean where clocks are changed."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.reporting.asking.interval import read_interval
from shared.errors import InvalidError

NEW_YORK = 80
SPRING = "2026-03-08"
"""New York puts its clocks from 02:00 to 03:00, which is 07:00 in UTC."""


def bounds(since: str, until: str) -> tuple[str, str]:
    body: dict[str, Any] = {"from": since, "to": until, "timezone_id": NEW_YORK}
    found = read_interval(body)
    return _utc(found.since), _utc(found.until)


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("01:00:00", "01:59:59", ("06:00:00", "06:59:59")),
        ("01:00:00", "02:30:00", ("06:00:00", "06:59:59")),
        ("02:30:00", "03:29:59", ("07:00:00", "07:29:59")),
        ("02:00:00", "03:00:00", ("07:00:00", "07:00:00")),
        ("03:00:00", "03:59:59", ("07:00:00", "07:59:59")),
    ],
)
def test_a_time_that_the_clock_skips_means_the_change(since, until, expected) -> None:
    """Hours asked for one after another hold every second once."""
    assert bounds(f"{SPRING} {since}", f"{SPRING} {until}") == expected


def test_a_time_that_happens_twice_means_all_of_both() -> None:
    """A start the first, an end the second."""
    assert bounds("2026-11-01 01:00:00", "2026-11-01 01:59:59") == ("05:00:00", "06:59:59")


def test_an_hour_that_does_not_happen_is_refused() -> None:
    with pytest.raises(InvalidError, match="the interval ends before it begins"):
        bounds(f"{SPRING} 02:00:00", f"{SPRING} 02:59:59")
