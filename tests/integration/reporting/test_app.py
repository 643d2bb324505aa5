"""Protects the service as a whole: from the log to a signed partner's answer, and how fresh it is."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from services.reporting.app import build
from services.reporting.config import ReportingSettings
from shared import routes, topics
from shared.kafka import open_producer
from shared.runtime import Lifecycle
from tests import projection_parts, reporting_service
from tests.reporting_parts import click_body, conversion
from tests.reporting_service import running, settings_of, through_of

NETWORK = random.Random(time.time_ns()).randrange(10**6, 10**9)
"""Of this run alone: the topics are the real ones."""
NOW = int(time.time())


@pytest.fixture
def settings(
    kafka_bootstrap: str,
    database_url: str,
    schema: str,
    clickhouse_folder: Path,
    database: str,
) -> ReportingSettings:
    return settings_of(kafka_bootstrap, database_url, schema, (clickhouse_folder, database))


async def call(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    body: Any = None,
    *,
    partner: int = 10,
    network: int = NETWORK,
    **headers: str,
) -> httpx.Response:
    """A request of the test's own partner, unless told otherwise."""
    return await reporting_service.call(
        client, method, path, body, network=network, partner=partner, headers=headers
    )


def facts() -> list[tuple[str, bytes]]:
    mine = {"network_id": NETWORK, "unix_timestamp": NOW - 3_600}
    value = msgspec.json.decode(conversion(2).value) | {
        "network_id": NETWORK,
        "conversion_unix_timestamp": NOW - 1_800,
    }
    return [
        *(("clicks", msgspec.json.encode(click_body(i) | mine)) for i in range(5)),
        ("conversions", msgspec.json.encode(value)),
    ]


async def produce(bootstrap: str, values: list[tuple[str, bytes]], partner: int = 10) -> None:
    async with open_producer(bootstrap, client_id="test") as producer:
        for kind, value in values:
            await producer.send_and_wait(
                f"tracking.{kind}.v1", value=value, key=b"%d:%d" % (NETWORK, partner)
            )


BODY = {
    "from": time.strftime("%Y-%m-%d", time.gmtime(NOW - 86_400)),
    "to": time.strftime("%Y-%m-%d", time.gmtime(NOW + 86_400)),
    "timezone_id": 67,
    "currency_id": "USD",
    "columns": [{"column": "offer"}],
    "show_conversions": True,
}
TABLE = "/v1/affiliates/reporting/entity/table"
CONVERSIONS = "/v1/affiliates/reporting/conversions"
CHANGES = "/v1/affiliates/reporting/changes"
EXPORTS = "/v1/affiliates/reporting/exports"


async def test_from_the_log_to_a_partners_answer(
    kafka_bootstrap: str, settings: ReportingSettings
) -> None:
    """Facts sent to the topics are in reports, searches and look-ups, for their partner alone."""
    await topics.apply(kafka_bootstrap)
    await projection_parts.settled(kafka_bootstrap, *topics.TOPICS)
    async with running(settings) as client:
        sent = time.time()
        await produce(kafka_bootstrap, facts())
        deadline = time.monotonic() + 60
        while True:
            table = await call(client, "POST", TABLE, BODY)
            assert table.status_code == 200, table.text
            if through_of(table) > sent + 1:
                break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        (row,) = table.json()["table"]
        assert (row["reporting"]["total_click"], row["reporting"]["cv"]) == (5, 1)
        found = await call(client, "POST", f"{CONVERSIONS}?page_size=10", BODY)
        assert found.json()["paging"] == {"page": 1, "page_size": 10, "total_count": 1}
        path = f"/v1/affiliates/reporting/clicks/{2:032x}"
        assert (await call(client, "GET", path)).json()["transaction_id"] == f"{2:032x}"
        await _changes_are_told(client)
        await _an_export_is_made(client)
        for stranger in ({"partner": 11}, {"network": NETWORK + 1}):
            assert (await call(client, "POST", TABLE, BODY, **stranger)).json()["table"] == []
            lost = await call(client, "GET", path, **stranger)
            assert (lost.status_code, lost.json()["error"]) == (404, "Not Found")
        await _refusals_are_in_wire_form(client)
        zones = await call(client, "GET", "/v1/meta/timezones")
        assert len(zones.json()["timezones"]) == 99


async def _changes_are_told(client: httpx.AsyncClient) -> None:
    """Once; and nothing to anybody else."""
    first = (await call(client, "GET", CHANGES)).json()
    assert [(row["version"], row["kind"]) for row in first["changes"]] == [(1, "new")]
    follow = f"{CHANGES}?cursor={first['paging']['next_cursor']}"
    again = await call(client, "GET", follow)
    assert (again.json()["changes"], again.json()["paging"]["has_more"]) == ([], False)
    assert (await call(client, "GET", follow, partner=11)).status_code == 400
    assert (await call(client, "GET", CHANGES, partner=11)).json()["changes"] == []


async def _an_export_is_made(client: httpx.AsyncClient) -> None:
    """By the worker of the service; what of it is not there is refused in wire form."""
    asked = BODY | {"kind": "clicks", "gzip": False}
    created = await call(client, "POST", EXPORTS, asked)
    assert created.status_code == 202, created.text
    job = created.headers["location"]
    deadline = time.monotonic() + 60
    while (found := (await call(client, "GET", job)).json())["state"] != "done":
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
    whole = await call(client, "GET", f"{job}/download")
    assert (whole.status_code, len(whole.content.splitlines())) == (200, 5)
    behind = await call(client, "GET", f"{job}/download", Range="bytes=900000-")
    assert (behind.status_code, behind.json()["error"][:6]) == (416, "Range:")
    part = await call(client, "GET", f"{job}/download", Range="bytes=2-5")
    assert (part.status_code, part.content) == (206, whole.content[2:6])
    assert (await call(client, "GET", job, partner=11)).status_code == 404
    assert (await call(client, "DELETE", job)).status_code == 204
    assert (await call(client, "GET", job)).status_code == 404


async def _refusals_are_in_wire_form(client: httpx.AsyncClient) -> None:
    unsigned = await client.post(TABLE, json=BODY)
    assert (unsigned.status_code, unsigned.json()["Error"]) == (
        401,
        "No Authentication Method Found",
    )
    for wrong, named in (
        (BODY | {"columns": [{"column": "goal"}]}, "'goal' is no column"),
        ({name: BODY[name] for name in BODY if name != "timezone_id"}, "timezone_id: required"),
        ([1], "must be a JSON object"),
    ):
        refused = await call(client, "POST", TABLE, wrong)
        assert refused.status_code == 400
        assert named in refused.json()["Error"]
        assert refused.json()["error"] == refused.json()["message"] == refused.json()["Error"]


async def test_the_service_serves_exactly_its_rows_of_the_route_table(
    kafka_bootstrap: str, settings: ReportingSettings
) -> None:
    """What the gateway forwards is served, and nothing else is."""
    await topics.apply(kafka_bootstrap)
    service = build(settings)
    async with service.open(Lifecycle()) as app:
        paths = app.openapi()["paths"]
    served = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert served == {(row.method, row.template) for row in routes.of_service("reporting")}
