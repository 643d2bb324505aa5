"""One request and its answer: what stands between a client's connection and a service's.

Bodies pass both ways in the pieces in which they come, as fast as the slower side takes them; only
that of a granular route is collected, to judge it. A client that leaves ends the call to the
service; a service that breaks off in the middle of an answer breaks the client's connection, so
that half an answer never reads as a whole one. The length of a body is always told anew from how it
was read, never from a header that a sender could have declared away.
"""

import logging
from http import HTTPStatus
from typing import Final, Protocol

from services.gateway.domain import (
    REQUEST_ID,
    Passage,
    Rejection,
    Request,
    passed_back,
    rate_lines,
    trimmed,
)
from services.gateway.handlers import BODY_TOO_LARGE, Door
from services.gateway.http1.deadlines import Deadlines
from services.gateway.http1.server import Connection
from services.gateway.http1.upstream import Link, Pool, UpstreamError
from services.gateway.http1.wire import (
    CHUNKED,
    LAST_CHUNK,
    STATUS_LINES,
    UNTIL_CLOSE,
    AnswerHead,
    RequestHead,
    WireError,
    chunk,
    lines,
)
from shared.clock import Clock
from shared.identity import HEADER as IDENTITY_HEADER
from shared.routes import Route

log = logging.getLogger(__name__)

_CACHING: Final = b"cache-control"
_NO_STORE: Final = b"cache-control: no-store\r\n"
"""What an answer says if its service says nothing: a cache that keys by path would mix partners."""
_JSON: Final = b"content-type: application/json\r\n" + _NO_STORE
_STREAM: Final = b"text/event-stream"
_REQUEST_ID: Final = REQUEST_ID + b": "
_IDENTITY: Final = IDENTITY_HEADER.encode() + b": "
_BODILESS: Final = (204, 304)
_BUG: Final = Rejection(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error", "bug")
_TEXTS: Final = {
    HTTPStatus.BAD_GATEWAY: "Bad gateway",
    HTTPStatus.SERVICE_UNAVAILABLE: "Temporarily unavailable.",
    HTTPStatus.GATEWAY_TIMEOUT: "Gateway timeout",
}


class Behind(Protocol):
    """What all exchanges of a gateway share.

    Attributes:
        door: judges.
        clock: the time.
        deadlines: the coarse one.
        is_draining: whether endless answers are to end.
    """

    door: Door
    clock: Clock
    deadlines: Deadlines
    is_draining: bool

    def pool(self, route: Route) -> Pool:
        """The links to the service that owns `route`."""
        ...

    def on_failure(self, exchange: "Exchange", error: UpstreamError) -> None:
        """A service did not answer as it should."""
        ...

    def on_stream(self, exchange: "Exchange") -> None:
        """The answer has no end of its own."""
        ...

    def on_over(self, exchange: "Exchange") -> None:
        """It is over, one way or the other; called once."""
        ...


class Exchange:
    """One request and its answer; a `Turn` to its client, a `Sender` to a service.

    Attributes:
        request: what was asked.
        passage: what the door found out.
        status: of the answer; 0 until its head is sent.
        head_seconds: how long the head took.
        method: see `Sender`.
        may_repeat: see `Sender`.
    """

    __slots__ = (
        "_began",
        "_bytes_left",
        "_collects",
        "_connection",
        "_ends_with_connection",
        "_gateway",
        "_is_body_done",
        "_is_chunked_back",
        "_is_old",
        "_is_over",
        "_length",
        "_link",
        "_pending",
        "_pool",
        "_unsent",
        "head_seconds",
        "may_repeat",
        "method",
        "passage",
        "request",
        "status",
    )

    def __init__(
        self, gateway: Behind, connection: Connection, head: RequestHead, request_id: str
    ) -> None:
        length = head.fields.length
        self.method = head.line.method
        self.request = Request(head.line, head.fields, connection.peer, request_id)
        self.status = 0
        self.head_seconds = 0.0
        self.may_repeat = length == 0 and self.method == "GET"
        self._gateway = gateway
        self._connection = connection
        self._is_old = head.is_old
        self._length = length
        self._began = gateway.clock.monotonic()
        self._link: Link | None = None
        self._pool: Pool | None = None
        self._pending: list[bytes] = []
        self._bytes_left = 0
        self._collects = False
        self._is_body_done = length == 0
        self._is_chunked_back = False
        self._ends_with_connection = False
        self._is_over = False
        self._unsent: list[bytes] = []

    # From the client.

    def start(self) -> None:
        """Judge, then refuse or pass on."""
        try:
            self.passage = self._gateway.door.judge(self.request)
        except Exception:
            log.exception("bug", extra={"request_id": self.request.request_id})
            self.passage = Passage(None, self.request.peer)
            self.reject(_BUG)
            return
        rejection, route = self.passage.rejection, self.passage.route
        if rejection is not None or route is None:
            self.reject(rejection or _BUG)
            return
        self._bytes_left = self._gateway.door.body_bytes_max(route)
        if not route.granular:
            self._pass_on(route)
        elif self._is_body_done:
            self._judge_report(route, b"")
        else:
            self._collects = True
            self._connection.want_body()

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self._bytes_left -= len(piece)
        if self._is_over:
            return
        if self._bytes_left < 0:
            self._give_up(BODY_TOO_LARGE)
        elif self._link is not None:
            self._link.write(self._framed(piece))
        else:
            self._pending.append(piece)
            if not self._collects:
                self._connection.hold_body()

    def on_body_end(self) -> None:
        """The body is complete."""
        self._is_body_done = True
        if self._is_over:
            return
        route = self.passage.route
        if self._collects and route is not None:
            content = b"".join(self._pending)
            self._pending = [content] if content else []
            self._judge_report(route, content)
        elif self._link is not None:
            self._end_request(self._link)

    def on_body_fault(self, error: WireError) -> None:
        """The body will not come to its end."""
        reason = "silent" if error.status == HTTPStatus.REQUEST_TIMEOUT else "malformed"
        self._give_up(Rejection(error.status, error.text, reason))

    def on_gone(self) -> None:
        """The client has left."""
        if not self._is_over:
            self._drop_call()
            self._be_over()

    def on_full(self) -> None:
        """The client reads slowly."""
        if self._link is not None:
            self._link.hold()

    def on_writable(self) -> None:
        """The client has caught up."""
        if self._link is not None:
            self._link.release()

    # From the service.

    def on_link(self, link: Link) -> None:
        """Send the request."""
        self._link = link
        link.write(self._request_head())
        for piece in self._pending:
            link.write(self._framed(piece))
        if self.may_repeat:
            link.end()
            return
        self._pending.clear()
        if self._is_body_done:
            self._end_request(link)
        else:
            self._connection.release_body()
            self._connection.want_body()

    def on_answer(self, head: AnswerHead) -> None:
        """Begin the answer."""
        told = passed_back(head.headers, has_budget=self.passage.verdict is not None)
        is_stream = is_decided = False
        for name, value in told:
            if name == b"content-type":
                is_stream = value.startswith(_STREAM)
            elif name == _CACHING:
                is_decided = True
        said = lines(told) if is_decided else lines(told) + _NO_STORE
        self._begin_answer(head.status, said, head.length)
        if is_stream:
            self._gateway.on_stream(self)
            if self._gateway.is_draining:
                self.end_stream()

    def on_piece(self, piece: bytes) -> None:
        """Go on with the answer."""
        self._unsent.append(chunk(piece) if self._is_chunked_back else piece)

    def on_lull(self) -> None:
        """Send what has come."""
        self._send()

    def on_answer_end(self) -> None:
        """The answer is complete."""
        self._link = None
        if not self._is_over:
            self._finish()

    def on_failure(self, error: UpstreamError) -> None:
        """The service failed: say so, unless the head of its answer has said something else."""
        self._link = None
        self._pool = None
        if self._is_over:
            return
        self._gateway.on_failure(self, error)
        if self.status:
            self._break_off()
            return
        is_down = error.status == HTTPStatus.SERVICE_UNAVAILABLE
        headers = ((b"retry-after", b"1"),) if is_down else ()
        self.reject(Rejection(error.status, _TEXTS[error.status], "upstream", headers))

    def on_link_full(self) -> None:
        """The service reads slowly."""
        self._connection.hold_body()

    def on_link_writable(self) -> None:
        """The service has caught up."""
        self._connection.release_body()

    # From the gateway.

    def end_stream(self) -> None:
        """End an answer that would go on for ever, as a whole one."""
        if not self._is_over:
            self._drop_call()
            self._finish()

    def reject(self, rejection: Rejection) -> None:
        """Answer in the wire form of errors."""
        body = rejection.body()
        self._begin_answer(rejection.status, _JSON + lines(rejection.headers), len(body))
        if self.method != "HEAD":
            self._unsent.append(body)
        self._be_over(rejection)
        self._send()
        self._connection.finish()

    # Inside.

    def _pass_on(self, route: Route) -> None:
        self._pool = self._gateway.pool(route)
        self._pool.send(self)

    def _judge_report(self, route: Route, content: bytes) -> None:
        """Pass a report on if its hourly budget allows it."""
        self.passage = self._gateway.door.judge_report(self.passage, content)
        if self.passage.rejection is not None:
            self.reject(self.passage.rejection)
        else:
            self._pass_on(route)

    def _request_head(self) -> bytes:
        request, pool = self.request, self._pool
        if pool is None:
            raise RuntimeError("a link without a pool")
        line = request.line
        path = trimmed(line.path)
        identity = self._gateway.door.identity(request, self.passage, path)
        return b"".join(
            (
                line.method.encode(),
                b" ",
                pool.prefix,
                path.encode(),
                b"?" + line.query if line.query else b"",
                b" HTTP/1.1\r\nhost: ",
                pool.host,
                b"\r\n",
                request.carried.passed_on,
                _IDENTITY,
                identity.encode(),
                b"\r\n",
                _REQUEST_ID,
                request.request_id.encode(),
                b"\r\n",
                self._request_framing(),
                b"\r\n",
            )
        )

    def _request_framing(self) -> bytes:
        if self._collects:
            return b"content-length: %d\r\n" % sum(map(len, self._pending))
        if self._length == CHUNKED:
            return b"transfer-encoding: chunked\r\n"
        if self._length or self.method in ("POST", "PUT", "PATCH"):
            return b"content-length: %d\r\n" % self._length
        return b""

    def _framed(self, piece: bytes) -> bytes:
        is_chunked = self._length == CHUNKED and not self._collects
        return chunk(piece) if is_chunked else piece

    def _end_request(self, link: Link) -> None:
        if self._length == CHUNKED and not self._collects:
            link.write(LAST_CHUNK)
        link.end()

    def _begin_answer(self, status: int, told: bytes, length: int) -> None:
        """Make the head: `told` and what every answer has."""
        gateway = self._gateway
        self.status = status
        self.head_seconds = gateway.clock.monotonic() - self._began
        self._unsent += (
            STATUS_LINES[status],
            told,
            _REQUEST_ID,
            self.request.request_id.encode(),
            b"\r\n",
            rate_lines(self.passage),
            gateway.deadlines.date,
            self._answer_framing(status, length),
            b"\r\n",
        )

    def _send(self) -> None:
        """Write at once what has gathered: each write is a packet, and a call to the kernel."""
        if self._unsent:
            self._connection.write(b"".join(self._unsent))
            self._unsent.clear()

    def _answer_framing(self, status: int, length: int) -> bytes:
        connection, is_old = self._connection, self._is_old
        framing = b""
        if length in (CHUNKED, UNTIL_CLOSE):
            if is_old:
                self._ends_with_connection = True
                connection.end_after_this()
            else:
                self._is_chunked_back = True
                framing = b"transfer-encoding: chunked\r\n"
        elif status not in _BODILESS and (length or self.method != "HEAD"):
            framing = b"content-length: %d\r\n" % length
        if not connection.keeps_alive():
            return framing + b"connection: close\r\n"
        return framing + b"connection: keep-alive\r\n" if is_old else framing

    def _finish(self) -> None:
        if self._is_chunked_back:
            self._unsent.append(LAST_CHUNK)
        self._be_over()
        self._send()
        self._connection.finish()

    def _give_up(self, rejection: Rejection) -> None:
        """Blame the client, unless an answer has begun."""
        if self._is_over:
            return
        self._drop_call()
        if self.status:
            self._break_off()
        else:
            self._connection.end_after_this()
            self.reject(rejection)

    def _break_off(self) -> None:
        self._be_over()
        self._send()
        self._connection.break_off(reset=self._ends_with_connection)

    def _drop_call(self) -> None:
        """Let the service know that nobody waits any more."""
        link, self._link = self._link, None
        if link is not None:
            link.abandon()
        if self._pool is not None:  # also if it waits to be sent again, its first link being dead
            self._pool.withdraw(self)

    def _be_over(self, rejection: Rejection | None = None) -> None:
        self._is_over = True
        self._gateway.on_over(self)
