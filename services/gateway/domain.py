"""The rules of the door: what a request may carry on, and what its answer must say. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import msgspec

from services.gateway.http1.wire import Fields, Headers, RequestLine, lines
from services.gateway.limiter import Verdict
from shared.access import KEY_HEADER, Grant
from shared.errors import PorticoError, RejectedError, TooManyError, UnavailableError
from shared.http import error_body, json_bytes
from shared.identity import HEADER as IDENTITY_HEADER
from shared.partner_key import PresentedKey
from shared.routes import Route

RawHeaders = Headers

REQUEST_ID: Final = b"x-request-id"
POLICY: Final = "affiliate"
GRANULAR_POLICY: Final = "granular"
TOKEN_POLICY: Final = "address"  # noqa: S105 - the name of a limit
QUOTA_EXCEEDED: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
CLIENT_GONE: Final = 499
"""The status under which a request is counted whose client left before the answer."""

_IDENTITY: Final = IDENTITY_HEADER.encode()
_HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_NOT_PASSED_ON: Final = _HOP_BY_HOP | {
    KEY_HEADER,
    _IDENTITY,
    REQUEST_ID,
    b"content-length",
    b"expect",
    b"forwarded",
    b"host",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-real-ip",
}
_NOT_PASSED_BACK: Final = _HOP_BY_HOP | {REQUEST_ID, b"content-length", b"date", b"server"}
_NOT_BESIDE_BUDGET: Final = _NOT_PASSED_BACK | {
    b"x-ratelimit-limit",
    b"x-ratelimit-remaining",
    b"ratelimit-policy",
    b"ratelimit",
}


class Carried:
    """What the header fields of a request come to at the door; it follows from them alone.

    Attributes:
        size: the sum of all names and values, in bytes.
        declared_bytes: the body's length if it was declared, else 0.
        forwarded_for: the values of `X-Forwarded-For`.
        has_authorization: whether there is a token.
        keys: as presented; more than one is as good as none.
        passed_on: the lines that go on to a service, see `passed_on`.
    """

    __slots__ = (
        "declared_bytes",
        "forwarded_for",
        "has_authorization",
        "keys",
        "passed_on",
        "size",
    )

    def __init__(self, headers: RawHeaders) -> None:
        self.size = sum(len(name) + len(value) for name, value in headers)
        declared = values_of(headers, b"content-length")
        self.declared_bytes = int(declared[0]) if declared and declared[0].isdigit() else 0
        self.forwarded_for = values_of(headers, b"x-forwarded-for")
        self.has_authorization = bool(values_of(headers, b"authorization"))
        self.keys = tuple(map(PresentedKey, values_of(headers, KEY_HEADER)))
        self.passed_on = lines(passed_on(headers))


def values_of(headers: RawHeaders, name: bytes) -> list[str]:
    """The values of all headers called `name`, which is in lower case."""
    return [value.decode("latin-1") for key, value in headers if key == name]


def carried(fields: Fields) -> Carried:
    """What `fields` come to, worked out once for all requests that carry the same."""
    found = fields.notes
    if not isinstance(found, Carried):
        found = fields.notes = Carried(fields.headers)
    return found


class Request:
    """A request as it arrived. Never printed: it holds secrets.

    Args:
        line: its first line.
        fields: its headers.
        peer: address of the connection.
        request_id: given to it here.

    Attributes:
        carried: what its headers come to.
    """

    __slots__ = ("carried", "line", "peer", "request_id")

    def __init__(self, line: RequestLine, fields: Fields, peer: str, request_id: str) -> None:
        self.line = line
        self.carried = carried(fields)
        self.peer = peer
        self.request_id = request_id


class Rejection(msgspec.Struct, frozen=True):
    """Why a request goes no further, and its answer.

    Attributes:
        status: HTTP status.
        text: what the partner reads.
        reason: for summaries and metrics.
        headers: of the answer, beside the usual ones.
        members: of the body, beside the texts.
    """

    status: int
    text: str
    reason: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    members: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def body(self) -> bytes:
        """The wire form."""
        return json_bytes(error_body(self.text, **self.members))


class Passage(msgspec.Struct, frozen=True):
    """What the door found out about a request.

    Attributes:
        route: its row; None for an unknown path or method.
        caller: whose key it carries; None where there is none, or it is not known.
        client_ip: the address it came from.
        verdict: of the network's budget; None where none applies or none may be shown.
        granular: of its hourly budget; None for a request that does not draw on it.
        rejection: why it goes no further; None if it may.
    """

    route: Route | None
    client_ip: str
    caller: Grant | None = None
    verdict: Verdict | None = None
    granular: Verdict | None = None
    rejection: Rejection | None = None


def rejection_of(error: PorticoError, reason: str) -> Rejection:
    """The answer to a refusal that another module decided."""
    if isinstance(error, UnavailableError):
        wait = str(error.retry_after_seconds).encode()
        return Rejection(503, "Temporarily unavailable.", reason, ((b"retry-after", wait),))
    status = error.status if isinstance(error, RejectedError | TooManyError) else 500
    return Rejection(int(status), error.message, reason)


def over_budget(verdict: Verdict, policy: str) -> Rejection:
    """The answer to a request for which no token was left."""
    wait = max(verdict.reset_seconds, 1)
    return Rejection(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"Too many requests: the budget is {verdict.quota} in {verdict.window_seconds} s; "
        f"come again in {wait} s.",
        "rate",
        ((b"retry-after", str(wait).encode()),),
        {
            "type": QUOTA_EXCEEDED,
            "title": "Request cannot be satisfied as assigned quota has been exceeded",
            "status": 429,
            "violated-policies": [policy],
        },
    )


def rate_lines(passage: Passage) -> bytes:
    """What was decided, in header lines: the deployed ones and those of the IETF draft, version 10.

    `r` is whole tokens; `t` seconds to the next one if there is none, else until all are there.
    """
    verdict, granular = passage.verdict, passage.granular
    if verdict is None:
        return b""
    rules = _rule(POLICY, verdict.quota, verdict.window_seconds)
    states = _STATE % (verdict.remaining, verdict.reset_seconds)
    if granular is not None:
        rules += b", " + _rule(GRANULAR_POLICY, granular.quota, granular.window_seconds)
        states += _GRANULAR_STATE % (granular.remaining, granular.reset_seconds)
    return _RATE_LINES % (verdict.quota, verdict.remaining, rules, states)


_RATE_LINES: Final = (
    b"x-ratelimit-limit: %d\r\nx-ratelimit-remaining: %d\r\n"
    b"ratelimit-policy: %b\r\nratelimit: %b\r\n"
)
_STATE: Final = f'"{POLICY}";r=%d;t=%d'.encode()
_GRANULAR_STATE: Final = f', "{GRANULAR_POLICY}";r=%d;t=%d'.encode()


@lru_cache(maxsize=1024)
def _rule(policy: str, quota: int, window_seconds: int) -> bytes:
    return f'"{policy}";q={quota};w={window_seconds}'.encode()


def passed_on(headers: RawHeaders) -> RawHeaders:
    """The headers of a request that a service gets, beside those that the door writes itself.

    Neither the partner's key nor anything by which a client could pretend to be a door goes on;
    hop-by-hop headers, also those that `Connection` names, end here, and the length of a body is
    told anew.
    """
    dropped = _NOT_PASSED_ON | named_by_connection(headers)
    return [header for header in headers if header[0] not in dropped]


def passed_back(headers: RawHeaders, *, has_budget: bool) -> RawHeaders:
    """The headers of a service's answer that the client gets; names are in lower case.

    Args:
        headers: of the service.
        has_budget: whether the door tells of a budget, and so nobody else does.
    """
    dropped = _NOT_BESIDE_BUDGET if has_budget else _NOT_PASSED_BACK
    passed = [header for header in headers if header[0] not in dropped]
    if len(passed) < len(headers):
        hops = named_by_connection(headers)
        if hops:
            return [header for header in passed if header[0] not in hops]
    return passed


def named_by_connection(headers: RawHeaders) -> set[bytes]:
    """The headers that `Connection` declares to be for the next hop only."""
    return {
        part.strip().lower()
        for name, value in headers
        if name == b"connection"
        for part in value.split(b",")
    }


def trimmed(path: str) -> str:
    """The path without the one trailing slash that some clients send."""
    return path[:-1] if len(path) > 1 and path.endswith("/") else path
