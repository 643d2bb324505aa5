"""Protects what partners' programs read: shapes, order, filters, pages, and nobody else's rows."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.reporting.reports.columns import COLUMNS
from services.reporting.reports.handlers import Reports
from services.reporting.reports.measures import METRICS
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
    related,
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


async def test_rows_come_largest_first_and_a_cut_is_said(
    reports: Reports, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By clicks, revenue, then columns: so what a cut keeps does not depend on chance."""
    subs = ["b", "a", "c", "c", "d"]
    log = [click(i, sub1=sub, revenue=1 if sub == "d" else 0) for i, sub in enumerate(subs)]
    await store(clickhouse, log, 0)
    rows = await table(reports, ME, columns=columns("sub1"))
    assert [row["columns"][0]["id"] for row in rows] == ["c", "d", "a", "b"]
    monkeypatch.setattr("services.reporting.reports.handlers.ROWS_MAX", 3)
    monkeypatch.setattr("services.reporting.reports.store.ROWS_MAX", 3)
    body = msgspec.json.encode(WIDE | {"columns": columns("sub1")})
    answer = await reports.table(Scope(*ME), body)
    assert answer.body["incomplete_results"] is True
    assert [row["columns"][0]["id"] for row in answer.body["table"]] == ["c", "d", "a"]


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
    with pytest.raises(InvalidError, match="recorded in EUR and cannot be shown in USD"):
        await table(reports, ME, columns=columns("offer"))
    (row,) = await table(reports, ME, columns=columns("offer"), currency_id="EUR")
    assert row["reporting"]["revenue"] == Decimal("1.5")


async def test_no_read_leaves_its_partner(reports: Reports, clickhouse: ClickHouse) -> None:
    """Whatever is asked for, another partner's rows and another network's are out of reach."""
    theirs = {"network_affiliate_id": 11, "sub1": "secret"}
    abroad = {"network_id": 2, "sub1": "secret"}
    log = [click(1, **theirs), click(2, **abroad), conversion(1, **theirs), conversion(2, **abroad)]
    await store(clickhouse, log, 0)
    wanted = [{"resource_type": "sub1", "filter_id_value": "secret"}]
    for query in ({}, {"filters": wanted}):
        assert await table(reports, ME, columns=columns("sub1"), query=query) == []
        assert (await search(reports, query=query))["conversions"] == []
    for number in (1, 2):
        with pytest.raises(NotFoundError):
            await reports.click(Scope(*ME), f"{number:032x}")
    assert len(await table(reports, (1, 11), columns=columns("sub1"))) == 1
    assert (await reports.click(Scope(2, 10), f"{2:032x}")).body["sub1"] == "secret"


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


# --- conversions ----------------------------------------------------------------------------------


async def test_conversions_have_the_shape_of_the_wire(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """The fields of the reference in place; nothing that partners may not see."""
    await store(clickhouse, [conversion(1, sub1="a", revenue=25.996, hold=None)], 0)
    (row,) = (await search(reports))["conversions"]
    assert row["revenue"] == Decimal("25.996")
    assert (row["sub1"], row["sub5"], row["event"], row["is_event"]) == ("a", "", "Base", False)
    assert row["relationship"] == {
        "offer": {
            "network_offer_id": 7,
            "network_id": 1,
            "name": "Shoes",
            "offer_status": "active",
            "network_tracking_domain_id": 0,
        },
        "events_count": 0,
    }
    hidden = {"status", "payout", "version", "hold", "is_scrub", "network_affiliate_id"}
    assert not hidden & set(row)
    assert not [name for name in row if name.startswith("_")]


async def test_only_approved_conversions_show_unless_others_are_asked_for(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """A rejected one leaves the result; scrubbed ones never show; events only on request."""
    log = [
        conversion(1),
        conversion(2, status="pending"),
        conversion(3, 3, version=2, status="rejected"),
        conversion(3, 4, version=1),
        conversion(5, is_event=True, event="Purchase"),
        conversion(6, is_scrub=True),
    ]
    await store(clickhouse, log, 0)

    async def numbers(**body: Any) -> list[int]:
        rows = (await search(reports, **body))["conversions"]
        return [int(row["transaction_id"], 16) for row in rows]

    def status(*values: str) -> dict[str, Any]:
        pairs = [{"resource_type": "status", "filter_id_value": each} for each in values]
        return {"filters": pairs}

    assert await numbers() == [1]
    assert await numbers(show_events=True) == [1, 5]
    assert await numbers(show_events=True, show_conversions=False) == [5]
    assert await numbers(query=status("rejected", "pending")) == [2, 3]


async def test_pages_hold_every_row_once_and_echo_what_was_used(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """By number; rows of one second have an order too; the last page is shorter."""
    same_time = {"conversion_unix_timestamp": 1_774_000_000}
    await store(clickhouse, [conversion(i, **same_time) for i in range(23)], 0)
    seen: list[str] = []
    for page, size in (("1", 10), ("2", 10), ("3", 3)):
        found = await search(reports, {"page": page, "page_size": "10"})
        assert found["paging"]["total_count"] == 23
        assert len(found["conversions"]) == size
        seen += [row["conversion_id"] for row in found["conversions"]]
    assert seen == sorted(set(seen))
    assert len(seen) == 23
    assert (await search(reports, {"page_size": "-1"}))["paging"]["page_size"] == 2_000


async def test_a_cursor_skips_and_repeats_no_row_while_others_change(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Rows before the cursor leave, others arrive there: each unchanged row is read once."""
    await store(clickhouse, [conversion(i) for i in range(20)], 0)
    seen: list[int] = []
    cursor = ""
    for turn in range(4):
        found = await search(reports, {"page_size": "6", "cursor": cursor})
        seen += [int(row["transaction_id"], 16) for row in found["conversions"]]
        cursor = found["paging"].get("next_cursor", "")
        gone = conversion(turn, 100 + turn, version=2, status="rejected")
        late = conversion(40 + turn, 200 + turn, conversion_unix_timestamp=1_774_000_000 - 9)
        await store(clickhouse, [gone, late], 0)
    assert seen == list(range(20))
    assert cursor == ""


# --- clicks ---------------------------------------------------------------------------------------


async def test_a_click_has_the_shape_of_the_wire_and_an_age_limit(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """Three months, and for good once converted; ids that are none are not found."""
    old = 1_774_000_000 - 150 * 86_400
    log = [
        click(1, revenue=0.5, relationship=related(query_parameters={"gclid": "1"})),
        click(2, unix_timestamp=old),
        click(3, unix_timestamp=old),
        conversion(3),
    ]
    await store(clickhouse, log, 0)
    body = exact(json_bytes((await reports.click(Scope(*ME), f"{1:032X}")).body))
    assert (body["is_unique"], body["error_code"], body["error_message"]) == (1, 0, "N/A")
    assert body["revenue"] == Decimal("0.5")
    assert sorted(body["relationship"]) == [
        "device_information",
        "geolocation",
        "offer",
        "query_parameters",
    ]
    assert body["relationship"]["query_parameters"] == {"gclid": "1"}
    with pytest.raises(NotFoundError):
        await reports.click(Scope(*ME), f"{2:032x}")
    assert (await reports.click(Scope(*ME), f"{3:032x}")).body["unix_timestamp"] == old
    for nonsense in ("1", "x" * 32, "%" * 32):
        with pytest.raises(NotFoundError):
            await reports.click(Scope(*ME), nonsense)
