"""The gateway as it stands between connections and services: every request's exchange, counted."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from services.gateway.access_log import AccessLog, Entry
from services.gateway.complaints import Complaints
from services.gateway.domain import CLIENT_GONE, REQUEST_ID, Rejection, carried
from services.gateway.exchange import Exchange
from services.gateway.handlers import Door
from services.gateway.http1.deadlines import Deadlines
from services.gateway.http1.server import Connection, Turn
from services.gateway.http1.upstream import Pool, UpstreamError
from services.gateway.http1.wire import STATUS_LINES, RequestHead, WireError, lines
from services.gateway.limiter import Verdict
from services.gateway.metrics import NO_ROUTE, GatewayMetrics
from services.gateway.pages import Pages
from services.gateway.request_ids import request_ids
from services.gateway.summaries import Row, Tally
from services.gateway.told import Told
from shared.clock import Clock
from shared.http import OPERATIONS, OperationsAnswers
from shared.routes import Route

log = logging.getLogger(__name__)

_OF_NOBODY: Final = ("unknown", "missing", "stale", "guessing")
"""Refusals told in the summary of unknown callers."""
_REASONS: Final = {
    HTTPStatus.SERVICE_UNAVAILABLE: "crowded",
    HTTPStatus.TOO_MANY_REQUESTS: "connections",
}
"""Why a connection is not wanted, where no request of it is to blame; another one may be, later."""


class Gateway:
    """Gives each request its exchange, and counts it.

    Args:
        door: judges requests.
        pools: the way to each service.
        operations: answers local callers about the process.
        pages: answers partners who read.
        tally: counts requests for the access summaries.
        metrics: counts them for operators.
        clock: the time.
        deadlines: the coarse one of all connections.
        access_log: tells each by itself, if anybody wants that.

    Attributes:
        is_draining: whether endless answers are to end.
        in_flight: requests that are being answered.
    """

    def __init__(
        self,
        door: Door,
        pools: Mapping[str, Pool],
        operations: OperationsAnswers,
        pages: Pages,
        *,
        tally: Tally,
        metrics: GatewayMetrics,
        clock: Clock,
        deadlines: Deadlines,
        access_log: AccessLog | None = None,
    ) -> None:
        self.door = door
        self.clock = clock
        self.deadlines = deadlines
        self.is_draining = False
        self.in_flight = 0
        metrics.in_flight.set_function(lambda: self.in_flight)
        self._pools = pools
        self._operations = operations
        self._pages = pages
        self._access_log = access_log
        self._tally = tally
        self._metrics = metrics
        self._ids = request_ids()
        self._streams: set[Exchange] = set()
        self._seconds: dict[tuple[str, int], Callable[[float], None]] = {}
        self._complaints = Complaints()

    def turn(self, connection: Connection, head: RequestHead) -> Turn:
        """The turn of a request."""
        path = head.line.path
        if path in OPERATIONS and not carried(head.fields).forwarded_for:
            found = self._operations.answer(path, connection.peer)
            if found is not None:
                status, media_type, body = found
                headers = ((b"content-type", media_type.encode()),)
                return Told(connection, head.line.method, status, headers, body)
        if self._pages.has(path):
            return self._page(connection, head)
        self.in_flight += 1
        return Exchange(self, connection, head, next(self._ids))

    def _page(self, connection: Connection, head: RequestHead) -> Turn:
        status, headers, body = self._pages.answer(head, connection.peer)
        self._metrics.pages.labels(str(int(status))).inc()
        told = [*headers, (REQUEST_ID, next(self._ids).encode())]
        return Told(connection, head.line.method, status, told, body)

    def on_unreadable(self, connection: Connection, error: WireError) -> None:
        """Say in wire form what cannot be understood."""
        reason = _REASONS.get(error.status, "malformed")
        self._metrics.refusals.labels(reason).inc()
        self._metrics.seconds.labels(NO_ROUTE, str(int(error.status))).observe(0.0)
        body = Rejection(error.status, error.text, reason).body()
        headers = [
            (b"content-type", b"application/json"),
            (REQUEST_ID, next(self._ids).encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        if error.status in _REASONS:
            headers.append((b"retry-after", b"1"))
        head = STATUS_LINES[error.status] + lines(headers) + self.deadlines.date
        connection.write(head + b"\r\n" + body)

    async def drain(self) -> None:
        """End the streams that would go on for ever, each with a whole answer."""
        self.is_draining = True
        for exchange in tuple(self._streams):
            exchange.end_stream()

    def pool(self, route: Route) -> Pool:
        """The links to the service that owns `route`."""
        return self._pools[route.service]

    def on_stream(self, exchange: Exchange) -> None:
        """The answer has no end of its own."""
        self._streams.add(exchange)

    def on_failure(self, exchange: Exchange, error: UpstreamError) -> None:
        """Tell operators that a service did not answer as it should."""
        route = exchange.passage.route
        service = "" if route is None else route.service
        self._metrics.upstream_failures.labels(service, error.reason).inc()
        times = self._complaints.due((service, error.reason), self.deadlines.now)
        if not times:
            return
        fields = {"service": service, "reason": error.reason, "cause": str(error), "times": times}
        names = {"endpoint": _endpoint(exchange), "request_id": exchange.request.request_id}
        log.warning("upstream failed", extra=fields | names)

    def on_over(self, exchange: Exchange) -> None:
        """Count the request where operators and partners' networks look."""
        self._streams.discard(exchange)
        self.in_flight -= 1
        passage, status = exchange.passage, exchange.status or CLIENT_GONE
        template = _endpoint(exchange)
        self._observe(template, status, exchange.head_seconds)
        reason = "" if passage.rejection is None else passage.rejection.reason
        if reason:
            self._metrics.refusals.labels(reason).inc()
        elif _is_over(passage.verdict) or _is_over(passage.granular):
            self._metrics.over_in_shadow.inc()
        caller = passage.caller
        if self._access_log is not None:
            self._access_log.add(self._entry(exchange, template, status, reason))
        if passage.route is None or (caller is None and reason not in _OF_NOBODY):
            return
        self._tally.add(
            int(self.clock.time()),
            0 if caller is None else caller.network_id,
            0 if caller is None else caller.network_affiliate_id,
            Row(
                key_id="" if caller is None else caller.key_id,
                masked="" if caller is None else caller.masked,
                method=exchange.method,
                endpoint=template,
                status=status,
                client_ip=passage.client_ip,
                refusal=reason,
            ),
        )

    def _entry(self, exchange: Exchange, template: str, status: int, reason: str) -> Entry:
        caller = exchange.passage.caller
        return Entry(
            ended_at=self.clock.time(),
            request_id=exchange.request.request_id,
            method=exchange.method,
            endpoint=template,
            status=status,
            seconds=exchange.head_seconds,
            network_id=0 if caller is None else caller.network_id,
            network_affiliate_id=0 if caller is None else caller.network_affiliate_id,
            key="" if caller is None else caller.masked,
            client_ip=exchange.passage.client_ip,
            refusal=reason,
        )

    def _observe(self, template: str, status: int, seconds: float) -> None:
        observe = self._seconds.get((template, status))
        if observe is None:
            observe = self._metrics.seconds.labels(template, str(status)).observe
            self._seconds[template, status] = observe
        observe(seconds)


def _is_over(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.over


def _endpoint(exchange: Exchange) -> str:
    """The template of the request's path: all that is told of it, since a path may be a secret."""
    route = exchange.passage.route
    return NO_ROUTE if route is None else route.template
