"""Protects the gateway, and what is behind it, from bytes that are no HTTP, or HTTP that is meant ill.

A table row is what is sent and what must come back. Behind the gateway stands a strict reader: what
passes must have one meaning (`Mad.violations` stays empty), and what is refused must not arrive.
"""

import contextlib
import re
import time
from pathlib import Path

import pytest

from shared.events import Budget
from shared.partner_key import generate
from tests.hostile_parts import RAW, EndedError, Fort, Message, fort, request, until

pytestmark = pytest.mark.slow

KEY = generate()
PATH = "/v1/affiliates/network"
TABLE = "/v1/affiliates/reporting/entity/table"
ISSUE = "/v1/networks/affiliates/7/apikeys"
TOKEN = "Authorization: Bearer token"
BODY_MAX = 1_000_000
SMUGGLED = request(f"{PATH}?smuggled=1", key=KEY)


@pytest.fixture(scope="module")
def running(kafka_bootstrap, tmp_path_factory):
    """A gateway for the whole file; at the end its log holds no error and no key."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    settings = {
        "GATEWAY_BODY_BYTES_MAX": str(BODY_MAX),
        "GATEWAY_SILENCE_SECONDS": "2",
        "GATEWAY_TOKEN_RATE": "100000",
        "GATEWAY_TOKEN_BURST": "100000",
    }
    with fort(kafka_bootstrap, f"hostile-{folder.name}", folder, **settings) as found:
        found.put_key(KEY, "k1")
        found.put_network(1, Budget(rate=100_000, burst=1_000_000))
        found.until_status(200, request(key=KEY))
        yield found
        assert found.errors() == []
        assert KEY.reveal() not in (folder / "gateway.log").read_text()


@pytest.fixture
def gateway(running: Fort):
    """The gateway; afterwards it still serves, and nothing without meaning got through it."""
    running.mad.forget()
    yield running
    running.mad.go_on.set()
    assert running.mad.violations == []
    assert running.ask(request(key=KEY)).status == 200


def assert_wire_form(answer: Message) -> None:
    """Whatever found the fault, partners' programs can read the answer."""
    assert answer.value("content-type") == "application/json"
    assert set(answer.json) >= {"Error", "error", "message"}
    assert answer.json["Error"] == answer.json["error"] == answer.json["message"]
    assert re.fullmatch("[0-9a-f]{32}", answer.value("x-request-id") or "")


def head(*lines: str, method: str = "POST", target: str = TABLE) -> bytes:
    """A request's head up to the empty line, with the key."""
    first = f"{method} {target} HTTP/1.1"
    all_lines = [first, "Host: api.example", f"X-Eflow-API-Key: {KEY.reveal()}", *lines, "", ""]
    return "\r\n".join(all_lines).encode("latin-1")


# --- one meaning or none ----------------------------------------------------------------------------

TWO_MEANINGS = {
    "length and chunked": head("Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunked and length": head("Transfer-Encoding: chunked", "Content-Length: 4") + b"0\r\n\r\n",
    "two lengths": head("Content-Length: 2", "Content-Length: 4") + b"{}",
    "one length twice": head("Content-Length: 2", "Content-Length: 2") + b"{}",
    "a list of lengths": head("Content-Length: 2, 2") + b"{}",
    "a length with a sign": head("Content-Length: +2") + b"{}",
    "a negative length": head("Content-Length: -2") + b"{}",
    "a length in hex": head("Content-Length: 0x2") + b"{}",
    "a length with a space": head("Content-Length: 1 2") + b"{}",
    "an empty length": head("Content-Length:") + b"{}",
    "a length with an underscore": head("Content-Length: 1_0") + b"{}",
    "a length in other digits": head("Content-Length: \xb2") + b"{}",
    "chunked twice": head("Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "two codings": head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunked and identity": head("Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "an unknown coding": head("Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "a coding in quotes": head('Transfer-Encoding: "chunked"') + b"0\r\n\r\n",
    "a coding after a control": head("Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n",
    "a space before a colon": head("Transfer-Encoding : chunked") + b"0\r\n\r\n",
    "a tab before a colon": head("Content-Length\t: 4") + b"{}",
    "an indented first header": (
        b"POST %b HTTP/1.1\r\n Content-Length: 4\r\nHost: a\r\n\r\n{}" % TABLE.encode()
    ),
    "a folded header": head("X-Long: a", " Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "a folded length": head("Content-Length:", " 4") + b"{}",
    "a bare line feed between headers": head("X-A: b\nTransfer-Encoding: chunked") + b"0\r\n\r\n",
    "bare line feeds only": request(key=KEY).replace(b"\r\n", b"\n"),
    "a bare line feed before the body": (
        head("Content-Length: 2").removesuffix(b"\r\n\r\n") + b"\n\n{}"
    ),
    "a bare carriage return in a value": head("X-A: b\rTransfer-Encoding: chunked"),
    "a null in a value": head("X-A: b\x00c"),
    "a control in a value": head("X-A: b\x01c"),
    "a null in a name": head("X-\x00A: b"),
    "a space in a name": head("X A: b"),
    "a name that is no token": head("X[A]: b"),
    "a name beyond ASCII": head("X-\xe9: b"),
    "a header without a name": head(": b"),
    "a header without a colon": head("nonsense"),
    "no host": b"GET %b HTTP/1.1\r\nX-Eflow-API-Key: %b\r\n\r\n"
    % (PATH.encode(), KEY.reveal().encode()),
    "two hosts": head("Host: other.example", method="GET", target=PATH),
    "a host that is none": request(key=KEY).replace(b"api.example", b"a b/c"),
    "a host with a user": request(key=KEY).replace(b"api.example", b"me@a.example"),
    "chunked in HTTP/1.0": (
        head("Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n"
    ),
}
"""Requests that two readers may read differently, each followed by a good one."""


@pytest.mark.parametrize("name", TWO_MEANINGS)
def test_a_request_of_two_meanings_is_refused_and_nothing_after_it_is_read(gateway: Fort, name):
    """400 in wire form, the connection ends, and neither it nor what follows reaches a service."""
    with gateway.wire() as wire:
        answer = wire.send(TWO_MEANINGS[name] + SMUGGLED).answer()
        assert answer.status == 400
        assert_wire_form(answer)
        assert answer.value("connection") == "close"
        assert wire.is_over()
    assert gateway.mad.seen == []


NO_REQUEST = {
    "noise": b"\x00\xff\x17\x03 noise\r\n\r\n",
    "no version": b"GET %b\r\n\r\n" % PATH.encode(),
    "two spaces": request().replace(b"GET ", b"GET  "),
    "tabs": request().replace(b"GET ", b"GET\t"),
    "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "a version of two digits": request(version="HTTP/1.10"),
    "a version in lower case": request(version="http/1.1"),
    "a version without a dot": request(version="HTTP/11"),
    "another protocol": request(version="ICY/1.1"),
    "words after the version": request(version="HTTP/1.1 x"),
    "a space in the target": request("/v1/affiliates/net work"),
    "a null in the target": request("/v1/affiliates/network\x00"),
    "a control in the target": request("/v1/affiliates/network\x0b"),
    "a target without a slash": request("v1/affiliates/network"),
    "a method that is no token": request(method="GE(T"),
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x11" * 154,
}


@pytest.mark.parametrize("name", NO_REQUEST)
def test_what_is_no_request_is_told_so_and_the_connection_ends(gateway: Fort, name):
    """400 in wire form."""
    with gateway.wire() as wire:
        answer = wire.send(NO_REQUEST[name] + SMUGGLED).answer()
        assert answer.status == 400
        assert_wire_form(answer)
        assert wire.is_over()
    assert gateway.mad.seen == []


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9"])
def test_another_version_of_http_is_not_spoken_here(gateway: Fort, version):
    """400, and the connection ends; HTTP/2's preface is one of them. No 5xx: we are well."""
    with gateway.wire() as wire:
        answer = wire.send(request(version=version, key=KEY) + SMUGGLED).answer()
        assert answer.status == 400
        assert wire.is_over()
    with gateway.wire() as wire:
        assert wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").answer().status == 400
        assert wire.is_over()
    assert gateway.mad.seen == []


CHUNKED = head("Transfer-Encoding: chunked")
BAD_CHUNKS = {
    "no number": b"g\r\n{}\r\n0\r\n\r\n",
    "a sign": b"-2\r\n{}\r\n0\r\n\r\n",
    "a plus": b"+2\r\n{}\r\n0\r\n\r\n",
    "a prefix": b"0x2\r\n{}\r\n0\r\n\r\n",
    "an underscore": b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n",
    "a space before": b" 2\r\n{}\r\n0\r\n\r\n",
    "nothing": b"\r\n{}\r\n0\r\n\r\n",
    "17 digits": b"00000000000000002\r\n{}\r\n0\r\n\r\n".replace(b"0000", b"1000", 1),
    "more than fits": b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "the largest": b"ffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a bare line feed": b"2\n{}\r\n0\r\n\r\n",
    "data longer than its size": b"2\r\n{}xx\r\n0\r\n\r\n",
    "data ended by a line feed": b"2\r\n{}\n0\r\n\r\n",
    "a line feed in an extension": b"2;a\nb\r\n{}\r\n0\r\n\r\n",
    "a null in an extension": b"2;a=\x00\r\n{}\r\n0\r\n\r\n",
    "an extension without end": b"2;" + b"a" * 100_000,
    "a trailer without a colon": b"2\r\n{}\r\n0\r\nnonsense\r\n\r\n",
    "trailers without end": b"2\r\n{}\r\n0\r\n" + b"x-a: b\r\n" * 50_000,
}


@pytest.mark.parametrize("target", [TABLE, ISSUE])
@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_chunks_of_two_meanings_are_refused(gateway: Fort, name, target):
    """A 4xx in wire form; the connection ends; what a service got of it was no whole request."""
    start = CHUNKED if target == TABLE else _token_head("Transfer-Encoding: chunked")
    with gateway.wire() as wire:
        answer = wire.send(start + BAD_CHUNKS[name] + SMUGGLED).answer()
        assert answer.status in (400, 413, 431)
        assert_wire_form(answer)
        assert wire.is_over()
    assert not [each for each in gateway.mad.seen if each.is_whole or "smuggled" in each.target]
    gateway.mad.violations.clear()  # half a request, broken off, is what it must have seen


def _token_head(*lines: str, target: str = ISSUE) -> bytes:
    first = f"POST {target} HTTP/1.1"
    return "\r\n".join([first, "Host: api.example", TOKEN, *lines, "", ""]).encode()


GOOD = {
    "an empty line first": b"\r\n" + request(key=KEY),
    "a length with blanks around": head("Content-Length: \t2 ") + b"{}",
    "a length of zero": head("Content-Length: 0"),
    "leading zeros": head("Content-Length: 0002") + b"{}",
    "chunked in capitals": head("Transfer-Encoding: CHUNKED") + b"2\r\n{}\r\n0\r\n\r\n",
    "sizes in capitals with zeros": CHUNKED + b"000A\r\n0123456789\r\n0\r\n\r\n",
    "a small extension": CHUNKED + b'2;name="va;lue"\r\n{}\r\n0;last\r\n\r\n',
    "trailers": CHUNKED + b"2\r\n{}\r\n0\r\nX-Checksum: 1\r\nContent-Length: 99\r\n\r\n",
    "no chunk at all": CHUNKED + b"0\r\n\r\n",
    "a value in UTF-8": request(key=KEY, headers=("X-Name: \xc3\xa9",)),
    "an empty value": request(key=KEY, headers=("X-Empty:",)),
    "a host with a port": request(key=KEY).replace(b"api.example", b"api.example:8443"),
    "a host in IPv6": request(key=KEY).replace(b"api.example", b"[2001:db8::1]:80"),
    "a length on a GET": request(key=KEY, headers=("Content-Length: 0",)),
}


@pytest.mark.parametrize("name", GOOD)
def test_unusual_but_right_requests_are_served_and_reach_the_service_once(gateway: Fort, name):
    """The positive control of strictness; the connection goes on."""
    with gateway.wire() as wire:
        assert wire.send(GOOD[name]).answer().status == 200
        assert wire.send(request(key=KEY)).answer().status == 200
    served = [each for each in gateway.mad.seen if each.is_whole]  # not a half one of another test
    assert len(served) == 2
    assert served[0].head.values("x-checksum") == []


def test_a_request_may_come_byte_by_byte(gateway: Fort):
    """Where a packet ends means nothing."""
    with gateway.wire() as wire:
        for letter in CHUNKED + b"2\r\n{}\r\n0\r\n\r\n":
            wire.send(bytes([letter]))
        assert wire.answer().json == {"length": 2}


# --- what goes on -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named", ["content-length", "host", "x-portico-identity", "x-request-id", "transfer-encoding"]
)
def test_connection_cannot_take_away_what_frames_or_identifies(gateway: Fort, named):
    """`Connection: content-length` would leave a body that reads as the next request."""
    body = SMUGGLED
    content = head(f"Connection: {named}", f"Content-Length: {len(body)}") + body
    with gateway.wire() as wire:
        assert wire.send(content).answer().json == {"length": len(body)}
    (seen,) = gateway.mad.seen
    assert seen.body == body
    assert len(seen.head.values("host")) == 1
    assert len(seen.head.values("x-portico-identity")) == 1
    assert len(seen.head.values("x-request-id")) == 1


def test_a_chunked_body_arrives_whole_and_framed_once(gateway: Fort):
    """A body that looks like a request stays a body, on both kinds of routes."""
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
    for start in (CHUNKED, _token_head("Transfer-Encoding: chunked")):
        assert gateway.ask(start + framed).status == 200
    assert [each.body for each in gateway.mad.seen] == [SMUGGLED, SMUGGLED]


def test_what_only_we_may_say_is_said_by_us(gateway: Fort):
    """Identity, request id and the caller's address; hop-by-hop headers and the key end here."""
    forged = (
        "X-Portico-Identity: v1.forged",
        "x-portico-identity: v1.again",
        "X-Request-Id: mine",
        "X-Forwarded-For: 10.0.0.1",
        "Forwarded: for=10.0.0.1",
        "X-Real-IP: 10.0.0.1",
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "Keep-Alive: timeout=1000",
        "Proxy-Authorization: Basic x",
        "TE: trailers",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    )
    answer = gateway.ask(request(key=KEY, headers=forged))
    (seen,) = gateway.mad.seen
    assert seen.head.value("x-request-id") == answer.value("x-request-id") != "mine"
    assert "forged" not in (seen.head.value("x-portico-identity") or "forged")
    dropped = ("x-eflow-api-key", "x-forwarded-for", "forwarded", "x-real-ip", "x-hop")
    hops = ("keep-alive", "proxy-authorization", "te", "upgrade", "trailer")
    assert [name for name in (*dropped, *hops) if seen.head.values(name)] == []


# --- paths, methods, forms ----------------------------------------------------------------------------

NOT_THE_PATH = [
    "/v1/affiliates/x/../network",
    "/v1/affiliates/x/%2e%2e/network",
    "/v1/affiliates/./network",
    "/v1/affiliates//network",
    "//v1/affiliates/network",
    "/v1/affiliates%2Fnetwork",
    "/v1/affiliates%2fnetwork",
    "/v1/%61ffiliates/network",
    "/v1/affiliates/network%00",
    "/v1/affiliates/network%20",
    "/v1/affiliates/network;a=b",
    "/v1/affiliates/network\\",
    "/V1/affiliates/network",
    "/v1/affiliates/network/..",
    "/../v1/affiliates/network",
    "/v1/affiliates/reporting/clicks/a/../../../network",
    "/v1/shares/",
    "/healthz/",
    "/metrics?",
]


@pytest.mark.parametrize("target", NOT_THE_PATH[:-1])
def test_a_path_is_what_it_says_and_nothing_else(gateway: Fort, target):
    """No spelling leads to a route that it does not spell out."""
    answer = gateway.ask(request(target, key=KEY))
    assert (answer.status, answer.json["error"]) == (404, "Not Found")
    assert gateway.mad.seen == []


@pytest.mark.parametrize("name", ["..", "%2e%2e", "a%2Fb", "a%00b", "%", "%zz", "a;b", "'\"<>"])
def test_a_variable_segment_goes_on_as_it_came(gateway: Fort, name):
    """What a segment means is its service's business; the gateway changes no byte of it."""
    target = f"/v1/affiliates/reporting/clicks/{name}"
    assert gateway.ask(request(target, key=KEY)).status == 200
    assert [each.target for each in gateway.mad.seen] == [target]


@pytest.mark.parametrize(
    "query", ["?a=/../%2e", "?", "?a=b?c=d", "?%", "?" + "x" * 4_000, "?a=%0d%0aX-Forged:%201"]
)
def test_a_query_goes_on_as_it_came(gateway: Fort, query):
    """The gateway reads none."""
    assert gateway.ask(request(PATH + query, key=KEY)).status == 200
    assert [each.target for each in gateway.mad.seen] in (
        [PATH + query],
        [(PATH + query).rstrip("?")],
    )


@pytest.mark.parametrize(
    "target",
    [
        f"http://api.example{PATH}",
        f"http://other.example{PATH}",
        f"HTTP://api.example:80{PATH}?a=b",
        f"https://me@api.example{PATH}",
        "http://api.example",
        f"http:{PATH}",
        f"ftp://api.example{PATH}",
    ],
)
def test_an_absolute_target_is_its_path_or_refused(gateway: Fort, target):
    """A service behind never sees one, nor any host but its own."""
    answer = gateway.ask(request(target, key=KEY))
    assert answer.status in (200, 400, 404)
    assert_wire_form(answer) if answer.status != 200 else None
    assert {each.target.partition("?")[0] for each in gateway.mad.seen} <= {PATH}
    hosts = {each.head.value("host") for each in gateway.mad.seen}
    assert hosts <= {f"127.0.0.1:{gateway.mad.port}"}


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "DELETE", "PATCH", "PROPFIND", "M-SEARCH"])
def test_a_method_without_a_route_is_refused_and_echoes_nothing(gateway: Fort, method):
    """405 says which methods there are; TRACE would show the key."""
    answer = gateway.ask(request(method=method, key=KEY))
    assert answer.status == 405
    assert_wire_form(answer)
    assert "GET" in (answer.value("allow") or "")
    assert KEY.reveal().encode() not in answer.body
    assert gateway.mad.seen == []


@pytest.mark.parametrize("method", ["FOO", "GETGET", "get", "X" * 100])
def test_an_unheard_of_method_is_refused(gateway: Fort, method):
    """400 or 405, in wire form: no 5xx, since nothing is wrong with us."""
    answer = gateway.ask(request(method=method, key=KEY))
    assert answer.status in (400, 405)
    assert_wire_form(answer)
    assert gateway.mad.seen == []


@pytest.mark.parametrize(
    ("method", "target"), [("CONNECT", "db.example:5432"), ("CONNECT", PATH), ("OPTIONS", "*")]
)
def test_this_is_no_tunnel(gateway: Fort, method, target):
    """Nothing is connected, and what follows does not pass."""
    with gateway.wire() as wire:
        answer = wire.send(request(target, method=method, key=KEY)).answer()
        assert answer.status in (400, 404, 405)
        assert_wire_form(answer)
    assert gateway.mad.seen == []


def test_head_has_no_body(gateway: Fort):
    """An answer to HEAD ends with its head, whatever length it tells."""
    with gateway.wire() as wire:
        answer = wire.send(request(method="HEAD", key=KEY)).answer(to_head=True)
        assert answer.status in (200, 405)
        assert wire.send(request(key=KEY)).answer().status == 200


def test_an_upgrade_is_not_made(gateway: Fort):
    """The request is served as if nothing had been said; no websocket, no HTTP/2."""
    for name in ("websocket", "h2c"):
        asked = ("Connection: Upgrade", f"Upgrade: {name}", "Sec-WebSocket-Key: x")
        with gateway.wire() as wire:
            assert wire.send(request(key=KEY, headers=asked)).answer().status == 200
            assert wire.send(request(key=KEY)).answer().status == 200
    assert not any(each.head.values("upgrade") for each in gateway.mad.seen)


def test_http_1_0_is_answered_and_the_connection_ends(gateway: Fort):
    """It knows no chunks; `keep-alive` may keep it."""
    with gateway.wire() as wire:
        answer = wire.send(request(version="HTTP/1.0", key=KEY)).answer()
        assert answer.status == 200
        assert answer.values("transfer-encoding") == []
        assert wire.is_over()
    with gateway.wire() as wire:
        wire.send(request(f"{PATH}?do=to_the_end", version="HTTP/1.0", key=KEY))
        answer = wire.answer()
        assert (answer.body, answer.values("transfer-encoding")) == (b"all there is", [])


def test_expect_is_answered_before_the_body_comes(gateway: Fort):
    """A client that waits for 100 gets it; one that is refused gets its answer instead."""
    asked = ("Expect: 100-continue", "Content-Length: 2")
    with gateway.wire() as wire:
        assert wire.send(head(*asked)).head().status == 100
        assert wire.send(b"{}").answer().json == {"length": 2}
    assert gateway.mad.seen[0].head.values("expect") == []
    with gateway.wire() as wire:
        refused = request(TABLE, method="POST", key=generate(), headers=asked)
        assert wire.send(refused).head().status == 401


# --- sizes ----------------------------------------------------------------------------------------------

BOMBS = {
    "a long header": (request(key=KEY, headers=("X-Long: " + "x" * 100_000,)), (431,)),
    "many headers": (request(key=KEY, headers=("X-A: b",) * 20_000), (431,)),
    "a header without end": (head("X-Long: ").removesuffix(b"\r\n\r\n") + b"x" * 5_000_000, (431,)),
    "a long name": (request(key=KEY, headers=("X" * 100_000 + ": b",)), (431,)),
    "a long path": (request("/" + "x" * 200_000, key=KEY), (414,)),
    "a long query": (request(f"{PATH}?{'x' * 200_000}", key=KEY), (414,)),
    "a target without end": (b"GET /" + b"x" * 5_000_000, (414,)),
    "a method without end": (b"G" * 200_000, (400, 414, 431)),
    "a large body declared": (head("Content-Length: 99999999"), (413,)),
    "a body beyond numbers": (head("Content-Length: " + "9" * 40), (400, 413)),
    "a body of 2^63": (head(f"Content-Length: {2**63}"), (400, 413)),
    "empty lines": (b"\r\n" * 100_000, (400, 408)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_its_size(gateway: Fort, name):
    """The answer says which bound was met, and the rest is not read into memory."""
    content, statuses = BOMBS[name]
    before = gateway.resident_bytes()
    with gateway.wire() as wire:
        answer = wire.send(content).answer()
        assert answer.status in statuses
        assert_wire_form(answer)
        assert wire.is_over()
    assert gateway.resident_bytes() - before < 32 * 1024 * 1024
    assert gateway.mad.seen == []


@pytest.mark.parametrize("target", [TABLE, ISSUE])
def test_a_chunked_bomb_is_refused_when_it_is_too_long(gateway: Fort, target):
    """413 as soon as it is over; a service that had begun to read sees it broken off."""
    start = CHUNKED if target == TABLE else _token_head("Transfer-Encoding: chunked")
    piece = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    with gateway.wire() as wire:
        wire.send(start)
        for _ in range(60):
            wire.send(piece)
        answer = wire.answer()
        assert (answer.status, answer.json["error"]) == (413, "Body too large")
        assert wire.is_over()
    assert not any(each.is_whole for each in gateway.mad.seen)
    gateway.mad.violations.clear()


# --- pipelines and half-closed connections ----------------------------------------------------------------


def test_a_pipeline_is_answered_in_order(gateway: Fort):
    """Whatever each takes; an answer's request id is its own."""
    content = [
        request(f"{PATH}?n=1", key=KEY),
        head("Content-Length: 2") + b"{}",
        request("/v1/nothing"),
        CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
        request(f"{PATH}?n=2", key=KEY),
    ]
    with gateway.wire() as wire:
        wire.send(b"".join(content))
        answers = [wire.answer() for _ in content]
    assert [answer.status for answer in answers] == [200, 200, 404, 200, 200]
    assert [answer.json.get("length") for answer in answers] == [0, 2, None, 3, 0]
    assert len({answer.value("x-request-id") for answer in answers}) == 5
    ours = [each.target for each in gateway.mad.seen if each.target.startswith((PATH, TABLE))]
    assert [target[-1] for target in ours] == ["1", "e", "e", "2"]


@pytest.mark.parametrize("asked", [request(key=KEY), request("/v1/nothing")])
def test_a_long_pipeline_is_read_no_faster_than_its_answers_are(gateway: Fort, asked):
    """A client that asks without end and reads nothing is stopped, not remembered."""
    before = gateway.resident_bytes()
    with gateway.wire(seconds=1) as wire:
        sent = 0
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < 40_000_000:
                sent += wire.sock.send(asked * 100)
        assert sent < 40_000_000
        assert gateway.resident_bytes() - before < 24 * 1024 * 1024
    until(lambda: gateway.metric("gateway_requests_in_flight") == 0)


def test_nothing_is_read_after_an_error(gateway: Fort):
    """What follows bad framing in the same packet is not a request, whatever it looks like."""
    with gateway.wire() as wire:
        wire.send(request("/v1/nothing") + b"BAD\x00\r\n\r\n" + SMUGGLED * 3)
        assert [wire.answer().status, wire.answer().status] == [404, 400]
        assert wire.is_over()
    assert gateway.mad.seen == []


def test_nothing_is_read_after_a_farewell(gateway: Fort):
    """Whoever says `Connection: close` has said all; so has HTTP/1.0."""
    for last in (
        request(key=KEY, headers=("Connection: close",)),
        request(key=KEY, headers=("Connection: keep-alive, Close",)),
        request(key=KEY, version="HTTP/1.0"),
    ):
        gateway.mad.forget()
        with gateway.wire() as wire:
            answer = wire.send(last + SMUGGLED).answer()
            assert (answer.status, answer.value("connection")) == (200, "close")
            assert wire.is_over()
        assert len(gateway.mad.seen) == 1


def test_a_client_that_closes_its_half_is_not_left_hanging(gateway: Fort):
    """It gets its answer whole, or an end; half a request gets an end."""
    with gateway.wire() as wire:
        rest = wire.send(request(key=KEY)).say_no_more().everything()
        assert rest == b"" or rest.startswith(b"HTTP/1.1 200 ")
    for content in (b"GET /v1", head("Content-Length: 10") + b"{}", CHUNKED + b"5\r\nab"):
        with gateway.wire() as wire:
            rest = wire.send(content).say_no_more().everything()
            assert rest == b"" or rest.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))
    until(lambda: gateway.metric("gateway_requests_in_flight") == 0)


def test_connections_that_come_and_go_leave_nothing(gateway: Fort):
    """Broken at any point: empty, half a head, half a body, answer unread."""
    contents = (b"", b"GET /v1/aff", CHUNKED + b"ff\r\nabc", request(f"{PATH}?do=stall", key=KEY))
    for turn in range(100):
        wire = gateway.wire().send(contents[turn % 4])
        if turn % 8 < 4:
            wire.reset()
        else:
            wire.close()
    until(lambda: gateway.metric("gateway_requests_in_flight") == 0)
    until(lambda: len(gateway.process.net_connections("tcp")) < 40)
    gateway.mad.violations.clear()


# --- slowness -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [head("Content-Length: 10"), CHUNKED, CHUNKED + b"5\r\nab"])
def test_a_body_that_does_not_come_is_not_waited_for(gateway: Fort, content):
    """408 after the silence, and the connection ends."""
    with gateway.wire() as wire:
        answer = wire.send(content).answer()
        assert (answer.status, answer.json["error"]) == (408, "The body did not arrive in time")
        assert wire.is_over()


# --- a mad service -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(RAW))
def test_an_answer_that_is_none_becomes_a_502(gateway: Fort, name):
    """In wire form, without a word of the service's."""
    with gateway.wire() as wire:
        answer = wire.send(request(f"{PATH}?do=raw&n={name}", key=KEY)).answer()
        assert (answer.status, answer.json["error"]) == (502, "Bad gateway")
        assert_wire_form(answer)
        assert wire.send(request(key=KEY)).answer().status == 200


@pytest.mark.parametrize(
    ("do", "status"),
    [("vanish", 502), ("reset", 502), ("stall", 504), ("upgrade", 502), ("drip", 504)],
)
def test_a_service_that_gives_no_answer_is_blamed(gateway: Fort, do, status):
    """In bounded time, whatever it does instead; the client's connection goes on."""
    with gateway.wire() as wire:
        answer = wire.send(request(f"{PATH}?do={do}", key=KEY)).answer()
        if do == "drip":
            assert answer.status in (502, 504)
        else:
            assert answer.status == status
        assert_wire_form(answer)
        assert answer.value("x-ratelimit-limit") == "1000000"
        assert wire.send(request(key=KEY)).answer().status == 200


@pytest.mark.parametrize("do", ["half", "half_chunked", "half_reset", "stall_midway"])
def test_half_an_answer_is_never_a_whole_one(gateway: Fort, do):
    """The client's connection breaks where the service's did."""
    gateway.mad.go_on.set()
    with gateway.wire() as wire, pytest.raises(EndedError):
        wire.send(request(f"{PATH}?do={do}", key=KEY)).answer()


def test_what_a_service_says_beyond_its_answer_reaches_nobody(gateway: Fort):
    """A second answer on a pooled connection would be the answer to somebody else's request."""
    with gateway.wire() as wire:
        for _ in range(5):
            assert wire.send(request(f"{PATH}?do=too_much", key=KEY)).answer().body == b"true"
            assert wire.send(request(key=KEY)).answer().json == {"length": 0}


def test_an_answer_before_the_body_has_come_is_passed_on(gateway: Fort):
    """The client may read it while it still sends."""
    for do in ("early", "early_but_patient"):
        start = _token_head("Content-Length: 900000", target=f"{ISSUE}?do={do}")
        with gateway.wire() as wire:
            answer = wire.send(start + b"x" * 1_000).answer()
            assert (answer.status, answer.json) == (200, {"early": True})
    assert gateway.ask(request(key=KEY)).status == 200
    gateway.mad.violations.clear()


def test_an_answer_that_ends_with_its_connection_is_framed_for_the_client(gateway: Fort):
    """So that its end differs from a break."""
    with gateway.wire() as wire:
        answer = wire.send(request(f"{PATH}?do=to_the_end", key=KEY)).answer()
        assert answer.body == b"all there is"
        assert answer.values("transfer-encoding") == ["chunked"]
        assert wire.send(request(key=KEY)).answer().status == 200


def test_interim_answers_are_not_the_answer(gateway: Fort):
    """100 and 103 of a service end here; the answer follows. Without end they are a fault."""
    answer = gateway.ask(request(f"{PATH}?do=continued", key=KEY))
    assert (answer.status, answer.json) == (200, {"length": 0})
    assert gateway.ask(request(f"{PATH}?do=interim_for_ever", key=KEY)).status in (502, 504)


def test_a_stream_that_nobody_reads_is_held_back(gateway: Fort):
    """The service waits instead of filling our memory; when the client goes, so does the call."""
    before = gateway.resident_bytes()
    with gateway.wire() as wire:
        wire.send(request(f"{PATH}?do=for_ever", key=KEY))
        assert wire.head().status == 200
        until(lambda: _is_still(lambda: gateway.mad.taken))
        assert gateway.mad.taken < 32 * 1024 * 1024
        assert gateway.resident_bytes() - before < 16 * 1024 * 1024
    until(lambda: gateway.mad.was_left("for_ever"))


def test_a_body_that_nobody_takes_is_held_back(gateway: Fort):
    """The client waits instead of filling our memory."""
    before = gateway.resident_bytes()
    start = _token_head(f"Content-Length: {BODY_MAX}", target=f"{ISSUE}?do=take_slowly")
    wires = [gateway.wire().send(start) for _ in range(20)]
    for wire in wires:
        wire.sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            wire.sock.sendall(b"x" * BODY_MAX)
        wire.close()
    assert gateway.resident_bytes() - before < 16 * 1024 * 1024
    gateway.mad.go_on.set()
    until(lambda: gateway.metric("gateway_requests_in_flight") == 0)
    gateway.mad.violations.clear()


def test_whoever_leaves_takes_the_call_along(gateway: Fort):
    """The service's connection ends when the client's does."""
    with gateway.wire() as wire:
        wire.send(request(f"{PATH}?do=stall&who=me", key=KEY))
        until(lambda: any("who=me" in seen.target for seen in gateway.mad.seen))
        assert not gateway.mad.was_left("stall&who=me")
    until(lambda: gateway.mad.was_left("stall&who=me"))


def _is_still(value) -> bool:
    """Whether a value stays for half a second."""
    before = value()
    time.sleep(0.5)
    return value() == before
