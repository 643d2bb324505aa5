"""Several real gateways on one Kafka, one partner with one key, and requests on an open loop."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from deploy.local.ports import free_ports
from shared import topics
from shared.events import Budget, KeyState, NetworkState, encode
from shared.kafka import open_producer
from shared.partner_key import PartnerKey, generate
from tests.backends import ROOT
from tests.projection_parts import create
from tests.revocation_parts import NETWORK_PATH, Gateway, open_gateways
from tests.waiting import DEADLINE_SECONDS

OTHER_REALM = "/v1/networks/apikeys"
"""A path on which a known partner's key is refused, and takes no token."""
TOLD_METRIC = "gateway_usage_told"
SECRET = "a secret of sixteen bytes"
UNLIMITED = Budget(rate=1_000_000, burst=1_000_000)


@dataclass(frozen=True)
class Surroundings:
    """What gateways of these tests share.

    Attributes:
        bootstrap: of their Kafka.
        home: a folder for their logs.
    """

    bootstrap: str
    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        """What a gateway's process reads."""
        return {
            "PATH": os.environ["PATH"],
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "PORTICO_HOME": str(self.home),
            "IDENTITY_SECRETS": SECRET,
        } | more

    async def put(self, *states: KeyState | NetworkState) -> None:
        """Publish keys and budgets."""
        async with open_producer(self.bootstrap, client_id="owner") as producer:
            for state in states:
                is_key = isinstance(state, KeyState)
                topic = topics.KEYS_STATE if is_key else topics.NETWORKS_STATE
                name = state.key_id if is_key else str(state.network_id)
                await producer.send_and_wait(topic.name, encode(state), key=name.encode())


@dataclass(frozen=True)
class Answers:
    """What became of requests.

    Attributes:
        rows: seconds since the beginning, status, milliseconds.
        records: usage records that the gateways told meanwhile.
    """

    rows: Sequence[tuple[float, int, float]]
    records: int

    def count(self, status: int) -> int:
        """How many had a status."""
        return sum(row[1] == status for row in self.rows)

    @property
    def lasted(self) -> float:
        """Seconds from the beginning to the last answer."""
        return max(row[0] + row[2] / 1_000 for row in self.rows)

    def seconds(self, status: int = 200) -> list[int]:
        """How many had it in each second."""
        counts = Counter(int(row[0]) for row in self.rows if row[1] == status)
        return [counts[second] for second in range(int(max(row[0] for row in self.rows)) + 1)]

    def p99(self) -> float:
        """Milliseconds within which 99 of 100 answers came."""
        took = sorted(row[2] for row in self.rows if row[1])
        return took[int(0.99 * (len(took) - 1))]


@dataclass
class Fleet:
    """Gateways before one upstream."""

    surroundings: Surroundings
    gateways: list[Gateway]
    upstream_port: int
    versions: int = 0

    async def partner(self, network_id: int, budget: Budget) -> PartnerKey:
        """The key of a partner of a network with this budget, known to all gateways; unused."""
        self.versions += 1
        key, probe = generate(), generate()
        await self.surroundings.put(
            NetworkState(network_id=network_id, version=self.versions, affiliate=budget),
            _state(network_id, "probe", probe, self.versions, allowlist=("192.0.2.0/24",)),
            _state(network_id, "key", key, self.versions),
        )
        for gateway in self.gateways:
            await _until_answered(gateway.port, NETWORK_PATH, probe, 403, str(budget.burst))
            await _until_answered(gateway.port, OTHER_REALM, key, 403, None)
        return key

    async def drive(
        self,
        key: PartnerKey,
        weights: Sequence[float],
        seconds: float,
        *,
        requests_per_second: float = 800,
        midway: Callable[[], Awaitable[None]] | None = None,
    ) -> Answers:
        """Ask on schedule, and do something in the middle of it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.benchmarks.limiter_process",
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=64 * 1024 * 1024,
        )
        settings = {
            "upstream_port": self.upstream_port,
            "gateway_ports": [gateway.port for gateway in self.gateways],
            "weights": list(weights),
            "secret": key.reveal(),
            "requests_per_second": requests_per_second,
            "seconds": seconds,
        }
        assert process.stdin is not None
        assert process.stdout is not None
        before = await self.records()
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        assert await process.stdout.readline() == b"begins\n"
        if midway is not None:
            await asyncio.sleep(seconds / 2)
            await midway()
        out = await process.stdout.read()
        await process.wait()
        rows = [tuple(row) for row in json.loads(out)["answers"]]
        return Answers(rows, await self.records() - before)

    async def records(self) -> int:
        """Usage records that the gateways which are there have told."""
        return sum([await _told(gateway.port) for gateway in self.gateways if gateway.is_open])


async def _told(port: int) -> int:
    url = f"http://127.0.0.1:{port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        lines = (await answer.text()).splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith(TOLD_METRIC + " ")))


def _state(network_id: int, name: str, key: PartnerKey, version: int, **more) -> KeyState:
    return KeyState(
        key_id=f"{name}-{network_id}",
        version=version,
        digest=key.digest,
        network_id=network_id,
        network_affiliate_id=7,
        integration="warehouse",
        **more,
    )


async def _until_answered(
    port: int, path: str, key: PartnerKey, status: int, limit: str | None
) -> None:
    """Ask what takes no token until the answer is as it should be."""
    headers = {"X-Eflow-API-Key": key.reveal()}
    async with aiohttp.ClientSession() as session, asyncio.timeout(DEADLINE_SECONDS):
        while True:
            async with session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer:
                if (answer.status, answer.headers.get("X-RateLimit-Limit")) == (status, limit):
                    return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def open_fleet(surroundings: Surroundings, count: int) -> AsyncIterator[Fleet]:
    """`count` gateways, ready."""
    await create(surroundings.bootstrap, *topics.SOURCES)
    (upstream_port,) = free_ports(1)
    async with open_gateways(surroundings, count, upstream_port) as gateways:
        yield Fleet(surroundings, gateways, upstream_port)
