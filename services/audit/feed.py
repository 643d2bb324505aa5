"""Wakes readers of the live feed when their network's trail grows.

One connection listens for all readers of the process. A wake-up says only "look": what is new comes
from the trail itself, so that a wake-up lost with a connection loses nothing.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg

from services.audit import chain
from services.audit.store import Store, channel
from shared.clock import Clock
from shared.errors import TooManyError, UnavailableError
from shared.postgres import connect, translated

log = logging.getLogger(__name__)

PAGE_ENTRIES: Final = 500
"""Entries read at a time for one reader: its bound of memory, with the size of an entry."""
CHECK_SECONDS: Final = 5.0
"""How often the listening connection is proved to be alive."""
RECONNECT_SECONDS: Final = 0.5

Page = list[tuple[int, chain.StoredEntry]]


class Feed:
    """The wake-ups of one process."""

    def __init__(self, database_url: str, schema: str, clock: Clock, *, readers_max: int) -> None:
        self._database_url = database_url
        self._schema = schema
        self._clock = clock
        self._readers_max = readers_max
        self._readers: dict[asyncio.Event, int] = {}
        self._is_closed = False

    @property
    def readers(self) -> int:
        """How many streams are open."""
        return len(self._readers)

    @property
    def is_closed(self) -> bool:
        """Whether readers are to end."""
        return self._is_closed

    async def run(self) -> None:
        """Listen for as long as the process lives; a lost connection is replaced."""
        while True:
            try:
                await self._listen()
            except UnavailableError as error:
                log.warning("feed reconnects", extra={"reason": error.message})
                await self._clock.sleep(RECONNECT_SECONDS)

    async def aclose(self) -> None:
        """End every open stream after what it is sending now."""
        self._is_closed = True
        self._wake(None)

    @contextmanager
    def reader(self, network_id: int) -> Iterator[asyncio.Event]:
        """An event that is set whenever the network's trail may have grown.

        Raises:
            TooManyError: this process has as many readers as it may have.
        """
        self.require_room()
        woken = asyncio.Event()
        self._readers[woken] = network_id
        try:
            yield woken
        finally:
            del self._readers[woken]

    def require_room(self) -> None:
        """Let pass if one more reader may come.

        Raises:
            TooManyError: this process has as many readers as it may have.
        """
        if len(self._readers) >= self._readers_max:
            raise TooManyError("Too many open streams.", retry_after_seconds=5)

    async def _listen(self) -> None:
        connection = await connect(
            self._database_url, schema=self._schema, application="portico-audit-feed"
        )
        try:
            with translated("listening for new entries"):
                await connection.add_listener(channel(self._schema), self._on_notify)
                self._wake(None)
                while True:
                    await self._clock.sleep(CHECK_SECONDS)
                    await connection.fetchval("SELECT 1")
        finally:
            connection.terminate()

    def _on_notify(
        self, _connection: asyncpg.Connection | Any, _pid: int, _channel: str, payload: Any
    ) -> None:
        self._wake(int(payload))

    def _wake(self, network_id: int | None) -> None:
        for woken, wanted in self._readers.items():
            if network_id is None or network_id == wanted:
                woken.set()


async def follow(
    store: Store, feed: Feed, network_id: int, sequence: int, *, heartbeat_seconds: float
) -> AsyncGenerator[Page, None]:
    """What follows `sequence`, page by page, then what is added, until the feed closes.

    An empty page is a heartbeat: nothing came for `heartbeat_seconds`. Nothing is read ahead of the
    reader, so a slow one costs a page.

    Raises:
        TooManyError: this process has as many readers as it may have.
        UnavailableError: the trail cannot be read; the reader goes on with its last sequence.
    """
    with feed.reader(network_id) as woken:
        while not feed.is_closed:
            woken.clear()
            page = await store.after(network_id, sequence, PAGE_ENTRIES)
            if page:
                sequence = page[-1][0]
                yield page
            elif not await _is_woken(woken, heartbeat_seconds):
                yield []


async def _is_woken(woken: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return False
    return True
