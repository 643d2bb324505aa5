"""Protects that reports agree: with each other, with the rows they count, with their own summary."""

import random
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from services.reporting.asking import calendar
from services.reporting.asking.members import read_body
from services.reporting.facts.columns import COLUMNS
from services.reporting.reports.domain import read_report
from services.reporting.reports.handlers import Reports
from services.reporting.reports.measures import METRICS, RATIOS
from services.reporting.scope import Scope
from services.reporting.timezones import TIMEZONES
from shared.clickhouse import ClickHouse
from shared.http import json_bytes
from tests import reporting_parts as parts
from tests.soak import count

ME = (1, 10)
SUMS = [name for name in METRICS if name not in RATIOS]
TIMES = [name for name, column in COLUMNS.items() if column.time]
OTHERS = [name for name in COLUMNS if name not in TIMES]


def total(rows: list[dict[str, Any]]) -> dict[str, Decimal]:
    """The sums of rows, without ratios."""
    return {name: sum((row["reporting"][name] for row in rows), Decimal(0)) for name in SUMS}


async def entity(reports: Reports, **body: Any) -> dict[str, Any]:
    """A report with summary and series, as a program reads it off the wire."""
    answer = await reports.entity(Scope(*ME), msgspec.json.encode(parts.WIDE | body))
    found: dict[str, Any] = parts.exact(json_bytes(answer.body))
    return found


async def unmerged(clickhouse: ClickHouse, history: parts.History) -> None:
    """Every batch is a part of its own, and stays one."""
    for name in ("clicks", "impressions", "conversions"):
        await clickhouse.command(f"SYSTEM STOP MERGES {name}")
    await parts.store(clickhouse, history.log, 3)


async def test_any_columns_come_to_the_same_total(reports: Reports, clickhouse: ClickHouse) -> None:
    """Whatever a partner groups by, in parts that no merge has joined; and it is the recount's."""
    history = parts.History(11, count(150, 2_000))
    await unmerged(clickhouse, history)
    facts = parts.facts(history.log, ME)
    [wanted] = parts.recount(facts, (), ZoneInfo("UTC"), lambda _: True).values()
    chance = random.Random(11)
    for _ in range(count(6, 200)):
        names = chance.sample(OTHERS, chance.randrange(1, 5))
        names += chance.sample(TIMES, chance.randrange(2))
        zone = chance.choice(list(TIMEZONES))
        rows = await parts.table(reports, ME, columns=parts.columns(*names), timezone_id=zone)
        assert total(rows) == {name: wanted.get(name, 0) for name in SUMS}, names


async def test_rows_made_here_are_those_that_the_engine_makes(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Few rows are made of groups by tally, others by the engine: the same bytes in the same order.

    Statuses and traffic are chosen as well, since both judge what counts by themselves.
    """
    await unmerged(clickhouse, parts.History(13, count(150, 2_000)))
    chance = random.Random(13)
    few = [name for name, column in COLUMNS.items() if column.is_of_few]
    for _ in range(count(10, 200)):
        names = [*chance.sample(few, chance.randrange(1, 4)), "offer"][: chance.randrange(1, 4)]
        statuses = chance.sample(parts.STATUSES, chance.randrange(4))
        filters = [{"resource_type": "status", "filter_id_value": status} for status in statuses]
        asked = parts.WIDE | {
            "columns": parts.columns(*names, names[0]),
            "timezone_id": chance.choice(list(TIMEZONES)),
            "query": {chance.choice(["filters", "exclusions"]): filters},
        }
        report = read_report(read_body(msgspec.json.encode(asked)))
        begins = calendar.starts(report.interval, "month")
        made = await reports.store.table(Scope(*ME), report)
        rendered = await reports.store.entity(Scope(*ME), report, begins)
        assert made.lines == rendered.rows.lines, asked


async def test_a_report_of_many_rows_is_the_engines(
    reports: Reports, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More groups than are worth adding up here: the same rows, and known from then on."""
    await parts.store(clickhouse, parts.History(14).log, 14)
    report = read_report(
        read_body(msgspec.json.encode(parts.WIDE | {"columns": parts.columns("date", "offer")}))
    )
    whole = await reports.store.table(Scope(*ME), report)
    monkeypatch.setattr("services.reporting.reports.store.TALLIED_MAX", 3)
    statements = 0
    ask = clickhouse.query

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal statements
        statements += 1
        return await ask(*args, **kwargs)

    monkeypatch.setattr(clickhouse, "query", counted)
    for expected in (2, 1):
        statements = 0
        assert (await reports.store.table(Scope(*ME), report)).lines == whole.lines
        assert statements == expected


async def test_a_total_is_that_of_the_raw_rows(
    reports: Reports, rows: Any, clickhouse: ClickHouse
) -> None:
    """What the pages of conversions and the stored clicks add up to."""
    history = parts.History(12)
    await parts.store(clickhouse, history.log, 12)
    found = await parts.search(rows, {"page_size": "2000"}, show_events=True)
    clicks = [each for each in parts.facts(history.log, ME)["clicks"] if not each.error_code]
    by_offer = total(await parts.table(reports, ME, columns=parts.columns("offer")))
    conversions = found["conversions"]
    earned = sum(each["revenue"] for each in conversions) + sum(
        parts.money(click.revenue) for click in clicks
    )
    assert by_offer["revenue"] == earned
    assert by_offer["total_click"] == len(clicks)
    counted = by_offer["cv"] + by_offer["view_through_cv"] + by_offer["event"]
    assert counted == len(conversions) == found["paging"]["total_count"]


@pytest.mark.parametrize("query", [{}, {"metric_filters": [("revenue", "greater_than", 50)]}])
async def test_a_summary_is_of_all_rows_those_cut_too(
    reports: Reports, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch, query: dict
) -> None:
    """And so is the series; metric filters choose the rows of both."""
    names = ("metric_type", "operator", "metric_value")
    query = {key: [dict(zip(names, each, strict=True)) for each in query[key]] for key in query}
    history = parts.History(13)
    await unmerged(clickhouse, history)
    body = {"columns": parts.columns("offer", "sub1"), "query": query}
    rows = await parts.table(reports, ME, **body)
    monkeypatch.setattr("services.reporting.reports.store.ROWS_MAX", 3)
    found = await entity(reports, **body)
    assert found["table"] == rows[:3]
    assert found["incomplete_results"] is True
    assert {name: found["summary"][name] for name in SUMS} == total(rows)
    assert total(found["performance"]) == total(rows)
    expected = (found["summary"]["cv"] * 100 / found["summary"]["total_click"]).quantize(
        Decimal("0.001")
    )
    assert abs(found["summary"]["cvr"] - expected) <= Decimal("0.001")


async def test_a_series_has_every_hour_of_short_intervals_and_every_day_of_long_ones(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """With zeros where nothing was; the day on which clocks go back has 25 hours."""
    await parts.store(clickhouse, [parts.click(1, unix_timestamp=1_762_063_200)], 0)
    day = {"columns": parts.columns("offer"), "timezone_id": 80}
    found = await entity(reports, **day, **{"from": "2025-11-02", "to": "2025-11-02"})
    series = [(item["unix"], item["reporting"]["total_click"]) for item in found["performance"]]
    begin = 1_762_056_000
    assert series == [(begin + 3_600 * i, int(i == 2)) for i in range(25)]
    found = await entity(reports, **day, **{"from": "2025-11-01", "to": "2025-11-05"})
    assert [item["unix"] for item in found["performance"]] == [
        1_761_969_600,
        begin,
        *(1_762_146_000 + 86_400 * i for i in range(3)),
    ]


async def test_all_zones_group_facts_as_zoneinfo_does(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """By hour and by date, around the days on which clocks change; the soak takes all 99."""
    sundays = (1_759_622_400, *parts.EDGES, 1_775_347_200)
    moments = [day + quarter * 900 for day in sundays for quarter in range(-8, 120, 2)]
    log = [parts.click(i, unix_timestamp=moment) for i, moment in enumerate(moments)]
    await parts.store(clickhouse, log, 0)
    facts = parts.facts(log, ME)
    body = {"from": "2025-09-01", "to": "2026-04-30"}
    for zone in random.Random(15).sample(list(TIMEZONES.values()), count(6, 99)):
        for name in ("hour", "date"):
            rows = await parts.table(
                reports, ME, columns=parts.columns(name), timezone_id=zone.timezone_id, **body
            )
            got = {(row["columns"][0]["id"],): row["reporting"]["total_click"] for row in rows}
            wanted = parts.recount(facts, (name,), zone.info, lambda _: True)
            assert got == {key: sums["total_click"] for key, sums in wanted.items()}, zone.name


@pytest.mark.parametrize("unit", ["date", "week", "month", "year"])
@pytest.mark.parametrize("zone", [67, 80])
async def test_few_rows_are_made_here_as_the_engine_makes_them(
    reports: Reports, clickhouse: ClickHouse, unit: str, zone: int
) -> None:
    """A report by time alone is written by us, the rows of an entity by the engine: same bytes."""
    await parts.store(clickhouse, parts.History(17).log, 17)
    body = parts.WIDE | {"columns": parts.columns(unit, unit), "timezone_id": zone}
    raw = msgspec.json.encode(body)
    ours = await reports.table(Scope(*ME), raw)
    engines = await reports.entity(Scope(*ME), raw)
    assert ours.body["table"] == engines.body["table"] != []


async def test_an_offer_has_the_name_that_its_row_knows(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Written by us or by the engine: where no fact of a row names it, it shows its id."""

    def of(country: str, name: str) -> dict[str, Any]:
        offer = {"network_offer_id": 7, "network_id": 1, "name": name}
        return parts.related(offer=offer, geolocation={"country_name": country})

    log = [
        parts.click(1, relationship=of("Peru", "Shoes")),
        parts.click(2, relationship=of("Peru", "")),
        parts.click(3, relationship=of("Chad", "")),
        parts.click(4, relationship=of("Fiji", "Boots")),
    ]
    await parts.store(clickhouse, log, 0)
    raw = msgspec.json.encode(parts.WIDE | {"columns": parts.columns("offer", "country")})
    ours = (await reports.table(Scope(*ME), raw)).body["table"]
    assert ours == (await reports.entity(Scope(*ME), raw)).body["table"]
    shown = [[cell["label"] for cell in row["columns"]] for row in parts.exact(json_bytes(ours))]
    assert shown == [["Shoes", "Peru"], ["7", "Chad"], ["Boots", "Fiji"]]


@pytest.mark.parametrize(
    ("unit", "label"), [("week", "2026-03-16"), ("month", "2026-03"), ("year", "2026")]
)
async def test_a_report_of_one_bucket_is_not_cut_by_days(
    reports: Reports, clickhouse: ClickHouse, unit: str, label: str
) -> None:
    """A midnight that begins the only week, month or year, in UTC."""
    days = [parts.click(day, unix_timestamp=1_773_835_200 + 86_400 * day) for day in range(3)]
    await parts.store(clickhouse, days, 0)
    body = {"from": "2026-03-18", "to": "2026-03-20", "columns": parts.columns(unit)}
    (row,) = await parts.table(reports, ME, **body)
    assert (row["columns"][0]["label"], row["reporting"]["total_click"]) == (label, 3)


async def test_ratios_of_the_engine_are_those_of_exact_arithmetic(clickhouse: ClickHouse) -> None:
    """Rounded half up, also where a double would fall on the other side."""
    chance = random.Random(14)
    cases = [
        (1, 8, Decimal("0.005")),
        (5, 46, Decimal("-28202.015")),
        (7, 9, Decimal(0)),
        (3, 0, Decimal(1)),
    ]
    cases += [
        (
            chance.randrange(10**6),
            chance.choice((1, 2, 8, 16, 40, 125, chance.randrange(1, 10**6))),
            Decimal(chance.randrange(-(10**15), 10**15)).scaleb(-6),
        )
        for _ in range(count(300, 20_000))
    ]
    rows = ", ".join(
        f"({cv}, {clicks}, toDecimal128('{earned}', 6))" for cv, clicks, earned in cases
    )
    sql = (
        f"SELECT {RATIOS['cvr'].sql}, {RATIOS['rpc'].sql} FROM (SELECT tupleElement(each, 1) AS cv,"
        f" tupleElement(each, 2) AS total_click, tupleElement(each, 3) AS revenue FROM"
        f" (SELECT arrayJoin([{rows}]) AS each))"
    )
    for (cv, clicks, earned), found in zip(cases, await clickhouse.query(sql), strict=True):
        sums = {"cv": cv, "total_click": clicks, "revenue": earned}
        assert found == (RATIOS["cvr"].of(sums), RATIOS["rpc"].of(sums)), sums
