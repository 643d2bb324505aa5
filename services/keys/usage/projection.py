"""The projection of the doors' summaries (steps 6 to 8): exactly once, seldom, never in the way.

* **Exactly once.** A batch's effects and its offsets are one transaction, so kills and rebalances
  repeat nothing; and a record that a producer sent again within `REPEAT_SECONDS` is known by its
  CloudEvents source and id. A repeat that comes later counts into its day once more, if that day is
  still the key's last; no last use is ever changed by a repeat.
* **Seldom.** A batch gathers for some seconds (see `limits`), so a key in steady use costs some
  writes a minute, whatever its traffic. What waits in memory is not stored and not committed: a
  stop drops it and the next process reads it again, so gathering longer delays no stop.
* **Never in the way.** It has a connection or two of its own, locks no key, and is asked for by no
  readiness check; when it fails, for instance at a topic full of refused records, it is begun again
  after a pause while everything else goes on. Staff can end a key whatever becomes of its counts.
"""

import asyncio
import hashlib
import logging
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from prometheus_client import Counter

from services.keys.usage import domain
from services.keys.usage.domain import DoorEvent, Sighting
from services.keys.usage.store import FORGOTTEN_MAX, Batch, Book, Name, Usages
from shared import events, topics
from shared.batches import Item, Limits
from shared.clock import Clock
from shared.errors import InvalidError, PorticoError, UnavailableError
from shared.faultpoint import point
from shared.kafka import Record
from shared.postgres import Connection
from shared.projection import Projection

log = logging.getLogger(__name__)

TOPICS: Final = (topics.GATEWAY_ACCESS, topics.FIREHOSE_SESSIONS)
_TYPES: Final[Mapping[str, tuple[type[DoorEvent], ...]]] = {
    topics.GATEWAY_ACCESS.name: (events.AccessSummary,),
    topics.FIREHOSE_SESSIONS.name: (events.SessionOpened, events.SessionClosed),
}
NOBODY: Final = b"-:-"
"""The record key of refusals whose key nobody knows."""
CONNECTIONS_MAX: Final = 2
"""All that the projection may hold of Postgres, however many partitions come of age at once."""
REPEAT_SECONDS: Final = 6 * 3_600.0
"""For how long a record that was told is recognised when it is told again."""
PAUSE_SECONDS: Final = 15.0
"""Until a projection that failed begins again: what it lacked may be back, and people had time."""
FORGET_SECONDS: Final = 3_600.0
"""Pause between two rounds of forgetting what is old."""


def limits(gather_seconds: float) -> Limits:
    """The bounds of the projection.

    A batch is small (250 summaries, 1 MiB; about 12 ms of work): a revocation that is confirmed in
    the same process meanwhile does not wait long for its turn.

    Args:
        gather_seconds: how long a batch gathers; at five, a key in steady use costs twelve writes
            a minute, and people see a use well within the minute that they are told.
    """
    return Limits(records_max=250, bytes_max=1024 * 1024, age_seconds_max=gather_seconds)


def check_door_event(record: Record[bytes, bytes]) -> DoorEvent:
    """The event in a record, proved to be of the partner that its key names.

    Raises:
        InvalidError: the envelope is incomplete, the type has no place in the topic, the value is
            not of its schema, or the key is not the body's.
    """
    kind = events.envelope(record.headers).type
    found = _decoded(record, kind)
    key = events.partner_key(found.network_id, found.network_affiliate_id).encode()
    is_nobodys = record.key == NOBODY and not found.network_id and not found.network_affiliate_id
    if record.key != key and not is_nobodys:
        raise InvalidError(f"{kind}: key {record.key!r} is not that of the body")
    return found


def _decoded(record: Record[bytes, bytes], kind: str) -> DoorEvent:
    for event in _TYPES[record.topic]:
        if events.type_name(event) == kind:
            return events.decode(event, record.value)
    raise InvalidError(f"ce_type {kind!r} has no place in topic {record.topic}")


def usage_writer(
    clock: Clock,
) -> Callable[[Connection, Sequence[Item[DoorEvent]]], Awaitable[None]]:
    """The effect of a batch: each key's row at most once, whatever the number of its uses."""

    async def write(connection: Connection, items: Sequence[Item[DoorEvent]]) -> None:
        book, now = Book(connection), clock.time()
        seen: dict[Name, list[Sighting]] = defaultdict(list)
        for item in await _told_first(book, items, now):
            for one in domain.sightings(item.event):
                seen[one.key_id, one.network_id].append(one)
        before = await book.usages(seen)
        after = {
            name: domain.folded(before[name], found, now)
            for name, found in seen.items()
            if name in before
        }
        await book.save(before, after)
        point("usage.after_save")

    return write


async def _told_first(
    book: Book, items: Sequence[Item[DoorEvent]], now: float
) -> list[Item[DoorEvent]]:
    """Those of a batch that were not told before, neither in it nor in an earlier one."""
    place = items[0].record
    moments = [domain.moment_of(item.event) for item in items]
    by_digest: dict[uuid.UUID, Item[DoorEvent]] = {}
    for item in items:
        by_digest.setdefault(digest_of(item), item)
    repeated = await book.note_records(
        Batch(
            topic=place.topic,
            partition=place.partition,
            written_at=now,
            first_moment=min(moments),
            last_moment=max(moments),
            records=list(by_digest),
        )
    )
    return [item for digest, item in by_digest.items() if digest not in repeated]


def digest_of(item: Item[DoorEvent]) -> uuid.UUID:
    """What recognises an event: CloudEvents names it by its source and id."""
    envelope = item.envelope
    text = f"{envelope.source}\n{envelope.id}".encode()
    return uuid.UUID(bytes=hashlib.blake2b(text, digest_size=16).digest())


class LastUse:
    """Keeps the projection going, and forgets what is old; its failures stay its own.

    Args:
        make: a new projection.
        usages: where sources are forgotten.
        failures: counts the projection's failures.
        clock: the time.
        pause_seconds: before a projection that failed begins again.
    """

    def __init__(
        self,
        make: Callable[[], Projection[Any]],
        usages: Usages,
        failures: Counter,
        clock: Clock,
        *,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._make = make
        self._usages = usages
        self._failures = failures
        self._clock = clock
        self._pause_seconds = pause_seconds
        self._running: Projection[Any] | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Project until `drain`; after a failure, again.

        What is no `PorticoError` is a bug and ends the process: started again, the projection finds
        the record that does it, and puts it aside.
        """
        while not self._stopping.is_set():
            self._running = self._make()
            try:
                await self._running.run()
            except* PorticoError as failed:
                self._failures.inc()
                reasons = [str(error) for error in failed.exceptions]
                log.error("last use is not projected", extra={"reasons": reasons})  # noqa: TRY400
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_seconds):
                    await self._stopping.wait()

    async def drain(self) -> None:
        """Finish the batches in hand, and begin nothing any more."""
        self._stopping.set()
        if self._running is not None:
            await self._running.drain()

    async def forget(self) -> None:
        """Remove what is past its time, for ever; several processes may do it at once."""
        while True:
            try:
                await self._forget_once(self._clock.time())
            except UnavailableError as error:
                log.warning("forgetting waits", extra={"reason": error.message})
            await self._clock.sleep(FORGET_SECONDS)

    async def _forget_once(self, now: float) -> None:
        await self._usages.forget_batches(now - REPEAT_SECONDS)
        while await self._usages.forget_sources(domain.oldest_day(now)) == FORGOTTEN_MAX:
            pass
