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
from tests.revocation_parts import Gateway, open_gateways

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

    async def tell(self, network_id: int, key: PartnerKey, budget: Budget, version: int) -> None:
        """Publish a partner's key and its network's budget."""
        state = KeyState(
            key_id=f"key-{network_id}",
            version=version,
            digest=key.digest,
            network_id=network_id,
            network_affiliate_id=7,
            integration="warehouse",
        )
        budgets = NetworkState(network_id=network_id, version=version, affiliate=budget)
        async with open_producer(self.bootstrap, client_id="owner") as producer:
            for topic, name, value in (
                (topics.KEYS_STATE, state.key_id, state),
                (topics.NETWORKS_STATE, str(network_id), budgets),
            ):
                await producer.send_and_wait(topic.name, encode(value), key=name.encode())


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
    """Gateways before one upstream, and a partner's key that opens them."""

    surroundings: Surroundings
    gateways: list[Gateway]
    upstream_port: int
    key: PartnerKey
    network_id: int

    async def drive(
        self,
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
            "secret": self.key.reveal(),
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


@asynccontextmanager
async def open_fleet(
    surroundings: Surroundings, count: int, network_id: int, budget: Budget
) -> AsyncIterator[Fleet]:
    """`count` gateways, ready, with a key of partner 7 of a network that has this budget."""
    await create(surroundings.bootstrap, *topics.SOURCES)
    key = generate()
    await surroundings.tell(network_id, key, budget, 1)
    (upstream_port,) = free_ports(1)
    async with open_gateways(surroundings, count, upstream_port) as gateways:
        yield Fleet(surroundings, gateways, upstream_port, key, network_id)
