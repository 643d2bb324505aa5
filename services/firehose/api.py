"""The firehose as an ASGI application: a path, a key, a stream or a refusal in wire form."""

from collections.abc import Callable
from typing import Final

from starlette.responses import Response

from services.firehose.domain import StreamRequest, read_stream_request
from services.firehose.framing import CONTENT_TYPES
from services.firehose.handlers import Connection, Firehose
from services.firehose.metrics import FirehoseMetrics
from shared.access import KEY_HEADER, NO_METHOD, Network, client_ip
from shared.errors import NotFoundError, PorticoError, UnauthenticatedError
from shared.http import (
    REQUEST_ID_HEADER,
    AsgiApp,
    JsonResponse,
    Receive,
    Scope,
    Send,
    error_body,
    error_response,
)
from shared.routes import RouteTable, of_service

METHOD_NOT_ALLOWED: Final = 405
_LATIN: Final = "latin-1"


class FirehoseApp:
    """The application.

    Args:
        firehose: opens and runs streams.
        metrics: counts refusals.
        trusted: our own proxies, believed about `X-Forwarded-For`.
    """

    def __init__(
        self, firehose: Firehose, metrics: FirehoseMetrics, *, trusted: tuple[Network, ...]
    ) -> None:
        self._firehose = firehose
        self._metrics = metrics
        self._trusted = trusted
        self._routes = RouteTable(of_service("firehose"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with a stream or a refusal."""
        refusal = self._misrouted(scope)
        if refusal is None:
            try:
                await self._stream(scope, receive, send)
            except PorticoError as error:
                refusal = error_response(error, scope["request_id"])
        if refusal is not None:
            self._metrics.refusals.labels(str(refusal.status_code)).inc()
            await refusal(scope, receive, send)

    def _misrouted(self, scope: Scope) -> Response | None:
        """The answer to a request for what is not here."""
        path, request_id = scope["path"], scope["request_id"]
        if self._routes.find(scope["method"], path) is not None:
            return None
        allowed = self._routes.methods(path)
        if not allowed:
            return error_response(NotFoundError(), request_id)
        headers = {REQUEST_ID_HEADER: request_id, "allow": ", ".join(allowed)}
        return JsonResponse(error_body("Method Not Allowed"), METHOD_NOT_ALLOWED, headers)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        secret = headers.get(KEY_HEADER.decode())
        if secret is None:
            raise UnauthenticatedError(NO_METHOD)
        peer = scope["client"][0] if scope.get("client") else ""
        forwarded = [
            value.decode(_LATIN) for name, value in scope["headers"] if name == b"x-forwarded-for"
        ]
        grant = self._firehose.admit(secret, client_ip(peer, forwarded, self._trusted))
        request = read_stream_request(scope["query_string"].decode(_LATIN), headers)
        async with self._firehose.opened(grant, request) as reader:
            connection = _connection(scope, receive, send, request)
            await self._firehose.run_stream(grant, request, reader, connection)


class Abortable:
    """Gives the application a way to break a connection, which ASGI has none for.

    A client that takes nothing any more would keep its connection open for ever otherwise.
    `scope["abort"]` breaks it; under a server other than uvicorn it does nothing.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        scope["abort"] = getattr(transport, "abort", _nothing)
        await self._app(scope, receive, send)


def _nothing() -> None:
    """Break no connection."""


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode(_LATIN): value.decode(_LATIN) for name, value in scope["headers"]}


def _connection(scope: Scope, receive: Receive, send: Send, request: StreamRequest) -> Connection:
    async def begin() -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": _response_headers(request, scope["request_id"]),
            }
        )

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    abort: Callable[[], None] = scope.get("abort", _nothing)
    return Connection(begin, send, left, abort)


def _response_headers(request: StreamRequest, request_id: str) -> list[tuple[bytes, bytes]]:
    """The head of a stream: nothing on its way may keep or collect it."""
    headers = {
        "content-type": CONTENT_TYPES[request.format],
        "cache-control": "no-store",
        "x-accel-buffering": "no",
        "vary": "Accept, Accept-Encoding",
        REQUEST_ID_HEADER: request_id,
    }
    if request.coding != "identity":
        headers["content-encoding"] = request.coding
    return [(name.encode(), value.encode()) for name, value in headers.items()]
