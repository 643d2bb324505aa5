"""Protects streams from the death of the process that serves them: the client goes on elsewhere."""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from deploy.local.ports import free_ports
from tests.backends import ROOT
from tests.firehose_parts import (
    Partner,
    Received,
    Surroundings,
    messages,
    open_surroundings,
    until_ready,
)
from tests.soak import count
from tests.waiting import DEADLINE_SECONDS

POINTS = ("tail.fetched", "tail.switched", "firehose.before_send", "firehose.after_send")
BURST = 150


def _topics(surroundings: Surroundings) -> str:
    names = {
        name: getattr(surroundings, name).name
        for name in ("keys", "partners", "networks", "sessions")
    }
    tracking = {name: topic.name for name, topic in surroundings.tracking.items()}
    return json.dumps(names | {"tracking": tracking})


@asynccontextmanager
async def _process(
    surroundings: Surroundings, crash_at: str = ""
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Partner]]:
    """A firehose process that is ready; it is killed at the end if it still lives."""
    port = free_ports(1)[0]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.firehose_process",
        _topics(surroundings),
        cwd=ROOT,
        env=os.environ
        | {
            "KAFKA_BOOTSTRAP": surroundings.bootstrap,
            "FIREHOSE_PORT": str(port),
            "FIREHOSE_RING_BYTES_MAX": "20000",
            "FIREHOSE_BATCH_RECORDS_MAX": "40",
            "PORTICO_CRASH_AT": crash_at,
        },
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:
            partner = Partner(f"http://127.0.0.1:{port}", session)
            await until_ready(session, partner.url)
            yield process, partner
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _follow(partner: Partner, received: Received, total: int) -> None:
    """Read until there are `total` events, or the connection breaks."""
    start = "" if received.cursor else "start=earliest"
    headers = {"Last_Event_ID": received.cursor} if received.cursor else {}
    try:
        async with partner.ask(start, **headers) as response:
            async for message in messages(response):
                received.take(message)
                if received.total >= total:
                    return
    except (aiohttp.ClientError, ConnectionError):
        return


async def _write(surroundings: Surroundings) -> None:
    """Events of the partner and of another one, so that reading goes over from past to live."""
    for _ in range(4):
        for partner in (1, 2):
            await surroundings.ledger.send(partner, "clicks", BURST // 4)
            await surroundings.ledger.send(partner, "conversions", BURST // 4)


async def test_a_stream_survives_the_death_of_its_process(kafka_bootstrap):
    """Killed at any point, the client's next process gives it the rest: no loss, no repeat."""
    chance = random.Random(11)
    received, died_at = Received(), Counter()
    async with open_surroundings(kafka_bootstrap) as surroundings:
        await _write(surroundings)
        for number in range(count(5, 50)):
            point = POINTS[number % len(POINTS)]
            nth = 1 if point == "tail.switched" else chance.randint(1, 4)
            async with _process(surroundings, f"{point}:{nth}") as (process, partner):
                async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
                    writing = group.create_task(_write(surroundings))
                    await _follow(partner, received, 10**9)
                    await writing
                async with asyncio.timeout(DEADLINE_SECONDS):
                    assert await process.wait() == -signal.SIGKILL
                died_at[point] += 1
        wanted = surroundings.ledger.of(1)
        async with _process(surroundings) as (_, partner), asyncio.timeout(DEADLINE_SECONDS):
            await _follow(partner, received, sum(map(len, wanted.values())))
    assert set(died_at) == set(POINTS)
    assert received.numbers == wanted
    assert len(set(received.ids)) == len(received.ids)
