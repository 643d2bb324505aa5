"""One request and its answer, as seen from the client's side of the door."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final

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


class ClientError(Exception):
    """The client's body did not come to its end, or is longer than allowed."""


class RequestBody:
    """A request's body, and the news that its sender has left.

    Args:
        receive: the ASGI server's.
        bytes_max: where reading stops.
        has_body: whether there is anything to read.
    """

    def __init__(self, receive: Receive, bytes_max: int, *, has_body: bool) -> None:
        self.is_too_large = False
        self.has_broken = False
        self._receive = receive
        self._bytes_left = bytes_max
        self._is_read = asyncio.Event()
        if not has_body:
            self._is_read.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives.

        Raises:
            ClientError: see `is_too_large` and `has_broken`.
        """
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.has_broken = True
                self._is_read.set()
                raise ClientError("the client left in the middle of its body")
            chunk: bytes = message.get("body", b"")
            self._bytes_left -= len(chunk)
            if self._bytes_left < 0:
                self.is_too_large = True
                raise ClientError("the body is too large")
            more = message.get("more_body", False)
            yield chunk
        self._is_read.set()

    async def client_left(self) -> None:
        """Returns once the client is gone. Waits for the body's end: only one may `receive`."""
        await self._is_read.wait()
        while not self.has_broken:
            self.has_broken = (await self._receive())["type"] == "http.disconnect"


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
        usual: RawHeaders = [(REQUEST_ID, self.request.request_id.encode())]
        if self.passage.verdict is not None:
            usual += rate_headers(self.passage.verdict)
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
