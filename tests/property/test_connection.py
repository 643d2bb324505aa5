"""Protects the way through the gateway from every order of events: bytes, full buffers, ticks.

One client sends a pipeline; two transports and a clock are played. Whatever comes in whichever
pieces and whoever stops reading when: each request is answered once, in order, with its own answer,
one is under way at a time, and in the end nothing is left of it all.
"""

import re
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.http1.server import Connection
from services.gateway.http1.upstream import Link
from shared.partner_key import generate
from tests.played_parts import PlayedGateway, Transport
from tests.soak import count

KEY = generate()
_KEY_LINE = f"X-Eflow-API-Key: {KEY.reveal()}\r\n"
KINDS = ("get", "unknown", "counted", "early", "chunked", "continued", "empty lines")
STEPS = (
    *("client", "client", "service", "service", "open"),
    *("full", "read", "link full", "link read", "tick"),
)


def request(kind: str, number: int) -> bytes:
    """A request that says which it is."""
    get = f"GET /v1/affiliates/network?n={number} HTTP/1.1\r\nHost: a\r\n{_KEY_LINE}"
    post = f"POST /v1/networks/apikey?n={number} HTTP/1.1\r\nHost: a\r\nAuthorization: t\r\n"
    chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n"
    text = {
        "get": f"{get}\r\n",
        "unknown": f"GET /v1/nothing?n={number} HTTP/1.1\r\nHost: a\r\n\r\n",
        "counted": f"{post}Content-Length: 600\r\n\r\n{'x' * 600}",
        "early": f"{post}X-Early: 1\r\nContent-Length: 600\r\n\r\n{'x' * 600}",
        "chunked": post + chunked,
        "continued": f"{post}Expect: 100-continue\r\nContent-Length: 6\r\n\r\nhello!",
        "empty lines": f"\r\n{get}\r\n",
    }[kind]
    return text.encode()


@dataclass
class Behind:
    """One connection of the service: reads requests, and has answers to give."""

    link: Link
    transport: Transport
    to_say: bytes = b""
    owed: int = 0
    seen: list[bytes] = field(default_factory=list)

    def look(self) -> None:
        """Answer the request that is there; none may come while another is under way.

        One is answered before its body has come; what comes of that is read over.
        """
        spared = self.transport.written[: self.owed]
        self.owed -= len(spared)
        self.transport.written = self.transport.written[len(spared) :]
        head, found, body = self.transport.written.partition(b"\r\n\r\n")
        if not found:
            return
        if b"transfer-encoding: chunked" in head and not body.endswith(b"0\r\n\r\n"):
            return
        length = re.search(rb"content-length: (\d+)", head)
        missing = 0 if length is None else int(length[1]) - len(body)
        if missing and b"x-early" not in head:
            return
        self.owed = missing
        assert re.match(rb"(GET|POST) /v1/\S+ HTTP/1\.1\r\n", head), head
        assert head.count(b" HTTP/1.1\r\n") == 1
        assert not self.to_say, "a request while the answer to another is under way"
        self.transport.written = b""
        number = re.search(rb"\?n=(\d+) ", head)[1]
        self.seen.append(number)
        if int(number) % 2:
            self.to_say = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(number), number)
        else:
            size = b"%x\r\n%b\r\n" % (len(number), number)
            self.to_say = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + size
            self.to_say += b"0\r\n\r\n"


class Play:
    """A client with a pipeline, and the service behind."""

    def __init__(self, kinds: list[str]) -> None:
        self.gateway = PlayedGateway(KEY)
        self.client: Connection
        self.client, self.transport = self.gateway.connect()
        self.unsent = b"".join(request(kind, number) for number, kind in enumerate(kinds))
        self.behind: list[Behind] = []
        self.is_full = self.is_link_full = False

    def step(self, name: str, size: int) -> None:
        """One event; what a socket would not do does not happen."""
        getattr(self, "on_" + name.replace(" ", "_"))(size)
        for each in self.behind:
            each.look()
        assert self.gateway.gateway.in_flight <= 1
        assert not self.transport.is_aborted

    def on_client(self, size: int) -> None:
        if self.transport.is_reading and self.unsent:
            piece, self.unsent = self.unsent[:size], self.unsent[size:]
            self.client.data_received(piece)

    def on_service(self, size: int) -> None:
        for each in self.behind:
            is_there = each.transport.is_reading and not each.transport.is_aborted
            if is_there and each.to_say:
                piece, each.to_say = each.to_say[:size], each.to_say[size:]
                each.link.data_received(piece)

    def on_open(self, _: int) -> None:
        while self.gateway.group.opened:
            self.gateway.group.opened -= 1
            self.gateway.pool._opening -= 1
            self.behind.append(Behind(*self.gateway.link()))

    def on_full(self, _: int) -> None:
        if not self.is_full:
            self.is_full = True
            self.client.pause_writing()

    def on_read(self, _: int) -> None:
        if self.is_full:
            self.is_full = False
            self.client.resume_writing()

    def on_link_full(self, _: int) -> None:
        if self.behind and not self.is_link_full:
            self.is_link_full = True
            self.behind[0].link.pause_writing()

    def on_link_read(self, _: int) -> None:
        if self.is_link_full:
            self.is_link_full = False
            self.behind[0].link.resume_writing()

    def on_tick(self, _: int) -> None:
        self.gateway.clock.advance(0.01)
        self.gateway.deadlines.tick()

    def end(self) -> None:
        """Everybody reads and says all that is left."""
        self.on_read(0)
        self.on_link_read(0)
        for _ in range(200):
            self.step("client", 10_000)
            self.step("open", 0)
            self.step("service", 10_000)

    def answers(self) -> list[tuple[int, bytes]]:
        """Status and content of all answers, read strictly; nothing is between or behind them."""
        found, rest = [], self.transport.written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        while rest:
            head, separator, rest = rest.partition(b"\r\n\r\n")
            assert separator
            status = int(re.match(rb"HTTP/1\.1 (\d{3}) ", head)[1])
            length = re.search(rb"content-length: (\d+)", head)
            if length is not None:
                body, rest = rest[: int(length[1])], rest[int(length[1]) :]
            else:
                chunks, _, rest = rest.partition(b"0\r\n\r\n")
                body = b"".join(chunks.split(b"\r\n")[1::2])
            found.append((status, body))
        return found


@settings(max_examples=count(150, 2_000), deadline=None)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from((1, 7, 60, 400))), max_size=80),
)
def test_in_any_order_of_events_each_request_gets_its_answer(kinds, steps):
    """In order, once, from a service that saw it once."""
    play = Play(kinds)
    for name, size in steps:
        play.step(name, size)
    play.end()
    found = play.answers()
    assert [status for status, _ in found] == [404 if kind == "unknown" else 200 for kind in kinds]
    for number, (status, body) in enumerate(found):
        assert status == 404 or body == b"%d" % number
    seen = [int(number) for each in play.behind for number in each.seen]
    assert sorted(seen) == [number for number, kind in enumerate(kinds) if kind != "unknown"]
    assert (
        play.gateway.gateway.in_flight == play.gateway.pool.busy == play.gateway.pool.waiting == 0
    )
