"""Protects the operators' setting of how long facts are kept."""

import asyncio
import time

import msgspec

from services.reporting.facts.retention import Retention, keep
from services.reporting.facts.tables import prepare
from shared.clickhouse import ClickHouse
from tests.reporting_parts import click_body

DAY = 86_400


async def _kept(clickhouse: ClickHouse) -> int:
    [(count,)] = await clickhouse.query("SELECT count() FROM clicks")
    return int(count)


async def test_a_shorter_retention_is_applied_to_tables_that_exist(clickhouse: ClickHouse) -> None:
    """Old facts go, young ones stay; the same settings again change nothing."""
    await prepare(clickhouse)
    now = int(time.time())
    for number, days in enumerate((1, 200)):
        click = click_body(number) | {"unix_timestamp": now - days * DAY}
        await clickhouse.insert("clicks", msgspec.json.encode(click))
    assert await keep(clickhouse, Retention()) == []
    assert await _kept(clickhouse) == 2
    assert await keep(clickhouse, Retention(clicks_days=90)) == ["clicks"]
    deadline = time.monotonic() + 60
    while await _kept(clickhouse) > 1:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    [(left,)] = await clickhouse.query("SELECT unix_timestamp FROM clicks")
    assert left == now - DAY
    assert await keep(clickhouse, Retention(clicks_days=90)) == []
