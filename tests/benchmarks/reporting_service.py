"""The reporting service as a process, and partners who ask it as the gateway would."""

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from deploy.local.ports import free_ports
from shared import topics
from shared.identity import HEADER, Identity, IdentitySigner
from shared.kafka import OffsetAndMetadata, TopicPartition, open_consumer, partitions_of
from tests.backends import ROOT
from tests.benchmarks.context import Context
from tests.benchmarks.programs import running

SECRET = "a secret of sixteen bytes"
TABLE = "/v1/affiliates/reporting/entity/table"
CONVERSIONS = "/v1/affiliates/reporting/conversions"
CLICKS = "/v1/affiliates/reporting/clicks"
KEPT_SECONDS = 3
"""Below the 5 s after which the service closes a connection: a request must not meet that."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Partners of a running service, over connections that stay open."""

    client: aiohttp.ClientSession
    pid: int

    def request(
        self, method: str, path: str, body: Any = None, *, network: int = 1, partner: int = 1
    ) -> Any:
        """A request with a door's signature, to be entered."""
        identity = Identity(
            network_id=network,
            network_affiliate_id=partner,
            key_id="bench",
            request_id="bench",
            client_ip="203.0.113.1",
            method=method,
            path=path.partition("?")[0],
            expires_at=int(time.time()) + 20,
        )
        headers = {HEADER: IdentitySigner(SECRET).sign(identity)}
        return self.client.request(method, path, json=body, headers=headers)

    async def timed(self, method: str, path: str, body: Any = None, **who: int) -> float:
        """Milliseconds until the whole answer is there."""
        return (await self.answered(method, path, body, **who))[0]

    async def answered(
        self, method: str, path: str, body: Any = None, **who: int
    ) -> tuple[float, bytes]:
        """Milliseconds, and the body."""
        began = time.perf_counter()
        async with self.request(method, path, body, **who) as answer:
            raw = await answer.read()
        assert answer.status == 200, raw
        return (time.perf_counter() - began) * 1_000, raw

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        async with self.client.get("/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((f"{name} ", f"{name}{{"))
        )


@asynccontextmanager
async def open_service(
    context: Context, folder: Path, *, starts: Mapping[TopicPartition, int]
) -> AsyncIterator[Asking]:
    """The service over the facts of `folder`, reading the log from `starts` on."""
    (port,) = free_ports(1)
    schema = context.unique("bench").replace("-", "_")
    await _commit(context, f"{schema}.facts", starts)
    settings = {
        "KAFKA_BOOTSTRAP": context.kafka_bootstrap,
        "DATABASE_URL": context.database_url,
        "IDENTITY_SECRETS": SECRET,
        "REPORTING_PORT": str(port),
        "REPORTING_DB_SCHEMA": schema,
        "REPORTING_CLICKHOUSE_PATH": str(folder / "clickhouse"),
    }
    command = [sys.executable, "-m", "services.reporting"]
    base = f"http://127.0.0.1:{port}"
    async with (
        running(context, command, f"{base}/readyz", settings) as pid,
        aiohttp.ClientSession(
            base, connector=aiohttp.TCPConnector(keepalive_timeout=KEPT_SECONDS)
        ) as client,
    ):
        yield Asking(client, pid)


async def at_the_end(context: Context) -> dict[TopicPartition, int]:
    """Where the tracking topics end now."""
    async with open_consumer(context.kafka_bootstrap, client_id="bench") as consumer:
        names = [topic.name for topic in topics.TRACKING.values()]
        ends = await consumer.end_offsets(await partitions_of(consumer, names))
    return dict(ends)


async def _commit(context: Context, group: str, starts: Mapping[TopicPartition, int]) -> None:
    """Have a group begin there; without a time beside the offset nothing is rewound."""
    async with open_consumer(context.kafka_bootstrap, client_id="bench", group=group) as consumer:
        consumer.assign(list(starts))
        await consumer.commit({each: OffsetAndMetadata(at, "") for each, at in starts.items()})


@asynccontextmanager
async def live_clicks(context: Context, per_second: int) -> AsyncIterator[None]:
    """Clicks of now come in for as long as the block runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.clicks_process", context.kafka_bootstrap),
        str(per_second),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()  # it has begun
    try:
        yield
    finally:
        process.terminate()
        await process.communicate()


def report_body(columns: Sequence[str], *, since: int, until: int) -> dict[str, Any]:
    """A request for a report of whole days, UTC."""
    return {
        "from": time.strftime("%Y-%m-%d", time.gmtime(since)),
        "to": time.strftime("%Y-%m-%d", time.gmtime(until)),
        "timezone_id": 67,
        "currency_id": "USD",
        "columns": [{"column": column} for column in columns],
    }


def p95(samples: Sequence[float]) -> float:
    """The 95th percentile: the sample that at most a twentieth exceed."""
    ordered = sorted(samples)
    return ordered[math.ceil(0.95 * len(ordered)) - 1]
