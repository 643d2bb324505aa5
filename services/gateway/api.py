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
_FAULTS: Final = {
    "too_large": BODY_TOO_LARGE,
    "silent": Rejection(HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time", "silent"),
}
_OF_NOBODY: Final = ("unknown", "missing", "stale", "guessing")
"""Refusals told in the summary of unknown callers."""


class Gateway:
    """The application.

    Args:
        door: judges requests.
        upstream: sends them on.
        upstreams: where to.
        silence_seconds: how long a client may take for a piece of its body.
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
        silence_seconds: float,
        tally: Tally,
        metrics: GatewayMetrics,
        clock: Clock,
    ) -> None:
        self._door = door
        self._upstream = upstream
        self._upstreams = upstreams
        self._silence_seconds = silence_seconds
        self._tally = tally
        self._metrics = metrics
        self._clock = clock
        self._streams: set[asyncio.Task[None]] = set()
        self._is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = read_request(scope)
        passage = self._door.judge(request)
        exchange = Exchange(request, passage, send, self._clock)
        with self._metrics.in_flight.track_inprogress():
            try:
                await self._serve(exchange, receive)
            finally:
                self._account(exchange)

    async def _serve(self, exchange: Exchange, receive: Receive) -> None:
        passage, request = exchange.passage, exchange.request
        if passage.rejection is not None or passage.route is None:
            await self._refuse(exchange)
            return
        body = RequestBody(
            receive,
            bytes_max=self._door.body_bytes_max(passage.route),
            silence_seconds=self._silence_seconds,
            has_body=request.has_body,
        )
        if passage.route.granular and not await self._judge_report(exchange, body):
            return
        await self._pass(exchange, body)

    async def _judge_report(self, exchange: Exchange, body: RequestBody) -> bool:
        """Whether a report may go on; its body is read to see what it costs."""
        try:
            content = await body.collect()
        except ClientError:
            await self._blame_client(exchange, body)
            return False
        exchange.passage = self._door.judge_report(exchange.passage, content)
        await self._refuse(exchange)
        return exchange.passage.rejection is None

    async def _refuse(self, exchange: Exchange) -> None:
        if exchange.passage.rejection is not None:
            await exchange.reject(exchange.passage.rejection)

    async def drain(self) -> None:
        """End the streams that would go on for ever, each with a whole answer."""
        self._is_draining = True
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
        if relay.cancelled() and exchange.status and body.fault is None:
            await exchange.finish()

    async def _relay(self, exchange: Exchange, body: RequestBody) -> None:
        try:
            async with self._upstream.open_answer(self._call(exchange), body.chunks()) as answer:
                await self._answer(exchange, answer)
        except ClientError:
            await self._blame_client(exchange, body)
        except UpstreamError as error:
            if body.fault is None:
                await self._blame_service(exchange, error)
            else:
                await self._blame_client(exchange, body)

    async def _answer(self, exchange: Exchange, answer: Answer) -> None:
        await exchange.start(answer.status, answer.headers)
        task = asyncio.current_task()
        if answer.is_stream and task is not None:
            self._streams.add(task)
        if not (answer.is_stream and self._is_draining):
            async for chunk in answer.chunks():
                await exchange.send_body(chunk)
        await exchange.finish()

    async def _blame_client(self, exchange: Exchange, body: RequestBody) -> None:
        """Say what was wrong with the body, unless nobody is there or an answer has begun."""
        rejection = _FAULTS.get(body.fault or "")
        if rejection is not None and not exchange.status:
            await exchange.reject(rejection)

    async def _blame_service(self, exchange: Exchange, error: UpstreamError) -> None:
        """Say that the service failed, unless the head of its answer has said something else."""
        service = _service(exchange.passage)
        self._metrics.upstream_failures.labels(service, error.reason).inc()
        fields = {"service": service, "reason": error.reason, "cause": _cause(exchange, error)}
        names = {"endpoint": _endpoint(exchange), "request_id": exchange.request.request_id}
        log.warning("upstream failed", extra=fields | names)
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
        template = _endpoint(exchange)
        self._metrics.seconds.labels(template, str(status)).observe(exchange.head_seconds)
        reason = "" if passage.rejection is None else passage.rejection.reason
        if reason:
            self._metrics.refusals.labels(reason).inc()
        elif any(verdict and verdict.over for verdict in (passage.verdict, passage.granular)):
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


def _endpoint(exchange: Exchange) -> str:
    """The template of the request's path: all that is told of it, since a path may be a secret."""
    route = exchange.passage.route
    return NO_ROUTE if route is None else route.template


def _cause(exchange: Exchange, error: UpstreamError) -> str:
    """What went wrong, with the template where the client library names the path."""
    return str(error.__cause__).replace(trimmed(exchange.request.path), _endpoint(exchange))


def _service(passage: Passage) -> str:
    """The service that owns the request; only requests with a route are let in."""
    if passage.route is None:
        raise RuntimeError("a request without a route was let in")
    return passage.route.service
