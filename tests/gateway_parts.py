"""A gateway with topics of its own, a small service behind it, and a partner in front."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
from aiohttp import web
from yarl import URL

from deploy.local.ports import free_ports
from services.gateway.app import build
from services.gateway.config import GatewaySettings
from shared import events, topics
from shared.events import AccessSummary, KeyState, NetworkState, PartnerAccess
from shared.identity import Identity, IdentitySigner
from shared.kafka import open_consumer, open_producer, partitions_of
from shared.partner_key import PartnerKey, generate
from shared.runtime import serve
from tests.waiting import DEADLINE_SECONDS

SECRET = "a secret of sixteen bytes"
NETWORK = "/v1/affiliates/network"
TABLE = "/v1/affiliates/reporting/entity/table"
KEYS_OF_PARTNER = "/v1/networks/affiliates/7/apikeys"
STREAM = "/v1/audit/stream"
TOKEN = {"Authorization": "Bearer token"}


@dataclass
class Behind:
    """A service that tells what it got, and does on request what services do at their worst."""

    port: int
    seen: list[web.Request] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    left_alone: asyncio.Event = field(default_factory=asyncio.Event)
    pieces: list[bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Dispatch by what the query asks for."""
        self.seen.append(request)
        what = request.query.get("do", "tell")
        return await getattr(self, what)(request)

    async def tell(self, request: web.Request) -> web.StreamResponse:
        """The length of the body."""
        return web.json_response({"length": len(await request.read())})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """One event at once, the next when told to, and no end."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await response.write(b"data: 1\n\n")
            await self.go_on.wait()
            await response.write(b"data: 2\n\n")
            await asyncio.Event().wait()
        finally:
            self.left_alone.set()
        return response

    async def take(self, request: web.Request) -> web.StreamResponse:
        """The pieces of the body as they arrive."""
        async for chunk, _ in request.content.iter_chunks():
            self.pieces.append(chunk)
        return web.json_response({"pieces": len(self.pieces)})

    async def vanish(self, request: web.Request) -> web.StreamResponse:
        """Close without an answer."""
        if request.transport is not None:
            request.transport.close()
        return web.Response()

    async def say_nothing(self, request: web.Request) -> web.StreamResponse:
        """Never answer."""
        await asyncio.Event().wait()
        return web.Response()

    async def break_off(self, request: web.Request) -> web.StreamResponse:
        """Half an answer."""
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        if request.transport is not None:
            request.transport.close()
        return response


@asynccontextmanager
async def service_behind() -> AsyncIterator[Behind]:
    """A running service."""
    behind = Behind(free_ports(1)[0])
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", behind.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", behind.port).start()
    yield behind
    await runner.cleanup()


@dataclass
class Gate:
    """A gateway's surroundings. Topics are its own; `open_gateway` starts one."""

    bootstrap: str
    behind: Behind
    tables: dict[str, topics.Topic]
    producer: object
    versions: int = 0

    async def put_key(self, key: PartnerKey, key_id: str = "k1", **state) -> None:
        """Publish a key's state, of partner 7 of network 1 unless said otherwise."""
        self.versions += 1
        fields = {
            "key_id": key_id,
            "version": self.versions,
            "digest": key.digest,
            "network_id": 1,
            "network_affiliate_id": 7,
            "integration": "warehouse",
        }
        await self._put("keys", key_id, KeyState(**(fields | state)))

    async def put_partner(self, **access) -> None:
        """Publish partner 7's access."""
        self.versions += 1
        fields = {"network_id": 1, "network_affiliate_id": 7, "version": self.versions}
        await self._put("partners", "1:7", PartnerAccess(**(fields | access)))

    async def put_network(self, network_id: int = 1, **state) -> None:
        """Publish a network's budgets."""
        self.versions += 1
        value = NetworkState(network_id=network_id, version=self.versions, **state)
        await self._put("networks", str(network_id), value)

    async def _put(self, table: str, key: str, value: events.Event) -> None:
        await self.producer.send_and_wait(
            self.tables[table].name, events.encode(value), key=key.encode()
        )

    async def summaries(self) -> list[tuple[bytes, AccessSummary]]:
        """All access summaries published so far, with their record keys."""
        found = []
        async with open_consumer(self.bootstrap, client_id="recount") as consumer:
            partitions = await partitions_of(consumer, [self.tables["access"].name])
            ends = await consumer.end_offsets(partitions)
            consumer.assign(partitions)
            while any([await consumer.position(item) < end for item, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        value = events.decode(AccessSummary, record.value)
                        assert events.envelope(record.headers).type == "portico.AccessSummary"
                        found.append((record.key, value))
        return found


@asynccontextmanager
async def gate(bootstrap: str, unique) -> AsyncIterator[Gate]:
    """Topics, a producer, and a service behind."""
    tables = {
        "keys": replace(topics.KEYS_STATE, name=unique("keys")),
        "partners": replace(topics.PARTNERS_ACCESS, name=unique("partners"), partitions=2),
        "networks": replace(topics.NETWORKS_STATE, name=unique("networks")),
        "access": replace(topics.GATEWAY_ACCESS, name=unique("access"), partitions=2),
        "usage": replace(topics.GATEWAY_USAGE, name=unique("usage"), partitions=2),
    }
    await topics.apply(bootstrap, table=list(tables.values()))
    async with (
        open_producer(bootstrap, client_id="owner") as producer,
        service_behind() as behind,
    ):
        yield Gate(bootstrap, behind, tables, producer)


@dataclass
class Partner:
    """A client of a running gateway."""

    session: aiohttp.ClientSession
    stop: asyncio.Event
    url: str

    async def ask(self, path: str = NETWORK, *, key: PartnerKey | None = None, **request):
        """Status, headers and JSON of an answer."""
        headers = dict(request.pop("headers", {}))
        if key is not None:
            headers["X-Eflow-API-Key"] = key.reveal()
        method = request.pop("method", "GET")
        async with self.session.request(
            method, URL(self.url + path, encoded=True), headers=headers, **request
        ) as response:
            return response.status, response.headers, await response.json(content_type=None)

    async def status(self, path: str = NETWORK, *, key: PartnerKey | None = None, **request) -> int:
        """The status of an answer."""
        return (await self.ask(path, key=key, **request))[0]

    async def until_status(self, wanted: int, *, key: PartnerKey) -> None:
        """Ask until the answer has the status."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self.status(key=key) != wanted:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def open_gateway(
    surroundings: Gate, *, wait: bool | None = True, **options
) -> AsyncIterator[Partner]:
    """A gateway, stopped in order at the end: ready; running if not `wait`; begun if None."""
    (port,) = free_ports(1)
    upstream = f"http://127.0.0.1:{surroundings.behind.port}"
    settings = GatewaySettings(
        **{
            "kafka_bootstrap": surroundings.bootstrap,
            "identity_secrets": SECRET,
            "port": port,
            "upstream_reporting": upstream,
            "upstream_keys": upstream,
            "upstream_audit": upstream,
            "drain_seconds": 3.0,
        }
        | options
    )
    service = build(settings, **surroundings.tables)
    stop = asyncio.Event()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        group.create_task(serve(service, stop))
        partner = Partner(session, stop, f"http://127.0.0.1:{port}")
        try:
            if wait is not None:
                await _until_up(partner, "/readyz" if wait else "/healthz")
            yield partner
        finally:
            stop.set()


async def _until_up(partner: Partner, path: str) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                if await partner.status(path) == 200:
                    return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.02)


def identity_of(request: web.Request) -> Identity:
    """The identity that a request to the service behind carried, verified."""
    return IdentitySigner(SECRET).verify(
        request.headers["X-Portico-Identity"],
        method=request.method,
        path=request.rel_url.raw_path,
        now=time.time(),
    )


KEY = generate()
