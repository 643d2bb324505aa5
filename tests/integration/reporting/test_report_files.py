"""Protects what programs read as files and fixed reports: their bytes, and that a cut is said."""

import csv
import dataclasses
import io
from typing import Any

import httpx
import msgspec
import pytest

from services.reporting.reports.api import router
from services.reporting.reports.handlers import File, Reports
from services.reporting.reports.measures import DAILY, METRICS
from services.reporting.scope import Scope
from shared.clickhouse import ClickHouse
from shared.errors import InvalidError, NotFoundError
from shared.http import json_bytes, new_app
from shared.identity import Identity
from tests.reporting_parts import WIDE, click, columns, conversion, exact, store, table

ME = Scope(1, 10)
NASTY = 'a"b,c\r\n☃/'


def body(**more: Any) -> bytes:
    return msgspec.json.encode(WIDE | more)


def content(file: File) -> bytes:
    return b"".join(file.chunks)


async def test_a_csv_has_a_header_and_two_fields_for_an_offer(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """A reader of CSV finds what was stored, whatever characters it has."""
    await store(clickhouse, [click(1, sub1=NASTY), conversion(1, sub1=NASTY, revenue=25.996)], 0)
    file = await reports.export(ME, body(columns=columns("offer", "sub1", "date"), format="csv"))
    assert file.media_type == "text/csv; charset=utf-8"
    text = content(file).decode("utf-8")
    assert text.startswith("network_offer_id,offer_name,sub1,date,imp,total_click,")
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    named = [row[name] for name in ("network_offer_id", "offer_name", "sub1", "date", "revenue")]
    assert named == ["7", "Shoes", NASTY, "2026-03-20", "25.996"]
    assert list(row)[4:] == list(METRICS)


async def test_an_export_without_rows_is_a_header_or_nothing(reports: Reports) -> None:
    """As the setting says; JSON is a table of no rows."""
    asked = body(columns=columns("sub1"))
    assert content(await reports.export(ME, asked)).startswith(b"sub1,imp,")
    bare = dataclasses.replace(reports, has_header_if_empty=False)
    assert content(await bare.export(ME, asked)) == b""
    as_json = content(await bare.export(ME, body(columns=columns("sub1"), format="json")))
    assert msgspec.json.decode(as_json) == {"table": [], "incomplete_results": False}
    with pytest.raises(InvalidError, match="format"):
        await reports.export(ME, body(columns=columns("sub1"), format="xlsx"))


async def test_a_streamed_report_is_the_table_and_says_when_it_is_cut(
    reports: Reports, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks that join to the same JSON; the file says so itself and beside itself."""
    await store(clickhouse, [click(i, sub1=f"{NASTY}{i}") for i in range(25)], 0)
    asked = body(columns=columns("sub1", "offer"))
    rows = await table(reports, (1, 10), columns=columns("sub1", "offer"))
    monkeypatch.setattr("services.reporting.reports.handlers.LINES_A_CHUNK", 4)
    file = await reports.stream(ME, asked)
    chunks = list(file.chunks)
    assert len(chunks) == 9
    assert exact(b"".join(chunks)) == {"table": rows, "incomplete_results": False}
    monkeypatch.setattr("services.reporting.reports.store.ROWS_MAX", 7)
    cut = await reports.stream(ME, asked)
    assert cut.is_cut is True
    assert exact(content(cut)) == {"table": rows[:7], "incomplete_results": True}
    assert (await reports.export(ME, asked)).is_cut is True


async def test_a_streamed_report_is_csv_on_request(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """The same as the export."""
    await store(clickhouse, [click(i, sub1=f"{NASTY}{i}") for i in range(3)], 0)
    asked = body(columns=columns("sub1", "offer"), format="csv")
    assert content(await reports.stream(ME, asked)) == content(await reports.export(ME, asked))


async def test_an_answer_that_reaches_behind_what_is_kept_is_incomplete(reports: Reports) -> None:
    """Facts of then may have been there once."""
    asked = body(columns=columns("sub1"))
    young = dataclasses.replace(reports, kept_days=30)
    for kept, is_cut in ((reports, False), (young, True)):
        file = await kept.export(ME, asked)
        assert file.is_cut is is_cut
        for answer in (kept.table, kept.entity, kept.daily, kept.by_offer):
            assert (await answer(ME, asked)).body["incomplete_results"] is is_cut


async def test_daily_has_every_day(reports: Reports, clickhouse: ClickHouse) -> None:
    """Also those on which nothing was; the currency may be left out."""
    await store(clickhouse, [click(1), conversion(1)], 0)
    asked = {"from": "2026-03-19", "to": "2026-03-21", "timezone_id": 67}
    found = exact(json_bytes((await reports.daily(ME, msgspec.json.encode(asked))).body))
    assert [(row["date"], row["reporting"]["cv"]) for row in found["table"]] == [
        ("2026-03-19", 0),
        ("2026-03-20", 1),
        ("2026-03-21", 0),
    ]
    assert all(tuple(row["reporting"]) == DAILY for row in found["table"])
    assert found["summary"]["total_click"] == 1


async def test_by_offer_ignores_columns_and_filters_and_honours_pages(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """As clients of the original rely on."""
    offers = [
        {"offer": {"network_offer_id": i, "network_id": 1, "name": f"Offer {i}"}}
        for i in range(1, 6)
    ]
    await store(clickhouse, [click(i, relationship=each) for i, each in enumerate(offers)], 0)
    wrong = [{"resource_type": "offer", "filter_id_value": "1"}]
    odd = {"columns": ["junk"], "query": {"filters": wrong}}
    whole = exact(json_bytes((await reports.by_offer(ME, body(**odd))).body))
    assert [row["columns"][0]["id"] for row in whole["table"]] == ["1", "2", "3", "4", "5"]
    assert "paging" not in whole
    asked = body(**odd, pagination={"page": 2, "page_size": 2})
    page = exact(json_bytes((await reports.by_offer(ME, asked)).body))
    assert page["table"] == whole["table"][2:4]
    assert page["paging"] == {"page": 2, "page_size": 2, "total_count": 5}
    asked = {"page": "2", "page_size": "2"}
    same = exact(json_bytes((await reports.by_offer(ME, body(**odd, page=1), asked)).body))
    assert same == page


async def test_by_sub_is_the_table_of_that_sub(reports: Reports, clickhouse: ClickHouse) -> None:
    """Of the five that there are."""
    await store(clickhouse, [click(1, sub3="x"), click(2, sub3="y")], 0)
    found = exact(json_bytes((await reports.by_sub(ME, body(), "3")).body))
    assert found["table"] == await table(reports, (1, 10), columns=columns("sub3"))
    for unknown in ("0", "6", "x", "10"):
        with pytest.raises(NotFoundError):
            await reports.by_sub(ME, body(), unknown)


def caller() -> Identity:
    """As a door would have signed."""
    return Identity(
        network_id=1,
        network_affiliate_id=10,
        key_id="k1",
        request_id="r1",
        client_ip="203.0.113.9",
        method="POST",
        path="/",
        expires_at=0,
    )


async def test_every_answer_says_how_fresh_it_is_streamed_ones_too(
    reports: Reports, clickhouse: ClickHouse
) -> None:
    """And a streamed one whether it is cut, in a header, since it has begun when that is known."""
    await store(clickhouse, [click(1)], 0)
    app = new_app("reports", "")
    routes = router(reports, caller)
    app.include_router(routes)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://reporting") as client:
        assert len(routes.routes) == 11
        for route in routes.routes:
            path = route.path.format_map({"sub_id": 1, "offer_id": 7})
            answer = await client.post(path, content=body(columns=columns("offer")))
            is_streamed = path.endswith(("export", "stream"))
            if path.endswith("offers/7"):
                assert answer.status_code == 404
                continue
            found = (answer.status_code, answer.headers["x-data-through"])
            assert found == (200, "1970-01-01T00:00:01.250Z"), path
            assert answer.headers.get("x-incomplete-results") == ("false" if is_streamed else None)
