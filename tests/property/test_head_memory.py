"""Protects from memory: what a reader of heads remembers changes nothing of what it says."""

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.http1.wire import (
    MEMORY_MAX,
    HeadLimits,
    HeadReader,
    RequestHead,
    WireError,
    parse_request,
)

LIMITS = HeadLimits(target_max=64, headers_max=1_000)

_lines = st.sampled_from(
    [
        b"GET /a HTTP/1.1",
        b"POST /a?b=c HTTP/1.1",
        b"GET /a HTTP/1.0",
        b"GET http://a/b HTTP/1.1",
        b"GET http://b/a HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"CONNECT a:1 HTTP/1.1",
        b"GET  /a HTTP/1.1",
        b"GET /a\n HTTP/1.1",
        b"GET /" + b"a" * 64 + b" HTTP/1.1",
        b"GET /a HTTP/2.0",
    ]
)
_field = st.sampled_from(
    [
        b"Host: a",
        b"Host: b",
        b"host: a",
        b"Content-Length: 4",
        b"Content-Length: 04",
        b"Content-Length: -4",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Expect: 100-continue",
        b"Expect: tea",
        b"X : 1",
        b"X: \x00",
        b" folded",
        b"X: 1\nHost: a",
    ]
)
_fields = st.lists(_field, max_size=4).map(b"\r\n".join)
_heads = st.lists(st.tuples(_lines, _fields).map(b"\r\n".join), max_size=40)


def _said(head: RequestHead) -> tuple[object, ...]:
    line, fields = head.line, head.fields
    return (
        (line.method, line.target, line.path, line.query, head.is_old),
        (fields.headers, fields.length, fields.keeps_alive, fields.expects),
    )


def _outcome(read, block: bytes) -> tuple[object, ...]:
    try:
        return _said(read(block))
    except WireError as error:
        return (error.status, error.text)


@given(_heads)
def test_what_was_read_before_changes_nothing(blocks):
    """A head means the same after any others, the refused ones among them."""
    reader = HeadReader(LIMITS)
    for block in blocks:
        alone = _outcome(lambda block: parse_request(block, LIMITS), block)
        assert _outcome(reader.read, block) == alone


def test_heads_that_are_alike_share_what_was_worked_out_of_them():
    """The positive control: it does remember, each half by itself."""
    reader = HeadReader(LIMITS)
    first = reader.read(b"GET /a HTTP/1.1\r\nHost: a")
    other = reader.read(b"GET /b HTTP/1.1\r\nHost: a")
    again = reader.read(b"GET /a HTTP/1.1\r\nHost: b")
    assert other.fields is first.fields
    assert again.line is first.line


def test_a_memory_has_a_bound():
    """However many different heads come, and whatever is long is not kept."""
    reader = HeadReader(LIMITS)
    for number in range(2 * MEMORY_MAX + 1):
        reader.read(b"GET /%d HTTP/1.1\r\nHost: a\r\nX: %d" % (number, number))
    long = b"Host: a\r\nX: " + b"x" * 1_024
    assert reader.read(b"GET /a HTTP/1.1\r\n" + long).fields is not (
        reader.read(b"GET /a HTTP/1.1\r\n" + long).fields
    )
    assert len(reader) <= 2 * MEMORY_MAX
