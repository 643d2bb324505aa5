"""The rules of the door: what a request may carry on, and what its answer must say. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

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
    IDENTITY_HEADER.encode(),
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


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived; header names are lower case.

    Attributes:
        method: HTTP method.
        path: as sent, percent-encoding and all, without the query.
        query: as sent, without the question mark.
        headers: in their order.
        peer: address of the connection.
        request_id: given to it here.
    """

    method: str
    path: str
    query: bytes
    headers: RawHeaders
    peer: str
    request_id: str

    def values(self, name: bytes) -> list[str]:
        """The values of all headers called `name`."""
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    def value(self, name: bytes) -> str | None:
        """The value of the only header called `name`; None if there is none."""
        found = self.values(name)
        return found[0] if found else None

    @property
    def header_bytes(self) -> int:
        """The sum of all names and values."""
        return sum(len(name) + len(value) for name, value in self.headers)

    @property
    def declared_bytes(self) -> int:
        """The body's length if it was declared, else 0."""
        declared = self.value(b"content-length")
        return int(declared) if declared is not None and declared.isdigit() else 0

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self.declared_bytes > 0 or self.value(b"transfer-encoding") is not None


@dataclass(frozen=True, slots=True)
class Rejection:
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
    members: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> bytes:
        """The wire form."""
        return json_bytes(error_body(self.text, **self.members))


@dataclass(frozen=True, slots=True)
class Passage:
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
    if passage.verdict is None:
        return []
    verdicts = {POLICY: passage.verdict}
    if passage.granular is not None:
        verdicts[GRANULAR_POLICY] = passage.granular
    rules = [f'"{name}";q={one.quota};w={one.window_seconds}' for name, one in verdicts.items()]
    states = [f'"{name}";r={one.remaining};t={one.reset_seconds}' for name, one in verdicts.items()]
    return [
        (b"x-ratelimit-limit", str(passage.verdict.quota).encode()),
        (b"x-ratelimit-remaining", str(passage.verdict.remaining).encode()),
        (b"ratelimit-policy", ", ".join(rules).encode()),
        (b"ratelimit", ", ".join(states).encode()),
    ]


def passed_on(request: Request, identity: str) -> list[tuple[str, str]]:
    """The headers that an upstream gets.

    Neither the partner's key nor anything by which a client could pretend to be a door goes on;
    hop-by-hop headers, also those that `Connection` names, end here.
    """
    dropped = _NOT_PASSED_ON | named_by_connection(request.headers)
    passed = [
        (name.decode("latin-1"), value.decode(errors="replace"))
        for name, value in request.headers
        if name not in dropped
    ]
    return [*passed, (IDENTITY_HEADER, identity), (REQUEST_ID.decode(), request.request_id)]


def passed_back(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """The headers of an upstream's answer that the client gets, names in lower case."""
    lowered = [(name.lower(), value) for name, value in headers]
    dropped = _NOT_PASSED_BACK | named_by_connection(lowered)
    return [(name, value) for name, value in lowered if name not in dropped]


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
