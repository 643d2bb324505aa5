"""Protects the way through the gateway: bounded memory, bounded waiting, links that come and go."""

import asyncio
import contextlib
import datetime as dt
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.local.ports import free_ports
from services.gateway.app import build
from services.gateway.config import GatewaySettings
from shared.events import Budget
from shared.http import AsgiApp
from shared.runtime import Lifecycle, Server, Service, serve
from tests.gateway_parts import (
    KEY,
    KEYS_OF_PARTNER,
    NETWORK,
    SECRET,
    TOKEN,
    Gate,
    gate,
    open_gateway,
)
from tests.soak import count
from tests.waiting import until

SECONDS = 30
CLIENTS = 8
RESTARTS = count(3, 50)
MEGABYTE = 1024 * 1024
THROUGH = count(64, 1_024) * MEGABYTE
GET = f"GET {NETWORK} HTTP/1.1\r\nHost: a\r\nX-Eflow-API-Key: {KEY.reveal()}\r\n\r\n".encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Serve = Callable[["Plain", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Plain:
    """A service on bare sockets: `serve` has each of its connections to itself."""

    def __init__(self, serve: Serve) -> None:
        self.port = free_ports(1)[0]
        self.connections = 0
        self.requests = 0
        self.go_on = asyncio.Event()
        self._serve = serve

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Plain"]:
        """Listening; may be run again."""
        writers: set[asyncio.StreamWriter] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            writers.add(writer)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._serve(self, reader, writer)
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            for writer in writers:
                writer.close()

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        """The next request's head."""
        found = await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        return found


async def answering(plain: Plain, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
    """Answer whatever comes."""
    while True:
        await plain.head(reader)
        writer.write(OK)


@pytest.fixture
async def surroundings(kafka_bootstrap, unique):
    async with gate(kafka_bootstrap, unique) as found:
        await found.put_key(KEY)
        await found.put_network(affiliate=Budget(rate=100_000, burst=100_000))
        yield found


@asynccontextmanager
async def before(surroundings: Gate, plain: Plain, **settings):
    """A gateway before a plain service."""
    url = f"http://127.0.0.1:{plain.port}"
    async with (
        asyncio.timeout(2 * SECONDS),
        plain.running(),
        open_gateway(
            surroundings, upstream_reporting=url, upstream_keys=url, **settings
        ) as partner,
    ):
        await partner.until_status(200, key=KEY)
        yield partner


@asynccontextmanager
async def wire(url: str, **tls):
    """A bare connection to a gateway."""
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **tls)
    try:
        yield reader, writer
    finally:
        writer.close()


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def status(reader: asyncio.StreamReader) -> int:
    """The status of an answer with the body `{}` or an error, which is read over."""
    lines = (await head(reader)).decode().split("\r\n")
    lengths = [line for line in lines if line.lower().startswith("content-length:")]
    await reader.readexactly(int(lengths[0].partition(":")[2]))
    return int(lines[0].split(" ")[1])


async def test_a_get_that_met_the_end_of_a_link_is_sent_once_more(surroundings: Gate):
    """The service closes a pooled link upon the next request; nobody notices, once each."""

    async def closing(plain: Plain, reader, writer):
        await plain.head(reader)
        writer.write(OK)
        await plain.head(reader)

    plain = Plain(closing)
    async with before(surroundings, plain) as partner:
        for _ in range(5):
            assert await partner.status(key=KEY) == 200
        assert plain.connections >= 3


async def test_a_post_that_met_the_end_of_a_link_is_not_sent_again(surroundings: Gate):
    """It may have had its effect; 502 says that nobody knows."""

    async def closing(plain: Plain, reader, writer):
        await plain.head(reader)
        writer.write(OK)
        if (await plain.head(reader)).startswith(b"GET"):
            writer.write(OK)

    plain = Plain(closing)
    async with before(surroundings, plain) as partner:
        assert await partner.status(key=KEY) == 200
        seen = plain.requests
        asked = {"method": "POST", "headers": TOKEN, "data": b"{}"}
        statuses = [await partner.status(KEYS_OF_PARTNER, **asked) for _ in range(4)]
        assert statuses.count(502) >= 1
        assert plain.requests == seen + 4


async def test_a_service_that_dies_at_every_request_is_asked_twice_at_most(surroundings: Gate):
    """The repetition is not repeated."""

    async def dying(plain: Plain, reader, writer):
        await plain.head(reader)
        if plain.go_on.is_set():
            return
        writer.write(OK)
        await plain.head(reader)

    plain = Plain(dying)
    async with before(surroundings, plain) as partner:
        plain.go_on.set()
        seen = plain.requests
        assert await partner.status(key=KEY) == 502
        assert plain.requests <= seen + 2


async def test_links_are_bounded_and_so_is_the_wait_for_one(surroundings: Gate):
    """With one link, the second request gets it when it is free, or 503 in time."""

    async def slow(plain: Plain, reader, writer):
        while True:
            asked = await plain.head(reader)
            if b"wait" in asked:
                await plain.go_on.wait()
            writer.write(OK)

    plain = Plain(slow)
    bounds = {"upstream_connections_max": 1, "connect_seconds": 0.5}
    async with before(surroundings, plain, **bounds) as partner, asyncio.TaskGroup() as group:
        first = group.create_task(partner.ask(f"{NETWORK}?wait", key=KEY))
        await until(lambda: plain.requests > 1)
        found, headers, _ = await partner.ask(key=KEY)
        assert (found, headers["Retry-After"]) == (503, "1")
        second = group.create_task(partner.ask(f"{NETWORK}?wait", key=KEY))
        plain.go_on.set()
        assert (await first)[0] == (await second)[0] == 200
        assert plain.connections == 1


async def test_a_service_may_be_restarted(surroundings: Gate):
    """Idle links to the old one leave the pool; the first request after it is served."""
    plain = Plain(answering)
    url = f"http://127.0.0.1:{plain.port}"
    async with open_gateway(surroundings, upstream_reporting=url) as partner:
        for _ in range(3):
            async with plain.running():
                await partner.until_status(200, key=KEY)
                assert await partner.status(key=KEY) == 200
            assert await partner.status(key=KEY) in (502, 503)


async def test_a_restart_under_load_loses_only_what_was_in_flight(surroundings: Gate):
    """Once the service is there again no request meets the end of an old link, whatever its method.

    Clients that were failed wait for that; all others may lose the one request they had under way.
    """
    plain, is_back = Plain(answering), asyncio.Event()
    statuses, restarts = Counter[int](), list[int]()
    url = f"http://127.0.0.1:{plain.port}"
    settings = {"upstream_reporting": url, "upstream_keys": url, "token_burst": 1_000_000}
    is_back.set()
    async with (
        asyncio.timeout(2 * SECONDS),
        open_gateway(surroundings, **settings) as partner,
        contextlib.AsyncExitStack() as stack,
        asyncio.TaskGroup() as group,
    ):

        async def work(number: int) -> None:
            """Ask one thing after the other; half of the clients with what may not be repeated."""
            post = {"method": "POST", "headers": TOKEN, "data": b"{}"}
            while True:
                turn = len(restarts)
                if number % 2:
                    found = await partner.status(KEYS_OF_PARTNER, **post)
                else:
                    found = await partner.status(key=KEY)
                statuses[found] += 1
                assert found == 200 or len(restarts) > turn, found
                await is_back.wait()

        service = await stack.enter_async_context(contextlib.AsyncExitStack())
        await service.enter_async_context(plain.running())
        await partner.until_status(200, key=KEY)
        clients = [group.create_task(work(number)) for number in range(CLIENTS)]
        for turn in range(1, RESTARTS + 1):
            seen = statuses[200]
            await until(lambda seen=seen: statuses[200] > seen + 10 * CLIENTS)
            is_back.clear()
            restarts.append(turn)
            await service.aclose()
            await service.enter_async_context(plain.running())
            is_back.set()
            failed = statuses.total() - statuses[200]
            assert failed <= turn * CLIENTS, statuses
        seen = statuses[200]
        await until(lambda: statuses[200] > seen + 10 * CLIENTS)
        for client in clients:
            client.cancel()
    assert set(statuses) <= {200, 502, 503}


async def test_a_long_answer_passes_in_flat_memory(surroundings: Gate):
    """At the reader's pace, however long it is."""

    async def endless(plain: Plain, reader, writer):
        asked = await plain.head(reader)
        if b"?long" not in asked:
            writer.write(OK)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % THROUGH)
        piece = b"x" * 65_536
        for _ in range(THROUGH // len(piece)):
            writer.write(piece)
            await writer.drain()

    plain = Plain(endless)
    async with before(surroundings, plain) as partner, wire(partner.url) as (reader, writer):
        writer.write(GET.replace(b" HTTP", b"?long HTTP"))
        assert b" 200 " in await head(reader)
        memory, left = psutil.Process().memory_info().rss, THROUGH
        while left:
            piece = await reader.read(65_536)
            assert piece
            left -= len(piece)
        assert psutil.Process().memory_info().rss - memory < 24 * MEGABYTE


@pytest.mark.parametrize("framing", ["declared", "chunked"])
async def test_a_long_body_passes_in_flat_memory(surroundings: Gate, framing):
    """At the service's pace, however long it is."""

    async def taking(plain: Plain, reader, writer):
        asked = await plain.head(reader)
        if asked.startswith(b"POST"):
            last, tail = b"0\r\n\r\n" if b"chunked" in asked else b"the end", b""
            while b"the end" not in tail or not tail.endswith(last):
                tail = (tail + await reader.read(65_536))[-20:]
        writer.write(OK)

    plain = Plain(taking)
    piece = b"x" * (65_536 - 7) + b"the end"
    start = f"POST {KEYS_OF_PARTNER} HTTP/1.1\r\nHost: a\r\nAuthorization: t\r\n"
    async with before(surroundings, plain, body_bytes_max=2 * THROUGH) as partner:
        memory = psutil.Process().memory_info().rss
        async with wire(partner.url) as (reader, writer):
            is_chunked = framing == "chunked"
            length = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {THROUGH}"
            writer.write(f"{start}{length}\r\n\r\n".encode())
            pieces = THROUGH // len(piece)
            for number in range(pieces):
                content = piece if number == pieces - 1 else b"x" * len(piece)
                size = b"%x\r\n" % len(content)
                writer.write(size + content + b"\r\n" if is_chunked else content)
                await writer.drain()
            writer.write(b"0\r\n\r\n" if is_chunked else b"")
            assert await status(reader) == 200
        assert psutil.Process().memory_info().rss - memory < 24 * MEGABYTE


async def test_a_body_that_drips_is_not_waited_for(surroundings: Gate):
    """Never silent, but too slow to end: it would hold a link for ever."""

    async def patient(plain: Plain, reader, writer):
        while (await plain.head(reader)).startswith(b"GET"):
            writer.write(OK)
        await reader.read()

    plain = Plain(patient)
    slow = {"silence_seconds": 1.0, "body_bytes_per_second_min": 100_000}
    async with before(surroundings, plain, **slow) as partner, wire(partner.url) as wires:
        reader, writer = wires
        start = f"POST {KEYS_OF_PARTNER} HTTP/1.1\r\nHost: a\r\nAuthorization: t\r\n"
        writer.write(f"{start}Content-Length: 1000\r\n\r\n".encode())

        async def drip() -> None:
            for _ in range(1_000):
                writer.write(b"x")
                await asyncio.sleep(0.2)

        async with asyncio.TaskGroup() as group:
            dripping = group.create_task(drip())
            assert b" 408 " in await head(reader)
            dripping.cancel()


async def test_a_head_that_drips_is_not_waited_for(surroundings: Gate):
    """408 when it has taken too long, however little it was silent."""
    plain = Plain(answering)
    async with before(surroundings, plain, header_seconds=1.0) as partner:
        async with wire(partner.url) as (reader, writer), asyncio.TaskGroup() as group:

            async def drip() -> None:
                for letter in GET[:-2] + b"X: " + b"y" * 1_000:
                    writer.write(bytes([letter]))
                    await asyncio.sleep(0.1)

            dripping = group.create_task(drip())
            assert b" 408 " in await head(reader)
            dripping.cancel()
        async with wire(partner.url) as (reader, _):
            assert await reader.read() == b""


async def test_an_idle_connection_is_closed_without_a_word(surroundings: Gate):
    """So that a client does not take an error for the answer to its next request."""
    plain = Plain(answering)
    async with (
        before(surroundings, plain, keep_alive_seconds=1.0) as partner,
        wire(partner.url) as (reader, writer),
    ):
        writer.write(GET)
        assert await status(reader) == 200
        assert await reader.read() == b""


async def test_connections_are_bounded(surroundings: Gate):
    """Whoever comes too late is told so, and the others are served on."""
    plain = Plain(answering)
    async with (
        before(surroundings, plain, connections_max=4) as partner,
        contextlib.AsyncExitStack() as stack,
    ):
        answers = set()
        wires = [await stack.enter_async_context(wire(partner.url)) for _ in range(8)]
        for reader, writer in wires:
            writer.write(GET)
            with contextlib.suppress(ConnectionError):
                answers.add((await head(reader)).split(b" ")[1])
        assert answers == {b"200", b"503"}


async def test_a_stop_lets_the_request_in_flight_finish_and_closes(surroundings: Gate):
    """Its answer says that the connection ends; an idle one ends at once."""

    async def waiting(plain: Plain, reader, writer):
        while True:
            if b"?wait" in await plain.head(reader):
                await plain.go_on.wait()
            writer.write(OK)

    plain = Plain(waiting)
    async with (
        before(surroundings, plain, drain_seconds=SECONDS) as partner,
        wire(partner.url) as (reader, writer),
        wire(partner.url) as (idle, idle_writer),
    ):
        idle_writer.write(GET)
        assert await status(idle) == 200
        seen = plain.requests
        writer.write(GET.replace(b" HTTP", b"?wait HTTP"))
        await until(lambda: plain.requests > seen)
        partner.stop.set()
        assert await idle.read() == b""
        plain.go_on.set()
        assert b"connection: close" in await head(reader)
        assert await reader.read() == b"{}"


async def test_gateways_share_a_port_if_told_so(surroundings: Gate):
    """Two processes' worth of gateways on one port; either answers when the other has gone."""
    plain = Plain(answering)
    async with before(surroundings, plain, reuse_port=True) as partner:
        settings = GatewaySettings(
            kafka_bootstrap=surroundings.bootstrap,
            identity_secrets=SECRET,
            port=int(partner.url.rpartition(":")[2]),
            upstream_reporting=f"http://127.0.0.1:{plain.port}",
            reuse_port=True,
            drain_seconds=1.0,
        )
        second, opened = _watched(build(settings, **surroundings.tables))
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(second, stop))
            await until(lambda: bool(opened) and not opened[0].missing())
            await partner.until_status(200, key=KEY)
            stop.set()
        await partner.until_status(200, key=KEY)


def _watched(service: Service) -> tuple[Service, list[Lifecycle]]:
    """`service`, and where its lifecycle will be found: no request can ask one of two on a port."""
    lifecycles: list[Lifecycle] = []

    def opened(lifecycle: Lifecycle) -> AbstractAsyncContextManager[AsgiApp | Server]:
        lifecycles.append(lifecycle)
        return service.open(lifecycle)

    return replace(service, open=opened), lifecycles


async def test_https_is_spoken_with_a_certificate(surroundings: Gate, tmp_path: Path):
    """And plain HTTP is not, on the same port."""
    pem = _certificate(tmp_path)
    plain = Plain(answering)
    url = f"http://127.0.0.1:{plain.port}"
    context = ssl.create_default_context(cafile=str(pem))
    async with (
        asyncio.timeout(2 * SECONDS),
        plain.running(),
        open_gateway(surroundings, wait=None, upstream_reporting=url, tls_cert_file=pem) as partner,
    ):
        found = 0
        while found != 200:
            with contextlib.suppress(ConnectionError):
                async with wire(partner.url, ssl=context) as (reader, writer):
                    writer.write(GET)
                    found = await status(reader)
        async with wire(partner.url) as (reader, writer):
            writer.write(GET)
            assert b"HTTP/1.1 200" not in await reader.read()


def _certificate(folder: Path) -> Path:
    """One file with a key and a certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "gateway.pem"
    encoding = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    pem.write_bytes(key.private_bytes(encoding, form, plain) + certificate.public_bytes(encoding))
    return pem
