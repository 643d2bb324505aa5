"""The HTTP edge of every service: operations endpoints, wire errors, one application factory.

Errors of the partner API carry their text under `Error`, `error` and `message`, since deployed
clients read one or another (`{"Error": "Out of realm"}` on the wire, `{"error": …}` in the
reference).
"""

import ipaddress
import logging
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shared.clock import Clock, SystemClock
from shared.errors import (
    GoneError,
    OverloadedError,
    PorticoError,
    RejectedError,
    TooManyError,
    UnauthenticatedError,
    UnavailableError,
)
from shared.identity import HEADER, Identity, IdentitySigner

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID_HEADER: Final = "x-request-id"
PROBLEMS_MAX: Final = 10
"""How many problems of one request are told."""
PLACE_LENGTH_MAX: Final = 60
"""How much of a name that a caller has made up is repeated."""
_ENCODER: Final = msgspec.json.Encoder()


def json_bytes(value: Any) -> bytes:
    """`value` as JSON; structs, decimals, dates and UUIDs included."""
    return _ENCODER.encode(value)


class JsonResponse(JSONResponse):
    """A JSON answer, encoded by msgspec; by its base FastAPI knows to document answers' schemas."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json_bytes(content)


def error_body(message: str, **members: Any) -> dict[str, Any]:
    """The wire form of an error, with `members` beside the three texts."""
    return {"Error": message, "error": message, "message": message} | members


def error_response(error: PorticoError, request_id: str = "") -> Response:
    """The answer to a request that failed with one of our errors."""
    headers = {REQUEST_ID_HEADER: request_id} if request_id else {}
    status: int = 500
    if isinstance(error, RejectedError):
        status = error.status
    elif isinstance(error, TooManyError | UnavailableError):
        status = 429 if isinstance(error, TooManyError) else 503
        headers["retry-after"] = str(error.retry_after_seconds)
    text = error.message
    if isinstance(error, UnavailableError):
        log.warning("unavailable", extra={"reason": text, "request_id": request_id})
        text = text if isinstance(error, OverloadedError) else "Temporarily unavailable."
    place = {"oldest": error.oldest} if isinstance(error, GoneError) and error.oldest else {}
    return JsonResponse(error_body(text, **place), status_code=status, headers=headers)


OPERATIONS: Final = ("/healthz", "/readyz", "/metrics")


class OperationsAnswers:
    """What `/healthz`, `/readyz` and `/metrics` say, to local callers only.

    Args:
        missing: what keeps the process from being ready.
        metrics: in Prometheus' text form.
        networks: whose callers are local.
    """

    def __init__(
        self,
        missing: Callable[[], dict[str, str]],
        metrics: Callable[[], bytes],
        networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128"),
    ) -> None:
        self._missing = missing
        self._metrics = metrics
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def answer(self, path: str, host: str) -> tuple[int, str, bytes] | None:
        """Status, media type and body; None for other paths, and for callers from elsewhere.

        Args:
            path: of the request.
            host: address of the caller; empty if there is none, as on a socket of the machine.
        """
        if path not in OPERATIONS or not self._is_local(host):
            return None
        if path == "/healthz":
            return 200, "application/json", json_bytes({"alive": True})
        if path == "/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", self._metrics()
        missing = self._missing()
        body = json_bytes({"ready": not missing, "missing": missing})
        return 503 if missing else 200, "application/json", body

    def _is_local(self, host: str) -> bool:
        if not host:
            return True
        address = ipaddress.ip_address(host)
        return any(address in network for network in self._networks)


class Operations:
    """`/healthz`, `/readyz` and `/metrics` beside an application, for local callers only.

    Callers outside `networks` get what the application answers for an unknown path, so that the two
    public doors tell partners nothing about the platform's inside.
    """

    def __init__(
        self,
        app: AsgiApp,
        missing: Callable[[], dict[str, str]],
        metrics: Callable[[], bytes],
        networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128"),
    ) -> None:
        self._app = app
        self._answers = OperationsAnswers(missing, metrics, networks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an operations path, else hand on."""
        found = None
        if scope["type"] == "http":
            client = scope.get("client")
            found = self._answers.answer(scope["path"], "" if client is None else client[0])
        if found is None:
            await self._app(scope, receive, send)
        else:
            status, media_type, body = found
            await Response(body, status, media_type=media_type)(scope, receive, send)


def new_app(title: str, description: str) -> FastAPI:
    """A FastAPI application that answers every failure in wire form, never with a stack trace."""
    app = FastAPI(
        title=title,
        description=description,
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        default_response_class=JsonResponse,
    )
    app.add_exception_handler(PorticoError, _on_portico_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_bug)
    return app


def request_id(request: Request) -> str:
    """The request's id: the door's, else one made here and kept for this request."""
    known: str | None = getattr(request.state, "request_id", None)
    if known is None:
        known = request.headers.get(REQUEST_ID_HEADER) or uuid.uuid4().hex
        request.state.request_id = known
    return known


async def _on_portico_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, PorticoError):
        raise error
    return error_response(error, request_id(request))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    text = "; ".join(f"{_place(item['loc'])}: {item['msg']}" for item in problems[:PROBLEMS_MAX])
    if len(problems) > PROBLEMS_MAX:
        text += f"; and {len(problems) - PROBLEMS_MAX} more"
    headers = {REQUEST_ID_HEADER: request_id(request)}
    return JsonResponse(error_body(f"Invalid parameters. {text}"), status_code=400, headers=headers)


def _place(location: Sequence[int | str]) -> str:
    """Where something is wrong, as callers may name it: cut where a name of theirs is too long."""
    parts = [str(part) for part in location if part != "body"]
    return ".".join(part[:PLACE_LENGTH_MAX] for part in parts) or "body"


async def _on_http_exception(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else "Internal error"
    headers = {REQUEST_ID_HEADER: request_id(request)}
    return JsonResponse(error_body(detail), status_code=status, headers=headers)


async def _on_bug(request: Request, error: Exception) -> Response:
    log.error("bug", exc_info=error, extra={"request_id": request_id(request)})
    headers = {REQUEST_ID_HEADER: request_id(request)}
    return JsonResponse(error_body("Internal error"), status_code=500, headers=headers)


class BugAnswers:
    """Answers a bug in a raw ASGI application with 500 in wire form, and logs it.

    It names the request: `scope["request_id"]` is set before the application runs. Where the head
    of an answer is out already, the server breaks the connection.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        scope["request_id"] = uuid.uuid4().hex
        has_begun = False

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            log.exception("bug", extra={"request_id": scope["request_id"]})
            if not has_begun:
                headers = {REQUEST_ID_HEADER: scope["request_id"]}
                answer = JsonResponse(error_body("Internal error"), 500, headers)
                await answer(scope, receive, send)


class IdentityCheck:
    """A FastAPI dependency: the identity that a door signed for this request."""

    def __init__(self, signer: IdentitySigner, clock: Clock | None = None) -> None:
        self._signer = signer
        self._clock = clock or SystemClock()

    def __call__(self, request: Request) -> Identity:
        """The verified identity.

        Raises:
            UnauthenticatedError: there is none, or it is not genuine.
        """
        value = request.headers.get(HEADER)
        if value is None:
            raise UnauthenticatedError("No Authentication Method Found")
        path = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1")
        identity = self._signer.verify(
            value, method=request.method, path=path, now=self._clock.time()
        )
        request.state.request_id = identity.request_id
        return identity
