"""What our gateway thinks about a request, without sockets, Kafka or another process.

* `gateway.judge_us`: processor time for one good request of a client that came before: judging it
  (route, key, realm, time window, allowlist, partner, budget), its signed identity, what the answer
  says of budgets, its place in metrics and access summary. 1,000 keys of ten networks in turn,
  every second one with an allowlist.
* `gateway.exchange_us`: the same, and the heads and bodies of request and answer read and written
  besides, on connections that lead nowhere. What `gateway.cpu_us_per_request` has beyond it is the
  event loop's and the kernel's.
"""

import asyncio
import time
from itertools import cycle, islice

from services.gateway.api import Gateway
from services.gateway.app import _bounds, _limits, _reach
from services.gateway.config import GatewaySettings
from services.gateway.domain import RawHeaders, Request, rate_lines
from services.gateway.handlers import Door
from services.gateway.http1.deadlines import Deadlines
from services.gateway.http1.server import Connection, Server
from services.gateway.http1.upstream import Link, Pool
from services.gateway.http1.wire import Fields, RequestLine
from services.gateway.metrics import GatewayMetrics
from services.gateway.pages import Pages
from services.gateway.request_ids import request_ids
from services.gateway.sharing import SharedBudgets
from services.gateway.summaries import Row, Tally
from shared.access import AccessTable
from shared.clock import SystemClock
from shared.events import Budget, KeyState, NetworkState
from shared.http import OperationsAnswers
from shared.identity import IdentitySigner
from shared.partner_key import generate
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured
from tests.benchmarks.upstream_process import ANSWER
from tests.views import FakeView

NAMES = ("gateway.judge_us", "gateway.exchange_us")
SECRET = "a secret of sixteen bytes"
ROUNDS = 7
REQUESTS = 30_000
KEYS = 1_000
NETWORKS = 10
PATH = "/v1/affiliates/network"
LISTED = ("10.0.0.0/8", "2001:db8::/32", "127.0.0.1")


class Bench:
    """A door over tables that are set by hand, and what counts its requests."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.keys, self.partners, self.networks = FakeView(), FakeView(), FakeView()
        table = AccessTable(
            keys=self.keys, partners=self.partners, networks=self.networks, stale_seconds=30
        )
        self.door = Door(
            table,
            IdentitySigner(SECRET),
            self.clock,
            trusted=(),
            limits=_limits(GatewaySettings(identity_secrets=SECRET)),
            shared=SharedBudgets(self.clock, "bench", "1"),
        )
        self.metrics = GatewayMetrics()
        self.ids = request_ids()
        self.tally = Tally("bench", rows_max=50_000)
        self.heads = [self._new_key(number) for number in range(KEYS)]
        self.line = RequestLine("GET", PATH.encode())
        self.fields = cycle([Fields(head) for head in self.heads])

    def _new_key(self, number: int) -> RawHeaders:
        """Make a key known; the headers of a request that carries it."""
        key, network = generate(), 1 + number % NETWORKS
        state = KeyState(
            key_id=f"key-{number}",
            version=1,
            digest=key.digest,
            network_id=network,
            network_affiliate_id=number + 1,
            integration="bench",
            allowlist=LISTED if number % 2 else (),
        )
        plenty = Budget(rate=1e6, burst=1_000_000)
        self.keys.put(state.key_id, state)
        self.networks.put(
            str(network), NetworkState(network_id=network, version=1, affiliate=plenty)
        )
        return [
            (b"host", b"api.example"),
            (b"user-agent", b"python-requests/2.32"),
            (b"accept-encoding", b"gzip, deflate"),
            (b"accept", b"*/*"),
            (b"x-eflow-api-key", key.reveal().encode()),
        ]

    def pass_one(self, fields: Fields) -> None:
        """All that is thought about one request."""
        request = Request(self.line, fields, "127.0.0.1", next(self.ids))
        passage = self.door.judge(request)
        caller, route = passage.caller, passage.route
        assert passage.rejection is None
        assert caller is not None
        assert route is not None
        self.door.identity(request, passage, PATH)
        rate_lines(passage)
        self.metrics.seconds.labels(route.template, "200").observe(0.003)
        self.tally.add(
            int(self.clock.time()),
            caller.network_id,
            caller.network_affiliate_id,
            Row(
                key_id=caller.key_id,
                masked=caller.masked,
                method=self.line.method,
                endpoint=route.template,
                status=200,
                client_ip=passage.client_ip,
                refusal="",
            ),
        )

    def microseconds(self) -> float:
        """Processor time for one of `REQUESTS`."""
        began = time.process_time()
        for fields in islice(self.fields, REQUESTS):
            self.pass_one(fields)
        used = time.process_time() - began
        self.tally.take(float("inf"))
        return used / REQUESTS * 1e6


class Wire(asyncio.Transport):
    """A transport that counts what is written, and takes it nowhere."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 40_000)})
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)


class Exchanges:
    """A client's connection and a link to a service, both on a `Wire`."""

    def __init__(self, bench: Bench, group: asyncio.TaskGroup) -> None:
        settings = GatewaySettings(identity_secrets=SECRET)
        deadlines = Deadlines(bench.clock)
        pool = Pool(settings.upstream_reporting, _reach(settings), deadlines, group)
        gateway = Gateway(
            bench.door,
            {"reporting": pool},
            OperationsAnswers(dict, bench.metrics.render),
            Pages(bench.clock, Budget(rate=1, burst=1), ()),
            tally=bench.tally,
            metrics=bench.metrics,
            clock=bench.clock,
            deadlines=deadlines,
        )
        self.client, self.service = Wire(), Wire()
        self.connection = Connection(Server(gateway, _bounds(settings), deadlines))
        self.link = Link(pool)
        self.connection.connection_made(self.client)
        self.link.connection_made(self.service)
        pool.give_back(self.link)
        self.bench = bench
        lines = [b"".join(b"%b: %b\r\n" % header for header in head) for head in bench.heads]
        self.requests = cycle(
            f"GET {PATH} HTTP/1.1\r\n".encode() + each + b"\r\n" for each in lines
        )

    def microseconds(self) -> float:
        """Processor time for one of `REQUESTS`."""
        before = self.client.written
        began = time.process_time()
        for request in islice(self.requests, REQUESTS):
            self.connection.data_received(request)
            self.link.data_received(ANSWER)
        used = time.process_time() - began
        assert self.client.written - before > REQUESTS * len(ANSWER), "requests were not answered"
        self.bench.tally.take(float("inf"))
        return used / REQUESTS * 1e6


async def run(_context: Context) -> list[Figure]:
    """Both figures."""
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        exchanges = Exchanges(bench, group)
        bench.microseconds()
        exchanges.microseconds()
        return [
            measured("gateway.judge_us", "us", [bench.microseconds() for _ in range(ROUNDS)]),
            measured(
                "gateway.exchange_us", "us", [exchanges.microseconds() for _ in range(ROUNDS)]
            ),
        ]
