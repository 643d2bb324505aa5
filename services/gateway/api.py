"""The gateway as an ASGI application: judge, then answer or pass through.

It is a raw ASGI callable, since every request of every partner goes through it. Bodies stream both
ways in the pieces in which they come. A client that leaves cancels the call to the upstream; an
upstream that breaks off in the middle of an answer breaks the client's connection, so that half an
answer never reads as a whole one.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Final

from services.gateway.domain import CLIENT_GONE, Passage, Rejection, passed_on, trimmed
from services.gateway.exchange import ClientError, Exchange, RequestBody, read_request
from services.gateway.handlers import BODY_TOO_LARGE, Door, Upstreams
from services.gateway.metrics import NO_ROUTE, GatewayMetrics
from services.gateway.summaries import Row, Tally
from services.gateway.upstream import Answer, Call, Upstream, UpstreamError
from shared.clock import Clock
from shared.http import Receive, Scope, Send

log = logging.getLogger(__name__)

_TEXTS: Final = {
    HTTPStatus.BAD_GATEWAY: "Bad gateway",
    HTTPStatus.SERVICE_UNAVAILABLE: "Temporarily unavailable.",
    HTTPStatus.GATEWAY_TIMEOUT: "Gateway timeout",
}
_OF_NOBODY: Final = ("unknown", "missing", "stale")
"""Refusals told in the summary of unknown callers."""


class Gateway:
    """The application.

    Args:
        door: judges requests.
        upstream: sends them on.
        upstreams: where to.
        body_bytes_max: longest request body.
        tally: counts requests for the access summaries.
        metrics: counts them for operators.
        clock: the time.
    """

    def __init__(
        self,
        door: Door,
        upstream: Upstream,
        upstreams: Upstreams,
        *,
        body_bytes_max: int,
        tally: Tally,
        metrics: GatewayMetrics,
        clock: Clock,
    ) -> None:
        self._door = door
        self._upstream = upstream
        self._upstreams = upstreams
        self._body_bytes_max = body_bytes_max
        self._tally = tally
        self._metrics = metrics
        self._clock = clock
        self._streams: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = read_request(scope)
        passage = self._door.judge(request)
        exchange = Exchange(request, passage, send, self._clock)
        with self._metrics.in_flight.track_inprogress():
            try:
                if passage.rejection is not None:
                    await exchange.reject(passage.rejection)
                else:
                    body = RequestBody(receive, self._body_bytes_max, has_body=request.has_body)
                    await self._pass(exchange, body)
            finally:
                self._account(exchange)

    async def drain(self) -> None:
        """End the streams that would go on for ever, each with a whole answer."""
        for task in tuple(self._streams):
            task.cancel()

    async def _pass(self, exchange: Exchange, body: RequestBody) -> None:
        """Relay until the answer is complete, the client leaves, or a drain ends the stream."""
        async with asyncio.TaskGroup() as group:
            relay = group.create_task(self._relay(exchange, body))
            leaving = group.create_task(body.client_left())
            await asyncio.wait((relay, leaving), return_when=asyncio.FIRST_COMPLETED)
            relay.cancel()
            leaving.cancel()
        self._streams.discard(relay)
        if relay.cancelled() and exchange.status and not body.has_broken:
            await exchange.finish()

    async def _relay(self, exchange: Exchange, body: RequestBody) -> None:
        try:
            async with self._upstream.open_answer(self._call(exchange), body.chunks()) as answer:
                await self._answer(exchange, answer)
        except (UpstreamError, ClientError) as error:
            await self._report(exchange, body, error)

    async def _answer(self, exchange: Exchange, answer: Answer) -> None:
        await exchange.start(answer.status, answer.headers)
        task = asyncio.current_task()
        if answer.is_stream and task is not None:
            self._streams.add(task)
        async for chunk in answer.chunks():
            await exchange.send_body(chunk)
        await exchange.finish()

    async def _report(
        self, exchange: Exchange, body: RequestBody, error: UpstreamError | ClientError
    ) -> None:
        """Tell the client, if the head of an answer has not told it something else already."""
        if body.is_too_large and not exchange.status:
            await exchange.reject(BODY_TOO_LARGE)
        if body.is_too_large or body.has_broken or not isinstance(error, UpstreamError):
            return
        service = _service(exchange.passage)
        self._metrics.upstream_failures.labels(service, error.reason).inc()
        fields = {"service": service, "reason": error.reason, "cause": str(error.__cause__)}
        log.warning("upstream failed", extra=fields | {"request_id": exchange.request.request_id})
        if not exchange.status:
            is_down = error.status == HTTPStatus.SERVICE_UNAVAILABLE
            headers = ((b"retry-after", b"1"),) if is_down else ()
            text = _TEXTS[error.status]
            await exchange.reject(Rejection(error.status, text, "upstream", headers))

    def _call(self, exchange: Exchange) -> Call:
        request = exchange.request
        path = trimmed(request.path)
        query = f"?{request.query.decode('latin-1')}" if request.query else ""
        return Call(
            method=request.method,
            url=f"{self._upstreams[_service(exchange.passage)]}{path}{query}",
            headers=passed_on(request, self._door.identity(request, exchange.passage, path)),
            has_body=request.has_body,
        )

    def _account(self, exchange: Exchange) -> None:
        """Count the request where operators and partners' networks look."""
        passage, status = exchange.passage, exchange.status or CLIENT_GONE
        template = NO_ROUTE if passage.route is None else passage.route.template
        self._metrics.seconds.labels(template, str(status)).observe(exchange.head_seconds)
        reason = "" if passage.rejection is None else passage.rejection.reason
        if reason:
            self._metrics.refusals.labels(reason).inc()
        elif passage.verdict is not None and passage.verdict.over:
            self._metrics.over_in_shadow.inc()
        caller = passage.caller
        if passage.route is None or (caller is None and reason not in _OF_NOBODY):
            return
        self._tally.add(
            int(self._clock.time()),
            0 if caller is None else caller.network_id,
            0 if caller is None else caller.network_affiliate_id,
            Row(
                key_id="" if caller is None else caller.key_id,
                masked="" if caller is None else caller.masked,
                method=exchange.request.method,
                endpoint=template,
                status=status,
                client_ip=passage.client_ip,
                refusal=reason,
            ),
        )


def _service(passage: Passage) -> str:
    """The service that owns the request; only requests with a route are let in."""
    if passage.route is None:
        raise RuntimeError("a request without a route was let in")
    return passage.route.service
