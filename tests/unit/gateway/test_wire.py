"""Protects the one meaning of a message: what is accepted, how it is framed, and what is refused."""

import pytest

from services.gateway.http1.wire import (
    CHUNKED,
    HEADERS_MAX,
    UNTIL_CLOSE,
    Chunked,
    Counted,
    HeadLimits,
    WireError,
    head_fault,
    parse_answer,
    parse_request,
)

LIMITS = HeadLimits(target_max=100, headers_max=1_000)


def request(line: bytes = b"GET /a HTTP/1.1", *fields: bytes) -> bytes:
    return b"\r\n".join((line, b"Host: a", *fields))


def refused(block: bytes) -> int:
    with pytest.raises(WireError) as caught:
        parse_request(block, LIMITS)
    assert caught.value.text
    return caught.value.status


def test_a_request_is_its_method_path_query_and_headers():
    """Bytes go on as they came; names are lower case, values lose the blanks around them."""
    head = parse_request(request(b"GET /a%2Fb/..?c=%20?d HTTP/1.1", b"X-A: \t b c \t"), LIMITS)
    line, fields = head.line, head.fields
    assert (line.method, line.path, line.query) == ("GET", "/a%2Fb/..", b"c=%20?d")
    assert fields.headers == [(b"host", b"a"), (b"x-a", b"b c")]
    assert (fields.length, fields.keeps_alive, fields.expects) == (0, True, False)
    assert not head.is_old


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ((b"Content-Length: 0",), 0),
        ((b"Content-Length: 007",), 7),
        ((b"transfer-encoding: Chunked",), CHUNKED),
    ],
)
def test_a_body_has_one_length(fields, length):
    """Declared, or in chunks."""
    assert parse_request(request(b"POST /a HTTP/1.1", *fields), LIMITS).fields.length == length


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 1", b"Content-Length: 1"),
        (b"Content-Length: 1, 1",),
        (b"Content-Length: +1",),
        (b"Content-Length: -1",),
        (b"Content-Length: 0x1",),
        (b"Content-Length: 1_0",),
        (b"Content-Length: \xb2",),
        (b"Content-Length:",),
        (b"Content-Length: " + b"9" * 30,),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding : chunked",),
        (b" folded",),
        (b"X: a\nY: b",),
        (b"X: a\rY: b",),
        (b"X: a\r\rY: b\n\n",),
        (b"X: a\x00b",),
        (b"no colon",),
        (b": no name",),
        (b"Host: b",),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(fields):
    """400, whatever else the request says."""
    assert refused(request(b"POST /a HTTP/1.1", *fields)) == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET  /a HTTP/1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET /a", 400),
        (b"", 400),
        (b"get /a HTTP/1.1", 400),
        (b"GET a HTTP/1.1", 400),
        (b"GET /a#b HTTP/1.1", 400),
        (b"GET /\xc3\xa9 HTTP/1.1", 400),
        (b"GET http://b/a HTTP/1.1", 400),
        (b"GET http://me@a/ HTTP/1.1", 400),
        (b"GET ftp://a/ HTTP/1.1", 400),
        (b"GET /a HTTP/2.0", 400),
        (b"GET /a HTTP/1.2", 400),
        (b"GET /a http/1.1", 400),
        (b"GET /" + b"a" * 100 + b" HTTP/1.1", 414),
    ],
)
def test_a_first_line_is_method_target_and_version(line, status):
    """Each is what it may be, and one blank stands between them."""
    assert refused(request(line)) == status


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://a/b", "/b"),
        (b"HTTPS://A/b?c", "/b"),
        (b"http://a", "/"),
        (b"http://a?b", "/"),
    ],
)
def test_an_absolute_target_that_names_our_host_is_its_path(target, path):
    """As through a proxy; another host than `Host` says is refused above."""
    head = parse_request(request(b"GET " + target + b" HTTP/1.1"), LIMITS)
    assert head.line.path == path


def test_a_target_without_a_path_stays_what_it_is():
    """It matches no route."""
    assert parse_request(request(b"OPTIONS * HTTP/1.1"), LIMITS).line.path == "*"
    assert parse_request(request(b"CONNECT a:1 HTTP/1.1"), LIMITS).line.path == "a:1"
    assert refused(request(b"GET * HTTP/1.1")) == 400


def test_too_many_headers_are_refused():
    """431, as for too long ones."""
    assert refused(request(b"GET /a HTTP/1.1", *[b"X: 1"] * HEADERS_MAX)) == 431


def test_http_1_0_needs_no_host_and_closes_unless_asked_otherwise():
    """And knows no chunks."""
    head = parse_request(b"GET /a HTTP/1.0", LIMITS)
    assert (head.is_old, head.fields.keeps_alive) == (True, False)
    assert parse_request(b"GET /a HTTP/1.0\r\nConnection: Keep-Alive", LIMITS).fields.keeps_alive
    assert refused(b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked") == 400
    assert refused(b"GET /a HTTP/1.1") == 400


def test_connection_close_and_expect_are_heard():
    """In any case, among other options."""
    block = request(b"POST /a HTTP/1.1", b"Connection: x, CLOSE", b"Content-Length: 1")
    assert not parse_request(block, LIMITS).fields.keeps_alive
    block = request(b"POST /a HTTP/1.1", b"Expect: 100-Continue", b"Content-Length: 1")
    assert parse_request(block, LIMITS).fields.expects
    assert refused(request(b"POST /a HTTP/1.1", b"Expect: tea")) == 417


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"GET /a HTTP/1.1\r\nX: a\r\nY", None),
        (b"GET /a HTTP/1.1\r", None),
        (b"GET /a HTTP/1.1\n\n", 400),
        (b"GET /a\rb", 400),
        (b"\x16\x03\x01", 400),
        (b"GET /" + b"a" * 200, 414),
        (b"GET /a HTTP/1.1\r\nX: " + b"a" * 3_000, 431),
    ],
)
def test_a_head_that_will_never_be_one_is_not_waited_for(start, status):
    """None waits; otherwise the status at once."""
    fault = head_fault(start, LIMITS)
    assert (None if fault is None else fault.status) == status


@pytest.mark.parametrize(
    ("block", "method", "length", "keeps_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3", "GET", 3, True),
        (b"HTTP/1.1 200\r\nContent-Length: 3\r\nConnection: close", "GET", 3, False),
        (b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked", "GET", CHUNKED, True),
        (b"HTTP/1.1 200 OK", "GET", UNTIL_CLOSE, False),
        (b"HTTP/1.1 204 No Content", "GET", 0, True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3", "GET", 0, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3", "HEAD", 0, True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3", "GET", 3, False),
    ],
)
def test_an_answer_has_one_length(block, method, length, keeps_alive):
    """By its status and method first, then by what it says, else until its connection ends."""
    head = parse_answer(block, method)
    assert (head.length, head.keeps_alive) == (length, keeps_alive)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/2.0 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nX: a\nY: b",
    ],
)
def test_an_answer_of_two_meanings_is_none(block):
    """Whatever a service says, it is not guessed at."""
    with pytest.raises(WireError):
        parse_answer(block, "GET")


def test_a_counted_body_ends_where_it_says():
    """What follows is the next message's."""
    body = Counted(5)
    assert (body.feed(b"abc"), body.is_done) == (b"abc", False)
    assert (body.feed(b"deGET"), body.is_done, body.rest) == (b"de", True, b"GET")


def test_chunks_are_one_body():
    """Extensions and trailers are dropped; what follows is the next message's."""
    body = Chunked()
    data = b"3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nGET"
    assert (body.feed(data), body.is_done, body.rest) == (b"abc0123456789", True, b"GET")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"1_0\r\n",
        b"100000000\r\n",
        b"1\nab",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\na0\r\n\r\n",
        b"1;" + b"x" * 300,
        b"1;x\x00\r\n",
        b"1;x\rx\r\n",
        b"0\r\nno colon\r\n",
        b"0\r\nA: b\x00\r\n",
        b"0\r\nA: " + b"b" * 5_000,
        b"1;xxxxxxxx\r\na\r\n" * 600,
    ],
)
def test_broken_chunks_are_refused(data):
    """At the byte that breaks them, not at the end of a body that never comes."""
    with pytest.raises(WireError) as caught:
        Chunked().feed(data)
    assert caught.value.status == 400
