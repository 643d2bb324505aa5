"""Protects a connection's memory and order, on a transport that a test plays."""

import pytest

from services.gateway.http1.crowd import TURNED_AWAY_MAX
from services.gateway.http1.deadlines import Deadlines
from services.gateway.http1.server import BACKLOG_BYTES_MAX, Bounds, Connection, Server
from services.gateway.http1.wire import RequestHead, WireError
from shared.access import parse_proxies
from shared.clock import ManualClock
from tests.played_parts import SILENCE_SECONDS, USUAL_BOUNDS, Transport

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
PROXY = "10.1.1.1"


class Turn:
    """A request that is answered when a test says so."""

    def __init__(self, connection: Connection, head: RequestHead) -> None:
        self.connection = connection
        self.head = head
        self.told: list[str] = []

    def start(self) -> None:
        self.told.append("start")

    def on_body(self, piece: bytes) -> None:
        self.told.append("body")

    def on_body_end(self) -> None:
        self.told.append("body end")

    def on_body_fault(self, error: WireError) -> None:
        self.told.append("fault")

    def on_gone(self) -> None:
        self.told.append("gone")

    def on_full(self) -> None:
        self.told.append("full")

    def on_writable(self) -> None:
        self.told.append("writable")


class Handler:
    """Remembers the turns."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.errors: list[WireError] = []

    def turn(self, connection: Connection, head: RequestHead) -> Turn:
        self.turns.append(Turn(connection, head))
        return self.turns[-1]

    def on_unreadable(self, connection: Connection, error: WireError) -> None:
        self.errors.append(error)
        connection.write(b"no")


class Play:
    """A server without sockets."""

    def __init__(self, **bounds: int) -> None:
        self.clock = ManualClock(0.0)
        self.deadlines = Deadlines(self.clock)
        self.handler = Handler()
        trusted = parse_proxies(PROXY)
        self.server = Server(
            self.handler, Bounds(**(USUAL_BOUNDS | bounds)), self.deadlines, trusted=trusted
        )

    def connect(self, address: str = "203.0.113.7") -> tuple[Connection, Transport]:
        """A client."""
        connection, transport = Connection(self.server), Transport(address)
        connection.connection_made(transport)
        return connection, transport

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)
        self.deadlines.tick()

    @property
    def paths(self) -> list[str]:
        """Of the requests whose turn has come."""
        return [turn.head.line.path for turn in self.handler.turns]


@pytest.fixture
def play():
    return Play()


def test_the_next_request_waits_until_the_answer_before_it_was_read(play: Play):
    """Answers to a client that reads nothing would pile up, one small piece after the other."""
    connection, _ = play.connect()
    connection.data_received(GET % 1 + GET % 2)
    connection.pause_writing()
    connection.finish()
    assert play.paths == ["/1"]
    connection.data_received(GET % 3)
    assert play.paths == ["/1"]
    connection.resume_writing()
    assert play.paths == ["/1", "/2"]
    connection.finish()
    assert play.paths == ["/1", "/2", "/3"]


def test_what_a_client_sends_while_it_reads_nothing_is_left_to_the_kernel(play: Play):
    """Beyond the backlog nothing is taken off its socket."""
    connection, transport = play.connect()
    connection.data_received(GET % 1)
    connection.pause_writing()
    connection.finish()
    for _ in range(BACKLOG_BYTES_MAX // 1_000 + 1):
        connection.data_received((GET % 2) * 40)
    assert not transport.is_reading
    connection.resume_writing()
    assert play.paths == ["/1", "/2"]


@pytest.mark.parametrize("sends", [False, True])
def test_a_client_that_reads_nothing_gains_no_time_by_sending(play: Play, sends):
    """It is cut off when it has not read for so long."""
    connection, transport = play.connect()
    connection.data_received(GET % 1)
    connection.pause_writing()
    connection.finish()
    for _ in range(4):
        play.wait(SILENCE_SECONDS / 4 - 0.1)
        if sends:
            connection.data_received(GET % 2)
    assert not transport.is_aborted
    play.wait(0.5)
    assert transport.is_aborted


def test_one_address_cannot_hold_all_connections():
    """One more is told so and lingers; another address, and our own proxy, come in."""
    play = Play(connections_max=100, per_address_max=3)
    inside = [play.connect() for _ in range(3)]
    connection, transport = play.connect()
    assert [error.status for error in play.handler.errors] == [429]
    assert (transport.written, transport.has_ended) == (b"no", True)
    play.connect("203.0.113.8")
    for _ in range(10):
        play.connect(PROXY)
    assert len(play.handler.errors) == 1
    connection.connection_lost(None)
    inside[0][0].connection_lost(None)
    play.connect()
    assert len(play.handler.errors) == 1
    play.connect()
    assert len(play.handler.errors) == 2


def test_those_who_are_turned_away_cannot_fill_the_process():
    """Some are told why, the others are cut off, and who is in stays in."""
    play = Play(connections_max=2, per_address_max=1)
    first, _ = play.connect("203.0.113.1")
    play.connect("203.0.113.2")
    away = [play.connect(f"203.0.113.{3 + number % 200}") for number in range(300)]
    assert [error.status for error in play.handler.errors] == [503] * TURNED_AWAY_MAX
    assert sum(transport.is_aborted for _, transport in away) == 300 - TURNED_AWAY_MAX
    assert play.server.crowd.cut_off == 300 - TURNED_AWAY_MAX
    for connection, _ in away:
        connection.connection_lost(None)
    assert play.server.connections == len(play.server.crowd) == 2
    first.data_received(GET % 1)
    assert play.paths == ["/1"]
