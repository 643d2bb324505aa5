"""Protects: a crash anywhere costs the trail no event, no chain, and tells no incident twice."""

import asyncio
import itertools
import signal
from collections import Counter
from pathlib import Path

import pytest

from services.audit import anomalies_worker
from services.audit.checkpoints import Journal
from shared import events, topics
from shared.clock import SystemClock
from tests.audit_parts import (
    Platform,
    child,
    entries,
    expected_ids,
    issued,
    network,
    reader,
    refused,
    send,
    serving,
    session,
    until_anomalies,
    until_entries,
    until_ready,
)
from tests.projection_parts import create, read_all
from tests.soak import count

POINTS = (
    "audit.heads_locked",
    "audit.appended",
    "projection.mid_write",
    "audit.before_checkpoint",
    "audit.checkpoint_written",
)
KILLED = -signal.SIGKILL


@pytest.fixture
def platform(kafka_bootstrap: str, database_url: str, schema: str, tmp_path: Path) -> Platform:
    """What an audit service of the test's own needs."""
    asyncio.run(create(kafka_bootstrap, *topics.SOURCES))
    return Platform(kafka_bootstrap, database_url, schema, tmp_path)


@pytest.mark.timeout(3600)
async def test_the_trail_equals_the_log_after_kills_at_every_named_point(platform: Platform):
    """Each event of two networks once, both chains whole and covered by their checkpoints.

    After each three kills the service may catch up: a record that it died over three times would
    rightly be taken for poison.
    """
    ours = [network(), network()]
    log = platform.home / "audit.log"
    sent = 0
    points = itertools.cycle(POINTS[::2] + POINTS[1::2])
    for _ in range(count(1, 17)):
        for nth in (1, 2, 1):
            crash_at = f"{next(points)}:{nth}"
            async with child(
                "services.audit", platform.environment(), log, crash_at=crash_at
            ) as killed:
                sent += await _send_some(platform, ours)
                assert await killed.death() == KILLED, killed.log
        async with child("services.audit", platform.environment(), log):
            await until_ready(platform.url)
            for network_id in ours:
                await _assert_trail_is_log(platform, network_id, sent // len(ours))
    report = await platform.verify()
    assert report.ok, report.first_problem
    assert {item.network_id for item in report.networks} >= set(ours)


async def _send_some(platform: Platform, networks: list[int]) -> int:
    """A few events of each network over several partitions; how many entries they make."""
    found = [
        event
        for network_id in networks
        for partner in range(1, 8)
        for event in (
            issued(network_id, partner),
            refused(network_id, partner),
            session(network_id, partner),
        )
    ]
    await send(platform.bootstrap, found, times=2)
    return len(found)


async def _assert_trail_is_log(platform: Platform, network_id: int, length: int) -> None:
    caller = reader(network_id)
    await until_entries(platform, caller, length)
    async with asyncio.timeout(60):
        while (answer := await platform.get("/v1/audit/verify", caller)).json()[
            "covered_sequence"
        ] < length:
            await asyncio.sleep(0.1)
    assert answer.json()["ok"], answer.text
    found = await entries(platform, caller)
    expected = await expected_ids(platform.bootstrap, network_id)
    assert Counter(entry["event_id"] for entry in found) == expected
    signed = [item.sequence for item in Journal(platform.checkpoints).read(network_id)]
    assert signed == sorted(set(signed)), "checkpoints only ever go forward"
    published = [
        events.decode(events.Checkpoint, record.value)
        for record in await read_all(platform.bootstrap, topics.AUDIT_CHECKPOINTS.name)
    ]
    assert signed[-1] in {item.sequence for item in published if item.network_id == network_id}


async def test_an_incident_is_told_once_though_the_worker_dies_while_telling(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
):
    """Killed after publishing and before knowing it: published again under the same id."""
    ours = network()
    more = {"ANOMALIES_WINDOW_SECONDS": "4", "ANOMALIES_GRACE_SECONDS": "1"}
    environment = platform.environment(**more)
    async with child(
        "services.audit.anomalies_worker",
        environment,
        platform.home / "worker.log",
        crash_at="anomalies.published",
    ) as killed:
        await send(platform.bootstrap, [refused(ours, count=12, second=int(SystemClock().time()))])
        assert await killed.death() == KILLED, killed.log
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with serving(platform.worker_url, anomalies_worker.build()):
        found = await until_anomalies(
            platform.bootstrap, ours, [events.AnomalyOpened, events.AnomalyClosed]
        )
    kinds = Counter(type(event).__name__ for _, event in found)
    assert kinds["AnomalyClosed"] == 1
    assert len({event.anomaly_id for _, event in found}) == 1
