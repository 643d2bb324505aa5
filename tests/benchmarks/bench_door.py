"""What our gateway thinks about a request, without sockets, Kafka or another process.

* `gateway.judge_us`: processor time for one good request: reading its headers, judging it (route,
  key, realm, time window, allowlist, partner, budget), its signed identity, the headers that go on,
  those of the answer, its place in metrics and access summary. 1,000 keys of ten networks in turn,
  every second one with an allowlist.
"""

import time
from itertools import cycle, islice

from services.gateway.app import _limits
from services.gateway.config import GatewaySettings
from services.gateway.domain import RawHeaders, Request, forwarded, rate_headers
from services.gateway.handlers import Door
from services.gateway.metrics import GatewayMetrics
from services.gateway.request_ids import request_ids
from services.gateway.summaries import Row, Tally
from shared.access import AccessTable
from shared.clock import SystemClock
from shared.events import Budget, KeyState, NetworkState
from shared.identity import IdentitySigner
from shared.partner_key import generate
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured
from tests.views import FakeView

NAMES = ("gateway.judge_us",)
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
        )
        self.metrics = GatewayMetrics()
        self.ids = request_ids()
        self.tally = Tally("bench", rows_max=50_000)
        self.heads = cycle([self._new_key(number) for number in range(KEYS)])

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

    def pass_one(self, headers: RawHeaders) -> None:
        """All that is thought about one request."""
        request = Request("GET", PATH, b"", headers, "127.0.0.1", next(self.ids))
        passage = self.door.judge(request)
        caller, route = passage.caller, passage.route
        assert passage.rejection is None
        assert caller is not None
        assert route is not None
        forwarded(request, self.door.identity(request, passage, request.path))
        rate_headers(passage)
        self.metrics.seconds.labels(route.template, "200").observe(0.003)
        self.tally.add(
            int(self.clock.time()),
            caller.network_id,
            caller.network_affiliate_id,
            Row(
                key_id=caller.key_id,
                masked=caller.masked,
                method=request.method,
                endpoint=route.template,
                status=200,
                client_ip=passage.client_ip,
                refusal="",
            ),
        )

    def microseconds(self) -> float:
        """Processor time for one of `REQUESTS`."""
        began = time.process_time()
        for headers in islice(self.heads, REQUESTS):
            self.pass_one(headers)
        used = time.process_time() - began
        self.tally.take(float("inf"))
        return used / REQUESTS * 1e6


async def run(_context: Context) -> list[Figure]:
    """The one figure."""
    bench = Bench()
    bench.microseconds()
    return [measured("gateway.judge_us", "us", [bench.microseconds() for _ in range(ROUNDS)])]
