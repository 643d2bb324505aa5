"""Protects the projection's promise where it is hardest: killed at its named points, recounted.

Each round sends records, starts a process that kills itself at a point while it applies them, and
goes on with the next. In the end one that lives applies the rest, and what is stored is compared
with the log.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from shared.postgres import Pool, open_pool
from tests import projection_parts as parts
from tests.soak import count
from tests.tracking import number_of

Unique = Callable[[str], str]

POINTS = (
    "projection.before_write",
    "projection.mid_write",
    "projection.after_write",
    "projection.after_batch",
    "projection.mid_rebalance",
)
KILLS = count(5, 50)
ROUND = 400
DEADLINE_SECONDS = 90
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
async def pool(database_url: str, schema: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, schema=schema, application="test") as pool:
        await parts.prepare(pool)
        yield pool


@contextmanager
def child(*arguments: str, crash_at: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """The projection's process; killed at the end if it still lives."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.projection_process", *arguments],
        cwd=ROOT,
        env=os.environ | {"PORTICO_CRASH_AT": crash_at},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def killed(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has killed itself."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None:
        assert time.monotonic() < deadline, "the process reached its point too late"
        await asyncio.sleep(0.02)
    assert process.returncode == -signal.SIGKILL


@asynccontextmanager
async def another_member(
    bootstrap: str, group: str, topic: parts.Topic, pool: Pool
) -> AsyncIterator[None]:
    """A member that joins and leaves, so that the group rebalances."""
    member = parts.projection(bootstrap, group, [topic], parts.postgres_sink(pool))
    async with parts.running(member):
        yield


async def test_postgres_effects_happen_once_through_kills_at_every_point(
    kafka_bootstrap: str, database_url: str, schema: str, pool: Pool, unique: Unique
) -> None:
    """Nothing lost, nothing twice, in order; also when the kill comes amid a rebalance."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    for turn in range(KILLS):
        before = await parts.applied(pool)
        numbers = range(turn * ROUND, (turn + 1) * ROUND)
        await parts.send_clicks(kafka_bootstrap, topic.name, numbers)
        # The stored offset decides, not the group: a new one spares the wait for the dead member.
        group = unique("group")
        arguments = ("postgres", kafka_bootstrap, group, topic.name, f"{database_url} {schema}")
        point = POINTS[turn % len(POINTS)]
        if point == "projection.mid_rebalance":
            with child(*arguments, crash_at=f"{point}:2") as process:
                await _until_applied(pool, before + 1)
                async with another_member(kafka_bootstrap, group, topic, pool):
                    await killed(process)
        else:
            with child(*arguments, crash_at=f"{point}:{1 + turn % 4}") as process:
                await killed(process)
    arguments = ("postgres", kafka_bootstrap, unique("group"), topic.name)
    with child(*arguments, f"{database_url} {schema}"):
        await _until_applied(pool, KILLS * ROUND)
    log = await parts.read_all(kafka_bootstrap, topic.name)
    assert await parts.effects(pool) == parts.once(log)
    assert len(log) == KILLS * ROUND
    assert await parts.read_all(kafka_bootstrap, f"{topic.name}.dead") == []


async def _until_applied(pool: Pool, wanted: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (found := await parts.applied(pool)) < wanted:
        assert time.monotonic() < deadline, f"{found} of {wanted} applied"
        await asyncio.sleep(0.05)


async def test_clickhouse_facts_are_there_once_through_kills_at_every_point(
    kafka_bootstrap: str, tmp_path: Path, unique: Unique
) -> None:
    """Nothing lost; what was inserted twice reads as one."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    folder, group = tmp_path / "clickhouse", unique("group")
    arguments = ("clickhouse", kafka_bootstrap, group, topic.name, f"{folder} facts")
    points = [point for point in POINTS if point != "projection.mid_rebalance"]
    for turn in range(KILLS):
        await parts.send_clicks(
            kafka_bootstrap, topic.name, range(turn * ROUND, (turn + 1) * ROUND)
        )
        point = points[turn % len(points)]
        with child(*arguments, crash_at=f"{point}:{1 + turn % 4}") as process:
            await killed(process)
        await parts.bury(kafka_bootstrap, group)
    log = await parts.read_all(kafka_bootstrap, topic.name)
    with child(*arguments) as process:
        await _until_committed(kafka_bootstrap, group, log)
        process.send_signal(signal.SIGKILL)
        process.wait()
    found = _numbers(folder)
    assert found == parts.once(log)
    assert len(log) == KILLS * ROUND


async def _until_committed(
    bootstrap: str, group: str, log: list[parts.Record[bytes, bytes]]
) -> None:
    """The group has committed the end of each partition that holds records."""
    ends = Counter[int]()
    for record in log:
        ends[record.partition] = max(ends[record.partition], record.offset + 1)
    deadline = time.monotonic() + DEADLINE_SECONDS
    async with parts.open_admin(bootstrap) as admin:
        while True:
            committed = await admin.list_consumer_group_offsets(group)
            if {tp.partition: entry.offset for tp, entry in committed.items()} == ends:
                return
            assert time.monotonic() < deadline, committed
            await asyncio.sleep(0.1)


def _numbers(folder: Path) -> Counter[int]:
    """What a fresh process finds in the folder: a chdb engine serves one folder a process."""
    text = subprocess.run(
        [sys.executable, "-c", _READ, str(folder / "data")], check=True, capture_output=True
    ).stdout
    return Counter(int(line, 16) for line in text.split())


_READ = """
import sys, clickhouse_connect
client = clickhouse_connect.get_client(interface="chdb", path=sys.argv[1])
for (text,) in client.query("SELECT toString(transaction_id) FROM facts.clicks FINAL").result_rows:
    print(text)
"""


async def test_a_record_that_kills_the_process_is_a_dead_letter_at_last(
    kafka_bootstrap: str, database_url: str, schema: str, pool: Pool, unique: Unique
) -> None:
    """It alone: the records around it, and those of other partitions in flight, take effect."""
    topic = parts.tracked_topic(unique("clicks"))
    await parts.create(kafka_bootstrap, topic)
    await parts.send_clicks(kafka_bootstrap, topic.name, range(60))
    arguments = (topic.name, f"{database_url} {schema}", "13")
    deaths = 0
    while await parts.applied(pool) < 59:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.poison_process",
            kafka_bootstrap,
            unique("group"),
            *arguments,
            cwd=ROOT,
        )
        try:
            while process.returncode is None and await parts.applied(pool) < 59:
                await asyncio.sleep(0.02)
            deaths += process.returncode == -signal.SIGKILL
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
        assert deaths < 10
    (letter,) = await parts.read_all(kafka_bootstrap, f"{topic.name}.dead")
    assert number_of(letter.value) == 13
    assert dict(letter.headers)["dead_reason"].startswith(b"bug: ")
    assert dict(letter.headers)["dead_attempts"] == b"3"
    assert await parts.effects(pool) == Counter(set(range(60)) - {13})
