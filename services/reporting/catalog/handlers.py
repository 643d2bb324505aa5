"""What the catalog does: take the network's things from the log, answer partners from them."""

from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Final, cast

from services.reporting.asking.answers import Answer
from services.reporting.catalog import domain
from services.reporting.catalog.links import Linker, with_query
from services.reporting.catalog.search import OfferSearch
from services.reporting.catalog.shown import (
    related_of,
    shown_affiliate,
    shown_network,
    shown_offer,
    shown_settings,
)
from services.reporting.catalog.store import Listing, OfferRow, Store
from services.reporting.scope import Scope
from shared import events, topics
from shared.errors import InvalidError, NotFoundError
from shared.events import NetworkProfile, Offer, OfferPartner, PartnerProfile
from shared.kafka import Record
from shared.topics import Topic

TOPICS: Final = (
    topics.NETWORK_PROFILE,
    topics.NETWORK_PARTNERS,
    topics.NETWORK_OFFERS,
    topics.NETWORK_OFFER_PARTNERS,
    topics.NETWORK_REFERRALS,
)
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


Today = Callable[[Scope, int, str], Awaitable[Answer]]
"""All metrics of the partner's today so far, by the id of a time zone and in a currency."""


class Catalog:
    """Answers partners' questions.

    Args:
        store: the rows.
        through: log time (seconds, UTC) up to which the rows tell everything.
        today: the partner's metrics, which the catalog does not have.
    """

    def __init__(self, store: Store, through: Callable[[], float], today: Today) -> None:
        self._store = store
        self._through = through
        self._today = today

    async def offers(self, scope: Scope, search: OfferSearch, listing: Listing) -> Answer:
        """The active offers that the partner may run, or sees."""
        through = self._through()  # before the rows are read: they may be fresher, never staler
        found = await self._store.offers(scope, search, listing)
        offers = [shown_offer(offer, terms, found.linker) for offer, terms in found.rows]
        paging = search.page.echo(found.total_count)
        return Answer({"offers": offers, "paging": paging}, through)

    async def offer(self, scope: Scope, offer_id: int) -> Answer:
        """One offer.

        Raises:
            NotFoundError: there is none, or the partner may not see it.
        """
        through = self._through()
        (offer, terms), linker = await self._seen(scope, offer_id)
        return Answer(shown_offer(offer, terms, linker), through)

    async def link(self, scope: Scope, offer_id: int, url_id: int) -> Answer:
        """The tracking link to a destination of an offer, 0 being its own.

        Raises:
            NotFoundError: no such offer or destination, or the network has published no link.
            InvalidError: the partner sees the offer and may not run it.
        """
        through = self._through()
        offer, terms, linker = await self._run(scope, offer_id, url_id)
        return _answered(linker.to_url(offer, terms, url_id), _NO_LINK, through)

    async def impression_link(self, scope: Scope, offer_id: int, url_id: int) -> Answer:
        """The impression link of an offer, for a destination as with `link`.

        Raises:
            NotFoundError: no such offer or destination, or impressions are not in use.
            InvalidError: the partner sees the offer and may not run it.
        """
        through = self._through()
        offer, terms, linker = await self._run(scope, offer_id, url_id)
        url = linker.links(offer, terms)["impression_tracking_url"]
        named = with_query(url, {"uid": url_id}) if url_id else url
        return _answered(named, _NO_IMPRESSIONS, through)

    async def network(self, scope: Scope) -> Answer:
        """The partner's network.

        Raises:
            NotFoundError: the log has not named it yet, or names it no more.
        """
        through = self._through()
        profile = await self._store.network(scope)
        if profile is None:
            raise NotFoundError
        return Answer(shown_network(profile), through)

    async def affiliate(self, scope: Scope, wanted: Container[str]) -> Answer:
        """The partner, with what is `wanted` of their relationships.

        Raises:
            NotFoundError: the log has not named them yet, or names them no more.
            InvalidError: metrics are wanted, and an amount has no rate to the partner's currency.
        """
        through = self._through()
        partner, _ = await self._partner(scope)
        related = {name: value for name, value in related_of(partner).items() if name in wanted}
        if REPORTING in wanted:
            today = await self._today(scope, partner.timezone_id, partner.currency_id)
            related[REPORTING] = today.body
            through = min(through, today.through)
        return Answer(shown_affiliate(partner, related), through)

    async def settings(self, scope: Scope) -> Answer:
        """What the partner's answers go by.

        Raises:
            NotFoundError: the log has not named the partner yet, or names them no more.
        """
        through = self._through()
        return Answer(shown_settings(*await self._partner(scope)), through)

    async def _partner(self, scope: Scope) -> tuple[PartnerProfile, NetworkProfile | None]:
        partner, network = await self._store.partner(scope)
        if partner is None:
            raise NotFoundError
        return partner, network

    async def _seen(self, scope: Scope, offer_id: int) -> tuple[OfferRow, Linker]:
        found = await self._store.offer(scope, offer_id)
        if found is None or not domain.may_see(*found[0]):
            raise NotFoundError
        return found

    async def _run(
        self, scope: Scope, offer_id: int, url_id: int
    ) -> tuple[Offer, OfferPartner | None, Linker]:
        (offer, terms), linker = await self._seen(scope, offer_id)
        if not domain.may_run(offer, terms):
            raise InvalidError(_NOT_RUN.format(domain.affiliate_status(offer, terms)))
        if url_id and url_id not in {url.network_offer_url_id for url in offer.urls}:
            raise NotFoundError
        return offer, terms, linker


REPORTING: Final = "reporting"
_NO_LINK: Final = "The network has published no link for this offer."
_NO_IMPRESSIONS: Final = "Impressions are not in use for this offer."
_NOT_RUN: Final = (
    "You are not allowed to run this offer: it is paused, or you need the network's approval "
    "(offer_affiliate_status: {})."
)


def _answered(url: str, missing: str, through: float) -> Answer:
    if not url:
        raise NotFoundError(missing)
    return Answer({"url": url}, through)
