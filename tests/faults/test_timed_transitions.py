"""Protects what a key's times promise against the absence of the service that set them.

A key ends, another begins, an overlap ends: each gateway knows the moment from the key's state, and
keeps it while the key service is dead. One play for all tests: three gateways and a firehose are
asked without pause from before the moments to after them; the keys' owner is killed before.

All processes share the machine's clock. A request that was let in was judged after it was sent, a
refused one before its answer was read; so nothing here depends on how fast anything is, but for the
second within which a stream has to end.
"""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest

from deploy.local.ports import free_ports
from shared import topics
from shared.clock import rfc3339
from shared.kafka import open_producer
from shared.partner_key import PartnerKey
from tests import firehose_parts
from tests.firehose_parts import Surroundings, messages, open_firehose
from tests.keys_parts import KeysProcess, Platform, network, partner, staff
from tests.projection_parts import create
from tests.revocation_parts import HIGH_BUDGETS, Door, Gateway, open_gateways, open_upstream
from tests.soak import count
from tests.tail_parts import Ledger, tracked_topics
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.slow

GATEWAYS = 3
AHEAD_SECONDS = count(6, 9)
"""How far ahead the moments are: time to learn of them, and to kill their owner."""
AFTER_SECONDS = 2.0
PAUSE_SECONDS = 0.04
PROMISE_SECONDS = 1.0


@dataclass(frozen=True)
class Asked:
    """One request; moments are seconds, UTC."""

    is_let_in: bool
    sent_at: float
    read_at: float


@dataclass
class Play:
    """What was seen.

    Attributes:
        moments: by name of a key, when it ends or begins, as the service's table has it.
        asked: by name of a key, what each gateway answered in its order.
        dead_at: when the key service was gone.
        stream_end: the reason that a stream was told, and when it was read.
    """

    moments: dict[str, float] = field(default_factory=dict)
    asked: dict[str, list[list[Asked]]] = field(default_factory=dict)
    dead_at: float = 0.0
    stream_end: tuple[str, float] = ("", 0.0)


@pytest.fixture(scope="module")
def play(kafka_bootstrap, database_url, tmp_path_factory) -> Iterator[Play]:
    """The play, over when the first test begins."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    platform = Platform(
        kafka_bootstrap, database_url, schema, Path(tmp_path_factory.mktemp("play"))
    )
    yield asyncio.run(_played(platform))
    asyncio.run(_drop(database_url, schema))


async def _drop(database_url: str, schema: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
    await connection.close()


async def _played(platform: Platform) -> Play:
    await create(platform.bootstrap, *topics.SOURCES)
    caller = staff(network(), super_user=True)
    (upstream_port,) = free_ports(1)
    owner = KeysProcess(platform, {})
    try:
        async with (
            open_upstream(upstream_port),
            open_gateways(platform, GATEWAYS, upstream_port) as gateways,
            _firehose(platform.bootstrap) as streams,
        ):
            await asyncio.to_thread(owner.wait_ready)
            await platform.tell(partner(caller.network_id))
            for path, body in (
                ("/v1/networks/budgets", HIGH_BUDGETS),
                ("/v1/networks/affiliates/7/firehose", {"enabled": True}),
            ):
                assert (await platform.call("PUT", path, caller, body)).status_code == 200
            keys = await _keys(platform, caller)
            return await _watched(platform, keys, owner, gateways, streams)
    finally:
        owner.close()


async def _keys(platform: Platform, caller: object) -> dict[str, dict]:
    """A key that ends, one that begins, and a rotated one with its successor; all soon."""
    rotated = await platform.issue(caller, 7, "rotated")
    moment = time.time() + AHEAD_SECONDS
    found = {
        "ends": await platform.issue(caller, 7, "ends", expires_at=rfc3339(moment)),
        "begins": await platform.issue(caller, 7, "begins", not_before=rfc3339(moment)),
        "rotated": rotated,
    }
    path = f"/v1/networks/apikeys/{rotated['key_id']}/rotate"
    answer = await platform.call("POST", path, caller, {"overlap_seconds": AHEAD_SECONDS})
    assert (answer.status_code, answer.json()["propagated"]) == (201, True), answer.text
    return found | {"successor": answer.json()}


async def _watched(
    platform: Platform,
    keys: dict[str, dict],
    owner: KeysProcess,
    gateways: Sequence[Gateway],
    streams: firehose_parts.Partner,
) -> Play:
    play = Play(asked={name: [[] for _ in gateways] for name in keys})
    for row in await platform.execute("SELECT key_id, expires_at, not_before FROM keys"):
        (name,) = (name for name, key in keys.items() if key["key_id"] == row["key_id"])
        play.moments[name] = row["expires_at"] or row["not_before"]
    os.kill(owner._child.pid, signal.SIGKILL)
    await asyncio.to_thread(owner.wait_exit)
    play.dead_at = time.time()
    over = max(play.moments.values()) + AFTER_SECONDS
    async with asyncio.TaskGroup() as group:
        group.create_task(_stream(streams, keys["ends"]["key"], play))
        for name, key in keys.items():
            for gateway, asked in zip(gateways, play.asked[name], strict=True):
                group.create_task(_ask(Door(gateway.port), key["key"], asked, over))
    return play


async def _ask(door: Door, secret: str, asked: list[Asked], over: float) -> None:
    while time.time() < over:
        sent_at = time.time()
        status = await door.ask(secret)
        assert status in (200, 401)
        asked.append(Asked(status == 200, sent_at, time.time()))
        await asyncio.sleep(PAUSE_SECONDS)
    door.close()


async def _stream(streams: firehose_parts.Partner, secret: str, play: Play) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), streams.ask(key=PartnerKey(secret)) as response:
        async for message in messages(response):
            if message.name == "end":
                play.stream_end = (message.data["reason"], time.time())


@asynccontextmanager
async def _firehose(bootstrap: str) -> AsyncIterator[firehose_parts.Partner]:
    """A firehose that learns of keys from the key service; nothing is tracked."""
    table = firehose_parts.topics_of_test() | {
        "keys": topics.KEYS_STATE,
        "partners": topics.PARTNERS_ACCESS,
        "networks": topics.NETWORKS_STATE,
    }
    tracked = tracked_topics()
    await topics.apply(bootstrap, table=[table["sessions"], *tracked.values()])
    async with open_producer(bootstrap, client_id="surroundings") as producer:
        surroundings = Surroundings(
            bootstrap, tracked, **table, producer=producer, ledger=Ledger(producer, tracked)
        )
        async with open_firehose(surroundings) as streams:
            yield streams


def _require_end(play: Play, name: str) -> None:
    """Let in until the moment and never again, at each gateway, with its owner dead."""
    moment = play.moments[name]
    assert play.dead_at < moment
    for asked in play.asked[name]:
        let_in = [each for each in asked if each.is_let_in]
        refused = [each for each in asked if not each.is_let_in]
        assert let_in[0].sent_at < let_in[-1].sent_at < moment
        assert refused[0].read_at >= moment
        assert refused[0].read_at <= moment + PROMISE_SECONDS


def test_a_key_ends_on_every_gateway_at_its_time_though_its_owner_is_dead(play):
    """No request sent from that moment on is let in; none before it is refused."""
    _require_end(play, "ends")


def test_a_rotated_key_ends_with_its_overlap_though_its_owner_is_dead(play):
    """Its successor is let in before, at and after that moment."""
    _require_end(play, "rotated")
    for asked in play.asked["successor"]:
        assert asked[-1].sent_at > play.moments["rotated"]
        assert all(each.is_let_in for each in asked)


def test_a_scheduled_key_begins_on_every_gateway_though_its_owner_is_dead(play):
    """Refused until the moment; every request sent from it on is let in."""
    moment = play.moments["begins"]
    assert play.dead_at < moment
    for asked in play.asked["begins"]:
        refused = [each for each in asked if not each.is_let_in]
        let_in = [each for each in asked if each.is_let_in]
        assert refused[0].sent_at < refused[-1].sent_at < moment
        assert let_in[0].read_at >= moment
        assert let_in[0].read_at <= moment + PROMISE_SECONDS


def test_a_stream_ends_within_a_second_of_its_keys_end_though_its_owner_is_dead(play):
    """Its last message says why; not before the moment."""
    reason, read_at = play.stream_end
    moment = play.moments["ends"]
    assert reason == "expired"
    assert moment <= read_at <= moment + PROMISE_SECONDS
