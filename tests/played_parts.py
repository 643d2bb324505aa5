"""A gateway without sockets: a test plays its clients' transports and its services'."""

import asyncio
from collections.abc import Coroutine

from services.gateway.api import Gateway
from services.gateway.handlers import Door, Limits
from services.gateway.http1.deadlines import Deadlines
from services.gateway.http1.server import Bounds, Connection, Server
from services.gateway.http1.upstream import Link, Pool, Reach
from services.gateway.http1.wire import HeadLimits
from services.gateway.metrics import GatewayMetrics
from services.gateway.pages import Pages
from services.gateway.summaries import Tally
from shared.access import AccessTable
from shared.clock import ManualClock
from shared.events import Budget, KeyState, NetworkState
from shared.http import OperationsAnswers
from shared.identity import IdentitySigner
from shared.partner_key import PartnerKey
from tests.views import FakeView

PLENTY = Budget(rate=1_000_000, burst=1_000_000)
SILENCE_SECONDS = 5.0
USUAL_BOUNDS = {
    "head": HeadLimits(8_000, 8_000),
    "connections_max": 100,
    "per_address_max": 50,
    "header_seconds": 10.0,
    "keep_alive_seconds": 75.0,
    "silence_seconds": SILENCE_SECONDS,
    "body_bytes_per_second_min": 1,
    "drain_seconds": 1.0,
}


class Transport(asyncio.Transport):
    """What a connection tells its socket."""

    def __init__(self, address: str = "203.0.113.7") -> None:
        super().__init__({"peername": (address, 4711)})
        self.written = b""
        self.is_reading = True
        self.is_aborted = self.has_ended = self.is_shut = False

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_ended = True

    def close(self) -> None:
        self.is_shut = True

    def abort(self) -> None:
        self.is_aborted = True


class Group:
    """Counts the links that were to be opened; a test makes them."""

    def __init__(self) -> None:
        self.opened = 0

    def create_task(self, work: Coroutine[object, object, None]) -> None:
        self.opened += 1
        work.close()


class PlayedGateway:
    """A gateway before one service, with one key of partner 7 of network 1."""

    def __init__(self, key: PartnerKey) -> None:
        self.clock = ManualClock()
        self.deadlines = Deadlines(self.clock)
        self.metrics = GatewayMetrics()
        self.group = Group()
        reach = Reach(connect_seconds=2.0, silence_seconds=SILENCE_SECONDS, links_max=10)
        self.pool = Pool("http://service:80", reach, self.deadlines, self.group)
        self.gateway = Gateway(
            self._door(key),
            {"reporting": self.pool, "keys": self.pool, "audit": self.pool},
            OperationsAnswers(dict, self.metrics.render),
            Pages(self.clock, PLENTY, ()),
            tally=Tally("played", rows_max=1_000),
            metrics=self.metrics,
            clock=self.clock,
            deadlines=self.deadlines,
        )
        self.server = Server(self.gateway, Bounds(**USUAL_BOUNDS), self.deadlines)

    def _door(self, key: PartnerKey) -> Door:
        keys, networks = FakeView(), FakeView()
        table = AccessTable(keys=keys, partners=FakeView(), networks=networks, stale_seconds=30)
        fields = {"network_affiliate_id": 7, "integration": "warehouse", "digest": key.digest}
        networks.put("1", NetworkState(network_id=1, version=1, affiliate=PLENTY))
        keys.put("k1", KeyState(key_id="k1", version=1, network_id=1, **fields))
        limits = Limits(
            header_bytes_max=8_000, body_bytes_max=1_000, token_budget=PLENTY, guess_budget=PLENTY
        )
        signer = IdentitySigner("a secret of sixteen bytes")
        return Door(table, signer, self.clock, trusted=(), limits=limits)

    def connect(self) -> tuple[Connection, Transport]:
        """A client."""
        connection, transport = Connection(self.server), Transport()
        connection.connection_made(transport)
        return connection, transport

    def link(self) -> tuple[Link, Transport]:
        """A connection to the service, which the pool has now."""
        link, transport = Link(self.pool), Transport()
        link.connection_made(transport)
        self.pool._links.add(link)
        self.deadlines.add(link)
        self.pool.give_back(link)
        return link, transport
