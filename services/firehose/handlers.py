"""Opens and ends streams: who may have one, where it begins, when its right to be open ends."""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from services.firehose.domain import Reason, StreamRequest, reason_of
from services.firehose.framing import compression_of, framing_of
from services.firehose.metrics import FirehoseMetrics
from services.firehose.sessions import SessionLog
from services.firehose.stream import Pace, Stream
from shared.access import AccessTable, Grant
from shared.clock import Clock
from shared.errors import ForbiddenError, TooManyError, UnavailableError
from shared.events import SessionClosed, SessionOpened
from shared.http import Send
from shared.tail import Reader, Tail

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 0.25
"""How often open streams are judged anew: an expiry has no record that would tell of it."""
DRAIN_SECONDS: Final = 3.0
FLUSH_SECONDS: Final = 2.0
RETRY_AFTER_SECONDS: Final = 5
NOT_ENABLED: Final = "The firehose is not enabled for this partner; ask the network to enable it"


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's connection.

    Attributes:
        begin: sends the head of the response.
        send: sends what follows, as ASGI has it.
        left: returns when the client has left.
        abort: breaks it.
    """

    begin: Callable[[], Awaitable[None]]
    send: Send
    left: Callable[[], Awaitable[None]]
    abort: Callable[[], None]


class Firehose:
    """All streams of this process.

    Args:
        table: who may come in.
        tail: where events come from.
        sessions: where openings and ends are recorded.
        metrics: counts them for operators.
        clock: the time.
        pace: how streams run.
        streams_per_partner_max: open streams of one partner.
    """

    def __init__(
        self,
        table: AccessTable,
        tail: Tail,
        sessions: SessionLog,
        metrics: FirehoseMetrics,
        clock: Clock,
        *,
        pace: Pace,
        streams_per_partner_max: int,
    ) -> None:
        self._table = table
        self._tail = tail
        self._sessions = sessions
        self._metrics = metrics
        self._clock = clock
        self._pace = pace
        self._streams_per_partner_max = streams_per_partner_max
        self._counts: Counter[tuple[int, int]] = Counter()
        self._streams: dict[Stream, Grant] = {}
        self._is_draining = False

    def admit(self, secret: str, client_ip: str) -> Grant:
        """Let a caller in.

        Raises:
            UnauthenticatedError: as `AccessTable.admit`.
            ForbiddenError: likewise, or the firehose is not enabled for the partner.
            UnavailableError: draining, or the present state is not known here.
        """
        if self._is_draining:
            raise UnavailableError("draining", retry_after_seconds=1)
        grant = self._table.admit(
            secret, realm="affiliate", client_ip=client_ip, now=self._clock.time()
        )
        if not grant.firehose_enabled:
            raise ForbiddenError(NOT_ENABLED)
        return grant

    @asynccontextmanager
    async def opened(self, grant: Grant, request: StreamRequest) -> AsyncIterator[Reader]:
        """A reader for one more stream of the partner.

        Raises:
            TooManyError: the partner has as many streams as it may.
            InvalidError: the cursor is not for this partner or these types.
            PositionGoneError: the cursor's place cannot be served any more.
            UnavailableError: too many are catching up, or Kafka does not answer.
        """
        partner = (grant.network_id, grant.network_affiliate_id)
        if self._counts[partner] >= self._streams_per_partner_max:
            raise TooManyError(
                f"This partner has {self._streams_per_partner_max} open streams; close one first.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._counts[partner] += 1
        try:
            reader = await self._tail.open(*partner, request.types, request.start)
            try:
                yield reader
            finally:
                await reader.aclose()
        finally:
            self._counts[partner] -= 1
            if not self._counts[partner]:
                del self._counts[partner]

    async def run_stream(
        self, grant: Grant, request: StreamRequest, reader: Reader, connection: Connection
    ) -> None:
        """Stream until the client leaves or the stream ends, and record both ends of it.

        Raises:
            UnavailableError: the opening could not be recorded; nothing was sent.
        """
        session = self._opening(grant, request, reader)
        self._sessions.opened(session)
        stream = Stream(
            reader,
            connection.send,
            connection.abort,
            framing=framing_of(request.format),
            compression=compression_of(request.coding),
            wanted=request.filter,
            pace=self._pace,
            clock=self._clock,
            on_sent=lambda name, count: self._metrics.events.labels(name).inc(count),
        )
        judge = partial(self._judge, stream, grant)
        unwatch = self._table.watch(grant, judge)
        self._streams[stream] = grant
        judge()  # it may have changed while the reader was opened
        try:
            with self._metrics.streams.labels(request.format).track_inprogress():
                await self._attend(stream, connection)
        finally:
            unwatch()
            del self._streams[stream]
            self._close(session, stream)

    async def judge_all(self) -> None:
        """End streams whose right has ended by time alone, for ever."""
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            for stream, grant in tuple(self._streams.items()):
                self._judge(stream, grant)

    async def drain(self) -> None:
        """Open no more streams, end those there are, and wait until their ends are recorded."""
        self._is_draining = True
        for stream in tuple(self._streams):
            stream.end("draining")
        deadline = self._clock.monotonic() + DRAIN_SECONDS
        while self._streams and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.01)
        await self._sessions.flush(FLUSH_SECONDS)

    async def _attend(self, stream: Stream, connection: Connection) -> None:
        """Run the stream, and notice if the client leaves."""
        await connection.begin()
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(self._end_when_left(stream, connection))
            await stream.run()
            leaving.cancel()

    async def _end_when_left(self, stream: Stream, connection: Connection) -> None:
        await connection.left()
        stream.end("client")

    def _judge(self, stream: Stream, grant: Grant) -> None:
        """End `stream` if the holder of `grant` would not be let in now."""
        if self._is_draining:
            stream.end("draining")
        refusal = self._table.still_admitted(grant, self._clock.time())
        if refusal is not None:
            stream.end(reason_of(refusal))
        elif not self._table.firehose_enabled(grant):
            stream.end("firehose_off")

    def _opening(self, grant: Grant, request: StreamRequest, reader: Reader) -> SessionOpened:
        session = SessionOpened(
            session_id=uuid.uuid4().hex,
            network_id=grant.network_id,
            network_affiliate_id=grant.network_affiliate_id,
            key_id=grant.key_id,
            masked=grant.masked,
            client_ip=grant.client_ip,
            occurred_at=self._clock.time(),
            types=reader.types,
            start=request.start_text,
        )
        log.info("stream opened", extra=_fields(session))
        return session

    def _close(self, session: SessionOpened, stream: Stream) -> None:
        reason: Reason = stream.reason or "draining"  # none: the server was told to stop at once
        self._sessions.closed(
            SessionClosed(
                session_id=session.session_id,
                network_id=session.network_id,
                network_affiliate_id=session.network_affiliate_id,
                key_id=session.key_id,
                masked=session.masked,
                client_ip=session.client_ip,
                occurred_at=self._clock.time(),
                reason=reason,
                events=stream.events,
                bytes=stream.bytes,
                cursor=stream.cursor,
            )
        )
        self._metrics.ended.labels(reason).inc()
        self._metrics.bytes.inc(stream.bytes)
        log.info("stream ended", extra=_fields(session) | {"reason": reason})


def _fields(session: SessionOpened) -> dict[str, object]:
    return {
        "session_id": session.session_id,
        "network_id": session.network_id,
        "network_affiliate_id": session.network_affiliate_id,
        "key": session.masked,
    }
