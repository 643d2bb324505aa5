"""Protects the outbox through deaths and hangs of its relay, recounted by a reader of its own."""

import asyncio
import signal
import time
from collections import Counter
from dataclasses import replace

import pytest

from shared import events, topics
from shared.clock import SystemClock
from shared.events import KeyState
from shared.replica import Replica
from shared.runtime import EXIT_FENCED
from tests.outbox_parts import (
    expire_lease,
    first_seen,
    open_outbox,
    read_topic,
    relay_process,
    running_relay,
    until,
)
from tests.soak import count

KILLS = count(5, 50)


@pytest.fixture
async def outbox(kafka_bootstrap, database_url, schema, unique):
    async with open_outbox(kafka_bootstrap, database_url, schema, unique("outbox")) as opened:
        yield opened


async def write_until(outbox, stopped: asyncio.Event) -> None:
    """Transactions without end, one of three rolled back, on a few keys."""
    number = 0
    while not stopped.is_set():
        number += 1
        async with outbox.pool.acquire() as connection:
            change = connection.transaction()
            await change.start()
            await outbox.append_within(connection, f"k{number % 7}", b"%d" % number)
            await (change.rollback() if number % 3 == 0 else change.commit())
        await asyncio.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize(
    "where",
    [
        "outbox.before_send",
        "outbox.mid_send",
        "outbox.before_commit",
        "outbox.after_commit",
        "outbox.after_mark",
    ],
)
async def test_a_relay_killed_at_its_worst_moments_loses_nothing(outbox, tmp_path, where):
    """Killed again and again while others write: all rows arrive, in order, with their own ids."""
    stopped = asyncio.Event()
    kills = max(1, KILLS // 5)
    async with asyncio.TaskGroup() as group:
        group.create_task(write_until(outbox, stopped))
        for kill in range(kills):
            at = f"{where}:{kill + 3}"
            with relay_process(outbox, tmp_path / "log", PORTICO_CRASH_AT=at) as process:
                assert await process.wait_exit() == -signal.SIGKILL
            await expire_lease(outbox.pool)
        stopped.set()
    async with running_relay(outbox):
        await outbox.wait_all_published()
    records = await read_topic(outbox.bootstrap, outbox.topic)
    assert first_seen(records) == await outbox.ids_appended()
    repeats = Counter(record.ce_id for record in records)
    if where == "outbox.after_commit":
        assert max(repeats.values()) > 1  # the crash is really between Kafka's commit and the mark
    else:
        assert max(repeats.values()) == 1


@pytest.mark.slow
async def test_a_successor_takes_over_within_five_seconds_of_a_kill(outbox, tmp_path):
    """From the death of the holder to the first record of its successor."""
    with relay_process(outbox, tmp_path / "log") as process:
        await outbox.change("a", b"1")
        await outbox.wait_all_published()
        async with running_relay(outbox, "successor") as successor:
            process.send(signal.SIGKILL)
            killed_at = time.monotonic()
            assert await successor.wait_published(await outbox.change("a", b"2"), 30)
            assert time.monotonic() - killed_at < 5


def key_state(version: int, status: str) -> KeyState:
    """A key as the doors are told of it."""
    return KeyState(
        key_id="key",
        version=version,
        digest="0" * 64,
        network_id=1,
        network_affiliate_id=2,
        integration="reports",
        status=status,
    )


async def tell(outbox, state: KeyState) -> list[int]:
    """One transaction that appends a key's state."""
    return await outbox.change(state.key_id, events.encode(state))


async def as_a_restarted_door_sees_it(outbox) -> KeyState | None:
    """The key in a replica that reads the topic anew."""
    topic = replace(topics.KEYS_STATE, name=outbox.topic)
    replica = Replica(
        outbox.bootstrap, topic, KeyState, clock=SystemClock(), client_id="restarted door"
    )

    async def is_ready() -> bool:
        return replica.is_ready

    reading = asyncio.create_task(replica.run())
    await until(is_ready)
    reading.cancel()
    await asyncio.wait([reading])
    return replica.get("key")


@pytest.mark.slow
@pytest.mark.parametrize(
    "where", ["outbox.mid_send:2", "outbox.before_commit", "outbox.after_commit"]
)
async def test_a_hung_relay_that_continues_cannot_bring_a_revoked_key_back(outbox, tmp_path, where):
    """The worst case: stopped with sends in flight, passed over, the key revoked, then continued.

    The old relay ends as fenced and appends nothing; whoever reads the topic anew, raw or through a
    replica, sees the key revoked, as its last state.
    """
    await tell(outbox, key_state(1, "active"))
    await tell(outbox, key_state(2, "active"))
    with relay_process(outbox, tmp_path / "log", PORTICO_STOP_AT=where) as hung:
        await hung.wait_stopped()
        async with running_relay(outbox, "successor") as successor:
            revoked = await tell(outbox, key_state(3, "revoked"))
            assert await successor.wait_published(revoked, 30)
            before = await read_topic(outbox.bootstrap, outbox.topic)
            hung.send(signal.SIGCONT)
            assert await hung.wait_exit() == EXIT_FENCED
            assert successor.is_holder
            later = await outbox.change("other", None)
            assert await successor.wait_published(later, 30)
    after = [
        record for record in await read_topic(outbox.bootstrap, outbox.topic) if record.key == "key"
    ]
    assert after == before
    assert events.decode(KeyState, after[-1].value).status == "revoked"
    assert await as_a_restarted_door_sees_it(outbox) == key_state(3, "revoked")


@pytest.mark.slow
async def test_a_hung_relay_blocks_no_reader_and_no_writer(outbox, tmp_path):
    """Its open transaction is aborted by the successor, so that readers get on; rows stay free."""
    await outbox.change("a", b"1")
    with relay_process(outbox, tmp_path / "log", PORTICO_STOP_AT="outbox.before_commit") as hung:
        await hung.wait_stopped()
        assert await read_topic(outbox.bootstrap, outbox.topic) == []
        async with running_relay(outbox, "successor"):
            await outbox.wait_all_published()

            async def is_readable() -> bool:
                records = await read_topic(outbox.bootstrap, outbox.topic)
                return [record.value for record in records] == [b"1"]

            await until(is_readable, 5)
