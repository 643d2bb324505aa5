"""Protects raw rows: the shapes programs read, which rows show, pages, and the age of clicks."""

import csv
import io
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.reporting.facts.shapes import CLICK_FIELDS, CONVERSION_FIELDS
from services.reporting.rows.handlers import Flow, Rows
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse
from shared.errors import NotFoundError
from tests.reporting_parts import WIDE, Entry, click, conversion, exact, related, search, store
from tests.soak import count

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


async def test_a_transaction_is_found_however_its_id_is_written(
    rows: Rows, clickhouse: ClickHouse
) -> None:
    """What is no id names nothing, beside those that are."""
    await store(clickhouse, [conversion(i) for i in (0xAB, 0xCD)], 0)

    async def numbers(name: str, *values: str) -> list[int]:
        pairs = [{"resource_type": "transaction_id", "filter_id_value": each} for each in values]
        found = (await search(rows, query={name: pairs}))["conversions"]
        return [int(row["transaction_id"], 16) for row in found]

    odd = ("56d75d3a-4d6e-433f-b215-698c056d0d58", "x" * 99, "", "ab")
    assert await numbers("filters", f"{0xAB:032X}", *odd) == [0xAB]
    assert await numbers("exclusions", f"{0xAB:032x}", *odd) == [0xCD]
    assert await numbers("filters", *odd) == []


async def test_the_newest_conversions_come_first_on_request(
    rows: Rows, clickhouse: ClickHouse
) -> None:
    """By number and by cursor alike, each row once."""
    same = [conversion(i, conversion_unix_timestamp=1_774_000_100) for i in range(20, 25)]
    await store(clickhouse, [*(conversion(i) for i in range(20)), *same], 0)
    whole = (await search(rows, {"page_size": "100"}))["conversions"]
    newest = {"order_direction": "desc", "page_size": "6"}
    for how in ("page", "cursor"):
        found: list[Any] = []
        asked = dict(newest)
        for number in range(1, 6):
            page = await search(rows, asked)
            found += page["conversions"]
            if how == "page":
                asked[how] = str(number + 1)
            else:  # which way it goes is the cursor's to know
                asked = {"page_size": "6", "cursor": page["paging"].get("next_cursor", "")}
        assert found == whole[::-1], how


async def test_events_are_on_one_page_unless_another_is_asked_for(
    rows: Rows, clickhouse: ClickHouse
) -> None:
    """Programs written for that endpoint know of none."""
    log = [conversion(i, is_event=True, event="Purchase") for i in range(60)]
    await store(clickhouse, log, 0)
    asked = msgspec.json.encode(WIDE)
    whole = (await rows.events(Scope(*ME), asked, {})).body
    assert (len(whole["conversions"]), whole["paging"]["page_size"]) == (60, 2_000)
    page = (await rows.events(Scope(*ME), asked, {"page_size": "7"})).body
    assert len(page["conversions"]) == 7


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
    body = exact((await rows.click(Scope(*ME), f"{1:032X}")).row)
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
    assert exact((await rows.click(Scope(*ME), f"{3:032x}")).row)["unix_timestamp"] == old
    for nonsense in ("1", "x" * 32, "%" * 32):
        with pytest.raises(NotFoundError):
            await rows.click(Scope(*ME), nonsense)


DAY = {"from": "2026-03-20 00:00:00", "to": "2026-03-20 23:59:59", "timezone_id": 67}
NOON = 1_774_008_000


async def written(flow: Flow) -> bytes:
    return b"".join([part async for part in flow.parts])


async def numbers_of(rows: Rows, **body: Any) -> list[int]:
    found = exact(await written(await rows.clicks(Scope(*ME), msgspec.json.encode(DAY | body))))
    assert found["clicks"] == found["table"]
    return [int(row["transaction_id"], 16) for row in found["clicks"]]


async def test_clicks_come_newest_first_between_bounds_that_are_included(
    rows: Rows, clickhouse: ClickHouse
) -> None:
    """Clicks of one second have an order too; whole rows, each of the shape of a single one."""
    times = [NOON, NOON + 5, NOON + 5, NOON + 9, NOON + 10, NOON - 1]
    await store(clickhouse, [click(i, unix_timestamp=t) for i, t in enumerate(times)], 0)
    bounds = {"from": "2026-03-20 12:00:00", "to": "2026-03-20 12:00:09"}
    assert await numbers_of(rows, **bounds) == [3, 2, 1, 0]
    assert await numbers_of(rows, **{"from": "2026-03-20", "to": "2026-03-20"}) == [
        4,
        3,
        2,
        1,
        0,
        5,
    ]
    flow = await rows.clicks(Scope(*ME), msgspec.json.encode(DAY | bounds))
    assert "X-Truncated" not in flow.headers
    found = exact(await written(flow))
    assert found["incomplete_results"] is False
    assert found["clicks"][0] == exact((await rows.click(Scope(*ME), f"{3:032x}")).row)
    assert tuple(found["clicks"][0]) == (*CLICK_FIELDS, "relationship")


async def test_clicks_that_are_left_out_are_counted_and_pointed_to(
    rows: Rows, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several days, of which the newest alone does not fill the answer."""
    log = [click(i, unix_timestamp=NOON - 40_000 * i) for i in range(20)]
    await store(clickhouse, log, 0)
    monkeypatch.setattr("services.reporting.rows.handlers.STREAM_ROWS_MAX", 7)
    body = msgspec.json.encode(DAY | {"from": "2026-03-08"})
    flow = await rows.clicks(Scope(*ME), body)
    assert flow.headers["X-Truncated"] == (
        'rows=7, total=20, exports="/v1/affiliates/reporting/exports"'
    )
    found = exact(await written(flow))
    assert [int(row["transaction_id"], 16) for row in found["clicks"]] == list(range(7))
    assert found["incomplete_results"] is True


async def test_old_clicks_show_only_if_they_converted(rows: Rows, clickhouse: ClickHouse) -> None:
    """Three months back, whatever is asked for; an interval beyond is empty, not an error."""
    old = NOON - 100 * 86_400
    log = [click(1, unix_timestamp=old), click(2, unix_timestamp=old), conversion(2)]
    await store(clickhouse, log, 0)
    back = {"from": "2025-12-10", "to": "2025-12-13"}
    assert await numbers_of(rows, **back) == [2]
    assert await numbers_of(rows, **{"from": "2025-12-01", "to": "2025-12-02"}) == []


async def test_clicks_are_filtered_as_reports_are(rows: Rows, clickhouse: ClickHouse) -> None:
    """By tags, offer, place, id and the settings of the query."""
    log = [
        click(1, sub1="a", unix_timestamp=NOON),
        click(2, sub1="b", unix_timestamp=NOON, is_redirect_traffic=True),
        click(
            3,
            unix_timestamp=NOON,
            relationship=related(geolocation={"country_name": "Chile"}),
        ),
    ]
    await store(clickhouse, log, 0)

    def only(resource: str, value: Any) -> dict[str, Any]:
        return {"filters": [{"resource_type": resource, "filter_id_value": value}]}

    assert await numbers_of(rows, query=only("sub1", "a")) == [1]
    assert await numbers_of(rows, query=only("country", "Chile")) == [3]
    assert await numbers_of(rows, query=only("transaction_id", f"{2:032x}")) == [2]
    assert await numbers_of(rows, query=only("offer", 7)) == [3, 2, 1]
    settings = {"only_include_fail_traffic": True}
    assert await numbers_of(rows, query={"settings": settings}) == [2]


# --- one conversion, events, held conversions -----------------------------------------------------


async def test_one_conversion_is_the_row_of_the_list_while_it_stands(
    rows: Rows, clickhouse: ClickHouse
) -> None:
    """A rejected or scrubbed one is not found, like one of somebody else's."""
    log = [
        conversion(1),
        conversion(2, status="rejected"),
        conversion(3, is_scrub=True),
        conversion(4, network_affiliate_id=11),
    ]
    await store(clickhouse, log, 0)
    (row,) = (await search(rows))["conversions"]
    assert exact((await rows.conversion(Scope(*ME), row["conversion_id"].upper())).row) == row
    assert tuple(row) == (*CONVERSION_FIELDS, "relationship")
    for number in (2, 3, 4, 5):
        with pytest.raises(NotFoundError):
            await rows.conversion(Scope(*ME), f"{number + 0xC0000:032x}")


async def test_events_alone(rows: Rows, clickhouse: ClickHouse) -> None:
    """Whatever flags the body has."""
    await store(clickhouse, [conversion(1), conversion(2, is_event=True, event="Sale")], 0)
    answer = await rows.events(Scope(*ME), msgspec.json.encode(WIDE), {})
    found = exact(msgspec.json.encode(answer.body))
    assert [row["event"] for row in found["conversions"]] == ["Sale"]
    assert found["paging"]["total_count"] == 1


def held(number: int, status: str, **more: Any) -> Entry:
    hold = {
        "on_hold_conversion_id": f"{number + 0xA0000:032x}",
        "holding_period_end": 1_774_500_000,
        "status": status,
    }
    return conversion(number, hold=hold, status=status, revenue=2.25, **more)


async def test_held_conversions_have_the_shape_of_the_wire(
    rows: Rows, clickhouse: ClickHouse
) -> None:
    """With how the hold stands; never held and scrubbed ones are not there."""
    log = [
        held(1, "on_hold", sub1="x"),
        held(2, "approved"),
        held(3, "rejected", is_event=True),
        held(4, "on_hold", is_scrub=True),
        conversion(5),
    ]
    await store(clickhouse, log, 0)

    async def found(**body: Any) -> list[dict[str, Any]]:
        answer = await rows.held(Scope(*ME), msgspec.json.encode(WIDE | body), {})
        listed: list[dict[str, Any]] = exact(msgspec.json.encode(answer.body))["conversions"]
        return listed

    first, second = await found(show_conversions=True)
    assert (first["status"], second["status"]) == ("on_hold", "approved")
    conversion_row = first.pop("conversion")
    assert first == {
        "on_hold_conversion_id": f"{1 + 0xA0000:032x}",
        "network_id": 1,
        "holding_period_end": 1_774_500_000,
        "status": "on_hold",
    }
    assert tuple(conversion_row) == (
        "conversion_id",
        "transaction_id",
        "conversion_unix_timestamp",
        "revenue",
        "sale_amount",
        "event",
        "sub1",
        "sub2",
        "sub3",
        "sub4",
        "sub5",
        "relationship",
    )
    assert (conversion_row["revenue"], conversion_row["sub1"]) == (Decimal("2.25"), "x")
    assert conversion_row["relationship"]["offer"]["offer_status"] == "active"
    assert await found() == []
    events = await found(show_events=True, on_hold_status_filter="rejected")
    assert [row["status"] for row in events] == ["rejected"]
    one = exact((await rows.held_one(Scope(*ME), f"{2 + 0xA0000:032x}")).row)
    assert one == second
    with pytest.raises(NotFoundError):
        await rows.held_one(Scope(1, 11), f"{2 + 0xA0000:032x}")


# --- exports, and pages while rows change ---------------------------------------------------------


async def exported(rows: Rows, **body: Any) -> bytes:
    return await written(await rows.export(Scope(*ME), msgspec.json.encode(WIDE | body)))


async def test_an_export_has_the_rows_of_the_pages(
    rows: Rows, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As JSON the same objects, as CSV the same values, in many pieces; a header if there is none."""
    monkeypatch.setattr("services.reporting.rows.bulk.PIECE_ROWS", 3)
    log = [
        conversion(
            i,
            sub1=f'a,"{i}"\n☃',
            revenue=25.996,
            is_event=i % 5 == 0,
            conversion_unix_timestamp=1_774_000_000 + 9_000 * i,
        )
        for i in range(30)
    ]
    await store(clickhouse, [*log, conversion(31, status="rejected")], 0)
    wanted = {"show_events": True}
    page = (await search(rows, {"page_size": "-1"}, **wanted))["conversions"]
    listed = exact(await exported(rows, format="json", **wanted))["conversions"]
    assert sorted(listed, key=lambda row: row["conversion_id"]) == page
    text = (await exported(rows, **wanted)).decode()
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == 30
    by_id = {line["conversion_id"]: line for line in lines}
    for row in page:
        line = by_id[row["conversion_id"]]
        assert {name: _text(row[name]) for name in CONVERSION_FIELDS} == {
            name: line[name] for name in CONVERSION_FIELDS
        }
        assert (line["network_offer_id"], line["offer_name"], line["offer_status"]) == (
            "7",
            "Shoes",
            "active",
        )
    empty = (await exported(rows, **{"from": "2026-01-01", "to": "2026-01-02"})).decode()
    assert empty.splitlines() == text.splitlines()[:1]


def _text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


async def test_pages_by_cursor_hold_every_unchanged_row_once_while_others_change(
    rows: Rows, clickhouse: ClickHouse
) -> None:
    """Any history of rejections, returns, new amounts and late arrivals between the pages."""
    for seed in range(count(2, 40)):
        await clickhouse.command("TRUNCATE TABLE conversions")
        chance = random.Random(seed)
        await store(clickhouse, [conversion(i) for i in range(60)], seed)
        unchanged = set(chance.sample(range(60), 30))
        seen: list[int] = []
        cursor, offset, version = "", 100, 1
        while True:
            found = await search(
                rows, {"page_size": str(chance.randrange(3, 12)), "cursor": cursor}
            )
            seen += [int(row["transaction_id"], 16) for row in found["conversions"]]
            cursor = found["paging"].get("next_cursor", "")
            if not cursor:
                break
            version += 1
            others = chance.sample(sorted(set(range(60)) - unchanged), 5)
            await store(clickhouse, _changed(chance, others, offset, version), seed)
            offset += 10
        assert [number for number in seen if number in unchanged] == sorted(unchanged)


def _changed(
    chance: random.Random, numbers: Sequence[int], offset: int, version: int
) -> list[Entry]:
    return [
        *(
            conversion(
                number,
                offset + i,
                version=version,
                status=chance.choice(("approved", "rejected")),
                revenue=chance.randrange(9),
            )
            for i, number in enumerate(numbers)
        ),
        conversion(
            1_000 + offset,
            offset + 9,
            conversion_unix_timestamp=1_774_000_000 + chance.randrange(60),
        ),
    ]
