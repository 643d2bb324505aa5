"""Protects the counts of uses from the key service's own death: each use counts once, none is lost.

The service is killed with a batch written and not committed, and just after its commit; what its
successors make of the log is compared with what was sent.
"""

import signal
import uuid

import pytest

from shared import topics
from shared.clock import SystemClock
from shared.kafka import open_producer
from tests import usage_parts
from tests.keys_parts import KeysProcess, Platform, network, partner, running, staff, until
from tests.projection_parts import bury, create
from tests.soak import count
from tests.usage_parts import counted, summary

pytestmark = pytest.mark.slow

KILLS = count(2, 20)
POINTS = ("usage.after_save", "projection.after_write")
SUMMARIES = 40
SOON = {"KEYS_USAGE_SECONDS": "0.5"}


@pytest.fixture
async def platform(kafka_bootstrap, database_url, schema, tmp_path) -> Platform:
    await create(kafka_bootstrap, *topics.SOURCES)
    return Platform(kafka_bootstrap, database_url, schema, tmp_path)


async def send(platform: Platform, network_id: int, key_id: str, second: int) -> None:
    """Summaries of one use each from as many networks; every fourth is sent twice."""
    async with open_producer(platform.bootstrap, client_id="test") as producer:
        for number in range(SUMMARIES):
            use = counted(key_id, f"10.0.{number}.1")
            event = summary(use, second=second, network_id=network_id)
            event_id = uuid.uuid4().hex
            for _ in range(2 if number % 4 == 0 else 1):
                record = usage_parts.record(event)
                headers = usage_parts.headers(event, event_id)
                await producer.send_and_wait(
                    record.topic, record.value, record.key, headers=headers
                )


async def until_told(platform: Platform, key_id: str, rounds: int) -> None:
    """Wait until all that was sent in so many rounds is counted."""

    async def all_told() -> bool:
        (row,) = await platform.execute(
            "SELECT count_on_day FROM key_usage WHERE key_id = $1", key_id
        )
        return row["count_on_day"] >= rounds * SUMMARIES

    await until(all_told)


async def test_uses_are_counted_once_through_kills_before_and_after_the_commit(platform):
    """After every death the next process goes on where the last commit was."""
    ours = network()
    second = int(SystemClock().time()) // 60 * 60 - 60
    with running(platform, **SOON):
        await platform.tell(partner(ours))
        key_id = (await platform.issue(staff(ours), 7))["key_id"]
        await send(platform, ours, key_id, second)
        await until_told(platform, key_id, 1)  # what other tests left in the topic too
    for kill in range(KILLS):
        await send(platform, ours, key_id, second)
        process = KeysProcess(platform, SOON | {"PORTICO_CRASH_AT": POINTS[kill % len(POINTS)]})
        try:
            assert process.wait_exit() == -signal.SIGKILL, platform.log.read_text()
        finally:
            process.close()
        await bury(platform.bootstrap, f"{platform.schema}.usage")
    await send(platform, ours, key_id, second)
    rounds = KILLS + 2
    with running(platform, **SOON):
        await until_told(platform, key_id, rounds)
    (row,) = await platform.execute("SELECT * FROM key_usage WHERE key_id = $1", key_id)
    counts = await platform.execute(
        "SELECT count_on_day FROM key_sources WHERE key_id = $1", key_id
    )
    assert (row["count_on_day"], row["used_at"]) == (rounds * SUMMARIES, second)
    assert [one["count_on_day"] for one in counts] == [rounds] * SUMMARIES
