"""The rules of the door: what a request may carry on, and what its answer must say. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import msgspec

from services.gateway.limiter import Verdict
from shared.access import KEY_HEADER, Grant
from shared.errors import PorticoError, RejectedError, TooManyError, UnavailableError
from shared.http import error_body, json_bytes
from shared.identity import HEADER as IDENTITY_HEADER
from shared.routes import Route

RawHeaders = list[tuple[bytes, bytes]]

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
    b"expect",
    b"forwarded",
    b"host",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-real-ip",
}
_NOT_PASSED_BACK: Final = _HOP_BY_HOP | {REQUEST_ID, b"date", b"server"}


_JUDGED_BY: Final = frozenset(
    (
        KEY_HEADER,
        b"authorization",
        b"connection",
        b"content-length",
        b"transfer-encoding",
        b"x-forwarded-for",
    )
)
"""The headers that a door reads; found in one walk over all."""


class Request:
    """A request as it arrived; header names are lower case. Never printed: it holds secrets.

    Args:
        method: HTTP method.
        path: as sent, percent-encoding and all, without the query.
        query: as sent, without the question mark.
        headers: in their order.
        peer: address of the connection.
        request_id: given to it here.

    Attributes:
        header_bytes: the sum of all names and values.
    """

    __slots__ = (
        "_judged_by",
        "header_bytes",
        "headers",
        "method",
        "path",
        "peer",
        "query",
        "request_id",
    )

    def __init__(  # noqa: PLR0917 - the parts of a request in the order of HTTP
        self, method: str, path: str, query: bytes, headers: RawHeaders, peer: str, request_id: str
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.peer = peer
        self.request_id = request_id
        total = 0
        found: dict[bytes, list[str]] = {}
        for name, value in headers:
            total += len(name) + len(value)
            if name in _JUDGED_BY:
                found.setdefault(name, []).append(value.decode("latin-1"))
        self.header_bytes = total
        self._judged_by = found

    def values(self, name: bytes) -> list[str]:
        """The values of all headers called `name`."""
        if name in _JUDGED_BY:
            return self._judged_by.get(name, [])
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    def value(self, name: bytes) -> str | None:
        """The value of the first header called `name`; None if there is none."""
        found = self.values(name)
        return found[0] if found else None

    @property
    def declared_bytes(self) -> int:
        """The body's length if it was declared, else 0."""
        declared = self._judged_by.get(b"content-length")
        return int(declared[0]) if declared is not None and declared[0].isdigit() else 0

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self.declared_bytes > 0 or self.value(b"transfer-encoding") is not None


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


def rate_headers(passage: Passage) -> RawHeaders:
    """What was decided, in headers: the deployed ones and those of the IETF draft (version 10).

    `r` is whole tokens; `t` seconds to the next one if there is none, else until all are there.
    """
    verdict, granular = passage.verdict, passage.granular
    if verdict is None:
        return []
    rules = _rule(POLICY, verdict.quota, verdict.window_seconds)
    states = _STATE % (verdict.remaining, verdict.reset_seconds)
    if granular is not None:
        rules += b", " + _rule(GRANULAR_POLICY, granular.quota, granular.window_seconds)
        states += _GRANULAR_STATE % (granular.remaining, granular.reset_seconds)
    return [
        (b"x-ratelimit-limit", b"%d" % verdict.quota),
        (b"x-ratelimit-remaining", b"%d" % verdict.remaining),
        (b"ratelimit-policy", rules),
        (b"ratelimit", states),
    ]


_STATE: Final = f'"{POLICY}";r=%d;t=%d'.encode()
_GRANULAR_STATE: Final = f', "{GRANULAR_POLICY}";r=%d;t=%d'.encode()


@lru_cache(maxsize=1024)
def _rule(policy: str, quota: int, window_seconds: int) -> bytes:
    return f'"{policy}";q={quota};w={window_seconds}'.encode()


def forwarded(request: Request, identity: str) -> RawHeaders:
    """The headers that an upstream gets, beside `Host` and the framing of the body.

    Neither the partner's key nor anything by which a client could pretend to be a door goes on;
    hop-by-hop headers, also those that `Connection` names, end here.
    """
    dropped = _NOT_PASSED_ON
    if request.values(b"connection"):
        dropped |= named_by_connection(request.headers)
    passed = [header for header in request.headers if header[0] not in dropped]
    passed.append((_IDENTITY, identity.encode()))
    passed.append((REQUEST_ID, request.request_id.encode()))
    return passed


def passed_back(headers: RawHeaders) -> RawHeaders:
    """The headers of an upstream's answer that the client gets; names are in lower case."""
    dropped = _NOT_PASSED_BACK
    if any(name == b"connection" for name, _ in headers):
        dropped |= named_by_connection(headers)
    return [header for header in headers if header[0] not in dropped]


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
