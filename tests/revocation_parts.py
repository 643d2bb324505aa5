"""Real gateway processes, and a partner at each door who never stops asking with one key.

What a door decided is judged by one monotonic clock, the caller's: an accepted request was decided
after it was sent, a refused one before its answer was read. So the send time of the last accepted
request and the reading of the first refusal enclose the moment at which a door shut.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

import httpx

from deploy.local.ports import free_ports
from tests.backends import ROOT
from tests.keys_parts import Platform
from tests.waiting import DEADLINE_SECONDS

NETWORK_PATH = "/v1/affiliates/network"
HIGH_BUDGETS = {
    "affiliate": {"rate": 1_000_000, "burst": 1_000_000},
    "granular_per_hour": 1_000,
    "shadow": False,
}
NOBODY = 0
"""The status of a request that no door answered."""
_EXPECTED = frozenset((200, 401, 503))
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

T = TypeVar("T")


class _Upstream(asyncio.Protocol):
    """Answers every request, which has no body, with an empty object."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        *requests, self._tail = (self._tail + data).split(b"\r\n\r\n")
        self._transport.write(_ANSWER * len(requests))


@asynccontextmanager
async def open_upstream(port: int) -> AsyncIterator[None]:
    """What lies behind the doors, on `port`, as fast as Python allows."""
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


class Door:
    """One connection to a gateway, kept open; made anew after the gateway has gone."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, secret: str) -> int:
        """The status that the holder of `secret` is answered; `NOBODY` if there is no answer."""
        try:
            return await self._ask(secret)
        except (OSError, EOFError):
            self.close()
            return NOBODY

    async def _ask(self, secret: str) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(
            f"GET {NETWORK_PATH} HTTP/1.1\r\nhost: door\r\nx-eflow-api-key: {secret}\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        status = int(head[9:12])
        assert status in _EXPECTED, head
        return status

    def close(self) -> None:
        """Leave; the next `ask` connects again."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Gateway:
    """A gateway process that can be killed and started again on the same port."""

    def __init__(self, platform: Platform, upstream_port: int) -> None:
        self.port = free_ports(1)[0]
        self.is_open = False
        self._log: Path = platform.home / f"gateway-{self.port}.log"
        self._variables = platform.environment(
            GATEWAY_PORT=str(self.port),
            GATEWAY_UPSTREAM_REPORTING=f"http://127.0.0.1:{upstream_port}",
            GATEWAY_DRAIN_SECONDS="1",
            GATEWAY_GUESS_BURST="1000000",
        )
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `until_open` waits."""
        with self._log.open("ab") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "services.gateway"],
                cwd=ROOT,
                env=self._variables,
                stdout=out,
                stderr=out,
            )

    async def until_open(self) -> Self:
        """Wait until it may receive traffic."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        async with httpx.AsyncClient(timeout=5, verify=False) as client:
            while not await self._is_ready(client):
                assert self._running().poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                await asyncio.sleep(0.05)
        self.is_open = True
        return self

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        try:
            answer = await client.get(f"http://127.0.0.1:{self.port}/readyz")
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._child is not None, "not started"
        return self._child

    def kill(self) -> None:
        """As a power cut would."""
        self.is_open = False
        self._running().kill()
        self._running().wait()

    def close(self) -> None:
        """Tell it to stop, and wait."""
        self.is_open = False
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


@asynccontextmanager
async def open_gateways(
    platform: Platform, count: int, upstream_port: int
) -> AsyncIterator[list[Gateway]]:
    """`count` gateways of one platform, all open."""
    gateways = [Gateway(platform, upstream_port) for _ in range(count)]
    try:
        for gateway in gateways:
            gateway.start()
        for gateway in gateways:
            await gateway.until_open()
        yield gateways
    finally:
        for gateway in gateways:
            gateway.close()


# --- one key, asked for at every door -------------------------------------------------------------


@dataclass(slots=True)
class Sighting:
    """What one door did with one key; moments by the monotonic clock.

    Attributes:
        accepted_at: when the last request that was let in had been sent; 0 if none was.
        refused_at: when the first refusal had been read; infinite if none was.
        reopened: requests let in that were sent after a refusal had been read.
    """

    accepted_at: float = 0.0
    refused_at: float = float("inf")
    reopened: int = 0

    def note(self, status: int, sent_at: float, read_at: float) -> None:
        """Take in one answer."""
        if status == 200:
            self.accepted_at = max(self.accepted_at, sent_at)
            self.reopened += sent_at > self.refused_at
        elif status == 401:
            self.refused_at = min(self.refused_at, read_at)


@dataclass(slots=True)
class Siege:
    """A key asked for at all doors, one request after another at each, `pause_seconds` apart."""

    secret: str
    gateways: Sequence[Gateway]
    doors: Sequence[Door]
    pause_seconds: float
    sightings: list[Sighting] = field(default_factory=list)
    _is_over: bool = False

    def __post_init__(self) -> None:
        self.sightings = [Sighting() for _ in self.doors]

    async def during(self, change: Callable[[], Awaitable[T]]) -> T:
        """Ask from before `change` is made until every open gateway refuses the key."""
        async with asyncio.TaskGroup() as group:
            for door, sighting in zip(self.doors, self.sightings, strict=True):
                group.create_task(self._ask(door, sighting))
            try:
                await self._until(lambda sighting: sighting.accepted_at > 0)
                made = await change()
                await self._until(lambda sighting: sighting.refused_at < float("inf"))
            finally:
                self._is_over = True
        return made

    async def _ask(self, door: Door, sighting: Sighting) -> None:
        while not self._is_over:
            sent_at = time.monotonic()
            status = await door.ask(self.secret)
            read_at = time.monotonic()
            sighting.note(status, sent_at, read_at)
            await asyncio.sleep(max(0.0, sent_at + self.pause_seconds - read_at))

    async def _until(self, holds: Callable[[Sighting], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not all(map(holds, self.of_open_gateways())):
                await asyncio.sleep(0.001)

    def of_open_gateways(self) -> list[Sighting]:
        """What the gateways did that are not being started or dead."""
        pairs = zip(self.gateways, self.sightings, strict=True)
        return [sighting for gateway, sighting in pairs if gateway.is_open]


async def let_in(secrets: Sequence[str], door: Door) -> int:
    """How many of `secrets` a door lets in; one after another."""
    return sum([await door.ask(secret) == 200 for secret in secrets])


async def issue_many(
    platform: Platform, caller: object, integrations: Sequence[str], *, at_once: int = 8
) -> list[dict]:
    """Keys of partner 7 for `integrations`, in their order."""
    found: dict[str, dict] = {}
    waiting = iter(integrations)

    async def issue_some() -> None:
        for integration in waiting:
            found[integration] = await platform.issue(caller, 7, integration)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(issue_some())
    return [found[integration] for integration in integrations]


@contextmanager
def doors_of(gateways: Sequence[Gateway]):
    """A connection to each of `gateways`."""
    doors = [Door(gateway.port) for gateway in gateways]
    try:
        yield doors
    finally:
        for door in doors:
            door.close()
