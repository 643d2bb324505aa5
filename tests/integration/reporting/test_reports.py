"""Protects reports: their totals equal a plain recount, whatever the history."""

import random
from typing import Any
from zoneinfo import ZoneInfo

from services.reporting.reports.handlers import Reports
from services.reporting.timezones import TIMEZONES
from shared.clickhouse import ClickHouse
from tests import reporting_parts as parts
from tests.soak import count

ZONES = (56, 80, 72, 9, 29, 67, 99)
DIMENSIONS = ("offer", "sub1", "sub2", "country", "date", "hour", "week")


async def test_totals_equal_a_recount_over_generated_histories(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Duplicates, late arrivals, disordered versions, status changes, clocks put back and forth."""
    for seed in range(count(2, 30)):
        for name in ("clicks", "impressions", "conversions"):
            await clickhouse.command(f"TRUNCATE TABLE {name}")
        history = parts.History(seed, count(250, 600))
        await parts.store(clickhouse, history.log, seed)
        chance = random.Random(seed)
        for partner in parts.PARTNERS:
            found = parts.facts(history.log, partner)
            for _ in range(count(6, 30)):
                await _compare(reports, partner, found, chance)


async def _compare(
    reports: Reports, partner: tuple[int, int], found: dict[str, Any], chance: random.Random
) -> None:
    zone_id = chance.choice(ZONES)
    zone = ZoneInfo(TIMEZONES[zone_id].name)
    times = ("date", "hour", "week")
    names = chance.sample(DIMENSIONS, chance.choice((1, 2, 3)))
    while len([name for name in names if name in times]) > 1:
        names = chance.sample(DIMENSIONS, 2)
    offers = set(chance.sample(sorted(parts.OFFERS), 2))
    sub = chance.choice(parts.SUBS)
    query = {
        "filters": [
            {"resource_type": "offer", "filter_id_value": chance.choice((offer, str(offer)))}
            for offer in offers
        ],
        "exclusions": [{"resource_type": "sub1", "filter_id_value": sub}],
    }

    def is_wanted(fact: Any) -> bool:
        is_excluded = (fact.sub1 or "N/A") == (sub or "N/A")
        return fact.relationship.offer.network_offer_id in offers and not is_excluded

    rows = await parts.table(
        reports, partner, timezone_id=zone_id, columns=parts.columns(*names), query=query
    )
    wanted = parts.recount(found, names, zone, is_wanted)
    got = {
        tuple(cell["id"] for cell in row["columns"]): {
            name: value
            for name, value in row["reporting"].items()
            if name not in ("ctr", "cvr", "evr", "rpc", "rpm") and value
        }
        for row in rows
    }
    assert len(got) == len(rows)
    assert got == {
        key: {name: value for name, value in sums.items() if value} for key, sums in wanted.items()
    }
