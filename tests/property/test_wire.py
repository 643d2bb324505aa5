"""Protects the parser against whatever bytes come, with another parser as witness."""

import contextlib

import h11
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.http1.wire import (
    CHUNKED,
    HEAD_END,
    Chunked,
    HeadLimits,
    RequestHead,
    WireError,
    head_fault,
    parse_request,
)

LIMITS = HeadLimits(target_max=8_192, headers_max=16_384)
WORDS = st.sampled_from(
    [
        *(b"GET", b"POST", b"/a", b"http://a/b", b"HTTP/1.1", b"HTTP/1.0", b"Host", b"a"),
        *(b"Content-Length", b"Transfer-Encoding", b"Connection", b"chunked", b"close", b"4"),
        *(
            b" ",
            b"\t",
            b"\r",
            b"\n",
            b"\r\n",
            b"\r\n ",
            b":",
            b": ",
            b",",
            b"\x00",
            b"\xff",
            b"\x0b",
        ),
        *(b"Host: a\r\n", b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"),
    ]
)
NEARLY = st.lists(WORDS, max_size=8).map(
    lambda words: b"POST /a HTTP/1.1\r\nHost: a\r\n" + b"".join(words)
)


def _parsed(block: bytes) -> RequestHead | None:
    try:
        return parse_request(block, LIMITS)
    except WireError:
        return None


def _witness(block: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(block + HEAD_END)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    return event


@given(st.one_of(NEARLY, st.lists(WORDS, max_size=12).map(b"".join), st.binary(max_size=200)))
def test_what_is_accepted_means_the_same_to_another_parser(block: bytes):
    """Method, target, every header and the framing; whatever else is refused in order."""
    block = block.partition(HEAD_END)[0]
    head = _parsed(block)
    head_fault(block, LIMITS)
    if head is None:
        return
    seen = _witness(block)
    assert seen.method == head.line.method.encode()
    assert seen.target == head.line.target or seen.target.startswith(b"http")
    assert list(seen.headers) == head.fields.headers
    named = [name for name, _ in head.fields.headers if name == b"transfer-encoding"]
    assert bool(named) == (head.fields.length == CHUNKED)


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=6),
    st.binary(max_size=20),
    st.data(),
)
def test_where_packets_end_means_nothing_to_chunks(pieces, after, data):
    """Cut anywhere, the body and what follows it are the same."""
    framed = b"".join(b"%x;e\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    wire = framed + b"0\r\nT: v\r\n\r\n" + after
    body, at, found = Chunked(), 0, b""
    while not body.is_done:
        size = data.draw(st.integers(1, max(1, len(wire) - at)))
        found += body.feed(wire[at : at + size])
        at += size
    assert found == b"".join(pieces)
    assert body.rest + wire[at:] == after


@given(
    st.lists(st.sampled_from([b"1", b"a", b"\r\n", b";", b"0", b"\n", b"\r", b"x"]), max_size=30)
)
def test_what_is_held_of_chunks_is_bounded(words):
    """No input makes the reader loop, hold on to data, or fail otherwise than by refusing."""
    body = Chunked()
    with contextlib.suppress(WireError):
        for word in words:
            if not body.is_done:
                body.feed(word)
    assert len(body._held) <= 256 + 2 or body._part == "trailers"
