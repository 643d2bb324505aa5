"""A program for limiter benchmarks and tests: one partner's requests, and what lies behind.

    python -m tests.benchmarks.limiter_process < settings.json

Reads one line of JSON: `upstream_port`, `gateway_ports`, `weights` (a share of the requests for
each of them), `secret`, `requests_per_second` and `seconds`. Prints a line when it begins, and at
the end one of JSON: `answers`, a list of [seconds since the beginning at which it was due, status
(0 for none), milliseconds from then to the answer].

The loop is open: a request is sent when it is due, whatever became of those before, on an idle
connection or else on a new one. Which gateway it goes to is dealt out evenly. One that is not there
gets none; the others get its requests, as behind a load balancer.
"""

import asyncio
import json
import sys
import time

import uvloop

from tests.revocation_parts import NETWORK_PATH, open_upstream

OPENED_BEFORE = 4
"""Connections to each gateway that are there before the first request."""
LAST_SECONDS = 10.0
"""How long answers are waited for at the end."""


class _Link(asyncio.Protocol):
    """A connection to a gateway; answers one request at a time."""

    def __init__(self, way: "_Way") -> None:
        self._way = way
        self._held = b""
        self._due: float | None = None
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, due: float) -> None:
        """Send a request."""
        self._due = due
        self.transport.write(self._way.request)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found:
            return
        lowered = head.lower()
        length = int(lowered.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._held = b""
        due, self._due = self._due, None
        self._way.answered(self, due, int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._way.lost(self, self._due)


class _Way:
    """The connections to one gateway."""

    def __init__(self, port: int, request: bytes, driver: "_Driver") -> None:
        self.port = port
        self.request = request
        self.is_there = True
        self._driver = driver
        self._idle: list[_Link] = []

    async def open(self) -> _Link | None:
        """Another connection; None if nobody listens."""
        loop = asyncio.get_running_loop()
        try:
            _, link = await loop.create_connection(lambda: _Link(self), "127.0.0.1", self.port)
        except OSError:
            self.is_there = False
            return None
        return link

    def add(self, link: _Link) -> None:
        """Let it be used."""
        self._idle.append(link)

    def idle(self) -> _Link | None:
        """A connection that is open and unused."""
        return self._idle.pop() if self._idle else None

    def answered(self, link: _Link, due: float, status: int) -> None:
        self._idle.append(link)
        self._driver.note(due, status)

    def lost(self, link: _Link, due: float | None) -> None:
        if link in self._idle:
            self._idle.remove(link)
        if due is not None:
            self._driver.note(due, 0)


class _Driver:
    """Sends on schedule and notes the answers."""

    def __init__(self, settings: dict) -> None:
        request = (
            f"GET {NETWORK_PATH} HTTP/1.1\r\nhost: door\r\n"
            f"x-eflow-api-key: {settings['secret']}\r\n\r\n"
        ).encode()
        self.ways = [_Way(port, request, self) for port in settings["gateway_ports"]]
        self.weights = settings["weights"]
        self.credits = [0.0] * len(self.ways)
        self.pause = 1 / settings["requests_per_second"]
        self.seconds = settings["seconds"]
        self.began = 0.0
        self.asked = 0
        self.answers: list[tuple[float, int, float]] = []

    def note(self, due: float, status: int) -> None:
        """An answer, or none, to the request that was due then."""
        took = time.monotonic() - self.began - due
        self.answers.append((round(due, 4), status, round(1_000 * took, 3)))

    async def run(self) -> None:
        """Send everything, and wait for the last answers."""
        for way in self.ways:
            for _ in range(OPENED_BEFORE):
                link = await way.open()
                assert link is not None, f"nobody listens on {way.port}"
                way.add(link)
        self.began = time.monotonic()
        print("begins", flush=True)
        async with asyncio.TaskGroup() as group:
            while (due := self.asked * self.pause) < self.seconds:
                ahead = due - (time.monotonic() - self.began)
                if ahead > 0:
                    await asyncio.sleep(ahead)
                self.asked += 1
                self._ask(self._deal(), due, group)
        end = time.monotonic() + LAST_SECONDS
        while len(self.answers) < self.asked and time.monotonic() < end:
            await asyncio.sleep(0.01)

    def _deal(self) -> _Way:
        """The gateway whose turn it is: each gets its share, evenly in time."""
        there = [index for index, way in enumerate(self.ways) if way.is_there]
        whole = sum(self.weights[index] for index in there)
        for index in there:
            self.credits[index] += self.weights[index] / whole
        chosen = max(there, key=lambda index: self.credits[index])
        self.credits[chosen] -= 1
        return self.ways[chosen]

    def _ask(self, way: _Way, due: float, group: asyncio.TaskGroup) -> None:
        link = way.idle()
        if link is None:
            group.create_task(self._ask_anew(way, due))
        else:
            link.ask(due)

    async def _ask_anew(self, way: _Way, due: float) -> None:
        link = await way.open()
        if link is None:
            way = self._deal()
            link = way.idle() or await way.open()
        if link is None:
            self.note(due, 0)
        else:
            link.ask(due)


async def main() -> None:
    """Drive as told."""
    settings = json.loads(sys.stdin.readline())
    driver = _Driver(settings)
    async with open_upstream(settings["upstream_port"]):
        await driver.run()
    print(json.dumps({"answers": driver.answers}))


if __name__ == "__main__":
    uvloop.run(main())
