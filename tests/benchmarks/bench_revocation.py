"""How soon a revoked key is refused everywhere, under load and while a gateway dies and returns.

A real key service, three real gateways, one Kafka. Keys are revoked one after another; while one
is, it is asked for at every gateway, every few milliseconds, from before the call until all refuse
it. A third of the way one gateway is killed, later it is started again; what it refused or was
away for does not count, what it lets in does. Meanwhile keys that are not revoked are used at
`LOAD_PER_SECOND`. One clock, the driver's.

* `revocation.p99_ms`: from the reading of the call's answer (200, propagated) to the reading of the
  first refusal at the slowest gateway. Its baseline is what Kafka alone takes: from the same answer
  until a bare `read_committed` consumer in the driver holds the record, 0 if it held it before.
* `revocation.kafka_share`: the second by the first, of the p99s, in per cent. The rest is the
  gateway's: decoding, its event loop's queue, and the probe's way there and back, which also waits
  up to `PROBE_SECONDS` for its turn.
* `revocation.max_ms`: the largest.
* `revocation.accepted_after_1s`: requests with a revoked key that were let in although they were
  sent more than a second after the call's answer: those of the siege, those of patrols that try
  keys revoked earlier at every gateway, and a last round of every key at every gateway.
* `revocation.load_per_second`: what the other keys really were asked for with meanwhile.
"""

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from deploy.local.ports import free_ports
from shared import topics
from shared.events import KeyState
from shared.kafka import open_consumer, partitions_of
from shared.replica import Schema
from tests.backends import ROOT
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured
from tests.keys_parts import Platform, network, partner, running, staff
from tests.projection_parts import create
from tests.revocation_parts import (
    HIGH_BUDGETS,
    Door,
    Gateway,
    Siege,
    doors_of,
    issue_many,
    let_in,
    open_gateways,
)

NAMES = (
    "revocation.p99_ms",
    "revocation.max_ms",
    "revocation.accepted_after_1s",
    "revocation.kafka_share",
    "revocation.load_per_second",
)
REVOCATIONS = 1_000
GATEWAYS = 3
OTHER_KEYS = 60
LOAD_PER_SECOND = 300
PROBE_SECONDS = 0.004
PATROL_SECONDS = 0.05
KILLED_AT = REVOCATIONS // 3
STARTED_AT = REVOCATIONS // 2
LATE_SECONDS = 1.0


@dataclass
class Measured:
    """What the driver saw; seconds by its monotonic clock.

    Attributes:
        answered_at: by key id, when the revoke call's answer had been read.
        refused: from there to the refusal at the slowest gateway, a sample a revocation.
        visible_at: by key id, when the bare consumer held its revoked state.
        accepted_late: requests let in more than `LATE_SECONDS` after the answer.
        patrolled: requests with keys revoked earlier than that.
    """

    answered_at: dict[str, float] = field(default_factory=dict)
    refused: list[float] = field(default_factory=list)
    visible_at: dict[str, float] = field(default_factory=dict)
    accepted_late: int = 0
    patrolled: int = 0

    def kafka(self) -> list[float]:
        """What Kafka alone took, a sample a revocation."""
        return [
            max(0.0, self.visible_at[key_id] - answered_at)
            for key_id, answered_at in self.answered_at.items()
        ]


async def run(context: Context) -> list[Figure]:
    """All figures, of one round of `REVOCATIONS`."""
    await create(context.kafka_bootstrap, *topics.SOURCES)
    schema = context.unique("revocation").replace("-", "_")
    home = context.folder / "revocation"
    home.mkdir()
    platform = Platform(context.kafka_bootstrap, context.database_url, schema, home)
    with running(platform):
        return await _measured(platform)


async def _measured(platform: Platform) -> list[Figure]:
    caller = staff(network(), super_user=True)
    await platform.tell(partner(caller.network_id))
    assert (
        await platform.call("PUT", "/v1/networks/budgets", caller, HIGH_BUDGETS)
    ).status_code == 200
    doomed = await issue_many(platform, caller, [f"doomed-{each}" for each in range(REVOCATIONS)])
    others = await issue_many(platform, caller, [f"other-{each}" for each in range(OTHER_KEYS)])
    (upstream_port,) = free_ports(1)
    seen = Measured()
    async with open_gateways(platform, GATEWAYS, upstream_port) as gateways:
        secrets = [each["key"] for each in others]
        async with _load(upstream_port, gateways, secrets) as answers:
            async with _kafka_watched(platform.bootstrap, seen):
                await _revoke_all(platform, caller, doomed, gateways, seen)
            await _last_round(doomed, gateways, seen)
    assert not answers["answers"].get("401"), "a key that was not revoked was refused"
    return _figures(seen, sum(answers["answers"].values()) / answers["seconds"])


def _figures(seen: Measured, load_per_second: float) -> list[Figure]:
    whole, kafka = _p99(seen.refused), _p99(seen.kafka())
    print(
        f"  mean {1_000 * statistics.fmean(seen.refused):.1f} ms, of which Kafka "
        f"{1_000 * statistics.fmean(seen.kafka()):.1f} ms; patrols asked {seen.patrolled} times"
    )
    return [
        measured(NAMES[0], "ms", [1_000 * whole], 1_000 * kafka),
        measured(NAMES[1], "ms", [1_000 * max(seen.refused)], 1_000 * max(seen.kafka())),
        measured(NAMES[2], "requests", [seen.accepted_late]),
        measured(NAMES[3], "%", [100 * kafka / whole]),
        measured(NAMES[4], "requests/s", [load_per_second], LOAD_PER_SECOND),
    ]


def _p99(samples: Sequence[float]) -> float:
    return statistics.quantiles(samples, n=100)[98]


@asynccontextmanager
async def _load(
    upstream_port: int, gateways: Sequence[Gateway], secrets: Sequence[str]
) -> AsyncIterator[dict]:
    """The other traffic; what became of it stands in what is yielded, once this is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.revocation_process",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    settings = {
        "upstream_port": upstream_port,
        "gateway_ports": [gateway.port for gateway in gateways],
        "secrets": list(secrets),
        "requests_per_second": LOAD_PER_SECOND,
    }
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings).encode() + b"\n")
    found: dict = {}
    try:
        await _until_served(gateways, secrets[0])
        yield found
    finally:
        process.stdin.close()
        out, _ = await process.communicate()
        found.update(json.loads(out))


async def _until_served(gateways: Sequence[Gateway], secret: str) -> None:
    """Wait until what lies behind the doors answers through each of them."""
    with doors_of(gateways) as doors:
        for door in doors:
            while await door.ask(secret) != 200:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _kafka_watched(bootstrap: str, seen: Measured) -> AsyncIterator[None]:
    """Note when each revocation can be read from Kafka; leaves once it has been for all."""
    schema = Schema(KeyState)
    async with open_consumer(bootstrap, client_id="bare") as consumer:
        partitions = await partitions_of(consumer, [topics.KEYS_STATE.name])
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        for partition in partitions:
            await consumer.position(partition)

        async def watch() -> None:
            while True:
                record = await consumer.getone()
                now = time.monotonic()
                state = schema.read("", record.value or b"{}")
                if state.status == "revoked":
                    seen.visible_at.setdefault(state.key_id, now)

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            yield
            while seen.answered_at.keys() - seen.visible_at.keys():
                await asyncio.sleep(0.01)
            watching.cancel()


async def _revoke_all(
    platform: Platform,
    caller: object,
    doomed: Sequence[dict],
    gateways: Sequence[Gateway],
    seen: Measured,
) -> None:
    """One after another; the last gateway is killed and started again on the way."""
    victim = gateways[-1]
    with doors_of(gateways) as doors:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            patrol = group.create_task(_patrol(doomed, gateways, seen))
            for number, key in enumerate(doomed):
                if number == KILLED_AT:
                    victim.kill()
                if number == STARTED_AT:
                    victim.start()
                    group.create_task(victim.until_open())
                siege = Siege(key["key"], gateways, doors, PROBE_SECONDS)
                await _revoke_one(platform, caller, key["key_id"], session, siege, seen)
            patrol.cancel()
        assert victim.is_open, "the killed gateway did not come back in time"


async def _revoke_one(
    platform: Platform,
    caller: object,
    key_id: str,
    session: aiohttp.ClientSession,
    siege: Siege,
    seen: Measured,
) -> None:
    path = f"/v1/networks/apikeys/{key_id}/revoke"
    headers = platform.headers("POST", path, caller)
    open_before = siege.of_open_gateways()

    async def revoke() -> float:
        async with session.post(platform.url + path, json={}, headers=headers) as response:
            answer = await response.json()
            answered_at = time.monotonic()
        assert (response.status, answer["propagated"]) == (200, True), answer
        return answered_at

    answered_at = seen.answered_at[key_id] = await siege.during(revoke)
    refused_at = max(each.refused_at for each in open_before)
    seen.refused.append(max(0.0, refused_at - answered_at))
    for each in siege.sightings:
        seen.accepted_late += each.accepted_at > answered_at + LATE_SECONDS
        assert not each.reopened, "a gateway let in a key that it had refused"


async def _patrol(doomed: Iterable[dict], gateways: Sequence[Gateway], seen: Measured) -> None:
    """Try keys revoked a while ago, here and there, the doors that are just coming back too."""
    secrets = {each["key_id"]: each["key"] for each in doomed}
    with doors_of(gateways) as doors:
        while True:
            await asyncio.sleep(PATROL_SECONDS)
            past = time.monotonic() - LATE_SECONDS
            revoked = [key_id for key_id, moment in seen.answered_at.items() if moment < past]
            if revoked:
                for door in doors:
                    seen.accepted_late += await _is_let_in(door, secrets[random.choice(revoked)])
                    seen.patrolled += 1


async def _is_let_in(door: Door, secret: str) -> bool:
    return await door.ask(secret) == 200


async def _last_round(doomed: Sequence[dict], gateways: Sequence[Gateway], seen: Measured) -> None:
    """Every key at every gateway, once the last has been revoked for long enough."""
    await asyncio.sleep(LATE_SECONDS)
    secrets = [each["key"] for each in doomed]
    with doors_of(gateways) as doors:
        for door in doors:
            seen.accepted_late += await let_in(secrets, door)
            seen.patrolled += len(secrets)
