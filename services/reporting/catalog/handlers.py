"""What the catalog does: take the network's things from the log, answer partners from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from services.reporting.catalog import domain
from services.reporting.catalog.store import Store
from services.reporting.paging import Page
from services.reporting.scope import Scope
from services.reporting.timezones import TIMEZONES
from shared import events, topics
from shared.clock import Clock
from shared.errors import InvalidError, NotFoundError
from shared.kafka import Record
from shared.topics import Topic

TOPICS: Final = (topics.NETWORK_PROFILE, topics.NETWORK_OFFERS, topics.NETWORK_OFFER_PARTNERS)
"""What the catalog is a projection of."""


class Check:
    """Knows the changes in the records of the catalog's topics (step 6).

    Args:
        read: rows of `shared.topics`, or the same under other names.
    """

    def __init__(self, read: Sequence[Topic] = TOPICS) -> None:
        self._kinds = {topic.name: cast("type[domain.Thing]", topic.schemas[0]) for topic in read}

    def __call__(self, record: Record[bytes, bytes]) -> domain.Change:
        """The change in `record`, proved to be of the thing that its key names.

        Raises:
            InvalidError: the value is not of its schema, or the key is not the body's.
        """
        kind = self._kinds[record.topic]
        if record.value is None:
            return domain.Removed(kind, domain.parsed_key(kind, record.key), _event_id(record))
        thing = events.decode(kind, record.value)
        if record.key != domain.record_key(thing):
            raise InvalidError(f"{kind.__name__}: key {record.key!r} is not that of the body")
        return thing


def _event_id(record: Record[bytes, bytes]) -> str:
    """The record's `ce_id`; a removal without one still removes, so its place is its name."""
    given = dict(record.headers).get("ce_id", b"")
    return given.decode("latin-1") or f"{record.partition}:{record.offset}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer.

    Attributes:
        body: as in `wire`.
        through: log time (seconds, UTC) up to which everything is in it.
    """

    body: dict[str, Any]
    through: float


class Catalog:
    """Answers partners' questions.

    Args:
        store: the rows.
        through: log time (seconds, UTC) up to which the rows tell everything.
        clock: the time.
    """

    def __init__(self, store: Store, through: Callable[[], float], clock: Clock) -> None:
        self._store = store
        self._through = through
        self._clock = clock

    async def runnable(self, scope: Scope, page: Page) -> Answer:
        """The offers that the partner may run now."""
        through = self._through()  # before the rows are read: they may be fresher, never staler
        found = await self._store.runnable(scope, page)
        offers = [domain.shown_offer(offer, terms) for offer, terms in found.rows]
        return Answer({"offers": offers, "paging": page.echo(found.total_count)}, through)

    async def network(self, scope: Scope) -> Answer:
        """The partner's network.

        Raises:
            NotFoundError: the log has not named it yet, or names it no more.
        """
        through = self._through()
        profile = await self._store.network(scope)
        if profile is None:
            raise NotFoundError
        return Answer(domain.shown_network(profile), through)

    def timezones(self) -> Answer:
        """All zones as they are now; nothing of it comes from the log."""
        now = self._clock.time()
        zones = [
            {
                "timezone_id": zone.timezone_id,
                "timezone_name": zone.display_name(now),
                "timezone": zone.name,
                "utc_offset": zone.utc_offset(now),
            }
            for zone in TIMEZONES.values()
        ]
        return Answer({"timezones": zones}, now)
