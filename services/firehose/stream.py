"""One open stream: reads its reader, writes to its client, ends once and says why.

Two things may be waited for, news and the client, and an end interrupts both without cancelling
anything: a reader returns early, a write times out now. What was not written is not counted; the
end tells the cursor behind the last event that was.

A client that takes nothing for `stall_seconds` is closed. What it costs until then is what the
connection holds (64 KB) and one batch. The end is offered to it for a moment more; then its
connection is broken, since it would otherwise stay with what cannot be written.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.firehose.domain import ACCESS_REASONS, Filter, Reason
from services.firehose.framing import Compression, Framing, end, heartbeat
from shared.clock import Clock
from shared.errors import LostOwnershipError, UnavailableError
from shared.faultpoint import point
from shared.http import Send
from shared.tail import PositionGoneError, Reader

WAIT_SECONDS: Final = 1.0
FAREWELL_SECONDS: Final = 2.0
"""How long the end is offered to a client."""
FAREWELL_ACCESS_SECONDS: Final = 0.5
"""The same where the right to stream has ended, which must show within a second."""

_NOTHING: Final = {"type": "http.response.body", "body": b"", "more_body": True}
"""Sending nothing waits until the connection takes more. Only then is anything compressed, so that
an end never has to leave out what a compressed stream has already counted in."""

Sent = Callable[[str, int], None]
"""Told how many events of a type were written."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a stream runs; see the settings of the same names."""

    batch_records_max: int
    heartbeat_seconds: float
    stall_seconds: float


class Stream:
    """An open stream.

    Args:
        reader: where events come from; the caller closes it.
        send: where they go: the ASGI callable, the response already begun.
        abort: breaks the connection.
        framing: how they look.
        compression: how the body is compressed.
        wanted: which are sent.
        pace: batch, heartbeat and stall.
        clock: the time.
        on_sent: told of written events.
    """

    def __init__(
        self,
        reader: Reader,
        send: Send,
        abort: Callable[[], None],
        *,
        framing: Framing,
        compression: Compression,
        wanted: Filter,
        pace: Pace,
        clock: Clock,
        on_sent: Sent,
    ) -> None:
        self.reason: Reason | None = None
        self.cursor = reader.cursor
        self.events = 0
        self.bytes = 0
        self._reader = reader
        self._send = send
        self._abort = abort
        self._framing = framing
        self._compression = compression
        self._wanted = wanted
        self._pace = pace
        self._clock = clock
        self._on_sent = on_sent
        self._writing: asyncio.Timeout | None = None
        self._heartbeat_at = clock.monotonic()

    def end(self, reason: Reason) -> None:
        """End the stream soon; the first reason counts."""
        if self.reason is not None:
            return
        self.reason = reason
        self._reader.interrupt()
        if self._writing is not None and not self._writing.expired():
            self._writing.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Stream until the end, and tell it to the client if it can be told."""
        try:
            while self.reason is None:
                await self._turn()
        except PositionGoneError as error:
            self.cursor = error.oldest
            self.end("gone")
        except (UnavailableError, LostOwnershipError):
            self.end("unavailable")
        if self.reason != "client":
            await self._say_end(self.reason or "unavailable")

    async def _turn(self) -> None:
        """A heartbeat if one is due (the first at once), and the next batch."""
        now = self._clock.monotonic()
        is_due = now >= self._heartbeat_at
        if is_due:
            self._heartbeat_at = now + self._pace.heartbeat_seconds
            await self._write(heartbeat(self._framing, self.cursor), self.cursor)
            return
        batch = await self._reader.read(
            records_max=self._pace.batch_records_max,
            wait_seconds=min(WAIT_SECONDS, self._heartbeat_at - now),
        )
        if self.reason is not None:
            return
        chosen = [item for item in batch.records if self._wanted.passes(item.type, item.value)]
        if not chosen:
            self.cursor = batch.cursor
            return
        point("firehose.before_send")
        event = self._framing.event
        content = b"".join(event(item.type, item.cursor, item.value) for item in chosen)
        if await self._write(content, batch.cursor):
            point("firehose.after_send")
            self._count([item.type for item in chosen])

    def _count(self, types: list[str]) -> None:
        self.events += len(types)
        for name in set(types):
            self._on_sent(name, types.count(name))

    async def _write(self, content: bytes, cursor: str) -> bool:
        """Hand `content` to the connection; False if it took nothing before an end or the stall."""
        try:
            async with asyncio.timeout(self._pace.stall_seconds) as self._writing:
                await self._send(_NOTHING)
        except TimeoutError:
            self.end("slow")
            return False
        finally:
            self._writing = None
        data = self._compression.piece(content)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self.bytes += len(data)
        self.cursor = cursor
        return True

    async def _say_end(self, reason: Reason) -> None:
        """Offer the end for a moment, then break the connection."""
        data = self._compression.piece(end(self._framing, self.cursor, reason))
        data += self._compression.finish()
        seconds = FAREWELL_ACCESS_SECONDS if reason in ACCESS_REASONS else FAREWELL_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await self._send({"type": "http.response.body", "body": data, "more_body": False})
        except TimeoutError:
            self._abort()
