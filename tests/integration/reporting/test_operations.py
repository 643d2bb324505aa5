"""Protects operators' work on the facts: partners notice nothing of it, and it proves what it says."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from services.reporting.config import ReportingSettings
from services.reporting.facts.generations import Generations
from services.reporting.facts.operations import Progress
from services.reporting.facts.rebuild import Rebuild
from services.reporting.facts.replay import Positions
from services.reporting.facts.tables import prepare
from shared import topics
from shared.clickhouse import ClickHouse, connection
from shared.kafka import TopicPartition
from shared.sinks import spliced
from tests import projection_parts
from tests.backends import CLICKHOUSE_URL
from tests.integration.reporting import test_app
from tests.integration.reporting.test_app import BODY, NETWORK, TABLE, call, produce, running
from tests.reporting_parts import click, click_body, conversion
from tests.soak import count

OPERATIONS = "/operations/facts"
settings = test_app.settings
CLICKS = count(300, 20_000)
READERS = count(1, 8)
Sums = tuple[int, int, float]
"""Clicks, conversions and revenue of a partner."""


def _click(number: int) -> tuple[str, bytes]:
    body = click_body(number) | {"network_id": NETWORK, "unix_timestamp": test_app.NOW - 3_600}
    return "clicks", msgspec.json.encode(body)


def _conversion(number: int, version: int, revenue: float) -> tuple[str, bytes]:
    body = msgspec.json.decode(conversion(number).value) | {
        "network_id": NETWORK,
        "conversion_unix_timestamp": test_app.NOW - 1_800,
        "version": version,
        "revenue": revenue,
    }
    return "conversions", msgspec.json.encode(body)


async def _sums(client: httpx.AsyncClient, partner: int = 77) -> Sums:
    answer = await call(client, "POST", TABLE, BODY, partner=partner)
    assert answer.status_code == 200, answer.text
    rows = [row["reporting"] for row in answer.json()["table"]]
    return tuple(sum(row[name] for row in rows) for name in ("total_click", "cv", "revenue"))


async def _until_sums(client: httpx.AsyncClient, wanted: Sums, partner: int = 77) -> None:
    deadline = time.monotonic() + 60
    while (found := await _sums(client, partner)) != wanted:
        assert time.monotonic() < deadline, f"{found}, not {wanted}"
        await asyncio.sleep(0.05)


async def _operated(client: httpx.AsyncClient, name: str) -> Mapping[str, Any]:
    begun = await client.post(f"{OPERATIONS}/{name}")
    assert begun.status_code == 202, begun.text
    deadline = time.monotonic() + 60
    while True:
        found = (await client.get(OPERATIONS)).json()["operations"][name]
        if found["state"] != "running":
            assert found["state"] == "done", found
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)


@asynccontextmanager
async def _reading(client: httpx.AsyncClient) -> AsyncIterator[list[list[Sums]]]:
    """Reads side by side, again and again; what each reader was answered, in its order."""
    readers: list[list[Sums]] = [[] for _ in range(READERS)]
    stop = asyncio.Event()

    async def read(answers: list[Sums]) -> None:
        while not stop.is_set():
            answers.append(await _sums(client))

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for answers in readers:
            tasks.create_task(read(answers))
        yield readers
        stop.set()
    seconds = time.monotonic() - began
    total = sum(map(len, readers))
    print(f"{total} reads in {seconds:.1f} s, {total / seconds:.0f} a second")


def _damage(folder: Path, database: str) -> None:
    """Take a click away, behind the service's back."""
    client = connection(folder, CLICKHOUSE_URL)
    client.command(
        f"DELETE FROM {database}.clicks WHERE network_id = {NETWORK}"
        f" AND network_affiliate_id = 77 AND transaction_id = '{1:032x}'"
    )
    client.close()


async def test_facts_are_made_anew_beside_live_reads(
    kafka_bootstrap: str, settings: ReportingSettings, clickhouse_folder: Path
) -> None:
    """A recount finds the damage, a rebuild mends it, and no read meanwhile is wrong or fails."""
    await topics.apply(kafka_bootstrap)
    await projection_parts.settled(kafka_bootstrap, *topics.TOPICS)
    values = [_click(number) for number in range(CLICKS)]
    values += [_click(0), _conversion(5, 1, 1.5), _conversion(5, 3, 4.25), _conversion(5, 2, 9)]
    async with running(settings) as client:
        await produce(kafka_bootstrap, _of_partner(values), partner=77)
        await _until_sums(client, (CLICKS, 1, 4.25))
        assert (await _operated(client, "recount"))["result"]["equal"] is True
        _damage(clickhouse_folder, settings.clickhouse_database)
        await _until_sums(client, (CLICKS - 1, 1, 4.25))
        result = (await _operated(client, "recount"))["result"]
        wrong = [row for row in result["partitions"] if not row["equal"]]
        assert [(row["table"], row["log"]["facts"] - row["facts"]["facts"]) for row in wrong] == [
            ("clicks", 1)
        ]
        async with _reading(client) as readers:
            await _operated(client, "rebuild")
        for answers in readers:
            assert {*answers} <= {(CLICKS - 1, 1, 4.25), (CLICKS, 1, 4.25)}
            assert answers == sorted(answers)
        assert await _sums(client) == (CLICKS, 1, 4.25)
        await produce(kafka_bootstrap, _of_partner([_click(CLICKS)]), partner=77)
        await _until_sums(client, (CLICKS + 1, 1, 4.25))
        assert (await _operated(client, "recount"))["result"]["equal"] is True
        refused = await client.post(f"{OPERATIONS}/drop")
        assert refused.status_code == 400
    async with running(settings) as client:  # goes on with the generation that was switched to
        found = (await client.get(OPERATIONS)).json()
        assert found["database"] == f"{settings.clickhouse_database}_g2"
        assert await _sums(client) == (CLICKS + 1, 1, 4.25)


async def test_facts_that_come_in_while_they_are_made_anew_are_in_both(
    kafka_bootstrap: str, settings: ReportingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is read in passes while it grows; the next generation equals it all the same."""
    monkeypatch.setattr("services.reporting.facts.rebuild.NEAR_RECORDS", 20)
    await topics.apply(kafka_bootstrap)
    await projection_parts.settled(kafka_bootstrap, *topics.TOPICS)
    each, parts = 200, count(12, 60)
    numbers = iter(range(0, each * (parts + 1), each))

    async def more() -> None:
        first = next(numbers)
        values = [_click(number) for number in range(first, first + each)]
        await produce(kafka_bootstrap, _of_partner(values, 78), partner=78)

    async with running(settings) as client:
        await more()
        await _until_sums(client, (each, 0, 0), partner=78)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_operated(client, "rebuild"))
            for _ in range(parts):
                await more()
        await _until_sums(client, (each * (parts + 1), 0, 0), partner=78)
        assert (await _operated(client, "recount"))["result"]["equal"] is True
        assert (await client.get(OPERATIONS)).json()["database"].endswith("_g2")


def _of_partner(values: list[tuple[str, bytes]], partner: int = 77) -> list[tuple[str, bytes]]:
    """The facts as another partner's: each test has one, since the log outlives a test."""
    return [
        (kind, value.replace(b'_affiliate_id":10', b'_affiliate_id":%d' % partner))
        for kind, value in values
    ]


class _ShortLog:
    """A log whose records before offset 2 are gone, and which ends there."""

    def __init__(self) -> None:
        self.partitions = [
            TopicPartition(f"tracking.{kind}.v1", 0)
            for kind in ("clicks", "impressions", "conversions")
        ]

    async def begins(self) -> Positions:
        return dict.fromkeys(self.partitions, 2)

    ends = begins

    async def read(self, *_):
        for nothing in ():
            yield nothing


async def test_what_the_log_no_longer_holds_is_copied(facts: ClickHouse) -> None:
    """Rows with their places, and the history of conversions; what lies in the log is not."""
    for offset in range(3):
        for entry in (click(offset), conversion(7, offset, version=offset + 1)):
            kind = entry.topic.split(".")[1]
            await facts.insert(kind, spliced(entry.value, 0, offset, 1_774_000_000_000 + offset))
    generations = Generations(facts)
    await generations.resume()
    first = facts.database

    @asynccontextmanager
    async def open_replay():
        yield _ShortLog()

    await Rebuild(facts, generations, prepare, open_replay).run(Progress("rebuild", 0))
    assert facts.database == f"{first}_g2"
    assert await facts.query("SELECT _offset FROM clicks ORDER BY _offset") == [(0,), (1,)]
    found = await facts.query("SELECT DISTINCT _offset, version FROM conversion_changes ORDER BY 1")
    assert found == [(0, 1), (1, 2)]
    assert await facts.query(
        "SELECT count() FROM system.databases WHERE name = {name:String}", {"name": first}
    ) == [(0,)]
    for statement in (
        f"CREATE DATABASE {first}",  # as the fixture made it
        f"DROP DATABASE {first}_g2",
        f"DROP DATABASE {first}_generations",
    ):
        await facts.command(statement)
        facts.use(first)


def test_the_command_tells_what_it_cannot_reach() -> None:
    """Status 2, and where it looked."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", "reporting", "status"],
        env={"PORTICO_REPORTING": "http://127.0.0.1:9", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "http://127.0.0.1:9 does not answer" in done.stderr
