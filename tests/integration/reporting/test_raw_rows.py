"""Protects raw rows: the shapes programs read, which rows show, pages, and the age of clicks."""

from decimal import Decimal
from typing import Any

import pytest

from services.reporting.rows.handlers import Rows
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse
from shared.errors import NotFoundError
from shared.http import json_bytes
from tests.reporting_parts import click, conversion, exact, related, search, store

ME = (1, 10)


async def test_conversions_have_the_shape_of_the_wire(rows: Rows, clickhouse: ClickHouse) -> None:
    """The fields of the reference in place; nothing that partners may not see."""
    await store(clickhouse, [conversion(1, sub1="a", revenue=25.996, hold=None)], 0)
    (row,) = (await search(rows))["conversions"]
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
    rows: Rows, clickhouse: ClickHouse
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
        found = (await search(rows, **body))["conversions"]
        return [int(row["transaction_id"], 16) for row in found]

    def status(*values: str) -> dict[str, Any]:
        pairs = [{"resource_type": "status", "filter_id_value": each} for each in values]
        return {"filters": pairs}

    assert await numbers() == [1]
    assert await numbers(show_events=True) == [1, 5]
    assert await numbers(show_events=True, show_conversions=False) == [5]
    assert await numbers(query=status("rejected", "pending")) == [2, 3]


async def test_pages_hold_every_row_once_and_echo_what_was_used(
    rows: Rows, clickhouse: ClickHouse
) -> None:
    """By number; rows of one second have an order too; the last page is shorter."""
    same_time = {"conversion_unix_timestamp": 1_774_000_000}
    await store(clickhouse, [conversion(i, **same_time) for i in range(23)], 0)
    seen: list[str] = []
    for page, size in (("1", 10), ("2", 10), ("3", 3)):
        found = await search(rows, {"page": page, "page_size": "10"})
        assert found["paging"]["total_count"] == 23
        assert len(found["conversions"]) == size
        seen += [row["conversion_id"] for row in found["conversions"]]
    assert seen == sorted(set(seen))
    assert len(seen) == 23
    assert (await search(rows, {"page_size": "-1"}))["paging"]["page_size"] == 2_000


async def test_a_cursor_skips_and_repeats_no_row_while_others_change(
    rows: Rows, clickhouse: ClickHouse
) -> None:
    """Rows before the cursor leave, others arrive there: each unchanged row is read once."""
    await store(clickhouse, [conversion(i) for i in range(20)], 0)
    seen: list[int] = []
    cursor = ""
    for turn in range(4):
        found = await search(rows, {"page_size": "6", "cursor": cursor})
        seen += [int(row["transaction_id"], 16) for row in found["conversions"]]
        cursor = found["paging"].get("next_cursor", "")
        gone = conversion(turn, 100 + turn, version=2, status="rejected")
        late = conversion(40 + turn, 200 + turn, conversion_unix_timestamp=1_774_000_000 - 9)
        await store(clickhouse, [gone, late], 0)
    assert seen == list(range(20))
    assert cursor == ""


async def test_a_click_has_the_shape_of_the_wire_and_an_age_limit(
    rows: Rows, clickhouse: ClickHouse
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
    body = exact(json_bytes((await rows.click(Scope(*ME), f"{1:032X}")).body))
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
        await rows.click(Scope(*ME), f"{2:032x}")
    assert (await rows.click(Scope(*ME), f"{3:032x}")).body["unix_timestamp"] == old
    for nonsense in ("1", "x" * 32, "%" * 32):
        with pytest.raises(NotFoundError):
            await rows.click(Scope(*ME), nonsense)
