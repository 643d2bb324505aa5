"""The services' side: pooled connections, one request at a time on each.

A request takes an idle link or waits, bounded in time, for one that is being opened or becomes
free. A link that is told anything unasked, or whose answer did not end as it should, is closed and
never used again: no answer can meet the next request. A service is read no faster than the client
takes it. One that closes idle links does so without harm: they leave the pool at once, and a GET
that met the very moment is sent once more.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from services.gateway.http1.deadlines import NEVER, Deadlines
from services.gateway.http1.wire import (
    HEAD_END,
    UNTIL_CLOSE,
    AnswerHead,
    Body,
    WireError,
    body_of,
    parse_answer,
)

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS: Final = 3.0
"""Below the 5 s after which our services close idle connections: else a request may meet the end
of one, and only those that may be repeated are."""
ANSWER_HEAD_MAX: Final = 64 * 1024
INTERIMS_MAX: Final = 8
"""Interim answers before the answer."""


class UpstreamError(Exception):
    """An upstream did not answer as it should; `status` is what the client is told."""

    def __init__(self, status: HTTPStatus, reason: str, cause: str = "") -> None:
        super().__init__(f"{reason}: {cause}" if cause else reason)
        self.status = status
        self.reason = reason


def _unreachable(cause: str) -> UpstreamError:
    return UpstreamError(HTTPStatus.SERVICE_UNAVAILABLE, "unreachable", cause)


def _silent(cause: str) -> UpstreamError:
    return UpstreamError(HTTPStatus.GATEWAY_TIMEOUT, "silent", cause)


def _broken(cause: str) -> UpstreamError:
    return UpstreamError(HTTPStatus.BAD_GATEWAY, "broken", cause)


class Sender(Protocol):
    """Whose request a link carries.

    Attributes:
        method: of the request.
        may_repeat: whether it may be sent again if a used link dies before any answer.
    """

    method: str
    may_repeat: bool

    def on_link(self, link: "Link") -> None:
        """Write the request to `link` now."""
        ...

    def on_answer(self, head: AnswerHead) -> None:
        """The head of the answer; `on_lull` or the end of it follows."""
        ...

    def on_piece(self, piece: bytes) -> None:
        """A piece of the answer's body; `on_lull` or the end of it follows."""
        ...

    def on_lull(self) -> None:
        """That is all that has come so far: pass it on."""
        ...

    def on_answer_end(self) -> None:
        """The answer is complete; the link is no longer this sender's."""
        ...

    def on_failure(self, error: UpstreamError) -> None:
        """There will be no answer, or no more of it; the link is no longer this sender's."""
        ...

    def on_link_full(self) -> None:
        """The service reads slowly: stop."""
        ...

    def on_link_writable(self) -> None:
        """Go on."""
        ...


class Link(asyncio.Protocol):
    """One connection to a service."""

    _transport: asyncio.Transport

    def __init__(self, pool: "Pool") -> None:
        self.deadline = NEVER
        self._pool = pool
        self._sender: Sender | None = None
        self._held = b""
        self._head: AnswerHead | None = None
        self._body: Body | None = None
        self._uses = 0
        self._interims = 0
        self._is_sent = True
        self._is_over = False
        self._is_paused = False

    # What a sender asks for.

    def carry(self, sender: Sender) -> None:
        """Take a request."""
        self._sender = sender
        self._uses += 1
        self._is_sent = False
        self._interims = 0
        self.deadline = NEVER
        try:
            sender.on_link(self)
        except Exception:
            log.exception("bug")
            self._fail(_broken("a bug of ours"))

    def write(self, data: bytes) -> None:
        """Send a part of the request."""
        if not self._is_over:
            self._transport.write(data)

    def end(self) -> None:
        """The request is complete: an answer is due."""
        self._is_sent = True
        self.deadline = self._pool.silence_deadline()

    def hold(self) -> None:
        """Read no more of the answer for now."""
        if not (self._is_paused or self._is_over):
            self._is_paused = True
            self._transport.pause_reading()
            self.deadline = NEVER

    def release(self) -> None:
        """Read on."""
        if self._is_paused and not self._is_over:
            self._is_paused = False
            self._transport.resume_reading()
            if self._is_sent:
                self.deadline = self._pool.silence_deadline()

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self._sender = None
        self._cut()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The service is there."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The service closed, or we did."""
        self._is_over = True
        self._pool.forget(self)
        sender, self._sender = self._sender, None
        if sender is None:
            return
        if exc is None and self._head is not None and self._head.length == UNTIL_CLOSE:
            sender.on_answer_end()
        elif self._uses > 1 and sender.may_repeat and not self._has_answered():
            self._pool.repeat(sender)
        else:
            sender.on_failure(_broken("closed by the service" if exc is None else str(exc)))

    def pause_writing(self) -> None:
        """The service reads slowly."""
        if self._sender is not None:
            if not self._is_sent:
                self.deadline = self._pool.silence_deadline()
            self._sender.on_link_full()

    def resume_writing(self) -> None:
        """The service has caught up."""
        if self._sender is not None:
            if not self._is_sent:
                self.deadline = NEVER
            self._sender.on_link_writable()

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        if self._sender is None:  # unasked
            self._cut()
            return
        try:
            if self._head is None:
                data = self._read_heads(self._held + data if self._held else data)
            elif self._is_sent:
                self.deadline = self._pool.silence_deadline()
            self._read_body(data)
        except WireError as error:
            self._fail(_broken(error.text))
        except Exception:
            log.exception("bug")
            self._fail(_broken("a bug of ours"))

    def on_deadline(self) -> None:
        """The service was silent for too long, or the link idle for long enough."""
        if self._sender is None:
            self._cut()
        else:
            self._fail(_silent("no answer" if self._is_sent else "it does not read"))

    # Reading.

    def _read_heads(self, data: bytes) -> bytes:
        """Read interim answers and the head of the answer; what comes after it."""
        sender = self._sender
        while sender is not None:
            end = data.find(HEAD_END)
            if end < 0 or end > ANSWER_HEAD_MAX:
                if len(data) > ANSWER_HEAD_MAX or not b"HTTP/1.".startswith(data[:7]):
                    raise WireError(HTTPStatus.BAD_GATEWAY, "no head of an answer")
                self._held = data
                return b""
            head = parse_answer(data[:end], sender.method)
            data = data[end + 4 :]
            if head.is_interim:
                self._skip_interim(head)
                continue
            self._held = b""
            self._head = head
            if self._is_sent:
                self.deadline = self._pool.silence_deadline()
            if head.length:
                self._body = body_of(head.length)
            sender.on_answer(head)
            break
        return data

    def _skip_interim(self, head: AnswerHead) -> None:
        self._interims += 1
        if head.status == HTTPStatus.SWITCHING_PROTOCOLS or self._interims > INTERIMS_MAX:
            raise WireError(HTTPStatus.BAD_GATEWAY, "an interim answer that nobody asked for")

    def _read_body(self, data: bytes) -> None:
        sender, head, body = self._sender, self._head, self._body
        if sender is None or head is None:
            return
        rest = data
        if body is not None:
            piece = body.feed(data) if data else b""
            rest = body.rest
            if piece:
                sender.on_piece(piece)
            if not body.is_done:
                sender.on_lull()
                return
        if self._sender is sender:
            self._complete(sender, head, rest)

    def _complete(self, sender: Sender, head: AnswerHead, rest: bytes) -> None:
        """The answer came to its end: the link serves the next request if nothing is left of it."""
        self._sender = self._head = self._body = None
        if head.keeps_alive and self._is_sent and not rest and not self._is_over:
            if self._is_paused:
                self._is_paused = False
                self._transport.resume_reading()
            self.deadline = self._pool.deadlines.now + KEEP_ALIVE_SECONDS
            self._pool.give_back(self)
            sender.on_answer_end()
        else:
            self._cut()
            sender.on_answer_end()

    def _has_answered(self) -> bool:
        return self._head is not None or bool(self._held) or self._interims > 0

    def _fail(self, error: UpstreamError) -> None:
        sender, self._sender = self._sender, None
        self._cut()
        if sender is not None:
            sender.on_failure(error)

    def _cut(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._pool.forget(self)
            self._transport.abort()


@dataclass(frozen=True, slots=True)
class Reach:
    """The bounds of the way to a service.

    Attributes:
        connect_seconds: for opening a link, and for waiting for a free one.
        silence_seconds: how long a service may say nothing.
        links_max: to one service.
    """

    connect_seconds: float
    silence_seconds: float
    links_max: int


class Pool:
    """The links to one service.

    Args:
        url: base URL.
        reach: bounds.
        deadlines: shared by all connections of the process.
        group: where links are opened.

    Attributes:
        host: value of `Host`.
        prefix: path of the base URL.
        deadline: see `Deadlines`; the pool waits on behalf of those who wait for a link.
    """

    def __init__(
        self, url: str, reach: Reach, deadlines: Deadlines, group: asyncio.TaskGroup
    ) -> None:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        self.host = parts.netloc.rpartition("@")[2].encode()
        self.prefix = parts.path.rstrip("/").encode()
        self.deadlines = deadlines
        self.deadline = NEVER
        self._address = (parts.hostname or "", parts.port or (443 if is_tls else 80))
        self._tls = ssl.create_default_context() if is_tls else None
        self._reach = reach
        self._group = group
        self._links: set[Link] = set()
        self._idle: list[Link] = []
        self._opening = 0
        self._is_closed = False
        self._waiting: deque[tuple[float, Sender]] = deque()
        deadlines.add(self)

    @property
    def busy(self) -> int:
        """How many links carry a request."""
        return len(self._links) - len(self._idle)

    @property
    def idle(self) -> int:
        """How many links carry nothing."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many requests wait for one."""
        return len(self._waiting)

    def send(self, sender: Sender) -> None:
        """Give `sender` a link as soon as there is one; it is told of either outcome."""
        if self._idle:
            self._idle.pop().carry(sender)
            return
        self._waiting.append((self.deadlines.now + self._reach.connect_seconds, sender))
        self.deadline = self._waiting[0][0]
        self._open_more()

    def repeat(self, sender: Sender) -> None:
        """Send once more; not on a link that may be as dead as the one that failed."""
        sender.may_repeat = False
        for link in tuple(self._idle):
            link.abandon()
        self.send(sender)

    def withdraw(self, sender: Sender) -> None:
        """`sender` waits no more, if it did."""
        for item in self._waiting:
            if item[1] is sender:
                self._waiting.remove(item)
                return

    def give_back(self, link: Link) -> None:
        """`link` may carry the next request."""
        if self._waiting:
            link.carry(self._waiting.popleft()[1])
        else:
            self._idle.append(link)

    def forget(self, link: Link) -> None:
        """`link` is of no use any more."""
        if link in self._links:
            self._links.discard(link)
            self.deadlines.discard(link)
            if link in self._idle:
                self._idle.remove(link)
            self._open_more()

    def silence_deadline(self) -> float:
        """When a service that says nothing from now on has been silent for too long."""
        return self.deadlines.now + self._reach.silence_seconds

    def on_deadline(self) -> None:
        """Those who waited too long for a link get none."""
        now = self.deadlines.now
        while self._waiting and self._waiting[0][0] <= now:
            self._waiting.popleft()[1].on_failure(_unreachable("no free connection in time"))
        self.deadline = self._waiting[0][0] if self._waiting else NEVER

    def close(self) -> None:
        """Close all links, those that are being opened as soon as they are."""
        self._is_closed = True
        self.deadlines.discard(self)
        for link in tuple(self._links):
            link.abandon()

    def _open_more(self) -> None:
        """Open a link for each who waits, as far as there may be more."""
        room = self._reach.links_max - len(self._links) - self._opening
        for _ in range(min(room, len(self._waiting) - self._opening)):
            self._opening += 1
            self._group.create_task(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._address
        try:
            async with asyncio.timeout(self._reach.connect_seconds):
                _, link = await loop.create_connection(
                    lambda: Link(self), host, port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            self._opening -= 1
            if self._waiting:
                cause = str(error) or "no connection in time"
                self._waiting.popleft()[1].on_failure(_unreachable(cause))
            return
        self._opening -= 1
        self._links.add(link)
        self.deadlines.add(link)
        link.deadline = self.deadlines.now + KEEP_ALIVE_SECONDS
        if self._is_closed:
            link.abandon()
        else:
            self.give_back(link)


@asynccontextmanager
async def open_pools(
    urls: dict[str, str], reach: Reach, deadlines: Deadlines
) -> AsyncIterator[dict[str, Pool]]:
    """A pool for each service, closed at the end.

    Args:
        urls: base URLs by service.
        reach: bounds.
        deadlines: shared by all connections of the process.
    """
    async with asyncio.TaskGroup() as group:
        pools = {name: Pool(url, reach, deadlines, group) for name, url in urls.items()}
        try:
            yield pools
        finally:
            for pool in pools.values():
                pool.close()
