"""README of reporting, "a rebuild is killed": one whole history is left, whichever it is."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from deploy.local.ports import free_ports
from shared import topics
from shared.kafka import open_producer
from tests import projection_parts
from tests.backends import ROOT
from tests.projection_parts import bury
from tests.reporting_parts import click_body
from tests.reporting_service import SECRET
from tests.soak import SOAK

NETWORK = random.Random(time.time_ns()).randrange(10**6, 10**9)
"""Of this file alone: the topics are the real ones, and other tests read them too."""
POINTS = ("rebuild.mid_replay", "rebuild.before_switch", "rebuild.after_switch")
OPERATIONS = "/operations/facts"
CLICKS = 50


@contextmanager
def _service(
    environment: dict[str, str], port: int
) -> Iterator[tuple[httpx.Client, subprocess.Popen]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "services.reporting"], cwd=ROOT, env=os.environ | environment
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            _until(lambda: client.get("/readyz").status_code == 200)
            yield client, process
    finally:
        process.kill()
        process.wait()


def _until(condition) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _operated(client: httpx.Client, name: str) -> dict:
    client.post(f"{OPERATIONS}/{name}").raise_for_status()
    found: dict = {}

    def ended() -> bool:
        found.update(client.get(OPERATIONS).json()["operations"][name])
        return found["state"] != "running"

    _until(ended)
    assert found["state"] == "done", found
    return found


async def _send(bootstrap: str) -> None:
    await topics.apply(bootstrap)
    await projection_parts.settled(bootstrap, *topics.TOPICS)
    async with open_producer(bootstrap, client_id="test") as producer:
        for number in range(CLICKS):
            body = click_body(number) | {"network_id": NETWORK, "unix_timestamp": int(time.time())}
            await producer.send_and_wait(
                topics.CLICKS.name, msgspec.json.encode(body), key=b"%d:10" % NETWORK
            )


def test_a_rebuild_that_is_killed_leaves_one_whole_history(
    kafka_bootstrap: str, database_url: str, schema: str, tmp_path: Path
) -> None:
    """Before the switch the old one, after it the new one; what is left over is dropped."""
    asyncio.run(_send(kafka_bootstrap))
    (port,) = free_ports(1)
    environment = {
        "KAFKA_BOOTSTRAP": kafka_bootstrap,
        "DATABASE_URL": database_url,
        "IDENTITY_SECRETS": SECRET,
        "REPORTING_PORT": str(port),
        "REPORTING_DB_SCHEMA": schema,
        "REPORTING_CLICKHOUSE_PATH": str(tmp_path / "clickhouse"),
        "REPORTING_BATCH_SECONDS": "0.05",
    }
    for point in POINTS if SOAK else POINTS[1:]:
        with _service(environment | {"PORTICO_CRASH_AT": point}, port) as (client, process):
            client.post(f"{OPERATIONS}/rebuild").raise_for_status()
            assert process.wait(60) == -signal.SIGKILL
        asyncio.run(bury(kafka_bootstrap, f"{schema}.facts"))
    with _service(environment, port) as (client, _):
        assert client.get(OPERATIONS).json()["database"] == "reporting_g2"
        result = _operated(client, "recount")["result"]
        assert result["equal"] is True
        stored = sum(row["facts"]["facts"] for row in result["partitions"])
        assert stored >= CLICKS
