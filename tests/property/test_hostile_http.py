"""Protects the gateway from whatever bytes come: generated requests, most of them bad in some way.

They go over the wire to a real process. Each connection must be answered or ended, never by a 5xx of
ours (the service behind always answers 200); what got through was judged and signed as what it was;
and when all is over the process is as large, and as idle, as before.
"""

import re
import selectors
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.events import Budget
from shared.identity import IdentitySigner
from shared.partner_key import generate
from tests.hostile_parts import SECRET, EndedError, Fort, Seen, Wire, fort, request, until
from tests.soak import count
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.slow

KEY = generate()
AT_ONCE = 20
BATCHES = count(25, 500)
ANSWER_SECONDS = 0.3
"""How long a connection may think before its client closes its half; then it must end."""
GROWTH_BYTES_MAX = 48 * 1024 * 1024
TABLE = "/v1/affiliates/reporting/entity/table"
ISSUE = "/v1/networks/affiliates/7/apikeys"
TOKEN = "Authorization: Bearer token"

WHOLE = [
    request(key=KEY),
    request("/v1/affiliates/reporting/clicks/abc?x=1", key=KEY),
    request("/v1/nothing", key=KEY),
    request(key=generate()),
    request(TABLE, method="POST", key=KEY, body=b'{"columns": []}'),
    request(ISSUE, method="POST", headers=(TOKEN,), body=b"x" * 300),
    request(TABLE, method="POST", key=KEY, headers=("Transfer-Encoding: chunked",))
    + b"5\r\nhello\r\n0\r\n\r\n",
    request(ISSUE, method="POST", headers=(TOKEN, "Transfer-Encoding: chunked"))
    + b"a;x=y\r\n0123456789\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
    request(TABLE, method="POST", key=KEY, headers=("Expect: 100-continue",), body=b"{}"),
    request(version="HTTP/1.0", key=KEY),
]
PIECES = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b";", b",", b"\xff", b"0",
    b"\r\n ", b"GET / HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"0\r\n\r\n", b"ffffffff\r\n",
    b"\r\nContent-Length: 5", b"\r\nContent-Length: 0", b"\r\nContent-Length: 99999999999999999999",
    b"\r\nContent-Length: -1", b"\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding: gzip",
    b"\r\nTransfer-Encoding : chunked", b"\r\nConnection: close", b"\r\nConnection: content-length",
    b"\r\nConnection: upgrade\r\nUpgrade: h2c", b"\r\nHost: b", b"\r\nExpect: 100-continue",
    b"\r\nX-Portico-Identity: v1.x", b"%2e%2e", b"../", b"//", b"#", b"?", b"*", b"\\",
    b"x" * 20_000, b"\r\nX-A: b" * 150, b"/" * 9_000,
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """One to three requests with a few places changed."""
    content = b"".join(draw(st.lists(st.sampled_from(WHOLE), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        end = min(len(content), at + draw(st.sampled_from((0, 0, 1, 2, 7, 60))))
        kind = draw(st.sampled_from(("put", "put", "cut", "repeat", "noise", "end")))
        if kind == "put":
            content = content[:at] + draw(st.sampled_from(PIECES)) + content[end:]
        elif kind == "cut":
            content = content[:at] + content[end:]
        elif kind == "repeat":
            content = content[:end] + content[at:end] + content[end:]
        elif kind == "noise":
            content = content[:at] + draw(st.binary(min_size=1, max_size=20)) + content[end:]
        else:
            content = content[:at]
    return content


HOSTILE = st.one_of(mutated(), mutated(), mutated(), st.binary(max_size=400))


@pytest.fixture(scope="module")
def running(kafka_bootstrap, tmp_path_factory):
    """A gateway for all batches; at the end its log holds no error and no key."""
    folder = tmp_path_factory.mktemp("generated")
    variables = {
        "GATEWAY_SILENCE_SECONDS": "5",
        "GATEWAY_TOKEN_RATE": "1000000",
        "GATEWAY_TOKEN_BURST": "1000000",
    }
    with fort(kafka_bootstrap, f"generated-{folder.name}", folder, **variables) as found:
        found.put_key(KEY, "k1")
        found.put_network(1, Budget(rate=1_000_000, burst=1_000_000), granular_per_hour=1_000_000)
        found.until_status(200, request(key=KEY))
        for content in WHOLE * 20:
            found.ask(content)
        yield found
        assert found.errors() == []
        assert KEY.reveal() not in (folder / "gateway.log").read_text()


@pytest.fixture(scope="module")
def gateway(running: Fort):
    """The gateway; in the end nothing is left of all that, neither calls nor memory."""
    before = running.resident_bytes()
    yield running
    until(lambda: running.metric("gateway_requests_in_flight") == 0)
    grown = running.resident_bytes() - before
    assert grown < GROWTH_BYTES_MAX, f"grown by {grown:,} bytes"


@settings(max_examples=BATCHES, suppress_health_check=list(HealthCheck))
@given(st.lists(HOSTILE, min_size=AT_ONCE, max_size=AT_ONCE))
def test_whatever_comes_is_answered_or_ended(gateway: Fort, contents: list[bytes]):
    """No 5xx of ours, no hang, no half answer; what the service saw was signed for what it was."""
    gateway.mad.forget()
    wires = [gateway.wire() for _ in contents]
    for wire, content in zip(wires, contents, strict=True):
        wire.send(content)
    _wait_for_answers([wire.sock for wire in wires])
    for wire in wires:
        wire.say_no_more()
    for wire, content in zip(wires, contents, strict=True):
        assert [status for status in _statuses(wire) if status >= 500] == [], content
        wire.close()
    assert gateway.mad.violations == []
    for seen in list(gateway.mad.seen):
        _assert_signed(seen)
    assert gateway.ask(request(key=KEY)).status == 200


def _wait_for_answers(socks: list[socket.socket]) -> None:
    """Until each has something to read, or the time is over."""
    deadline = time.monotonic() + ANSWER_SECONDS
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                selector.unregister(key.fileobj)


def _statuses(wire: Wire) -> list[int]:
    """Of all answers until the connection ends, which it must; none may be cut off."""
    found = []
    wire.sock.settimeout(DEADLINE_SECONDS)
    while True:
        try:
            answer = wire.head()
        except EndedError:
            assert wire.held == b"", wire.held
            return found
        if answer.status >= 200:
            found.append(answer.status)
            try:
                wire.read_body(answer)
            except EndedError:
                assert answer.status < 300, answer
                return found


def _assert_signed(seen: Seen) -> None:
    """A request that reached the service carries one identity, made for its method and path."""
    (value,) = seen.head.values("x-portico-identity")
    path = seen.target.partition("?")[0]
    method = seen.head.start.split(" ")[0]
    IdentitySigner(SECRET).verify(value, method=method, path=path, now=time.time())
    assert re.fullmatch("[0-9a-f]{32}", seen.head.value("x-request-id") or "")
    assert seen.head.values("x-eflow-api-key") == []
