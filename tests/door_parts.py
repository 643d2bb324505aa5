"""Requests to a door, and what it says about budgets, without a wire."""

from services.gateway.domain import Passage, RawHeaders, Request, rate_lines
from services.gateway.http1.wire import Fields, RequestLine


def requested(
    method: str,
    path: str,
    headers: RawHeaders,
    *,
    peer: str = "203.0.113.7",
    request_id: str = "r",
) -> Request:
    """A request as the wire would have read it."""
    return Request(RequestLine(method, path.encode()), Fields(headers), peer, request_id)


def rates(passage: Passage) -> RawHeaders:
    """The headers about budgets."""
    lines = rate_lines(passage).split(b"\r\n")[:-1]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
