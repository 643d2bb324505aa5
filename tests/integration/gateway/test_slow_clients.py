"""Protects the gateway from clients that take their time, and from very many of them.

Each wait has a bound, whatever trickles in meanwhile: a bound that each byte renewed would be none.
"""

import itertools
import time
from contextlib import ExitStack

import pytest

from services.gateway.http1.crowd import TURNED_AWAY_MAX
from shared.events import Budget
from shared.partner_key import generate
from tests.hostile_parts import EndedError, Fort, Message, Wire, fort, request, until
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.slow

KEY = generate()
PATH = "/v1/affiliates/network"
TABLE = "/v1/affiliates/reporting/entity/table"
ISSUE = "/v1/networks/affiliates/7/apikeys"
CONNECTIONS_MAX = 500
PER_ADDRESS_MAX = 12
PROXY = "127.9.9.9"
DRIP_SECONDS = 0.1


def _settle(found: Fort) -> Fort:
    found.put_key(KEY, "k1")
    found.put_network(1, Budget(rate=100_000, burst=1_000_000))
    found.until_status(200, request(key=KEY))
    return found


@pytest.fixture(scope="module")
def gateway(kafka_bootstrap, tmp_path_factory):
    """A gateway of little patience."""
    folder = tmp_path_factory.mktemp("slow")
    settings = {
        "GATEWAY_HEADER_SECONDS": "1",
        "GATEWAY_KEEP_ALIVE_SECONDS": "1",
        "GATEWAY_SILENCE_SECONDS": "2",
        "GATEWAY_BODY_BYTES_PER_SECOND_MIN": "1000",
        "GATEWAY_CONNECTIONS_PER_ADDRESS_MAX": str(PER_ADDRESS_MAX),
        "GATEWAY_TRUSTED_PROXIES": PROXY,
    }
    with fort(kafka_bootstrap, f"slow-{folder.name}", folder, **settings) as found:
        yield _settle(found)
        assert found.errors() == []


@pytest.fixture(scope="module")
def crowded(kafka_bootstrap, tmp_path_factory):
    """A gateway for few clients."""
    folder = tmp_path_factory.mktemp("crowded")
    settings = {"GATEWAY_CONNECTIONS_MAX": str(CONNECTIONS_MAX)}
    with fort(kafka_bootstrap, f"crowded-{folder.name}", folder, **settings) as found:
        yield _settle(found)
        assert found.errors() == []


def drip(wire: Wire, content: bytes) -> Message:
    """Send byte by byte, more often than any time-out; the answer, or a failure if none comes."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    wire.sock.settimeout(DRIP_SECONDS)
    for number in itertools.count():
        assert time.monotonic() < deadline, "each byte bought more time"
        wire.send(content[number : number + 1] or content[-1:])
        try:
            return wire.answer()
        except TimeoutError:
            continue
    raise AssertionError


def assert_late(answer: Message) -> None:
    """408 in wire form."""
    assert answer.status == 408
    assert answer.json["Error"] == answer.json["error"] == answer.json["message"]
    assert len(answer.value("x-request-id") or "") == 32


@pytest.mark.parametrize("start", [b"G", b"GET /v1/aff", request(key=KEY)[:-2]])
def test_a_head_that_stops_coming_is_not_waited_for(gateway: Fort, start):
    """408, and the connection ends."""
    with gateway.wire() as wire:
        assert_late(wire.send(start).answer())
        assert wire.is_over()


def test_a_head_that_trickles_is_not_waited_for(gateway: Fort):
    """The bound is for the whole head, not for a byte of it."""
    with gateway.wire() as wire:
        assert_late(drip(wire, b"GET /v1/affiliates/network HTTP/1.1\r\nX-Slow: " + b"y" * 10_000))


def test_a_second_head_that_trickles_is_not_waited_for_either(gateway: Fort):
    """Nor is one that begins right after a request, or in the same packet."""
    with gateway.wire() as wire:
        assert wire.send(request(key=KEY) + b"GET /v1").answer().status == 200
        assert_late(drip(wire, b"/affiliates/network HTTP/1.1\r\nX-Slow: " + b"y" * 10_000))


def test_empty_lines_do_not_hold_a_connection(gateway: Fort):
    """They are no request, however many come."""
    with gateway.wire() as wire:
        wire.sock.settimeout(DRIP_SECONDS)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not wire.send(b"\r\n").is_over():
            assert time.monotonic() < deadline
            if wire.held:
                assert b" 400 " in wire.held or b" 408 " in wire.held
                break


@pytest.mark.parametrize("used", [False, True])
def test_a_client_that_asks_nothing_is_let_go(gateway: Fort, used):
    """Without a word: there is nothing to answer."""
    with gateway.wire() as wire:
        if used:
            assert wire.send(request(key=KEY)).answer().status == 200
        assert wire.is_over()


@pytest.mark.parametrize("target", [TABLE, ISSUE])
@pytest.mark.parametrize("framing", ["Content-Length: 50000", "Transfer-Encoding: chunked"])
def test_a_body_that_trickles_is_not_waited_for(gateway: Fort, framing, target):
    """It has a pace to keep; a service that had begun to read sees it broken off."""
    gateway.mad.forget()
    headers = (framing, "Authorization: Bearer x")
    start = request(target, method="POST", key=KEY if target == TABLE else None, headers=headers)
    with gateway.wire() as wire:
        wire.send(start)
        content = b"1\r\nx\r\n" * 10_000 if "chunked" in framing else b"x" * 50_000
        assert_late(drip(wire, content))
    assert not any(seen.is_whole for seen in gateway.mad.seen)


def test_a_client_that_does_not_read_is_let_go(gateway: Fort):
    """And the service is told, though the client never closed."""
    gateway.mad.forget()
    with gateway.wire() as wire:
        wire.send(request(f"{PATH}?do=for_ever", key=KEY))
        assert wire.head().status == 200
        until(lambda: gateway.mad.was_left("for_ever"))
        with pytest.raises(EndedError):
            list(wire.chunks())


def test_a_quiet_service_is_no_fault_of_its_client(gateway: Fort):
    """While a request is being answered, the client is not expected to say anything."""
    with gateway.wire() as wire:
        answer = wire.send(request(f"{PATH}?do=late", key=KEY)).answer()
        assert answer.status == 200
        assert wire.send(request(key=KEY)).answer().status == 200


def test_an_address_has_its_part_of_the_connections_and_a_proxy_any(gateway: Fort):
    """One more is told so; others come in meanwhile, and it too once it has let go."""
    with ExitStack() as stack:
        for _ in range(PER_ADDRESS_MAX):
            stack.enter_context(gateway.wire(source="127.0.0.77"))
        until(lambda: gateway.metric("gateway_connections") > PER_ADDRESS_MAX)
        with gateway.wire(source="127.0.0.77") as wire:
            answer = wire.send(request(key=KEY)).answer()
            assert (answer.status, answer.value("retry-after")) == (429, "1")
            assert answer.json["error"].startswith("Too many connections from this address")
            assert wire.is_over()
        for _ in range(2 * PER_ADDRESS_MAX):
            stack.enter_context(gateway.wire(source=PROXY))
        assert gateway.ask(request(key=KEY), source=PROXY).status == 200
        assert gateway.ask(request(key=KEY), source="127.0.0.78").status == 200
    deadline = time.monotonic() + DEADLINE_SECONDS
    while gateway.ask(request(key=KEY), source="127.0.0.77").status != 200:
        assert time.monotonic() < deadline


def test_turning_away_has_its_bound_too(gateway: Fort):
    """Whoever connects on and on is cut off in the end, and takes nothing from the others."""
    before = gateway.metric("gateway_connections_cut_off")
    with ExitStack() as stack:
        for _ in range(PER_ADDRESS_MAX + 2 * TURNED_AWAY_MAX):
            stack.enter_context(gateway.wire(source="127.0.0.79"))
        until(lambda: gateway.metric("gateway_connections_cut_off") > before)
        assert gateway.metric("gateway_connections") <= 2 * PER_ADDRESS_MAX + TURNED_AWAY_MAX
        assert gateway.ask(request(key=KEY), source="127.0.0.80").status == 200


def test_a_crowd_is_bounded_and_whoever_is_in_stays_in(crowded: Fort):
    """One more is told so and let go; when somebody leaves there is room; memory stays small."""
    before = crowded.resident_bytes()
    with ExitStack() as stack:
        wires = [stack.enter_context(crowded.wire()) for _ in range(CONNECTIONS_MAX)]
        for wire in wires:
            assert wire.send(request(key=KEY)).answer().status == 200
        with crowded.wire() as wire:
            answer = wire.send(request(key=KEY)).answer()
            assert (answer.status, answer.json["error"]) == (503, "Temporarily unavailable.")
            assert wire.is_over()
        for wire in wires[::50]:
            assert wire.send(request(key=KEY)).answer().status == 200
        assert crowded.resident_bytes() - before < 64 * 1024 * 1024
    crowded.until_status(200, request(key=KEY))


def test_ten_thousand_connections_that_come_and_go_leave_nothing(crowded: Fort):
    """As many at once as the system holds back for us, again and again."""
    before = crowded.resident_bytes()
    for _ in range(20):
        wires = [crowded.wire() for _ in range(500)]
        for wire in wires[::2]:
            wire.send(b"GET /v1")
        for wire in wires:
            wire.reset()
    crowded.until_status(200, request(key=KEY))
    assert crowded.resident_bytes() - before < 64 * 1024 * 1024
