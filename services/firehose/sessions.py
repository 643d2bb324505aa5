"""The record of who streamed when, written to `firehose.sessions.v1`.

Opening and closing are put into a bounded buffer; a task publishes them and forgets each once Kafka
has confirmed it. A stream is only opened while there is room for both of its records, so that none
goes unrecorded while Kafka is away; a drain publishes what is left. A process that is killed leaves
sessions without an end: a reader of the trail sees an opening without a closing.
"""

import asyncio
import logging
from collections import deque
from typing import Final

from shared.clock import Clock
from shared.errors import UnavailableError
from shared.events import SessionClosed, SessionOpened, encode, headers, partner_key
from shared.kafka import Producer, droppable, open_producer, translated
from shared.topics import Topic

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
BATCH_MAX: Final = 200
SOURCE: Final = "portico/firehose"

Session = SessionOpened | SessionClosed


class SessionLog:
    """Publishes session records.

    Args:
        bootstrap: Kafka's `host:port`.
        topic: where to.
        clock: the time.
        client_id: as Kafka logs it.
        records_max: how many records may wait, ends of open streams included.
    """

    def __init__(
        self, bootstrap: str, topic: Topic, *, clock: Clock, client_id: str, records_max: int
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._clock = clock
        self._client_id = client_id
        self._records_max = records_max
        self._waiting: deque[tuple[str, Session]] = deque()
        self._ends_to_come = 0
        self._news = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Records that Kafka has not confirmed yet."""
        return len(self._waiting)

    def opened(self, session: SessionOpened) -> None:
        """Record an opening, and keep room for its end.

        Raises:
            UnavailableError: too many records wait for Kafka.
        """
        if len(self._waiting) + self._ends_to_come + 2 > self._records_max:
            raise UnavailableError("too many session records wait for Kafka", retry_after_seconds=5)
        self._ends_to_come += 1
        self._put(f"{session.session_id}-opened", session)

    def closed(self, session: SessionClosed) -> None:
        """Record the end of a session whose opening was recorded."""
        self._ends_to_come -= 1
        self._put(f"{session.session_id}-closed", session)

    async def run(self) -> None:
        """Publish for ever; Kafka's absence is waited out."""
        while True:
            try:
                async with open_producer(
                    self._bootstrap, client_id=self._client_id, linger_ms=5
                ) as producer:
                    while True:
                        await self._news.wait()
                        await self._publish(producer)
            except UnavailableError as error:
                log.warning("session records wait for Kafka", extra={"reason": error.message})
            await self._clock.sleep(RETRY_SECONDS)

    async def flush(self, seconds: float) -> None:
        """Wait until Kafka has confirmed all, `seconds` at most."""
        deadline = self._clock.monotonic() + seconds
        while self._waiting and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.01)

    def _put(self, event_id: str, session: Session) -> None:
        self._waiting.append((event_id, session))
        self._news.set()

    async def _publish(self, producer: Producer) -> None:
        """Publish the oldest records in order, and forget them once all are confirmed.

        What was sent in vain is sent again with the same `ce_id`, by which readers know it.
        """
        batch = [self._waiting[index] for index in range(min(BATCH_MAX, len(self._waiting)))]
        with translated("publishing session records"):
            sent = [await self._send(producer, *item) for item in batch]
            for confirmation in sent:
                await confirmation
        for _ in batch:
            self._waiting.popleft()
        if not self._waiting:
            self._news.clear()

    async def _send(
        self, producer: Producer, event_id: str, session: Session
    ) -> "asyncio.Future[object]":
        key = partner_key(session.network_id, session.network_affiliate_id)
        confirmation = await producer.send(
            self._topic.name,
            encode(session),
            key=key.encode(),
            headers=headers(
                session, source=SOURCE, occurred_at=session.occurred_at, event_id=event_id
            ),
        )
        return droppable(confirmation)
