"""Protects the lists of reference: whole shapes, the caller's own names, and today's metrics."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from services.reporting.meta import api, wire
from services.reporting.meta.handlers import Lists
from services.reporting.reports.handlers import Reports
from services.reporting.scope import Scope
from services.reporting.traffic import Traffic
from shared.clickhouse import ClickHouse
from shared.clock import ManualClock, rfc3339
from shared.http import IdentityCheck, json_bytes, new_app
from tests.reporting_parts import NOW, Entry, click, conversion, exact, related, store
from tests.reporting_service import SIGNER, signed

A = Scope(1, 10)
STATIC = {
    "timezones": (wire.Timezones, 99),
    "countries": (wire.Countries, 245),
    "currencies": (wire.Currencies, 145),
    "browserlanguages": (wire.Languages, 180),
}
TRAFFIC = {
    "regions": wire.Regions,
    "cities": wire.Cities,
    "dmas": wire.Dmas,
    "mobilecarriers": wire.Carriers,
    "browsers": wire.Browsers,
    "platforms": wire.Platforms,
    "osversions": wire.OsVersions,
    "devices": wire.Devices,
    "connectiontypes": wire.ConnectionTypes,
}


@pytest.fixture
async def client(reports: Reports) -> AsyncIterator[httpx.AsyncClient]:
    clock = ManualClock(NOW)
    app = new_app("test", "test")
    lists = Lists(Traffic(reports, clock).names, clock)
    app.include_router(api.router(lists, IdentityCheck(SIGNER, clock)))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def get(client: httpx.AsyncClient, plural: str, scope: Scope = A) -> httpx.Response:
    path = f"/v1/meta/{plural}"
    ids = {"network": scope.network_id, "partner": scope.network_affiliate_id}
    headers = signed("GET", path, now=NOW, **ids)
    return await client.get(path, params={"relationship": "all", "page": ""}, headers=headers)


def visit(number: int, **more: Any) -> Entry:
    """A click from Austin on an iPhone."""
    return click(
        number,
        connection_type="mobile",
        relationship=related(
            geolocation={
                "country_code": "US",
                "country_name": "United States",
                "region_name": "Texas",
                "city_name": "Austin",
                "dma": 635,
                "dma_name": "Austin area",
                "carrier_name": "Sierra Wireless",
            },
            device_information={
                "platform_name": "iOS",
                "os_version": "18.6",
                "brand": "Apple",
                "model": "iPhone",
                "browser_name": "Mobile Safari",
                "device_type": "Mobile",
            },
        ),
        **more,
    )


@pytest.mark.parametrize("plural", STATIC)
@pytest.mark.parametrize("scope", [A, Scope(0, 0)])
async def test_lists_of_the_world_answer_whole_to_any_portals_key(client, plural, scope) -> None:
    """They come with this moment, since nothing of them is from the log."""
    shape, least = STATIC[plural]
    answer = await get(client, plural, scope)
    assert answer.status_code == 200
    (entries,) = dict(shape.model_validate(answer.json(), strict=True)).values()
    assert len(entries) >= least
    assert answer.headers["x-data-through"] == rfc3339(NOW)


async def test_time_zones_tell_their_offset_now(client) -> None:
    """At the end of March 2026 it is summer time in New York."""
    zones = (await get(client, "timezones")).json()["timezones"]
    assert [zone["timezone_id"] for zone in zones] == list(range(1, 100))
    assert zones[79] == {
        "timezone_id": 80,
        "timezone_name": "Eastern Daylight Time (America/New_York)",
        "timezone": "America/New_York",
        "utc_offset": "-04:00",
    }


US = {"country_code": "US", "country_id": 840}
EXPECTED = {
    "regions": [{"label": "Texas"} | US],
    "cities": [{"label": "Austin", "region": "Texas"} | US],
    "dmas": [{"dma_id": 635, "label": "Austin area"}],
    "mobilecarriers": [{"label": "Sierra Wireless"} | US],
    "browsers": [{"label": "Mobile Safari"}],
    "platforms": [{"label": "iOS"}],
    "osversions": [{"label": "18.6", "platform": "iOS"}],
    "devices": [{"label": "iPhone", "brand": "Apple", "device_type": "Mobile"}],
    "connectiontypes": [{"label": "mobile"}],
}


async def test_lists_of_traffic_name_what_the_callers_facts_name(
    client, clickhouse: ClickHouse
) -> None:
    """Each name once, what is not known left out; nothing of another partner's."""
    theirs = msgspec.json.decode(visit(3).value) | {"network_affiliate_id": 11}
    stranger = Entry("tracking.clicks.v1", 1, 0, msgspec.json.encode(theirs))
    await store(clickhouse, [visit(1), visit(2), click(4), stranger], 1)
    for plural, shape in TRAFFIC.items():
        answer = await get(client, plural)
        ((_, entries),) = answer.json().items()
        assert shape.model_validate(answer.json(), strict=True)
        assert entries == EXPECTED[plural], plural
        assert answer.headers["x-data-through"] == rfc3339(1.25)
        for nobody in (Scope(1, 12), Scope(2, 10), Scope(0, 0)):
            ((_, none),) = (await get(client, plural, nobody)).json().items()
            assert none == []


async def test_names_are_sorted_and_as_old_as_raw_clicks(client, clickhouse: ClickHouse) -> None:
    """A conversion counts like a click; what is older than three months does not."""
    converted = conversion(5, platform="Android", os_version="16")
    long_ago = visit(6, unix_timestamp=int(NOW) - 93 * 86_400)
    await store(clickhouse, [long_ago, converted], 1)
    assert (await get(client, "platforms")).json() == {"platforms": [{"label": "Android"}]}
    await store(clickhouse, [visit(7)], 1)
    versions = (await get(client, "osversions")).json()["os_versions"]
    assert [version["label"] for version in versions] == ["16", "18.6"]


async def test_today_is_the_day_of_the_time_zone(reports: Reports, clickhouse: ClickHouse) -> None:
    """All metrics, also on a day on which nothing happened."""
    clock = ManualClock(NOW)
    traffic = Traffic(reports, clock)
    now = int(NOW)
    await store(
        clickhouse,
        [
            click(1, unix_timestamp=now - 60),
            click(2, unix_timestamp=now - 86_400),
            conversion(3, conversion_unix_timestamp=now - 30, revenue=2.5),
        ],
        1,
    )
    today = await traffic.today(A, 67, "USD")
    assert today.through == 1.25
    metrics = exact(json_bytes(today.body))
    assert {name: metrics[name] for name in ("total_click", "cv", "revenue", "rpc")} == {
        "total_click": 1,
        "cv": 1,
        "revenue": 2.5,
        "rpc": 2.5,
    }
    nothing = await traffic.today(Scope(1, 12), 67, "USD")
    assert exact(json_bytes(nothing.body)) == dict.fromkeys(metrics, 0)
