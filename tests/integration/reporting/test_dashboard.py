"""Protects dashboards: periods of the zone, so far against so far, series without gaps."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.reporting.reports.handlers import Reports
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse
from shared.errors import InvalidError, NotFoundError
from shared.http import json_bytes
from tests.reporting_parts import NOW, click, conversion, exact, related, store

ME = Scope(1, 10)


def at(text: str) -> int:
    """Seconds of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def body(**more: Any) -> bytes:
    return msgspec.json.encode({"timezone_id": 67, "from": "junk is ignored here"} | more)


async def test_cards_compare_today_with_yesterday_up_to_the_same_time(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """It is 23:33:20 of 2026-03-31 in UTC, and 04:33:20 of 1 April in Karachi."""
    assert at("2026-03-31 23:33:20") == NOW
    moments = [
        "2026-03-31 23:33:20",
        "2026-03-31 00:00:00",
        "2026-03-30 23:33:20",
        "2026-03-30 23:33:21",
        "2026-03-30 19:00:00",
        "2026-03-01 00:00:00",
        "2026-02-28 23:59:59",
        "2026-01-31 23:59:59",
    ]
    log = [click(i, unix_timestamp=at(moment)) for i, moment in enumerate(moments)]
    log.append(conversion(0, conversion_unix_timestamp=at("2026-03-31 10:00:00"), revenue=2.5))
    await store(clickhouse, log, 0)
    cards = exact(json_bytes((await reports.summary(ME, body())).body))
    assert cards["click"] == {
        "today": 2,
        "yesterday": 3,
        "current_month": 6,
        "last_month": 1,
        "trending_percentage": 0,
    }
    assert cards["revenue"]["today"] == Decimal("2.5")
    assert cards["revenue"]["trending_percentage"] == 100
    assert cards["cvr"] == {
        "today": 50,
        "yesterday": 0,
        "current_month": Decimal("16.667"),
        "last_month": 0,
    }
    cards = exact(json_bytes((await reports.summary(ME, body(timezone_id=32))).body))
    assert [cards["click"][name] for name in ("today", "yesterday", "current_month")] == [1, 4, 1]
    assert cards["click"]["last_month"] == 6
    assert cards["click"]["trending_percentage"] == -50


async def test_a_chart_is_of_the_last_week_unless_it_is_told_otherwise(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Days without gaps, hours of short intervals, and their summary."""
    await store(clickhouse, [click(1, unix_timestamp=at("2026-03-28 12:00:00"))], 0)
    week = (await reports.performance(ME, msgspec.json.encode({"timezone_id": 67}))).body
    assert [item["unix"] for item in week["performance"]] == [
        at("2026-03-25 00:00:00") + 86_400 * i for i in range(7)
    ]
    assert [item["reporting"]["total_click"] for item in week["performance"]][3] == 1
    assert week["summary"]["total_click"] == 1
    day = (await reports.performance(ME, body(**{"from": "2026-03-28", "to": "2026-03-28"}))).body
    assert [item["reporting"]["total_click"] for item in day["performance"]] == [
        int(hour == 12) for hour in range(24)
    ]


async def test_offers_trend_by_clicks_of_today(reports: Reports, clickhouse: ClickHouse) -> None:
    """Most clicks first; one of them also by the hour; one that nobody clicked is not found."""
    hats = related(offer={"network_offer_id": 8, "network_id": 1, "name": "Hats"})
    today, yesterday = at("2026-03-31 12:00:00"), at("2026-03-30 12:00:00")
    log = [
        *(click(i, unix_timestamp=yesterday) for i in (1, 2)),
        click(3, unix_timestamp=today),
        *(click(i, unix_timestamp=today, relationship=hats) for i in (4, 5)),
    ]
    await store(clickhouse, log, 0)
    offers = exact(json_bytes((await reports.trending(ME, body())).body))["offers"]
    assert [
        (offer["network_offer_id"], offer["name"], offer["trending_percentage"]) for offer in offers
    ] == [(8, "Hats", 100), (7, "Shoes", -50)]
    one = exact(json_bytes((await reports.trending_offer(ME, body(), "7")).body))
    assert (one["yesterday"]["total_click"], one["reporting"]["total_click"]) == (2, 1)
    assert sum(item["reporting"]["total_click"] for item in one["performance"]) == 3
    for unknown in ("9", "x"):
        with pytest.raises(NotFoundError):
            await reports.trending_offer(ME, body(), unknown)


async def test_an_offer_that_was_renamed_trends_as_one(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """By its last name, with all of its clicks."""
    boots = related(offer={"network_offer_id": 7, "network_id": 1, "name": "Boots"})
    log = [
        click(1, unix_timestamp=at("2026-03-30 12:00:00")),
        *(
            click(i, unix_timestamp=at("2026-03-31 12:00:00"), relationship=boots)
            for i in (2, 3, 4)
        ),
    ]
    await store(clickhouse, log, 0)
    (offer,) = exact(json_bytes((await reports.trending(ME, body())).body))["offers"]
    assert (offer["name"], offer["trending_percentage"]) == ("Boots", 200)
    one = exact(json_bytes((await reports.trending_offer(ME, body(), "7")).body))
    assert (one["name"], one["reporting"]["total_click"]) == ("Boots", 3)
    assert one["yesterday"]["total_click"] == 1


async def test_a_dashboard_needs_a_time_zone(reports: Reports) -> None:
    """Days cannot be cut without one."""
    for ask in (reports.summary, reports.performance, reports.trending):
        with pytest.raises(InvalidError, match="timezone_id: required"):
            await ask(ME, b"{}")
