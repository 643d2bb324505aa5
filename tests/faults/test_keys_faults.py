"""Protects the key service from its own death: what was committed is told, what was not never was.

A client whose call broke off cannot know which; the service must. An independent reader of the
topics is compared with the tables afterwards.
"""

import asyncio
import signal
from collections import Counter

import httpx
import pytest

from shared import events, topics
from shared.events import partner_key
from tests import backends
from tests.keys_parts import (
    KeysProcess,
    Platform,
    network,
    partner,
    read_settled,
    running,
    serving,
    staff,
    until,
    until_published,
)
from tests.projection_parts import create
from tests.soak import count

pytestmark = pytest.mark.slow

KILLS = count(5, 50)
POINTS = (
    "keys.before_commit",
    "keys.after_commit",
    "outbox.before_commit",
    "outbox.after_commit",
    "outbox.after_mark",
)


@pytest.fixture
async def platform(kafka_bootstrap, database_url, schema, tmp_path) -> Platform:
    await create(kafka_bootstrap, *topics.SOURCES)
    return Platform(kafka_bootstrap, database_url, schema, tmp_path)


async def broken_call(platform: Platform, ours: int, number: int, key_id: str | None) -> None:
    """Issue a key, or revoke `key_id`; the service dies on the way or just after."""
    if key_id is None:
        path, body = "/v1/networks/affiliates/7/apikeys", {"integration": f"app-{number}"}
    else:
        path, body = f"/v1/networks/apikeys/{key_id}/revoke", {}
    try:
        answer = await platform.call("POST", path, staff(ours), body)
        assert answer.status_code in (200, 201, 202), answer.text
    except httpx.TransportError:
        pass  # died before it could answer


async def table(platform: Platform) -> dict[str, dict]:
    """The keys of the database, by id."""
    rows = await platform.execute("SELECT key_id, integration, status, version FROM keys")
    return {row["key_id"]: dict(row) for row in rows}


async def test_a_service_killed_at_its_worst_moments_tells_exactly_what_it_committed(platform):
    """Issued and revoked amid kills: topics equal the table, each change is one event."""
    ours = network()
    with running(platform):
        await platform.tell(partner(ours))
        standing = [
            (await platform.issue(staff(ours), 7, f"standing-{number}"))["key_id"]
            for number in range(KILLS)
        ]
    for kill in range(KILLS):
        victim = standing[kill] if kill // len(POINTS) % 2 or kill % 2 else None
        if victim is None:  # nothing is left to be told: this kill meets the new key
            with serving(platform):
                await until_published(platform)
        process = KeysProcess(platform, {"PORTICO_CRASH_AT": POINTS[kill % len(POINTS)]})
        if process.wait_until_served():  # else: killed while telling what the one before left
            await broken_call(platform, ours, kill, victim)
        assert await asyncio.to_thread(process.wait_exit) == -signal.SIGKILL
    with serving(platform):
        await until_published(platform)
        rows = await table(platform)
        states = await platform.states(topics.KEYS_STATE)
    _compare(rows, {key_id: states.get(key_id) for key_id in rows})
    assert {key for key, state in states.items() if state and state["network_id"] == ours} == set(
        rows
    )
    told = await _told_once(platform, ours)
    expected = Counter({("KeyIssued", key_id): 1 for key_id in rows})
    expected.update(("KeyRevoked", key) for key, row in rows.items() if row["status"] == "revoked")
    assert told == expected
    assert any(row["status"] == "revoked" for row in rows.values())
    assert any(row["integration"].startswith("app-") for row in rows.values())
    assert len(rows) < 2 * KILLS  # before the commit, a kill leaves nothing


def _compare(rows: dict[str, dict], states: dict[str, dict | None]) -> None:
    for key_id, row in rows.items():
        state = states[key_id]
        assert state is not None, f"{row} was never told"
        assert (state["status"], state["version"]) == (row["status"], row["version"])


async def _told_once(platform: Platform, ours: int) -> Counter[tuple[str, str]]:
    """The events of the network, repeats of one `ce_id` left out."""
    found = {}
    for record in await read_settled(platform.bootstrap, topics.KEYS_EVENTS.name):
        if record.key == partner_key(ours, 7).encode():
            envelope = events.envelope(record.headers)
            kind = {events.type_name(one): one for one in topics.KEYS_EVENTS.schemas}[envelope.type]
            found[envelope.id] = events.decode(kind, record.value)
    return Counter((type(event).__name__, event.key_id) for event in found.values())


async def test_a_killed_service_has_a_successor_that_revokes_for_good(platform):
    """Killed between commit and publication of a revocation: the next process publishes it."""
    ours = network()
    with running(platform):
        await platform.tell(partner(ours))
        key_id = (await platform.issue(staff(ours), 7))["key_id"]
    process = KeysProcess(platform, {"PORTICO_CRASH_AT": "keys.after_commit"})
    assert process.wait_until_served()
    with pytest.raises(httpx.TransportError):
        await platform.call("POST", f"/v1/networks/apikeys/{key_id}/revoke", staff(ours))
    assert process.wait_exit() == -signal.SIGKILL
    assert (await table(platform))[key_id]["status"] == "revoked"
    with serving(platform):
        again = await platform.call("POST", f"/v1/networks/apikeys/{key_id}/revoke", staff(ours))
        assert again.status_code in (200, 202)
        await until_published(platform)
        assert (await platform.states(topics.KEYS_STATE))[key_id]["status"] == "revoked"


async def test_a_service_killed_before_the_commit_has_done_nothing(platform):
    """Neither row nor record; the same call succeeds at the next process."""
    ours = network()
    with running(platform):
        await platform.tell(partner(ours))
    process = KeysProcess(platform, {"PORTICO_CRASH_AT": "keys.before_commit"})
    assert process.wait_until_served()
    with pytest.raises(httpx.TransportError):
        await platform.issue(staff(ours), 7)
    assert process.wait_exit() == -signal.SIGKILL
    assert await table(platform) == {}
    with serving(platform):
        await platform.issue(staff(ours), 7)
        await until_published(platform)
    assert [type(event).__name__ for event in await platform.told(ours)] == ["KeyIssued"]


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
