"""The simulator's ledger and the log name the same records, also after it was killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deploy.local.kafka import Kafka
from deploy.local.ports import free_ports
from shared import topics
from shared.events import envelope
from shared.kafka import open_consumer, partitions_of
from tests.soak import count
from tools.simulator.ledger import Ledger

KILLS = count(3, 30)


@contextmanager
def simulator(
    bootstrap: str, home: Path, port: int, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP": bootstrap,
        "PORTICO_HOME": str(home),
        "SIMULATOR_PORT": str(port),
        "SIMULATOR_HISTORY_CLICKS": "6000",
        "SIMULATOR_RATE": "100",
        **more,
    }
    with (home / "simulator.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.simulator"], env=environment, stderr=log
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", verify=False).status_code == 200
    except httpx.TransportError:
        return False


async def event_ids(bootstrap: str) -> dict[str, Counter[str]]:
    """The `ce_id`s on the log by kind, counted by a reader of our own."""
    names = {topic.name: kind for kind, topic in topics.TRACKING.items()}
    found = {kind: Counter[str]() for kind in topics.TRACKING}
    async with open_consumer(bootstrap, client_id="recount") as consumer:
        partitions = await partitions_of(consumer, names)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(one) < end for one, end in ends.items()]):
            for one, records in (await consumer.getmany(timeout_ms=500)).items():
                found[names[one.topic]].update(envelope(r.headers).id for r in records)
    return found


@pytest.mark.slow
async def test_the_log_holds_what_the_ledger_names_after_kills(
    kafka_broker: Kafka, tmp_path: Path
) -> None:
    """Killed between ledger, send and confirmation: nothing is lost, repeats have the same id."""
    await topics.apply(kafka_broker.bootstrap)
    (port,) = free_ports(1)
    for kill in range(KILLS):
        where = ("simulator.before_send", "simulator.after_send")[kill % 2]
        nth = f"{where}:{1 + 2 * kill}"
        with simulator(kafka_broker.bootstrap, tmp_path, port, PORTICO_CRASH_AT=nth) as process:
            assert process.wait(60) == -signal.SIGKILL
    with simulator(kafka_broker.bootstrap, tmp_path, port) as process:
        until(lambda: is_ready(port))
        state = httpx.post(f"http://127.0.0.1:{port}/pause", timeout=30, verify=False).json()
        assert state["queued"] == 0
        found = await event_ids(kafka_broker.bootstrap)
        assert {kind: len(ids) for kind, ids in found.items()} == state["sent"]
        process.terminate()
        assert process.wait(30) == 0
    ledger = Ledger(tmp_path / "simulator" / "ledger.sqlite")
    assert ledger.sent() == state["sent"]
    ledger.close()


@pytest.mark.slow
async def test_people_can_ask_pause_and_push_it(kafka_broker: Kafka, tmp_path: Path) -> None:
    """Totals stand still while paused; a burst is one partner's and is on the log at once."""
    await topics.apply(kafka_broker.bootstrap)
    (port,) = free_ports(1)
    with simulator(kafka_broker.bootstrap, tmp_path, port):
        until(lambda: is_ready(port))
        with httpx.Client(verify=False, base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            partner = next(p for p in client.get("/cast").json()["partners"] if p["runs"])
            who = {name: partner[name] for name in ("network_id", "network_affiliate_id")}
            client.post("/pause")
            before = client.get("/ledger/totals", params=who).json()
            assert client.get("/ledger/totals", params=who).json() == before
            assert before["clicks"] > 0
            last = client.get("/ledger/events", params=who | {"rows_max": 50_000}).json()["events"]
            pushed = {"network_affiliate_id": who["network_affiliate_id"], "visits": 300}
            assert client.post("/burst", params=pushed).json()["queued"] == 0
            after = {"after": last[-1]["sequence"], "rows_max": 50_000}
            fresh = client.get("/ledger/events", params=who | after).json()["events"]
            assert 250 < len(fresh) < 330
            assert client.post("/burst", params=pushed | {"network_affiliate_id": 9}).is_error
            sent = client.get("/ledger/state").json()["sent"]
            client.post("/resume")
            until(lambda: client.get("/ledger/state").json()["sent"] != sent)
