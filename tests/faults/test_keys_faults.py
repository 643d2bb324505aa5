"""Protects the key service from its own death: what was committed is told, what was not never was.

A client whose call broke off cannot know which; the service must. It is killed between every two
steps of its commands; then the clients repeat their calls, and an independent reader of the topics
compares them with the tables.
"""

import asyncio
import os
import signal
from collections import Counter

import httpx
import pytest

from shared import topics
from tests import backends
from tests.keys_fault_parts import ACTS, ANSWERED, HOLDER, Act, require_told, told_once
from tests.keys_parts import (
    KeysProcess,
    Platform,
    network,
    partner,
    running,
    serving,
    staff,
    until,
    until_published,
)
from tests.projection_parts import create
from tests.soak import SOAK, count

pytestmark = pytest.mark.slow

EVERY = tuple((act, step) for act in ACTS for step in act.STEPS)
"""Each command at each of its steps, so that most steps are met by five commands."""
SHORT = tuple(
    zip(
        ACTS,
        (
            "outbox.after_commit",
            "keys.after_commit",
            "keys.saved",
            "outbox.mid_send",
            "shares.after_commit",
        ),
        strict=True,
    )
)
KILLS = EVERY if SOAK else SHORT


@pytest.fixture
async def platform(kafka_bootstrap, database_url, schema, tmp_path) -> Platform:
    await create(kafka_bootstrap, *topics.SOURCES)
    return Platform(kafka_bootstrap, database_url, schema, tmp_path)


async def test_a_command_broken_off_at_any_step_took_effect_as_a_whole_or_not_at_all(platform):
    """Issue, revoke, rotate, suspend, open a link: sent again, each comes to its one right result.

    No event without state, no state without event; the doors' topics equal the tables.
    """
    caller = staff(network())
    acts = [act(platform, caller, number) for number, (act, _) in enumerate(KILLS)]
    with running(platform):
        await platform.tell(partner(caller.network_id, HOLDER))
        for act in acts:
            await act.prepare()
        await until_published(platform)
    for act, (_, step) in zip(acts, KILLS, strict=True):
        await break_off(act, step)
    expected: Counter[tuple[str, str]] = Counter()
    with serving(platform):
        for act in acts:
            expected += await act.repeat()
        await until_published(platform)
        await require_told(platform, caller.network_id)
    assert await told_once(platform, caller.network_id) == expected


async def break_off(act: Act, step: str) -> None:
    """Send the command to a service that dies at `step`.

    What a service killed before had left to be told is told first, in passes of the relay that do
    not count. One that dies of something else than the command is followed by another.
    """
    platform = act.platform
    while True:
        process = KeysProcess(platform, await _armed(platform, step))
        if process.wait_until_served() and await _has_told_all(platform, process):
            break
        assert process.wait_exit() == -signal.SIGKILL
    try:
        act.answer = await act.send()
    except httpx.TransportError:
        assert step != ANSWERED, platform.log.read_text()
    if step == ANSWERED:
        os.kill(process._child.pid, signal.SIGKILL)
    assert await asyncio.to_thread(process.wait_exit) == -signal.SIGKILL


async def _armed(platform: Platform, step: str) -> dict[str, str]:
    """The variables of a process that dies when the next command comes to `step`."""
    if step == ANSWERED:
        return {}
    left = len(await platform.execute("SELECT FROM outbox WHERE published_at IS NULL"))
    passes = left if step == "outbox.mid_send" else min(left, 1)
    is_relays = step.startswith("outbox.")
    return {"PORTICO_CRASH_AT": f"{step}:{1 + passes * is_relays}"}


async def _has_told_all(platform: Platform, process: KeysProcess) -> bool:
    """Wait until nothing waits to be told; False if `process` has died instead."""

    async def settled() -> bool:
        return bool(process._child.poll()) or not await platform.execute(
            "SELECT FROM outbox WHERE published_at IS NULL LIMIT 1"
        )

    await until(settled)
    return process._child.poll() is None


async def test_while_postgres_is_away_nothing_changes_and_calls_say_so(
    kafka_bootstrap, schema, tmp_path
):
    """503 with `Retry-After`; the same process goes on once Postgres is back, again and again."""
    await create(kafka_bootstrap, *topics.SOURCES)
    server = backends.embedded_postgres(tmp_path / "postgres")
    await server.start()
    platform = Platform(kafka_bootstrap, server.url, schema, tmp_path)
    ours = network()
    try:
        with running(platform):
            await platform.tell(partner(ours))
            for number in range(count(3, 20)):
                key_id = (await platform.issue(staff(ours), 7, f"app-{number}"))["key_id"]
                path = f"/v1/networks/apikeys/{key_id}/revoke"
                await server.stop()
                away = await platform.call("POST", path, staff(ours))
                assert (away.status_code, away.headers["retry-after"]) == (503, "1")
                await server.start()

                async def revoked(path: str = path) -> bool:
                    return (await platform.call("POST", path, staff(ours))).status_code == 200

                await until(revoked)
            await until_published(platform)
        told = [type(event).__name__ for event in await platform.told(ours)]
        assert told == ["KeyIssued", "KeyRevoked"] * count(3, 20)
    finally:
        await server.stop()
