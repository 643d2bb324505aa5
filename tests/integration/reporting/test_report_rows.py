"""Protects what partners' programs read: shapes, order, filters, pages, and nobody else's rows."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.reporting.facts import tables
from services.reporting.facts.columns import COLUMNS
from services.reporting.reports.handlers import Reports
from services.reporting.reports.measures import METRICS
from services.reporting.rows.handlers import Rows
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse
from shared.errors import InvalidError, NotFoundError
from shared.http import json_bytes
from tests.reporting_parts import (
    WIDE,
    Entry,
    click,
    click_body,
    columns,
    conversion,
    exact,
    search,
    store,
    table,
)

ME = (1, 10)


async def test_a_row_has_the_shape_of_the_wire(reports: Reports, clickhouse: ClickHouse) -> None:
    """Columns in the order asked for, repeated ones repeated; all metrics, exact and shortest."""
    log = [click(1, sub5="x"), click(2, sub5="x", revenue=0.1), click(3, sub5="x", revenue=0.2)]
    await store(clickhouse, [*log, conversion(1, sub5="x", revenue=25.996)], 0)
    (row,) = await table(reports, ME, columns=columns("sub5", "offer", "day", "sub5", "sub1"))
    assert [(c["column_type"], c["id"], c["label"]) for c in row["columns"]] == [
        ("sub5", "x", "x"),
        ("offer", "7", "Shoes"),
        ("day", "1773964800", "2026-03-20"),
        ("sub5", "x", "x"),
        ("sub1", "N/A", "N/A"),
    ]
    assert tuple(row["reporting"]) == METRICS
    assert {name: str(value) for name, value in row["reporting"].items() if value} == {
        "total_click": "3",
        "unique_click": "3",
        "cv": "1",
        "cvr": "33.333",
        "revenue": "26.296",
        "rpc": "8.77",
    }


def named(name: str) -> dict[str, Any]:
    """The related data of a fact whose offer had that name."""
    return {"offer": {"network_offer_id": 7, "network_id": 1, "name": name}}


@pytest.mark.parametrize("names", [("Zebra", "Shoes"), ("Shoes", "Zebra"), ("Shoes", "")])
async def test_an_offer_of_several_names_has_the_last(
    reports: Reports, clickhouse: ClickHouse, names: tuple[str, str]
) -> None:
    """As of the facts, whatever kind they are; one without a name takes none away."""
    before, after = names
    clicks = [click(i, sub1=f"{i % 2}", relationship=named(before)) for i in range(4)]
    await store(clickhouse, [*clicks, conversion(9, sub1="0", relationship=named(after))], 0)
    last = after or before
    for _ in range(2):  # the second time it is known beforehand
        (row,) = await table(reports, ME, columns=columns("offer"))
        assert row["columns"] == [{"column_type": "offer", "id": "7", "label": last}]
        assert (row["reporting"]["total_click"], row["reporting"]["cv"]) == (4, 1)
    rows = await table(reports, ME, columns=columns("offer", "sub1"))
    assert [[cell["label"] for cell in row["columns"]] for row in rows] == [
        [last, "0"],
        [before, "1"],
    ]


async def test_facts_stored_before_there_were_derived_columns_count_as_well(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """A folder of an older release: what is new is added at the start, and follows from the rows."""
    log = [click(1), click(2, is_unique=0), click(3, error_code=5, revenue=1), conversion(1)]
    await store(clickhouse, log, 0)
    before = await table(reports, ME, columns=columns("offer"))
    for of, name, *_ in reversed(tables.DERIVED):
        await clickhouse.command(f"ALTER TABLE {of} DROP COLUMN {name} SETTINGS mutations_sync = 2")
    await tables.prepare(clickhouse)
    assert await table(reports, ME, columns=columns("offer")) == before
    (row,) = before
    wanted = {"unique_click": 1, "duplicate_click": 1, "invalid_click": 1, "cv": 1, "revenue": 1.5}
    assert {name: row["reporting"][name] for name in wanted} == wanted


async def test_rows_come_largest_first_and_a_cut_is_said(
    reports: Reports, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By clicks, revenue, then columns: so what a cut keeps does not depend on chance."""
    subs = ["b", "a", "c", "c", "d"]
    log = [click(i, sub1=sub, revenue=1 if sub == "d" else 0) for i, sub in enumerate(subs)]
    await store(clickhouse, log, 0)
    rows = await table(reports, ME, columns=columns("sub1"))
    assert [row["columns"][0]["id"] for row in rows] == ["c", "d", "a", "b"]
    monkeypatch.setattr("services.reporting.reports.store.ROWS_MAX", 3)
    body = msgspec.json.encode(WIDE | {"columns": columns("sub1")})
    answer = await reports.table(Scope(*ME), body)
    assert answer.body["incomplete_results"] is True
    rows = exact(json_bytes(answer.body))["table"]
    assert [row["columns"][0]["id"] for row in rows] == ["c", "d", "a"]


async def test_metric_filters_judge_rows_after_they_are_added_up(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Also those on ratios."""
    log = [click(1, sub1="a"), click(2, sub1="a"), click(3, sub1="b"), click(4, sub1="c")]
    await store(clickhouse, [*log, conversion(3, sub1="b"), conversion(1, sub1="a")], 0)

    async def kept(metric: str, operator: str, value: Any) -> list[str]:
        wanted = {"metric_type": metric, "operator": operator, "metric_value": value}
        rows = await table(reports, ME, columns=columns("sub1"), query={"metric_filters": [wanted]})
        return [row["columns"][0]["id"] for row in rows]

    assert await kept("revenue", "greater_than", 0) == ["a", "b"]
    assert await kept("total_click", "equal", "1") == ["b", "c"]
    assert await kept("cvr", "less_than", 60) == ["a", "c"]


async def test_filters_and_exclusions_take_what_programs_send(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Numbers or strings, several values of a type, `N/A` for none, quotes and injections."""
    nasty = "x' OR 1=1 --"
    log = [click(1, sub1="a"), click(2, sub1=""), click(3, sub1=nasty), click(4, sub1="N/A")]
    await store(clickhouse, log, 0)

    async def kept(name: str, *values: Any, resource: str = "sub1") -> list[str]:
        pairs = [{"resource_type": resource, "filter_id_value": value} for value in values]
        rows = await table(reports, ME, columns=columns("sub1"), query={name: pairs})
        return [row["columns"][0]["id"] for row in rows]

    assert await kept("filters", "a", nasty) == ["a", nasty]
    assert await kept("filters", "N/A") == ["N/A"]
    assert await kept("exclusions", "N/A") == ["a", nasty]
    assert len(await kept("filters", 7, resource="offer")) == 3
    assert await kept("filters", "8", resource="offer") == []
    assert await kept("filters", f"{1:032x}", resource="transaction_id") == ["a"]


async def test_amounts_in_another_currency_are_refused_by_name(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """No rate is known: a sum of two currencies would be wrong. Clicks without amounts pass."""
    await store(clickhouse, [click(1, currency_id="EUR")], 0)
    assert await table(reports, ME, columns=columns("offer"))
    await store(clickhouse, [conversion(1, currency_id="EUR")], 0)
    with pytest.raises(InvalidError, match="amount in EUR of 2026-03-20 cannot be shown in USD"):
        await table(reports, ME, columns=columns("offer"))
    (row,) = await table(reports, ME, columns=columns("offer"), currency_id="EUR")
    assert row["reporting"]["revenue"] == Decimal("1.5")


async def test_no_read_leaves_its_partner(
    reports: Reports, rows: Rows, clickhouse: ClickHouse
) -> None:
    """Whatever is asked for, another partner's rows and another network's are out of reach."""
    theirs = {"network_affiliate_id": 11, "sub1": "secret"}
    abroad = {"network_id": 2, "sub1": "secret"}
    log = [click(1, **theirs), click(2, **abroad), conversion(1, **theirs), conversion(2, **abroad)]
    await store(clickhouse, log, 0)
    wanted = [{"resource_type": "sub1", "filter_id_value": "secret"}]
    for query in ({}, {"filters": wanted}):
        assert await table(reports, ME, columns=columns("sub1"), query=query) == []
        assert (await search(rows, query=query))["conversions"] == []
    for number in (1, 2):
        with pytest.raises(NotFoundError):
            await rows.click(Scope(*ME), f"{number:032x}")
    assert len(await table(reports, (1, 11), columns=columns("sub1"))) == 1
    assert exact((await rows.click(Scope(2, 10), f"{2:032x}")).row)["sub1"] == "secret"


async def test_every_column_can_be_asked_for(reports: Reports, clickhouse: ClickHouse) -> None:
    """Each alone, over all three kinds of fact, also where nothing is known."""
    body = click_body(9)
    del body["is_unique"]
    impression = Entry("tracking.impressions.v1", 0, 0, msgspec.json.encode(body))
    await store(clickhouse, [click(1), conversion(1), impression], 0)
    for name in COLUMNS:
        rows = await table(reports, ME, columns=columns(name))
        sums = {
            metric: sum(row["reporting"][metric] for row in rows)
            for metric in ("imp", "total_click", "cv")
        }
        assert sums == {"imp": 1, "total_click": 1, "cv": 1}, name


async def test_fail_traffic_can_be_ignored_or_be_all(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Traffic that a rule redirected, by the settings of the query."""
    await store(clickhouse, [click(1), click(2, is_redirect_traffic=True, revenue=2)], 0)

    async def seen(**settings: bool) -> tuple[int, int]:
        (row,) = await table(reports, ME, columns=columns("offer"), query={"settings": settings})
        reporting = row["reporting"]
        return int(reporting["total_click"]), int(reporting["redirect_traffic_revenue"])

    assert await seen() == (2, 2)
    assert await seen(ignore_fail_traffic=True) == (1, 0)
    assert await seen(only_include_fail_traffic=True) == (1, 2)
