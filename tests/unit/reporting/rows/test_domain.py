"""Protects how searches of raw rows are read: their reach, their cursors."""

from datetime import UTC, datetime

import pytest

from services.reporting.rows import domain
from shared.errors import InvalidError

BODY = {"from": "2026-03-01", "to": "2026-03-31", "timezone_id": 67}
NOW = datetime(2026, 4, 1, tzinfo=UTC).timestamp()


def test_a_cursor_reads_as_it_was_written_and_a_damaged_one_is_refused() -> None:
    """Also one that decodes to something else."""
    cursor = domain.write_cursor(1_774_000_000, "a" * 32)
    assert domain.read_cursor(cursor) == (1_774_000_000, "a" * 32)
    for damaged in ("", "x", cursor[:-4], cursor.swapcase(), "Mi4xLmE", "ÿ"):
        with pytest.raises(InvalidError, match="cursor"):
            domain.read_cursor(damaged)


def test_raw_conversions_reach_back_a_year() -> None:
    """Further back is refused, the future is not."""
    ahead = BODY | {"from": "2026-03-31", "to": "2026-04-30"}
    assert domain.read_conversion_search(ahead, {}, now=NOW).with_conversions
    with pytest.raises(InvalidError, match="365 days"):
        domain.read_conversion_search(
            BODY | {"from": "2025-03-20", "to": "2025-04-20"}, {}, now=NOW
        )
