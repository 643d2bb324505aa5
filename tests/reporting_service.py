"""The reporting service as a whole in this process, called as a door would call it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from services.reporting.app import build
from services.reporting.config import ReportingSettings
from shared.http import AsgiApp
from shared.identity import HEADER, Identity, IdentitySigner
from shared.runtime import Lifecycle
from tests.backends import CLICKHOUSE_URL

SECRET = "a-secret-of-the-reporting-test"
SIGNER = IdentitySigner(SECRET)


def settings_of(
    bootstrap: str, database_url: str, schema: str, clickhouse: tuple[Path, str], **more: Any
) -> ReportingSettings:
    """The service's settings; `clickhouse` is a folder and the name of a database in it."""
    folder, database = clickhouse
    known = {
        "kafka_bootstrap": bootstrap,
        "database_url": database_url,
        "db_schema": schema,
        "clickhouse_path": folder,
        "clickhouse_database": database,
        "clickhouse_url": CLICKHOUSE_URL,
        "exports_path": folder / f"exports-{database}",
        "identity_secrets": SECRET,
        "batch_seconds": 0.05,
    }
    return ReportingSettings(**known | more)


@asynccontextmanager
async def running(settings: ReportingSettings) -> AsyncIterator[httpx.AsyncClient]:
    """The service with these settings, once it is ready."""
    service = build(settings)
    lifecycle = Lifecycle()
    async with service.open(lifecycle) as app, asyncio.TaskGroup() as tasks:
        works = [tasks.create_task(work(), name=name) for name, work in lifecycle._tasks]
        while lifecycle.missing():
            await asyncio.sleep(0.02)
        async with _client(app) as client:
            yield client
        for drain in lifecycle.drains:
            await drain()
        for work in works:
            work.cancel()


def _client(app: AsgiApp) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://reporting")


async def call(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    body: Any = None,
    *,
    network: int,
    partner: int,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """A request with the identity that a door would sign."""
    whole = signed(method, path, network=network, partner=partner) | dict(headers or {})
    return await client.request(method, path, json=body, headers=whole, params=query)


def signed(
    method: str, path: str, *, network: int, partner: int, now: float | None = None
) -> dict[str, str]:
    """The header that a door adds to a request; `now` is this moment unless it is given."""
    identity = Identity(
        network_id=network,
        network_affiliate_id=partner,
        key_id="k1",
        request_id="r1",
        client_ip="203.0.113.9",
        method=method,
        path=httpx.URL(f"http://reporting{path}").raw_path.partition(b"?")[0].decode(),
        expires_at=int(time.time() if now is None else now) + 20,
    )
    return {HEADER: SIGNER.sign(identity)}


def through_of(answer: httpx.Response) -> float:
    """Until when the answer says it is complete, in seconds, UTC."""
    return moment(answer.headers["x-data-through"])


def moment(text: str) -> float:
    """Seconds, UTC, of an RFC 3339 text."""
    return datetime.fromisoformat(text).timestamp()
