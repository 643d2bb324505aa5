"""Protects: a partner that meets its rate limit again and again is one incident, told once."""

import asyncio
from pathlib import Path

import httpx
import pytest

from deploy.local.kafka import Kafka
from services.audit import anomalies_worker
from shared import events, topics
from shared.clock import SystemClock
from shared.kafka import open_producer
from tests.audit_parts import (
    Platform,
    anomalies,
    network,
    reader,
    refused,
    running,
    send,
    serving,
    until_anomalies,
)
from tests.projection_parts import create, read_all

WINDOW_SECONDS = "4"


def _set(monkeypatch: pytest.MonkeyPatch, platform: Platform) -> None:
    more = {"ANOMALIES_WINDOW_SECONDS": WINDOW_SECONDS, "ANOMALIES_GRACE_SECONDS": "1"}
    for name, value in platform.environment(**more).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def environment(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The worker's settings with a short window."""
    _set(monkeypatch, platform)
    return platform


@pytest.fixture
def isolated(
    kafka_broker: Kafka,
    database_url: str,
    schema: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Platform:
    """The same on a broker of its own: what is sent here would trouble other tests' readers."""
    asyncio.run(create(kafka_broker.bootstrap, *topics.SOURCES))
    found = Platform(kafka_broker.bootstrap, database_url, schema, tmp_path)
    _set(monkeypatch, found)
    return found


def _now() -> int:
    return int(SystemClock().time())


async def test_an_incident_opens_once_and_closes_once_across_a_restart(environment: Platform):
    """The worker that takes over knows from the table what its predecessor had opened."""
    ours, bootstrap = network(), environment.bootstrap
    async with serving(environment.worker_url, anomalies_worker.build()):
        second = _now()
        await send(bootstrap, [refused(ours, partner=2, count=6, second=second)])
        await send(bootstrap, [refused(ours, partner=3, count=9, second=second)])
        await send(bootstrap, [refused(ours, partner=2, count=6, second=second)])
        await until_anomalies(bootstrap, ours, [events.AnomalyOpened])
    async with serving(environment.worker_url, anomalies_worker.build()):
        await send(bootstrap, [refused(ours, partner=2, count=20, second=_now())])
        await until_anomalies(bootstrap, ours, [events.AnomalyOpened, events.AnomalyClosed])
    found = await anomalies(bootstrap, ours)
    (_, opened), (_, closed) = found
    assert opened.anomaly_id == closed.anomaly_id
    assert (opened.network_affiliate_id, opened.detail["hits"]) == (2, 12)
    assert closed.detail["hits"] == 32


async def test_a_summary_that_does_not_decode_stops_nothing(
    isolated: Platform, monkeypatch: pytest.MonkeyPatch
):
    """The worker passes it, the trail's projection puts it aside, and what follows counts."""
    ours, bootstrap = network(), isolated.bootstrap
    await _send_nonsense(bootstrap, ours)
    await send(bootstrap, [refused(ours, count=10, second=_now())])
    async with (
        running(isolated, monkeypatch),
        serving(isolated.worker_url, anomalies_worker.build()),
    ):
        await until_anomalies(bootstrap, ours, [events.AnomalyOpened, events.AnomalyClosed])
        async with httpx.AsyncClient(verify=False, base_url=isolated.worker_url) as client:
            metrics = (await client.get("/metrics")).text
            unknown = await client.get("/")
        rows = await _rows(isolated, ours)
    assert "anomalies_refused_total 1.0" in metrics
    assert unknown.status_code == 404
    assert [row["rule"] for row in rows] == ["rate_limit_hits"]
    assert (await _letters(bootstrap, ours)) == [b"not json"]


async def _rows(platform: Platform, network_id: int) -> list[dict]:
    async with asyncio.timeout(30):
        while True:
            answer = await platform.get("/v1/audit/anomalies", reader(network_id))
            rows = answer.json()["anomalies"]
            if rows and rows[0]["closed_at"] is not None:
                return rows
            await asyncio.sleep(0.05)


async def _send_nonsense(bootstrap: str, network_id: int) -> None:
    async with open_producer(bootstrap, client_id="test") as producer:
        await producer.send_and_wait(
            topics.GATEWAY_ACCESS.name,
            b"not json",
            key=events.partner_key(network_id, 2).encode(),
            headers=events.headers(events.AccessSummary, source="test", occurred_at=0.0),
        )


async def _letters(bootstrap: str, network_id: int) -> list[bytes | None]:
    letters = await read_all(bootstrap, topics.dead_letter_topic(topics.GATEWAY_ACCESS.name))
    key = events.partner_key(network_id, 2).encode()
    return [letter.value for letter in letters if letter.key == key]
