"""One request and its answer, as seen from the client's side of the door."""

import asyncio
from collections.abc import AsyncIterator, Iterable, MutableMapping
from typing import Any, Final, Literal, NoReturn

from services.gateway.domain import (
    REQUEST_ID,
    Passage,
    RawHeaders,
    Rejection,
    Request,
    rate_headers,
)
from shared.clock import Clock
from shared.http import Receive, Scope, Send

_JSON: Final = (b"content-type", b"application/json")


def read_request(scope: Scope) -> Request:
    """The request that an ASGI server hands over through `BugAnswers`, which gave it an id."""
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"],
        headers=[(name.lower(), value) for name, value in scope["headers"]],
        peer="" if client is None else client[0],
        request_id=scope["request_id"],
    )


Fault = Literal["gone", "silent", "too_large"]
"""How a client's body may fail to come to its end."""


class ClientError(Exception):
    """A request's body did not come to its end; `RequestBody.fault` says why."""


class RequestBody:
    """A request's body, and the news that its sender has left.

    Args:
        receive: the ASGI server's.
        bytes_max: where reading stops.
        silence_seconds: how long to wait for a piece of it.
        has_body: whether there is anything to read.

    Attributes:
        fault: why reading ended early, or None.
    """

    def __init__(
        self, receive: Receive, *, bytes_max: int, silence_seconds: float, has_body: bool
    ) -> None:
        self.fault: Fault | None = None
        self._receive = receive
        self._bytes_left = bytes_max
        self._silence_seconds = silence_seconds
        self._collected: bytes | None = None
        self._is_read = asyncio.Event()
        if not has_body:
            self._is_read.set()

    async def collect(self) -> bytes:
        """The whole body; `chunks` then gives it again.

        Raises:
            ClientError: it did not come to its end.
        """
        self._collected = b"".join([chunk async for chunk in self._arriving()])
        return self._collected

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in the pieces in which it arrives.

        Raises:
            ClientError: it did not come to its end.
        """
        if self._collected is not None:
            yield self._collected
            return
        async for chunk in self._arriving():
            yield chunk

    async def client_left(self) -> None:
        """Returns once the client is gone. Waits for the body's end: only one may `receive`."""
        await self._is_read.wait()
        while self.fault is None:
            if (await self._receive())["type"] == "http.disconnect":
                self.fault = "gone"

    async def _arriving(self) -> AsyncIterator[bytes]:
        more = not self._is_read.is_set()
        while more:
            message = await self._message()
            chunk: bytes = message.get("body", b"")
            self._bytes_left -= len(chunk)
            if self._bytes_left < 0:
                self._fail("too_large")
            more = message.get("more_body", False)
            yield chunk
        self._is_read.set()

    async def _message(self) -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout(self._silence_seconds):
                message = await self._receive()
        except TimeoutError:
            self._fail("silent")
        if message["type"] == "http.disconnect":
            self._fail("gone")
        return message

    def _fail(self, fault: Fault) -> NoReturn:
        self.fault = fault
        if fault == "gone":
            self._is_read.set()
        raise ClientError(fault)


class Exchange:
    """The answer to one request, head first.

    Args:
        request: what was asked.
        passage: what the door found out.
        send: the ASGI server's.
        clock: the time.

    Attributes:
        status: of the answer; 0 until its head is sent.
        head_seconds: how long the head took.
        is_complete: whether the answer came to its end.
    """

    def __init__(self, request: Request, passage: Passage, send: Send, clock: Clock) -> None:
        self.request = request
        self.passage = passage
        self.status = 0
        self.is_complete = False
        self._send = send
        self._clock = clock
        self._began = clock.monotonic()
        self.head_seconds = 0.0

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the head: the given headers and those that every answer has."""
        self.status = status
        self.head_seconds = self._clock.monotonic() - self._began
        request_id = (REQUEST_ID, self.request.request_id.encode())
        usual: RawHeaders = [request_id, *rate_headers(self.passage)]
        names = {name for name, _ in usual}
        kept = [(name, value) for name, value in headers if name not in names]
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*kept, *usual]}
        )

    async def send_body(self, chunk: bytes) -> None:
        """Send a piece of the body at once; waits while the client reads slowly."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def finish(self, last: bytes = b"") -> None:
        """Send the last piece."""
        self.is_complete = True
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def reject(self, rejection: Rejection) -> None:
        """Answer in the wire form of errors."""
        body = rejection.body()
        length = (b"content-length", str(len(body)).encode())
        await self.start(rejection.status, (_JSON, length, *rejection.headers))
        await self.finish(body)
