"""An answer that the gateway gives by itself, as the turn of a request."""

from collections.abc import Sequence
from http import HTTPStatus

from services.gateway.http1.server import Connection
from services.gateway.http1.wire import STATUS_LINES, WireError, lines


class Told:
    """A turn that is over once it has begun: all of its answer is there.

    Args:
        connection: where the request came from.
        method: of the request; HEAD gets no body.
        status: of the answer.
        headers: of the answer, without framing.
        body: of the answer.
    """

    def __init__(
        self,
        connection: Connection,
        method: str,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        self._connection = connection
        self._method = method
        self._status = status
        self._headers = headers
        self._body = body

    def start(self) -> None:
        """Answer."""
        headers = list(self._headers)
        if self._status != HTTPStatus.NOT_MODIFIED:
            headers.append((b"content-length", b"%d" % len(self._body)))
        if not self._connection.keeps_alive():
            headers.append((b"connection", b"close"))
        body = b"" if self._method == "HEAD" else self._body
        self._connection.write(STATUS_LINES[self._status] + lines(headers) + b"\r\n" + body)
        self._connection.finish()

    def on_body(self, piece: bytes) -> None:
        """Nobody wants it."""

    def on_body_end(self) -> None:
        """Nobody waits for it."""

    def on_body_fault(self, error: WireError) -> None:
        """The answer is out already."""

    def on_gone(self) -> None:
        """The answer is out already."""

    def on_full(self) -> None:
        """The answer is out already."""

    def on_writable(self) -> None:
        """The answer is out already."""
