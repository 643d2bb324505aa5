"""Protects what a client may ask for: parameters, headers, filters."""

import pytest

from services.firehose.domain import (
    Filter,
    choose_coding,
    choose_format,
    read_stream_request,
    reason_of,
)
from shared.access import Refusal
from shared.cursor import Cursor, Place
from shared.errors import InvalidError, UnauthenticatedError
from shared.tail import EARLIEST, LATEST, Since
from tests import tracking

CURSOR = Cursor(1, 2, {1: Place(b"12345678", 5)})


def test_without_parameters_a_stream_is_live_and_of_all_types():
    """The plainest call does the plainest thing."""
    request = read_stream_request("", {})
    assert (request.types, request.start, request.start_text) == (None, LATEST, "latest")
    assert (request.filter.is_open, request.format, request.coding) == (True, "sse", "identity")


@pytest.mark.parametrize(
    ("query", "start"),
    [
        ("start=earliest", EARLIEST),
        ("start=latest", LATEST),
        ("since=earliest", EARLIEST),
        ("since=1767225600.5", Since(1_767_225_600.5)),
        ("since=2026-01-01T00:00:00Z", Since(1_767_225_600)),
        ("since=2026-01-01T01:00:00%2B01:00", Since(1_767_225_600)),
        ("since=2026-01-01T01:00:00+01:00", Since(1_767_225_600)),
        ("since=2026-01-01", Since(1_767_225_600)),
        (f"cursor={CURSOR.encode()}", CURSOR),
    ],
)
def test_a_stream_starts_where_the_query_says(query, start):
    """Times are UTC unless they say otherwise."""
    assert read_stream_request(query, {}).start == start


def test_the_last_event_id_comes_before_the_query():
    """A browser that reconnects sends it beside the URL it first opened."""
    request = read_stream_request("start=earliest", {"last-event-id": CURSOR.encode()})
    assert (request.start, request.start_text) == (CURSOR, "cursor")


@pytest.mark.parametrize(
    "query",
    [
        "types=,",
        "since=soon",
        "since=-5",
        "since=9999999999999",
        "since=1&since=2",
        "start=5",
        "offers=x",
        "offers=1.5",
        "statuses=APPROVED",
        "offers=" + ",".join(map(str, range(201))),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(query):
    """The message begins with the parameter."""
    name = query.partition("=")[0]
    with pytest.raises(InvalidError, match=name):
        read_stream_request(query, {})


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "sse"),
        ("*/*", "sse"),
        ("application/x-ndjson", "ndjson"),
        ("application/X-NDJSON; q=0.9, */*;q=0.1", "ndjson"),
        ("text/event-stream, application/x-ndjson;q=0.5", "sse"),
        ("text/html", "sse"),
    ],
)
def test_the_format_follows_accept(accept, expected):
    """A stream is SSE unless NDJSON is named."""
    assert choose_format(accept) == expected


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("", "identity"),
        ("br", "identity"),
        ("gzip, deflate", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0", "identity"),
        ("gzip;q=x", "identity"),
    ],
)
def test_the_coding_follows_accept_encoding(accept_encoding, expected):
    """What a client cannot read is not sent."""
    assert choose_coding(accept_encoding) == expected


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (Filter(), True),
        (Filter(offers=frozenset({7, 9})), True),
        (Filter(offers=frozenset({9})), False),
        (Filter(events=frozenset({"Base"})), True),
        (Filter(events=frozenset({"Deposit"})), False),
        (Filter(statuses=frozenset({"approved"})), True),
        (Filter(statuses=frozenset({"pending"})), False),
        (Filter(frozenset({7}), frozenset({"Base"}), frozenset({"pending"})), False),
    ],
)
def test_a_conversion_passes_when_every_filter_holds(wanted, passes):
    """Offer 7, event Base (the schema's default, left out of the bytes), status approved."""
    assert wanted.passes("conversions", tracking.conversion(1, 2, 3)) is passes


def test_clicks_know_neither_event_nor_status():
    """Those filters are about conversions; who wants no clicks leaves them out of `types`."""
    wanted = Filter(events=frozenset({"Deposit"}), statuses=frozenset({"pending"}))
    assert wanted.passes("clicks", tracking.click(1, 2, 3))


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        ("unknown", "revoked"),
        ("revoked", "revoked"),
        ("allowlist", "allowlist"),
        ("stale", "stale"),
    ],
)
def test_ends_are_named_by_their_cause(refused, reason):
    """A key that vanished from the table was revoked, as far as its holder is concerned."""
    assert reason_of(Refusal(refused, UnauthenticatedError())) == reason
