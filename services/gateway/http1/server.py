"""The client's side: requests off a connection, one turn after the other.

A connection reads one request, lets its `Turn` answer it, and reads the next only then: pipelined
requests wait in a bounded buffer, and their answers keep their order. It reads no faster than the
turn takes the body, tells the turn when the client reads slowly or leaves, and begins no turn while
an earlier answer is unread. Whatever it waits for has a bound: a first byte, a whole head, the next
piece of a body and the body's pace, a client that does not read. What cannot be understood is
answered once, and the connection ends.

A connection that ends while the client still sends is half-closed and read on for a moment, since
a reset could overtake the answer.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol, cast

from services.gateway.http1.crowd import Crowd, Entry
from services.gateway.http1.deadlines import NEVER, Deadlines
from services.gateway.http1.wire import (
    CONTINUE,
    HEAD_END,
    Body,
    HeadLimits,
    HeadReader,
    RequestHead,
    WireError,
    body_of,
    head_fault,
)
from shared.access import Network

log = logging.getLogger(__name__)

BACKLOG_BYTES_MAX: Final = 64 * 1024
"""Pipelined bytes held while a turn lasts; more are left to the kernel."""
DISCARD_BYTES_MAX: Final = 64 * 1024
"""Rest of a body that nobody wants which is read to keep the connection."""
LINGER_SECONDS: Final = 2.0
LINGER_BYTES_MAX: Final = 1024 * 1024
ACCEPT_BACKLOG: Final = 2_048

_SILENT_BODY: Final = WireError(HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time")
_SILENT_HEAD: Final = WireError(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time")
_CROWDED: Final = WireError(HTTPStatus.SERVICE_UNAVAILABLE, "Temporarily unavailable.")
_TOO_MANY: Final = WireError(
    HTTPStatus.TOO_MANY_REQUESTS, "Too many connections from this address; use fewer at once."
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a connection may take.

    Attributes:
        head: how long a head may be.
        connections_max: how many there may be at once.
        per_address_max: how many of them from one address.
        header_seconds: how long a head may take from its first byte on.
        keep_alive_seconds: how long a connection may stay without a request.
        silence_seconds: how long a client may neither send of its body nor read of its answer.
        body_bytes_per_second_min: the pace below which a body is not waited for.
        drain_seconds: how long a stop waits for the turns under way.
    """

    head: HeadLimits
    connections_max: int
    per_address_max: int
    header_seconds: float
    keep_alive_seconds: float
    silence_seconds: float
    body_bytes_per_second_min: int
    drain_seconds: float


class Turn(Protocol):
    """One request and its answer, as a connection sees it."""

    def start(self) -> None:
        """The head is here."""
        ...

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        ...

    def on_body_end(self) -> None:
        """The body is complete."""
        ...

    def on_body_fault(self, error: WireError) -> None:
        """The body will not come to its end."""
        ...

    def on_gone(self) -> None:
        """Nobody is there any more; the turn is over."""
        ...

    def on_full(self) -> None:
        """The client reads slowly: stop."""
        ...

    def on_writable(self) -> None:
        """Go on."""
        ...


class Handler(Protocol):
    """What stands behind all connections."""

    def turn(self, connection: "Connection", head: RequestHead) -> Turn:
        """The turn of a request; `start` follows."""
        ...

    def on_unreadable(self, connection: "Connection", error: WireError) -> None:
        """Answer what cannot be understood; the connection is closed afterwards."""
        ...


class Connection(asyncio.Protocol):
    """One client.

    Attributes:
        peer: its address; empty if it has none.
        entry: how it was received.
        deadline: see `Deadlines`.
    """

    _transport: asyncio.Transport

    def __init__(self, server: "Server") -> None:
        self.peer = ""
        self.entry: Entry = "cut off"
        self.deadline = NEVER
        self._server = server
        self._bounds = server.bounds
        self._deadlines = server.deadlines
        self._held = b""
        self._turn: Turn | None = None
        self._body: Body | None = None
        self._keeps_alive = True
        self._owes_continue = False
        self._has_head_begun = False
        self._has_skipped = False
        self._is_reading = False
        self._is_over = False
        self._is_lingering = False
        self._is_full = False
        self._is_held = False
        self._is_paused = False
        self._spare_bytes = 0
        self._body_began = 0.0
        self._body_bytes = 0

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self.deadline = self._deadlines.now + self._bounds.header_seconds
        self.entry = self._server.admit(self)
        if self.entry == "cut off":
            self._is_over = True
            self._transport.abort()
        elif self.entry != "in":
            self._refuse(_TOO_MANY if self.entry == "too many" else _CROWDED)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was sent away."""
        self._is_over = True
        self._server.forget(self)
        self._leave()

    def eof_received(self) -> None:
        """The client sends no more: it has left, as far as anybody can tell."""
        self._is_over = True
        self.deadline = self._deadlines.now + LINGER_SECONDS
        self._leave()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._is_full = True
        if not (self._is_over or self._is_lingering):
            self.deadline = self._deadlines.now + self._bounds.silence_seconds
        if self._turn is not None:
            self._turn.on_full()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._is_full = False
        self._rearm()
        if self._turn is not None:
            self._turn.on_writable()
        elif not self._is_reading:
            self._read_held()

    def data_received(self, data: bytes) -> None:
        """Bytes."""
        if self._is_lingering:
            self._linger(len(data))
            return
        if self._held:
            data = self._held + data
            self._held = b""
        try:
            self._read(data)
        except Exception:
            log.exception("bug")
            self._leave()
            self._transport.abort()

    def on_deadline(self) -> None:
        """It has taken too long."""
        if self._is_over or self._is_full or self._is_lingering:
            self._leave()
            self._transport.abort()
        elif self._body is not None and self._turn is not None:
            self._turn.on_body_fault(_SILENT_BODY)
        elif self._held and self._turn is None:
            self._refuse(_SILENT_HEAD)
        else:
            self._close()

    # What a turn asks for.

    def keeps_alive(self) -> bool:
        """Whether the connection will live on after the answer whose head is being written."""
        body = self._body
        is_long = body is not None and not body.may_be_discarded(DISCARD_BYTES_MAX)
        if is_long or self._owes_continue or self._server.is_draining:
            self._keeps_alive = False
        return self._keeps_alive

    def end_after_this(self) -> None:
        """Let this answer be the last one."""
        self._keeps_alive = False

    def write(self, data: bytes) -> None:
        """Send a part of an answer."""
        if not self._is_over:
            self._transport.write(data)

    def want_body(self) -> None:
        """Tell a client that waits for it to go on."""
        if self._owes_continue:
            self._owes_continue = False
            if self._body is not None:
                self.write(CONTINUE)

    def hold_body(self) -> None:
        """Take no more of the body for now."""
        self._is_held = True
        self._pace()
        self._rearm()

    def release_body(self) -> None:
        """Take the rest of the body."""
        if self._is_held:
            self._is_held = False
            self._restart_pace()
            self._pace()
            self._rearm()

    def finish(self) -> None:
        """The answer is complete."""
        self._turn = None
        if not self._keeps_alive:
            self._end()
            return
        if self._is_held:
            self.release_body()
        self._spare_bytes = 0
        if not self._is_reading:
            self._read_held()

    def break_off(self, *, reset: bool) -> None:
        """End in the middle of an answer, so that it cannot be taken for a whole one.

        Args:
            reset: whether the end of the connection would look like the answer's.
        """
        self._turn = None
        if reset:
            self._reset()
        self._close()

    def drain(self) -> None:
        """Take no further request."""
        if self._turn is None and not self._is_lingering:
            self._close()
        self._keeps_alive = False

    def abort(self) -> None:
        """End now."""
        self._transport.abort()

    # Reading.

    def _read(self, data: bytes) -> None:
        """Take what is due of `data`, and hold the rest."""
        self._is_reading = True
        while data and not (self._is_over or self._is_lingering):
            if self._body is not None:
                data = self._read_body(self._body, data)
            elif self._turn is not None or self._is_full:
                self._held = data
                break
            else:
                rest = self._read_head(data)
                if rest is None:
                    break
                data = rest
        self._is_reading = False
        self._pace()
        self._rearm()

    def _read_held(self) -> None:
        """Go on with what came before its turn."""
        data, self._held = self._held, b""
        self._pace()
        self._rearm()
        if data:
            self._read(data)

    def _read_head(self, data: bytes) -> bytes | None:
        """Begin the turn of the request whose head is there; None if it is not there yet."""
        if data[:1] == b"\r" and data[:2] == b"\r\n":
            return self._skip_empty_line(data)
        end = data.find(HEAD_END)
        if end < 0 or end > self._bounds.head.head_max:
            self._wait_for_head(data)
            return None
        try:
            head = self._server.heads.read(data[:end])
        except WireError as error:
            self._refuse(error)
            return None
        rest = data[end + 4 :]
        self._has_head_begun = self._has_skipped = False
        fields = head.fields
        self._keeps_alive = fields.keeps_alive
        if fields.length:
            self._body = body_of(fields.length)
            self._owes_continue = fields.expects and not rest
            self._restart_pace()
        turn = self._turn = self._server.handler.turn(self, head)
        turn.start()
        return rest

    def _skip_empty_line(self, data: bytes) -> bytes | None:
        """Some clients send an empty line after a body; one before a request is overlooked."""
        self._has_head_begun = False
        if not self._has_skipped and data[2:4] != b"\r\n":
            self._has_skipped = True
            return data[2:]
        self._refuse(WireError(HTTPStatus.BAD_REQUEST, "Malformed request: empty lines"))
        return None

    def _wait_for_head(self, data: bytes) -> None:
        fault = head_fault(data, self._bounds.head)
        if fault is not None:
            self._refuse(fault)
            return
        if not self._has_head_begun:
            self._has_head_begun = True
            self.deadline = self._deadlines.now + self._bounds.header_seconds
        self._held = data

    def _read_body(self, body: Body, data: bytes) -> bytes:
        """Hand on what `data` adds to the body; what comes after it."""
        turn = self._turn
        try:
            piece = body.feed(data)
        except WireError as error:
            self._on_body_fault(error)
            return b""
        if body.is_done:
            self._body = None
        if turn is None:
            self._spare(len(piece))
        else:
            self._owes_continue = False
            self._body_bytes += len(piece)
            if piece:
                turn.on_body(piece)
            if body.is_done and self._turn is turn:
                turn.on_body_end()
        return body.rest

    def _on_body_fault(self, error: WireError) -> None:
        if self._turn is None:
            self._end()
        else:
            self._turn.on_body_fault(error)

    def _spare(self, count: int) -> None:
        """Read over the rest of a body whose answer is out."""
        self._spare_bytes += count
        if self._spare_bytes > 2 * DISCARD_BYTES_MAX:
            self._end()

    # Waiting.

    def _restart_pace(self) -> None:
        self._body_began = self._deadlines.now
        self._body_bytes = 0

    def _pace(self) -> None:
        """Read from the socket, or leave it to the kernel."""
        wants = self._is_held or len(self._held) > BACKLOG_BYTES_MAX
        if wants != self._is_paused and not self._is_over:
            self._is_paused = wants
            if wants:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _rearm(self) -> None:
        """Set the deadline of what is waited for now."""
        now = self._deadlines.now
        if self._is_over or self._is_lingering or self._is_full:
            return
        if self._body is not None and not self._is_held:
            pace = self._body_bytes / self._bounds.body_bytes_per_second_min
            self.deadline = self._bounds.silence_seconds + min(now, self._body_began + pace)
        elif self._turn is not None:
            self.deadline = NEVER
        elif not self._held:
            self.deadline = now + self._bounds.keep_alive_seconds

    # Ending.

    def _refuse(self, error: WireError) -> None:
        """Say what cannot be understood, and end."""
        self._keeps_alive = False
        self._held = b""
        self._server.handler.on_unreadable(self, error)
        self._end(might_send=True)

    def _end(self, *, might_send: bool = False) -> None:
        """Close, but let the client read the answer if it still sends."""
        if self._is_over or self._is_lingering:
            return
        if (self._body is None and not might_send) or not self._transport.can_write_eof():
            self._close()
            return
        self._is_lingering = True
        self._is_held = False
        self._held = b""
        self._spare_bytes = 0
        self.deadline = self._deadlines.now + LINGER_SECONDS
        self._transport.write_eof()
        self._pace()

    def _linger(self, count: int) -> None:
        self._spare_bytes += count
        if self._spare_bytes > LINGER_BYTES_MAX:
            self._transport.abort()

    def _close(self) -> None:
        """Close once everything is sent, which must not take long."""
        if not self._is_over:
            self._is_over = True
            self.deadline = self._deadlines.now + self._bounds.silence_seconds
            self._transport.close()

    def _leave(self) -> None:
        turn, self._turn = self._turn, None
        self._body = None
        if turn is not None:
            turn.on_gone()

    def _reset(self) -> None:
        """Have the close say that it is none."""
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


class Server:
    """Listens, and ends in order. `shared.runtime` runs it.

    Args:
        handler: answers.
        bounds: of every connection.
        deadlines: shared by all connections of the process.
        tls: for HTTPS; None for plain HTTP.
        trusted: our own proxies, from which any number may connect.

    Attributes:
        heads: reads those of all connections.
    """

    def __init__(
        self,
        handler: Handler,
        bounds: Bounds,
        deadlines: Deadlines,
        tls: ssl.SSLContext | None = None,
        trusted: tuple[Network, ...] = (),
    ) -> None:
        self.handler = handler
        self.bounds = bounds
        self.deadlines = deadlines
        self.heads = HeadReader(bounds.head)
        self.is_draining = False
        self._tls = tls
        self.crowd = Crowd(bounds.connections_max, bounds.per_address_max, trusted)
        self._connections: set[Connection] = set()
        self._stopping = asyncio.Event()
        self._forced = asyncio.Event()
        self._emptied = asyncio.Event()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def admit(self, connection: Connection) -> Entry:
        """Look after `connection`, and say what becomes of it."""
        self._connections.add(connection)
        self.deadlines.add(connection)
        return self.crowd.enter(connection.peer)

    def forget(self, connection: Connection) -> None:
        """It is gone."""
        if connection in self._connections:
            self.crowd.leave(connection.peer, connection.entry)
        self._connections.discard(connection)
        self.deadlines.discard(connection)
        if not self._connections:
            self._emptied.set()

    def stop(self) -> None:
        """Have `serve` finish the turns under way and return."""
        self._stopping.set()

    def force(self) -> None:
        """Have `serve` return at once."""
        self._stopping.set()
        self._forced.set()

    async def serve(self, listener: socket.socket) -> None:
        """Answer on `listener` until told to stop."""
        loop = asyncio.get_running_loop()
        bounds = self.bounds
        listening = await loop.create_server(
            lambda: Connection(self),
            sock=listener,
            backlog=ACCEPT_BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=None if self._tls is None else bounds.header_seconds,
            ssl_shutdown_timeout=None if self._tls is None else LINGER_SECONDS,
        )
        with self.deadlines.ticking():
            await self._stopping.wait()
            listening.close()
            await self._drain()

    async def _drain(self) -> None:
        """Let turns finish; cut off what takes longer than `drain_seconds`."""
        self.is_draining = True
        for connection in tuple(self._connections):
            connection.drain()
        if self._connections:
            self._emptied.clear()
            async with asyncio.TaskGroup() as group:
                waits = [
                    group.create_task(self._emptied.wait()),
                    group.create_task(self._forced.wait()),
                ]
                await asyncio.wait(
                    waits,
                    timeout=self.bounds.drain_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for wait in waits:
                    wait.cancel()
        for connection in tuple(self._connections):
            connection.abort()
