"""Protects converted amounts: by the rate of their day, exactly, or refused with the day's name."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.reporting.facts.tables import RATES
from services.reporting.reports.handlers import Reports
from shared.clickhouse import ClickHouse
from shared.errors import InvalidError, UnavailableError
from tests.reporting_parts import NOW, click, columns, conversion, store, table

ME = (1, 10)
DAY = 86_400
STAMP = 1_774_000_000  # 2026-03-20 09:46:40


async def rate(clickhouse: ClickHouse, currency: str, date: str, value: str, **more: Any) -> None:
    """Store a rate to USD as the projection would."""
    row = {
        "_partition": 0,
        "_offset": 0,
        "network_id": 1,
        "version": 1,
        "base_currency_id": "USD",
        "currency_id": currency,
        "date": date,
        "rate": value,
    }
    await clickhouse.insert(RATES, msgspec.json.encode(row | more))


async def revenue(reports: Reports, currency: str, *names: str) -> list[Decimal]:
    """The revenue of each row."""
    rows = await table(reports, ME, columns=columns(*names), currency_id=currency)
    return [row["reporting"]["revenue"] for row in rows]


async def test_amounts_are_converted_by_the_rate_of_their_utc_day(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Exactly, and alike whatever they are grouped by; a currency of its own needs no rate."""
    await rate(clickhouse, "EUR", "2026-03-20", "1.0834567891")
    await rate(clickhouse, "EUR", "2026-03-21", "2")
    midnight = STAMP - STAMP % DAY + DAY
    log = [
        click(1, currency_id="EUR", revenue=0.3, sub1="a"),
        click(2, currency_id="EUR", sub1="b"),
        conversion(1, revenue=0.1, sub1="a"),
        conversion(2, currency_id="EUR", revenue=25.996001, sub1="b"),
        conversion(3, currency_id="EUR", revenue=7, conversion_unix_timestamp=midnight, sub1="c"),
    ]
    await store(clickhouse, log, 0)
    first = Decimal("1.0834567891")
    parts = [first * Decimal("0.3") + Decimal("0.1"), first * Decimal("25.996001"), Decimal(14)]
    assert sorted(await revenue(reports, "USD", "sub1")) == sorted(parts)
    for names in (("offer",), ("country",), ("week",)):
        assert sum(await revenue(reports, "USD", *names)) == sum(parts)


async def test_another_pair_of_currencies_goes_by_the_quotient_of_their_rates(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Rounded to ten decimals once; from the network's own currency too."""
    await rate(clickhouse, "EUR", "2026-03-20", "1.1")
    await rate(clickhouse, "GBP", "2026-03-20", "1.3")
    await store(clickhouse, [conversion(1, currency_id="EUR", revenue=13), conversion(2)], 0)
    assert await revenue(reports, "GBP", "offer") == [
        Decimal("0.8461538462") * 13 + Decimal("0.7692307692") * Decimal("1.5")
    ]


async def test_the_nearest_earlier_rate_holds_for_a_week_and_then_none(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """A later rate is never used; without one the report is refused, naming day and currency."""
    await store(clickhouse, [conversion(1, currency_id="EUR", revenue=10)], 0)
    refused = "an amount in EUR of 2026-03-20 cannot be shown in USD: no rate of that day or the 7"
    with pytest.raises(InvalidError, match=refused):
        await revenue(reports, "USD", "offer")
    await rate(clickhouse, "EUR", "2026-03-21", "9")
    await rate(clickhouse, "EUR", "2026-03-12", "3")
    with pytest.raises(InvalidError, match=refused):
        await revenue(reports, "USD", "offer")
    await rate(clickhouse, "EUR", "2026-03-13", "2")
    assert await revenue(reports, "USD", "offer") == [20]
    await rate(clickhouse, "EUR", "2026-03-13", "4", version=2)
    assert await revenue(reports, "USD", "offer") == [40]


async def test_an_amount_may_wait_for_a_rate_that_was_logged_before_it(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Rates have a projection of their own: until it is that far, "no rate" would be a guess."""
    euros = conversion(1, currency_id="EUR", revenue=10)
    await store(clickhouse, [replace(euros, appended_ms=int(NOW * 1_000) + 1)], 0)
    with pytest.raises(UnavailableError, match="rates are still being read"):
        await revenue(reports, "USD", "offer")
    await store(clickhouse, [conversion(2, currency_id="EUR", revenue=10)], 0)
    with pytest.raises(InvalidError, match="no rate of that day"):
        await revenue(reports, "USD", "offer")


async def test_rates_are_of_a_network_and_rows_without_amounts_need_none(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Another network's rate is not used; a refused amount hides behind no cut."""
    await rate(clickhouse, "EUR", "2026-03-20", "2", network_id=2)
    await store(clickhouse, [click(1, currency_id="EUR")], 0)
    assert await revenue(reports, "USD", "offer") == [0]
    await store(clickhouse, [conversion(1, currency_id="EUR", revenue=10)], 0)
    with pytest.raises(InvalidError, match="an amount in EUR of 2026-03-20"):
        await revenue(reports, "USD", "offer")
    assert await revenue(reports, "EUR", "offer") == [10]
